# SPDX-License-Identifier: Apache-2.0
"""Retrieval after the LiT protocol: the audio encoder stays frozen, the text side learns to match it (paper, Table 3b).

What is trained is the contrastive objective on frames computed once: the text encoder and both projections. Text to
audio, every caption is a query among all clips; audio to text, every clip is a query among all captions, and the best
rank of its own captions counts. Equal similarities count against us.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from icefall_alp.config import RetrievalConfig
from icefall_alp.evaluation import scores
from icefall_alp.evaluation.encode import EncodedClips, captions_of_clips, check_disjoint, load_or_encode
from icefall_alp.evaluation.encoders import FrozenEncoder, PrecomputedFrames
from icefall_alp.evaluation.heads import caption_stream, train_head
from icefall_alp.evaluation.tasks import Protocol, Score
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.contrastive import ContrastiveObjective
from icefall_alp.utils import distributed

CUTOFFS = (1, 5, 10)
CHUNK = 64  # clips or captions embedded at a time


def numbers(config: RetrievalConfig) -> list[tuple[str, str]]:
    """(pooling, metric) of every number of a task; T2A is text to audio, A2T audio to text."""
    return [("", f"{direction} R@{k}") for direction in ("T2A", "A2T") for k in CUTOFFS]


def score(encoder: FrozenEncoder, config: RetrievalConfig, exp_dir: Path, poolings: Sequence[str]) -> Iterator[Score]:
    """Encode both sets once, align a text encoder to the training clips, score both directions."""
    folders = (Path(config.train_cuts), Path(config.test_cuts))
    # the contrastive objective averages the frames first, so the clips' means are all it needs
    train, test = (load_or_encode(encoder, folder, config, exp_dir).pooled() for folder in folders)
    check_disjoint(train, test)
    statistics = train.statistics()
    train, test = train.standardized(*statistics), test.standardized(*statistics)
    objective = ContrastiveObjective(
        PrecomputedFrames(train.dim),
        TextEncoder.build(config.text_encoder),
        config.embedding_dim,
        config.initial_temperature,
    )
    train_head(objective, caption_stream(train, config), config)
    captions = captions_of_clips(test)
    counts = [len(own) for own in captions]
    clip_of_caption = np.repeat(np.arange(len(test)), counts)
    similarity = caption_similarity(objective, test, [text for own in captions for text in own])
    text_to_audio = scores.text_to_audio_ranks(similarity, clip_of_caption)
    audio_to_text = scores.audio_to_text_ranks(similarity, clip_of_caption)
    for k in CUTOFFS:
        chance = scores.chance_text_to_audio(len(test), k)
        yield Score(f"T2A R@{k}", scores.recall_at_k(text_to_audio, k), chance, len(test))
        chance = scores.chance_audio_to_text(counts, k)
        yield Score(f"A2T R@{k}", scores.recall_at_k(audio_to_text, k), chance, len(test))


@torch.no_grad()
def caption_similarity(objective: ContrastiveObjective, clips: EncodedClips, texts: list[str]) -> np.ndarray:
    """Cosine similarity (Q, N) of Q captions and N clips."""
    place = distributed.device()
    audio = []
    for start in range(0, len(clips), CHUNK):
        frames, lens = clips.batch(np.arange(start, min(start + CHUNK, len(clips))))
        audio.append(objective.embed_audio(frames.to(place), lens.to(place)))
    # Each wording once: equal captions must have equal embeddings to the last bit, or rounding would break their ties.
    distinct = sorted(set(texts))
    place_of = {text: i for i, text in enumerate(distinct)}
    text = [objective.embed_text(distinct[start : start + CHUNK]) for start in range(0, len(distinct), CHUNK)]
    similarity = (torch.cat(text).float() @ torch.cat(audio).float().T).cpu().numpy()
    return similarity[[place_of[text] for text in texts]]


PROTOCOL = Protocol("retrieval", RetrievalConfig, numbers, score)
