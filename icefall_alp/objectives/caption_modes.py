# SPDX-License-Identifier: Apache-2.0
"""The two modes of captioning (paper, Eq. 2 and 3): captions of either together, and what is logged of each."""

from __future__ import annotations

import torch
from torch import Tensor

from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.utils.transfer import send


def states_by_mode(
    decoder: TextDecoder, frames: Tensor, frame_lens: Tensor, ids: Tensor, is_target: Tensor, num_parallel: int
) -> Tensor:
    """Predict captions left to right, and the last of them in parallel.

    Args:
        decoder: of both modes.
        frames: (N, T, C) of the captions' clips.
        frame_lens: (N,).
        ids: (N, U) on the CPU.
        is_target: (N, U) bool on the CPU.
        num_parallel: so many of the captions, the last ones, are predicted in parallel.

    Returns:
        States (M, C) of the M target tokens, caption after caption.
    """
    sizes = (len(ids) - num_parallel, num_parallel)
    parts = (x.split(sizes) for x in (frames, frame_lens, ids, is_target))
    found = []
    for is_parallel, group_frames, group_lens, group_ids, wanted in zip((False, True), *parts, strict=True):
        if not len(wanted):
            continue
        num_tokens = int(wanted.sum(dim=1).max()) + 1  # of the longest of these captions, `<s>` included
        where = wanted[:, :num_tokens].flatten().nonzero().squeeze(1)
        memory = decoder.memory(group_frames, group_lens)
        if is_parallel:
            states = decoder.at_once(memory, num_tokens)
        else:
            states = decoder(send(group_ids[:, :num_tokens].contiguous(), frames.device), memory)
        found.append(states.flatten(0, 1).index_select(0, send(where, frames.device)))
    return torch.cat(found)


def token_logs(losses: Tensor, is_right: Tensor, is_parallel: Tensor) -> dict[str, Tensor]:
    """Sums and counts [sum, count] over tokens, of both modes and of each.

    Args:
        losses: (M,) of the target tokens.
        is_right: (M,) bool, true where the likeliest token is the target.
        is_parallel: (M,) bool, true where a token was predicted in parallel.
    """
    everywhere = torch.ones_like(is_parallel)
    chosen = {
        "loss_autoregressive": (losses, ~is_parallel),
        "loss_parallel": (losses, is_parallel),
        "token_accuracy": (is_right, everywhere),
        "token_accuracy_autoregressive": (is_right, ~is_parallel),
        "token_accuracy_parallel": (is_right, is_parallel),
    }
    return {name: torch.stack([(value * mask).sum(), mask.sum()]).to(losses) for name, (value, mask) in chosen.items()}
