# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest
import torch
from torch import nn

from icefall_alp.config import TextTowerConfig
from icefall_alp.models.beam_search import generate
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("same_random_numbers")

MAX_TOKENS = 8


@pytest.fixture
def decoder(sentencepiece_path):
    config = TextTowerConfig(
        tokenizer=str(sentencepiece_path), hidden_size=16, num_layers=2, num_heads=4, feedforward_dim=32
    )
    decoder = TextDecoder.build(config, encoder_dim=16).eval()
    for parameter in decoder.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.6)
    decoder.final_logits_bias[:, decoder.tokenizer.eos_id] = 5.0
    return decoder.requires_grad_(False)


def clips(num_clips=6):
    return torch.randn(num_clips, 5, 16), torch.randint(1, 6, (num_clips,))


def log_probs(decoder, words, memory):
    """Log-probabilities of every next token by whole passes, without a cache."""
    ids = torch.tensor([[decoder.tokenizer.bos_id, *words, decoder.tokenizer.pad_id]])
    logits = decoder.project(decoder(ids, memory))[0, 1:]
    logits[:, [decoder.tokenizer.pad_id, decoder.tokenizer.bos_id, decoder.tokenizer.mask_id]] = -torch.inf
    return logits.log_softmax(dim=-1)


def test_a_beam_of_one_is_greedy_search_without_cache(decoder):
    encoder_out, lens = clips(12)
    found = generate(decoder, encoder_out, lens, 1, MAX_TOKENS)
    expected = []
    for n in range(12):
        memory, words = decoder.memory(encoder_out[n : n + 1], lens[n : n + 1]), []
        while len(words) < MAX_TOKENS:
            word = int(log_probs(decoder, words, memory)[-1].argmax())
            if word == decoder.tokenizer.eos_id:
                break
            words.append(word)
        expected.append(words)
    assert found == expected
    assert len({len(words) for words in found}) > 2, "captions of one length would prove little"


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_a_wide_beam_finds_the_best_of_all_captions(decoder, length_penalty):
    eos, some = decoder.tokenizer.eos_id, [10, 11, 12, 13]
    others = [i for i in range(decoder.sizes.vocab_size) if i not in (eos, *some)]
    decoder.final_logits_bias[:, others] = -1e4
    encoder_out, lens = clips(4)
    found = generate(decoder, encoder_out, lens, 400, 3, length_penalty)
    for n in range(4):
        memory, scores = decoder.memory(encoder_out[n : n + 1], lens[n : n + 1]), {}
        for length in range(4):
            for words in itertools.product(some, repeat=length):
                rows = log_probs(decoder, words, memory)
                total = sum(float(rows[i, word]) for i, word in enumerate(words))
                if length < 3:
                    scores[words] = (total + float(rows[length, eos])) / (length + 1) ** length_penalty
                else:
                    scores[words] = total / 3**length_penalty
        assert found[n] == list(max(scores, key=scores.get))


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_clip_does_not_depend_on_its_batch(decoder, beam_size):
    encoder_out, lens = clips()
    together = generate(decoder, encoder_out, lens, beam_size, MAX_TOKENS)
    alone = [
        generate(decoder, encoder_out[n : n + 1, : lens[n]], lens[n : n + 1], beam_size, MAX_TOKENS)[0]
        for n in range(len(lens))
    ]
    assert together == alone


def test_larger_length_penalties_write_longer_captions(decoder):
    encoder_out, lens = clips(16)
    short, long = (sum(map(len, generate(decoder, encoder_out, lens, 6, MAX_TOKENS, p))) for p in (0.0, 3.0))
    assert short < long


def test_captions_hold_no_special_tokens_and_keep_the_limit(decoder):
    tokenizer = decoder.tokenizer
    decoder.final_logits_bias[:, [tokenizer.pad_id, tokenizer.bos_id, tokenizer.mask_id]] = 50.0
    decoder.final_logits_bias[:, tokenizer.eos_id] = -50.0
    for words in generate(decoder, *clips(), 3, MAX_TOKENS):
        assert len(words) == MAX_TOKENS
        assert not {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id} & set(words)


def test_more_tokens_than_positions_are_refused(decoder):
    with pytest.raises(UserError, match="1024 needs more than the decoder's 1024 positions"):
        generate(decoder, *clips(), 1, 1024)
