# SPDX-License-Identifier: Apache-2.0
"""Batches of clips with captions: every caption is drawn, the draw repeats, the share cut is counted."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from icefall_alp.config import TaskConfig
from icefall_alp.evaluation.captioned_clips import caption_stream, encoded_pair, share_cut
from icefall_alp.evaluation.encode import captions_of_clips, encode_clips
from icefall_alp.evaluation.encoders import LogMelStatistics
from icefall_alp.models.tokenizer import load_tokenizer
from icefall_alp.utils.errors import UserError


def test_captions_are_drawn_anew_each_epoch_and_repeatably(toy_task):
    clips = encode_clips(LogMelStatistics(), Path(toy_task["test_cuts"]), 10.0)
    config, tokenizer = TaskConfig(batch_size=4), load_tokenizer(toy_task["tokenizer"])

    def seen() -> list[tuple[str, str]]:
        stream = caption_stream(clips, config, tokenizer)
        batches = islice(stream.iterate(0), 5 * len(stream.plan))
        return [pair for batch in batches for pair in zip(batch.cut_ids, batch.captions, strict=True)]

    first = seen()
    assert first == seen()
    assert len(first) == 5 * len(clips)
    drawn = {text for cut_id, text in first if cut_id == clips.cuts[0].id}
    assert len(drawn) > 1
    assert all(clips.cuts[0].supervisions[0].custom["labels"][0] in text for text in drawn)


def test_batches_hold_captions_of_similar_length(toy_task):
    clips = encode_clips(LogMelStatistics(), Path(toy_task["train_cuts"]), 10.0)
    for i, cut in enumerate(clips.cuts):
        cut.supervisions[0].custom["captions"] = [{"text": "dog " * (1 + i % 10)}]
    tokenizer = load_tokenizer(toy_task["tokenizer"])
    stream = caption_stream(clips, TaskConfig(batch_size=10), tokenizer)
    batches = list(islice(stream.iterate(0), len(stream.plan)))
    assert sum(len(batch.cut_ids) for batch in batches) == len(clips)
    lengths = [tokenizer.lengths(batch.captions) for batch in batches]
    padded, real = sum(max(rows) * len(rows) for rows in lengths), sum(map(sum, lengths))
    assert padded < 1.2 * real
    assert max(padded / len(lengths) for _ in lengths) < 1.2 * 10 * real / len(clips)


def test_both_sets_are_standardised_by_the_training_clips(toy_task, log_mel, tmp_path):
    config = TaskConfig(train_cuts=toy_task["train_cuts"], test_cuts=toy_task["test_cuts"])
    train, test = encoded_pair(log_mel, config, tmp_path, pooled=True)
    frames, _ = train.batch(range(len(train)))
    torch.testing.assert_close(frames.mean(dim=(0, 1)), torch.zeros(160), atol=1e-2, rtol=0)
    assert test.mean is train.mean and test.frames[0].shape == (1, 160)
    with pytest.raises(UserError, match="20 test clips are also training clips"):
        encoded_pair(log_mel, replace(config, train_cuts=config.test_cuts), tmp_path, pooled=True)


def test_the_share_of_captions_cut_is_that_of_the_tokenizer(toy_task):
    clips = encode_clips(LogMelStatistics(), Path(toy_task["test_cuts"]), 10.0)
    tokenizer, captions = load_tokenizer(toy_task["tokenizer"]), captions_of_clips(clips)
    texts = [text for own in captions for text in own]
    for max_tokens in (3, 6, 8, 60):
        _, _, num_cut = tokenizer.encode(texts, max_tokens)
        assert share_cut(tokenizer, max_tokens, captions) == pytest.approx(100 * num_cut / len(texts))
    assert 0 < share_cut(tokenizer, 6, captions) < 100
