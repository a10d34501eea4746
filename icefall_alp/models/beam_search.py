# SPDX-License-Identifier: Apache-2.0
"""Beam search for a batch of clips with a key-value cache.

A caption's score is its log-probability, `</s>` included, divided by (its number of tokens) ** length_penalty. A clip
is done once `beam_size` captions have ended for it; captions still open at `max_tokens` then compete as they are.
A beam of 1 is greedy search.
Shapes: N clips, B beams, U tokens so far, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from icefall_alp.models.text_decoder import Past, TextDecoder
from icefall_alp.utils.errors import UserError


@dataclass
class _Ended:
    """The best caption that has ended for each clip, and how many have."""

    score: Tensor  # (N,)
    tokens: Tensor  # (N, max_tokens), padded
    count: Tensor  # (N,)

    def offer(self, score: Tensor, tokens: Tensor, is_end: Tensor, beam_size: int) -> None:
        """Take in scores (N, B) and tokens (N, B, U) where is_end (N, B); clips that are done stay as they are."""
        valid = is_end & (self.count < beam_size)[:, None]
        best_score, best = score.masked_fill(~valid, -torch.inf).max(dim=1)
        better = best_score > self.score
        self.score = torch.where(better, best_score, self.score)
        row = torch.arange(len(best), device=best.device)
        self.tokens[:, : tokens.size(2)] = torch.where(
            better[:, None], tokens[row, best], self.tokens[:, : tokens.size(2)]
        )
        self.count = self.count + valid.sum(dim=1)


@torch.no_grad()
def generate(
    decoder: TextDecoder,
    encoder_out: Tensor,
    encoder_out_lens: Tensor,
    beam_size: int,
    max_tokens: int,
    length_penalty: float = 1.0,
) -> list[list[int]]:
    """Write a caption for every clip.

    Args:
        decoder: in evaluation mode.
        encoder_out: (N, T, C) frames.
        encoder_out_lens: (N,) valid frames.
        beam_size: captions followed at a time.
        max_tokens: longest caption, `</s>` included.
        length_penalty: exponent of the length; 0 prefers short captions, larger values longer ones.

    Returns:
        One list of token ids per clip, without special tokens; one of `max_tokens` was stopped before it ended.

    Raises:
        UserError: the decoder has no positions for `max_tokens`.
    """
    tokenizer, sizes = decoder.tokenizer, decoder.sizes
    if max_tokens + 1 > sizes.num_positions:
        raise UserError(f"max_tokens: {max_tokens} needs more than the decoder's {sizes.num_positions} positions")
    num_clips, device = encoder_out.size(0), encoder_out.device
    memory = decoder.memory(encoder_out, encoder_out_lens)
    tokens = torch.tensor([sizes.start_id, tokenizer.bos_id], device=device).repeat(num_clips * beam_size, 1)
    past = None
    written = torch.empty(num_clips, beam_size, 0, dtype=torch.int64, device=device)
    # all beams start equal: only the first may continue, or they would stay copies of each other
    total = torch.full((num_clips, beam_size), -torch.inf, device=device)
    total[:, 0] = 0.0
    ended = _Ended(
        torch.full((num_clips,), -torch.inf, device=device),
        torch.full((num_clips, max_tokens), tokenizer.pad_id, device=device),
        torch.zeros(num_clips, dtype=torch.int64, device=device),
    )
    for length in range(1, max_tokens + 1):
        states, past = decoder.step(tokens, memory, past)
        log_probs = _log_probs(decoder, states[:, -1]).unflatten(0, (num_clips, beam_size))
        total, beam, word = _best(total[..., None] + log_probs, 2 * beam_size)
        written = torch.cat([_pick(written, beam), word[..., None]], dim=2)
        # an end counts only if it is among the best `beam_size`; the other candidates keep the beams alive
        is_end = word == tokenizer.eos_id
        ended.offer(
            total[:, :beam_size] / length**length_penalty, written[:, :beam_size], is_end[:, :beam_size], beam_size
        )
        total, alive = total.masked_fill(is_end, -torch.inf).topk(beam_size, dim=1)
        written, beam = _pick(written, alive), beam.gather(1, alive)
        if bool((ended.count >= beam_size).all()):
            break
        tokens = written[:, :, -1:].flatten(0, 1)
        past = _follow(past, beam)
    ended.offer(total / length**length_penalty, written, torch.ones_like(total, dtype=torch.bool), beam_size)
    special = {tokenizer.pad_id, tokenizer.eos_id}
    return [[i for i in row if i not in special] for row in ended.tokens.tolist()]


def _follow(past: Past, beam: Tensor) -> Past:
    """Give every row the past of the beam (N, B) that it continues; a single beam continues itself."""
    num_clips, beam_size = beam.shape
    if beam_size == 1:
        return past
    rows = (beam + beam_size * torch.arange(num_clips, device=beam.device)[:, None]).flatten()
    return [(keys[rows], values[rows]) for keys, values in past]


def _log_probs(decoder: TextDecoder, states: Tensor) -> Tensor:
    """Log-probabilities (N * B, V) of the next token; tokens that no caption holds get none."""
    logits = decoder.project(states).float()
    tokenizer = decoder.tokenizer
    logits[:, [tokenizer.pad_id, tokenizer.bos_id, tokenizer.mask_id]] = -torch.inf
    return logits.log_softmax(dim=-1)


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `count` best of (N, B, V) per clip: scores, beams and words, each (N, count), in falling order."""
    best, index = scores.flatten(1).topk(count, dim=1)
    return best, index // scores.size(2), index % scores.size(2)


def _pick(sequences: Tensor, beam: Tensor) -> Tensor:
    """Rearrange (N, B, U) so that row i of each clip is the sequence of beam[:, i]."""
    return sequences.gather(1, beam[..., None].expand(-1, -1, sequences.size(2)))
