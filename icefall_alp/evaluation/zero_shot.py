# SPDX-License-Identifier: Apache-2.0
"""Zero-shot classification: the class whose name, put into prompts, is most like the clip; nothing is trained.

It needs the text tower that the encoder was pretrained with, so only contrastive runs have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from icefall_alp.config import ZeroShotConfig
from icefall_alp.data.datasets import read_class_list
from icefall_alp.evaluation.encode import load_or_encode
from icefall_alp.evaluation.encoders import FrozenEncoder
from icefall_alp.evaluation.labels import clip_targets
from icefall_alp.evaluation.linear_probe import METRICS
from icefall_alp.evaluation.retrieval import embed_clips, embed_texts, pretrained_towers
from icefall_alp.evaluation.tasks import Protocol, Score
from icefall_alp.objectives.contrastive import ContrastiveObjective
from icefall_alp.utils.errors import UserError


def numbers(config: ZeroShotConfig) -> list[tuple[str, str]]:
    """(pooling, metric) of every number of a task."""
    return [("", "mAP" if config.multi_label else "accuracy")]


def score(encoder: FrozenEncoder, config: ZeroShotConfig, exp_dir: Path, poolings: Sequence[str]) -> Iterator[Score]:
    """Embed every test clip and every class; a clip's scores are its similarities to the classes."""
    classes = read_class_list(Path(config.class_list))
    clips = load_or_encode(encoder, Path(config.test_cuts), config, exp_dir, pooled=True)
    targets = clip_targets(clips.cuts, classes, config.multi_label).numpy()
    objective = pretrained_towers(encoder, clips.dim)
    similarity = embed_clips(objective, clips) @ embed_classes(objective, classes, config.prompts).T
    ((_, metric),) = numbers(config)
    kind = METRICS[metric]
    answers = similarity.argmax(dim=1) if kind.of_classes else similarity
    tower = objective.text_encoder
    lengths = tower.tokenizer.lengths(class_texts(classes, config.prompts))
    cut = {"prompts cut": sum(length > tower.max_tokens for length in lengths)}
    yield Score(metric, kind.score(answers.numpy(), targets), kind.chance(targets), len(clips), details=cut)


def embed_classes(objective: ContrastiveObjective, classes: Sequence[str], prompts: Sequence[str]) -> Tensor:
    """Unit vectors (K, E) of K classes: the mean over prompts.

    Raises:
        UserError: See `class_texts`.
    """
    texts = class_texts(classes, prompts)
    return F.normalize(embed_texts(objective, texts).unflatten(0, (len(prompts), -1)).mean(dim=0), dim=-1)


def class_texts(classes: Sequence[str], prompts: Sequence[str]) -> list[str]:
    """Every class in every prompt, the classes of a prompt in a row.

    Raises:
        UserError: A prompt does not hold the place of the name, or there is none.
    """
    wrong = [prompt for prompt in prompts if prompt.count("{}") != 1]
    if wrong or not prompts:
        raise UserError(f"prompts: {wrong[0] if wrong else 'none'!r}; each must hold {{}} once, where the name goes")
    names = [name.replace("_", " ") for name in classes]
    return [prompt.replace("{}", name) for prompt in prompts for name in names]


PROTOCOL = Protocol("zero_shot", ZeroShotConfig, numbers, score, needs_text_tower=True)
