# SPDX-License-Identifier: Apache-2.0
import torch

from icefall_alp.config import TextTowerConfig
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.objectives.caption_modes import states_by_mode, token_logs


def test_states_are_those_of_each_caption_alone(tokenizer_path, same_random_numbers):
    config = TextTowerConfig(
        tokenizer=str(tokenizer_path), hidden_size=16, num_layers=2, num_heads=2, feedforward_dim=32, max_text_tokens=9
    )
    decoder = TextDecoder.build(config, 6).eval()
    frames, frame_lens, lens = torch.randn(4, 5, 6), torch.tensor([5, 2, 4, 3]), [4, 7, 3, 9]
    ids = torch.randint(3, 20, (4, 9))
    is_target = (torch.arange(9) > 0) & (torch.arange(9) < torch.tensor(lens)[:, None])
    for num_parallel in range(5):
        states = states_by_mode(decoder, frames, frame_lens, ids, is_target, num_parallel)
        expected = []
        for n, length in enumerate(lens):
            memory = decoder.memory(frames[n : n + 1], frame_lens[n : n + 1])
            at_once = n >= 4 - num_parallel
            own = decoder.at_once(memory, length) if at_once else decoder(ids[n : n + 1, :length], memory)
            expected.append(own[0, 1:])
        torch.testing.assert_close(states, torch.cat(expected))


def test_logs_are_sums_and_counts_of_each_mode():
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0])
    is_right, is_parallel = torch.tensor([True, False, True, True]), torch.tensor([False, False, True, True])
    logs = {name: value.tolist() for name, value in token_logs(losses, is_right, is_parallel).items()}
    assert logs == {
        "loss_autoregressive": [3, 2],
        "loss_parallel": [12, 2],
        "token_accuracy": [3, 4],
        "token_accuracy_autoregressive": [1, 2],
        "token_accuracy_parallel": [2, 2],
    }
