# SPDX-License-Identifier: Apache-2.0
"""Captioning of a frozen encoder: only the decoder's cross-attention is tuned (paper, Table 3b).

A pretrained decoder brings the language; where there is none, one is first trained on the training captions' text with
a silent audio input, once, and shared by all encoders, so that encoders differ only in what cross-attention finds in
them. Then cross-attention, with the bridge from the encoder's width, is tuned on the frozen frames left to right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from icefall_alp.config import CaptioningConfig, CaptioningTaskConfig
from icefall_alp.config.loader import config_to_dict
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.evaluation import scores
from icefall_alp.evaluation.encode import EncodedClips, captions_of_clips, check_disjoint, load_or_encode
from icefall_alp.evaluation.encoders import FrozenEncoder, PrecomputedFrames
from icefall_alp.evaluation.heads import caption_stream, train_head
from icefall_alp.evaluation.tasks import Protocol, Score
from icefall_alp.models.beam_search import generate
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.objectives.captioning import CaptioningObjective
from icefall_alp.utils import distributed
from icefall_alp.utils.digests import sha256_file, sha256_text
from icefall_alp.utils.seeds import seed_everything

CHUNK = 64  # clips decoded at a time


def numbers(config: CaptioningTaskConfig) -> list[tuple[str, str]]:
    """(pooling, metric) of every number of a task; loss is in nats per token of the test captions."""
    return [("", "ROUGE-L"), ("", "loss")]


def score(
    encoder: FrozenEncoder, config: CaptioningTaskConfig, exp_dir: Path, poolings: Sequence[str]
) -> Iterator[Score]:
    """Encode both sets once, tune cross-attention, write captions by beam search and score them."""
    folders = (Path(config.train_cuts), Path(config.test_cuts))
    train, test = (load_or_encode(encoder, folder, config, exp_dir) for folder in folders)
    check_disjoint(train, test)
    statistics = train.statistics()
    train, test = train.standardized(*statistics), test.standardized(*statistics)
    decoder = language_decoder(train, config, exp_dir.parent / "blind_decoder")
    objective = _objective(tune_only_cross_attention(decoder), train.dim)
    train_head(objective, caption_stream(train, config), config)
    captions = captions_of_clips(test)
    hypotheses = write_captions(decoder, test, config)
    chance = scores.chance_rouge_l(captions, config.seed)
    yield Score("ROUGE-L", scores.rouge_l(hypotheses, captions), chance, len(test))
    yield Score("loss", caption_loss(objective, test), None, len(test))


def _objective(decoder: TextDecoder, dim: int) -> CaptioningObjective:
    return CaptioningObjective(PrecomputedFrames(dim), decoder, 0.0, CaptioningConfig.label_smoothing)


def language_decoder(train: EncodedClips, config: CaptioningTaskConfig, cache: Path) -> TextDecoder:
    """A decoder that knows the language and not yet the encoder.

    Args:
        train: Training clips, whose captions' text is used, and whose frames are not.
        config: Of the task. Without pretrained weights the decoder is trained for `language_model_steps`.
        cache: Folder that keeps such decoders by the digest of captions and configuration.

    Returns:
        A decoder for frames as wide as `train`'s.
    """
    seed_everything(config.seed)
    decoder = TextDecoder.build(config.text_decoder, train.dim)
    if config.text_decoder.pretrained or config.language_model_steps == 0:
        return decoder
    folder = cache / _language_digest(train, config)[:16]
    if not folder.is_dir():
        width = decoder.sizes.hidden_size
        blind = TextDecoder.build(config.text_decoder, width)
        silence = [torch.zeros(1, width, dtype=torch.float16) for _ in train.cuts]
        silent = EncodedClips(silence, train.cuts, torch.zeros(width), torch.ones(width))
        lm_config = replace(config, num_steps=config.language_model_steps)
        train_head(_objective(blind, width), caption_stream(silent, lm_config), lm_config)
        blind.save(folder)
    # The blind decoder is as wide as its frames and so has no bridge; ours keeps its own.
    bridge = {name: value for name, value in decoder.state_dict().items() if name.startswith("bridge.")}
    decoder.load_state_dict({**TextDecoder.load(folder).state_dict(), **bridge})
    return decoder


def _language_digest(train: EncodedClips, config: CaptioningTaskConfig) -> str:
    tower = config_to_dict(config.text_decoder)
    settings = [tower, config.language_model_steps, config.seed, config.base_lr, config.max_duration]
    clips = [[cut.id, own] for cut, own in zip(train.cuts, captions_of_clips(train), strict=True)]
    return sha256_text(json.dumps([settings, clips]) + sha256_file(Path(config.text_decoder.tokenizer)))


def tune_only_cross_attention(decoder: TextDecoder) -> TextDecoder:
    """Freeze everything but the cross-attention and the bridge from the encoder's width."""
    for name, parameter in decoder.named_parameters():
        parameter.requires_grad_(".encoder_attn." in name or name.startswith("bridge."))
    return decoder


@torch.no_grad()
def write_captions(decoder: TextDecoder, clips: EncodedClips, config: CaptioningTaskConfig) -> list[str]:
    """One caption per clip, by beam search."""
    place = distributed.device()
    texts = []
    for start in range(0, len(clips), CHUNK):
        frames, lens = clips.batch(np.arange(start, min(start + CHUNK, len(clips))))
        ids = generate(decoder, frames.to(place), lens.to(place), config.beam_size, config.max_caption_tokens)
        texts += decoder.tokenizer.decode(ids)
    return texts


@torch.no_grad()
def caption_loss(objective: CaptioningObjective, clips: EncodedClips) -> float:
    """Cross-entropy per token over all captions of all clips, in nats."""
    place = distributed.device()
    pairs = [(i, text) for i, own in enumerate(captions_of_clips(clips)) for text in own]
    total = count = 0.0
    for start in range(0, len(pairs), CHUNK):
        indices, texts = zip(*pairs[start : start + CHUNK], strict=True)
        batch = CaptionBatch(*clips.batch(np.array(indices)), list(texts), [clips.cuts[i].id for i in indices])
        output = objective(batch.to(place))
        total, count = total + float(output.total), count + float(output.count)
    return total / count


PROTOCOL = Protocol("captioning", CaptioningTaskConfig, numbers, score)
