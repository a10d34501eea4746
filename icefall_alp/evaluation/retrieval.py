# SPDX-License-Identifier: Apache-2.0
"""Retrieval in both directions, with a text encoder tuned to the frozen encoder (LiT; paper, Table 3b), or untuned.

Tuned: the contrastive objective is trained on frames computed once, its text encoder and both projections. Untuned
(Table 10): with the text tower and the projections that a contrastive run was pretrained with. Text to audio, every
caption is a query among all clips; audio to text, every clip is a query among all captions; see `ranks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from icefall_alp.config import RetrievalConfig
from icefall_alp.evaluation import ranks
from icefall_alp.evaluation.captioned_clips import caption_stream, encoded_pair, share_cut
from icefall_alp.evaluation.encode import EncodedClips, captions_of_clips, load_or_encode
from icefall_alp.evaluation.encoders import FrozenEncoder, PrecomputedFrames
from icefall_alp.evaluation.heads import train_head
from icefall_alp.evaluation.tasks import Protocol, Score
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.contrastive import ContrastiveObjective
from icefall_alp.utils import distributed

CUTOFFS = (1, 5, 10)
CHUNK = 256  # clips or captions embedded at a time


def numbers(config: RetrievalConfig) -> list[tuple[str, str]]:
    """(pooling, metric) of every number of a task; T2A is text to audio, A2T audio to text."""
    metrics = [*(f"R@{k}" for k in CUTOFFS), "median rank", "mAP@10"]
    return [("", f"{direction} {metric}") for direction in ("T2A", "A2T") for metric in metrics] + [
        ("", "captions cut")
    ]


def score(encoder: FrozenEncoder, config: RetrievalConfig, exp_dir: Path, poolings: Sequence[str]) -> Iterator[Score]:
    """Encode both sets once, align a text encoder to the training clips, score both directions."""
    # the contrastive objective averages the frames first, so the clips' means are all it needs
    train, test = encoded_pair(encoder, config, exp_dir, pooled=True)
    text_encoder = TextEncoder.build(config.text_encoder)
    objective = ContrastiveObjective(
        PrecomputedFrames(train.dim), text_encoder, config.embedding_dim, config.initial_temperature
    )
    train_head(objective, caption_stream(train, config, text_encoder.tokenizer), config)
    yield from score_clips(objective, test, config.captions_per_clip, captions_of_clips(train))


def score_untuned(
    encoder: FrozenEncoder, config: RetrievalConfig, exp_dir: Path, poolings: Sequence[str]
) -> Iterator[Score]:
    """Score both directions with the text tower of pretraining; nothing is trained."""
    test = load_or_encode(encoder, Path(config.test_cuts), config, exp_dir, pooled=True)
    objective = pretrained_towers(encoder, test.dim)
    yield from score_clips(objective, test, config.captions_per_clip, [])


def pretrained_towers(encoder: FrozenEncoder, dim: int) -> ContrastiveObjective:
    """The objective that `encoder` was pretrained by, for clips' means of `dim` channels."""
    objective = ContrastiveObjective.load_text_side(encoder.text_tower, PrecomputedFrames(dim))
    return objective.to(distributed.device()).eval()


def score_clips(
    objective: ContrastiveObjective, clips: EncodedClips, captions_per_clip: int, train_captions: list[list[str]]
) -> Iterator[Score]:
    """Every number of a task for trained towers.

    Args:
        objective: the towers.
        clips: the test clips, one frame each.
        captions_per_clip: how many of each clip's captions count, its first ones; 0 for all.
        train_captions: those that the towers were tuned on, for the share cut.
    """
    captions = [own[: captions_per_clip or None] for own in captions_of_clips(clips)]
    counts = [len(own) for own in captions]
    clip_of_caption = np.repeat(np.arange(len(clips)), counts)
    audio, text = embed_clips(objective, clips), embed_texts(objective, [text for own in captions for text in own])
    chances = {"T2A": ranks.Chance([1] * sum(counts), len(clips)), "A2T": ranks.Chance(counts, sum(counts))}
    for direction, rank_all in (("T2A", ranks.text_to_audio), ("A2T", ranks.audio_to_text)):
        found, chance = rank_all(text, audio, clip_of_caption), chances[direction]
        for k in CUTOFFS:
            yield Score(f"{direction} R@{k}", found.recall_at(k), chance.recall_at(k), len(clips))
        yield Score(f"{direction} median rank", found.median(), chance.median(), len(clips))
        mean, by_chance = found.mean_average_precision(), chance.mean_average_precision()
        yield Score(f"{direction} mAP@10", mean, by_chance, len(clips))
    tower = objective.text_encoder
    cut = share_cut(tower.tokenizer, tower.max_tokens, [*train_captions, *captions])
    yield Score("captions cut", cut, None, len(clips))


@torch.no_grad()
def embed_clips(objective: ContrastiveObjective, clips: EncodedClips) -> Tensor:
    """Unit vectors (N, E) of N clips, on the CPU."""
    place = distributed.device()
    vectors = []
    for start in range(0, len(clips), CHUNK):
        frames, lens = clips.batch(np.arange(start, min(start + CHUNK, len(clips))))
        vectors.append(objective.embed_audio(frames.to(place), lens.to(place)).float().cpu())
    return torch.cat(vectors)


@torch.no_grad()
def embed_texts(objective: ContrastiveObjective, texts: Sequence[str]) -> Tensor:
    """Unit vectors (Q, E) of Q texts, on the CPU; equal texts have equal vectors to the last bit, so that they tie."""
    # each wording once, those of similar length together; a text's vector may depend on its batch in the last bit
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    chunks = [distinct[start : start + CHUNK] for start in range(0, len(distinct), CHUNK)]
    vectors = torch.cat([objective.embed_text(chunk).float().cpu() for chunk in chunks])
    place_of = {text: i for i, text in enumerate(distinct)}
    return vectors[[place_of[text] for text in texts]]


PROTOCOL = Protocol("retrieval", RetrievalConfig, numbers, score)
UNTUNED = Protocol("untuned_retrieval", RetrievalConfig, numbers, score_untuned, needs_text_tower=True)
