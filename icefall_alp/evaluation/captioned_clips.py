# SPDX-License-Identifier: Apache-2.0
"""Training batches of clips with captions for a head, and how many captions a text tower cuts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from icefall_alp.config import TaskConfig
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.evaluation.encode import EncodedClips, captions_of_clips, check_disjoint, load_or_encode
from icefall_alp.evaluation.encoders import FrozenEncoder
from icefall_alp.evaluation.heads import HeadDataset
from icefall_alp.models.tokenizer import Tokenizer
from icefall_alp.utils.seeds import stable_seed

NUM_BUCKETS = 8  # clips with captions of similar length share a batch


def encoded_pair(
    encoder: FrozenEncoder, config: TaskConfig, exp_dir: Path, pooled: bool
) -> tuple[EncodedClips, EncodedClips]:
    """Training and test clips, each channel standardised by the training clips.

    Args:
        encoder: what makes the frames.
        config: of the task.
        exp_dir: of the run, where frames may be kept.
        pooled: one frame per clip, the mean of its frames.

    Raises:
        UserError: a test clip is also a training clip; see also `encode_clips`.
    """
    folders = Path(config.train_cuts), Path(config.test_cuts)
    train, test = (load_or_encode(encoder, folder, config, exp_dir, pooled) for folder in folders)
    check_disjoint(train, test)
    statistics = train.statistics()
    return train.standardized(*statistics), test.standardized(*statistics)


def caption_stream(clips: EncodedClips, config: TaskConfig, tokenizer: Tokenizer) -> TrainStream:
    """Endless batches of about `config.batch_size` clips; each visit of a clip draws one of its captions.

    Batches are measured in tokens, of the longest caption of each clip: for a head on frames that are there already
    the text is what costs, so clips whose captions are of similar length share a batch.
    """
    captions = captions_of_clips(clips)

    def make_batch(indices: np.ndarray, epoch: int) -> CaptionBatch:
        ids = [clips.cuts[i].id for i in indices]
        draws = [np.random.default_rng(stable_seed(config.seed, epoch, cut_id)) for cut_id in ids]
        texts = [captions[i][draw.integers(len(captions[i]))] for i, draw in zip(indices, draws, strict=True)]
        return CaptionBatch(*clips.batch(indices), texts, ids)

    lengths = np.array([max(tokenizer.lengths(own)) for own in captions], dtype=np.float64)
    plan = BatchPlan(lengths, config.batch_size * lengths.mean(), NUM_BUCKETS, config.seed)
    return TrainStream(HeadDataset(make_batch), plan)


def share_cut(tokenizer: Tokenizer, max_tokens: int, captions: Sequence[Sequence[str]]) -> float:
    """Percentage of captions longer than `max_tokens`, `<s>` and `</s>` included, whose end a text tower never sees."""
    lengths = np.array(tokenizer.lengths([text for own in captions for text in own]))
    return 100.0 * float((lengths > max_tokens).mean())
