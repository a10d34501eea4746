# SPDX-License-Identifier: Apache-2.0
"""Captioning of a frozen encoder: only the decoder's cross-attention is tuned (paper, Table 3b).

A pretrained decoder brings the language, the same for all encoders, so that they differ only in what cross-attention
finds in them. Cross-attention, with the bridge from the encoder's width, is tuned on the frozen frames left to right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from icefall_alp.config import CaptioningTaskConfig
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.evaluation import caption_scores
from icefall_alp.evaluation.caption_files import write_caption_files
from icefall_alp.evaluation.captioned_clips import caption_stream, encoded_pair, share_cut
from icefall_alp.evaluation.encode import EncodedClips, captions_of_clips
from icefall_alp.evaluation.encoders import FrozenEncoder, PrecomputedFrames
from icefall_alp.evaluation.heads import train_head
from icefall_alp.evaluation.tasks import Protocol, Score
from icefall_alp.models.beam_search import generate
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.objectives.captioning import CaptioningObjective
from icefall_alp.utils import distributed

CHUNK = 128  # clips decoded, or captions scored, at a time
METRICS = {"ROUGE-L": caption_scores.rouge_l, "BLEU-4": caption_scores.bleu, "CIDEr-D": caption_scores.cider_d}


def numbers(config: CaptioningTaskConfig) -> list[tuple[str, str]]:
    """(pooling, metric) of every number of a task; loss is in nats per token of the test captions."""
    return [("", metric) for metric in (*METRICS, "loss", "captions cut")]


def score(
    encoder: FrozenEncoder, config: CaptioningTaskConfig, exp_dir: Path, poolings: Sequence[str]
) -> Iterator[Score]:
    """Encode both sets once, tune cross-attention, write captions by beam search and score them."""
    train, test = encoded_pair(encoder, config, exp_dir, pooled=False)
    decoder = tune_only_cross_attention(TextDecoder.build(config.text_decoder, train.dim))
    objective = CaptioningObjective(PrecomputedFrames(train.dim), decoder, 0.0, config.label_smoothing)
    train_head(objective, caption_stream(train, config, decoder.tokenizer), config)
    captions = captions_of_clips(test)
    hypotheses, num_stopped = write_captions(decoder, test, config)
    folder, cut_ids = exp_dir / "results" / "captioning", [cut.id for cut in test.cuts]
    write_caption_files(folder, Path(config.test_cuts).name, cut_ids, hypotheses, captions)
    of_others = caption_scores.captions_of_others(captions, config.seed)
    details = {"captions stopped at max_caption_tokens": num_stopped}
    for metric, measure in METRICS.items():
        yield Score(metric, measure(hypotheses, captions), measure(of_others, captions), len(test), details=details)
    yield Score("loss", caption_loss(objective, test), None, len(test))
    texts = [*captions_of_clips(train), *captions]
    yield Score("captions cut", share_cut(decoder.tokenizer, decoder.sizes.max_tokens, texts), None, len(test))


def tune_only_cross_attention(decoder: TextDecoder) -> TextDecoder:
    """Freeze everything but the cross-attention and the bridge from the encoder's width."""
    for name, parameter in decoder.named_parameters():
        parameter.requires_grad_(".encoder_attn." in name or name.startswith("bridge."))
    return decoder


@torch.no_grad()
def write_captions(decoder: TextDecoder, clips: EncodedClips, config: CaptioningTaskConfig) -> tuple[list[str], int]:
    """One caption per clip, by beam search, and how many had not ended at `config.max_caption_tokens`."""
    place = distributed.device()
    texts, num_stopped = [], 0
    for start in range(0, len(clips), CHUNK):
        frames, lens = clips.batch(np.arange(start, min(start + CHUNK, len(clips))))
        search = config.beam_size, config.max_caption_tokens, config.length_penalty
        written = generate(decoder, frames.to(place), lens.to(place), *search)
        texts += decoder.tokenizer.decode(written)
        num_stopped += sum(len(tokens) == config.max_caption_tokens for tokens in written)
    return texts, num_stopped


@torch.no_grad()
def caption_loss(objective: CaptioningObjective, clips: EncodedClips) -> float:
    """Cross-entropy per token over all captions of all clips, in nats."""
    place = distributed.device()
    pairs = [(i, text) for i, own in enumerate(captions_of_clips(clips)) for text in own]
    pairs.sort(key=lambda pair: len(pair[1]))  # little padding
    total = count = 0.0
    for start in range(0, len(pairs), CHUNK):
        indices, texts = zip(*pairs[start : start + CHUNK], strict=True)
        batch = CaptionBatch(*clips.batch(np.array(indices)), list(texts), [clips.cuts[i].id for i in indices])
        output = objective(batch.to(place))
        total, count = total + float(output.total), count + float(output.count)
    return total / count


PROTOCOL = Protocol("captioning", CaptioningTaskConfig, numbers, score)
