# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from icefall_alp.config import TextTowerConfig
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.objectives.captioning import CaptioningObjective

pytestmark = pytest.mark.usefixtures("same_random_numbers")


@pytest.fixture
def build(audio_encoder, tokenizer_path):
    def build(parallel_fraction, label_smoothing=0.1, max_text_tokens=32, dropout=0.1):
        config = TextTowerConfig(
            tokenizer=str(tokenizer_path), hidden_size=16, num_layers=2, num_heads=2, feedforward_dim=32,
            max_text_tokens=max_text_tokens, dropout=dropout,
        )  # fmt: skip
        decoder = TextDecoder.build(config, audio_encoder.output_dim)
        return CaptioningObjective(audio_encoder, decoder, parallel_fraction, label_smoothing)

    return build


def losses_by_hand(objective, batch, parallel):
    """-log p of every target token, one caption and one token at a time (Eq. 2 and 3).

    `parallel` says of each caption which; the sum's gradient goes to the parameters.
    """
    decoder, losses = objective.text_decoder, []
    frames, lens = objective.audio_encoder(batch.features, batch.feature_lens)
    for n, caption in enumerate(batch.captions):
        ids, _, _ = decoder.tokenize([caption])
        assert ids[0, -1] == decoder.tokenizer.eos_id
        row = []
        for u in range(1, ids.size(1)):
            memory = decoder.memory(frames[n : n + 1, : lens[n]], lens[n : n + 1])
            # the last token of `ids` is what is to be predicted; it cannot be seen
            states = decoder.at_once(memory, u + 1) if parallel[n] else decoder(ids[:, : u + 1], memory)
            row.append(-decoder.project(states[0, u]).log_softmax(dim=0)[ids[0, u]])
        losses.append(row)
    sum(map(sum, losses)).backward()
    return [[loss.item() for loss in row] for row in losses]


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_the_loss_is_the_equation_over_all_target_tokens_with_the_end(build, caption_batch, fraction):
    objective = build(fraction).eval()
    expected = losses_by_hand(objective, caption_batch, [fraction == 1.0] * 5)
    output = objective(caption_batch)
    assert output.total.item() == pytest.approx(sum(map(sum, expected)), rel=1e-5)
    assert float(output.count) == sum(map(len, expected))
    mode, other = ("parallel", "autoregressive") if fraction else ("autoregressive", "parallel")
    assert output.logs[f"loss_{mode}"].tolist() == pytest.approx([output.total.item(), output.count.item()])
    assert output.logs[f"loss_{other}"].tolist() == [0, 0]


def test_in_evaluation_modes_follow_the_cut_and_add_up(build, caption_batch):
    objective = build(0.5).eval()
    left_to_right = losses_by_hand(objective, caption_batch, [False] * 5)
    at_once = losses_by_hand(objective, caption_batch, [True] * 5)
    modes = objective._draw_modes(caption_batch.cut_ids).tolist()
    assert len(set(modes)) == 2
    output = objective(caption_batch)
    expected = [p if mode else a for mode, p, a in zip(modes, at_once, left_to_right, strict=True)]
    assert output.total.item() == pytest.approx(sum(map(sum, expected)), rel=1e-5)
    logs = output.logs
    torch.testing.assert_close(
        logs["loss_parallel"] + logs["loss_autoregressive"], torch.stack([output.total, output.count])
    )
    assert objective._draw_modes(caption_batch.cut_ids[::-1]).tolist() == modes[::-1]


@pytest.mark.parametrize("modes", ["01001", "10110", "00000", "11111", "0", "1", "01"])
def test_grouping_by_mode_changes_neither_losses_nor_gradients(build, caption_batch, monkeypatch, modes):
    parallel = [mode == "1" for mode in modes]
    objective, num = build(0.5, label_smoothing=0.0, dropout=0.0), len(parallel)
    for parameter in objective.text_decoder.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.4)  # so that modes and audio matter
    batch = SimpleNamespace(**{name: value[:num] for name, value in vars(caption_batch).items()})
    monkeypatch.setattr(objective, "_draw_modes", lambda cut_ids: torch.tensor(parallel))
    losses = losses_by_hand(objective, batch, parallel)
    expected = {name: p.grad for name, p in objective.named_parameters()}
    objective.zero_grad()
    output = objective(batch)
    output.total.backward()
    for name, chosen in (("loss_parallel", True), ("loss_autoregressive", False)):
        rows = [row for row, mode in zip(losses, parallel, strict=True) if mode == chosen]
        assert output.logs[name].tolist() == pytest.approx([sum(map(sum, rows)), sum(map(len, rows))], rel=1e-5)
    for name, parameter in objective.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("modes", ["01001", "00000", "11111"])
def test_a_step_reads_nothing_from_the_device(build, caption_batch, monkeypatch, modes):
    objective = build(0.5).to("meta")  # whose tensors have no values: asking for one is an error
    batch = SimpleNamespace(**vars(caption_batch))
    batch.features, batch.feature_lens = batch.features.to("meta"), batch.feature_lens.to("meta")
    monkeypatch.setattr(objective, "_draw_modes", lambda cut_ids: torch.tensor([mode == "1" for mode in modes]))
    output = objective(batch)
    output.total.backward()
    assert output.total.is_meta and output.count.is_meta
    assert all(parameter.grad.is_meta for parameter in objective.parameters())


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for(build, caption_batch):
    objective = build(0.5).to("cuda")
    batch = SimpleNamespace(**vars(caption_batch))
    batch.features, batch.feature_lens = batch.features.to("cuda"), batch.feature_lens.to("cuda")
    objective(batch)  # libraries are loaded
    torch.cuda.set_sync_debug_mode("error")
    try:
        output = objective(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert output.total.isfinite()


def test_in_training_each_caption_draws_its_mode(build):
    objective = build(0.75)
    modes = torch.stack([objective._draw_modes(["x"] * 8) for _ in range(500)]).float()
    assert float(modes.mean()) == pytest.approx(0.75, abs=0.02)
    assert len({tuple(row) for row in modes.tolist()}) > 50
    assert modes.device.type == "cpu"
    torch.manual_seed(3)
    first = objective._draw_modes(["x"] * 8)
    torch.manual_seed(3)
    assert objective._draw_modes(["x"] * 8).equal(first)


def test_label_smoothing_is_for_training_only(build, caption_batch):
    objective = build(0.0, label_smoothing=0.4, dropout=0.0)
    plain = objective.eval()(caption_batch).total.item()
    smoothed = objective.train()(caption_batch).total.item()
    objective.label_smoothing = 0.0
    assert objective(caption_batch).total.item() == pytest.approx(plain, rel=1e-5)
    assert abs(smoothed - plain) > 1e-3


def test_cut_captions_and_right_tokens_are_logged(build, caption_batch):
    objective = build(0.5, max_text_tokens=6).eval()
    logs = objective(caption_batch).logs
    num_cut = objective.text_decoder.tokenize(caption_batch.captions)[2]
    assert 0 < num_cut <= 5
    assert logs["captions_cut"].tolist() == [num_cut, 5]
    hits, count = logs["token_accuracy"].tolist()
    assert 0 <= hits <= count
    names = ("token_accuracy_parallel", "token_accuracy_autoregressive")
    assert sum(logs[name][1] for name in names) == count and sum(logs[name][0] for name in names) == hits


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_all_parameters_learn(build, caption_batch, fraction):
    objective = build(fraction)
    objective(caption_batch).total.backward()
    assert [name for name, p in objective.named_parameters() if p.grad is None] == []


def test_bfloat16_changes_the_loss_by_its_rounding_only(build, caption_batch):
    objective = build(0.5).eval()
    exact = objective(caption_batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = objective(caption_batch)
    assert rounded.total.dtype == torch.float32
    torch.testing.assert_close(rounded.total, exact.total, rtol=1e-2, atol=0.0)
    assert rounded.count == exact.count


def test_captions_are_learnt_in_both_modes(build, caption_batch):
    objective = build(0.5, label_smoothing=0.0)
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    first = objective.eval()(caption_batch)
    objective.train()
    for _ in range(60):
        optimizer.zero_grad()
        output = objective(caption_batch)
        (output.total / output.count).backward()
        optimizer.step()
    last = objective.eval()(caption_batch)
    for name in ("loss_parallel", "loss_autoregressive"):
        assert last.logs[name][0] < 0.5 * first.logs[name][0]
