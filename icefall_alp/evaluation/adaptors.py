# SPDX-License-Identifier: Apache-2.0
"""What question answering trains: the adaptor of an encoder, and the small language model where none is pretrained.

Both are kept under digests of all that they depend on. The adaptor serves every benchmark of its encoder; the language
model serves every encoder, so that encoders differ only in what an adaptor finds in their frames.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lhotse import MonoCut

from icefall_alp.config import LanguageModelConfig, QuestionAnsweringConfig, TaskConfig
from icefall_alp.config.loader import config_to_dict
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.data.datasets import QuestionBatch
from icefall_alp.data.shards import FeatureShards
from icefall_alp.evaluation.encode import EncodedClips, load_or_encode, set_digest
from icefall_alp.evaluation.encoders import FrozenEncoder, PrecomputedFrames
from icefall_alp.evaluation.heads import HeadDataset, train_head
from icefall_alp.evaluation.question_stream import NUM_BUCKETS, asked, question_stream, target
from icefall_alp.evaluation.questions import Item, read_items
from icefall_alp.models.audio_llm import Adaptor, AudioLLM
from icefall_alp.models.language_model import LanguageModel
from icefall_alp.objectives.answering import AnsweringObjective, TextAnsweringObjective
from icefall_alp.utils import distributed
from icefall_alp.utils.atomic_io import atomic_write_text, one_at_a_time
from icefall_alp.utils.digests import library_digest, sha256_text
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.seeds import seed_everything, stable_seed

DESCRIBED = 0.7  # share of the small model's training questions that come with words in the audio's place


def training_items(config: QuestionAnsweringConfig) -> tuple[list[MonoCut], list[Item], int]:
    """Cuts and questions of all training sets together, and how many questions were left out (see `read_items`).

    Raises:
        UserError: no training set is named, one has no features, or see `read_items`.
    """
    if not config.train_sets:
        raise UserError("train_sets: name at least one folder of cuts with questions")
    cuts = [cut for folder in config.train_sets for cut in FeatureShards(Path(folder)).cuts]
    return cuts, *read_items(cuts, config.answers)


def language_model(config: QuestionAnsweringConfig, cache: Path) -> LanguageModel:
    """The frozen language model: the pretrained folder, or the small one, which is trained first where it is not there.

    Args:
        config: of the task.
        cache: folder that keeps small models by digest.
    """
    wanted = config.language_model
    if wanted.pretrained:
        return _load(Path(wanted.pretrained), wanted)
    settings = json.dumps([config_to_dict(wanted), config.answers, config.seed])
    sets = [set_digest(Path(folder)) for folder in config.train_sets]
    folder = cache / sha256_text("\n".join([settings, *sets, library_digest()]))[:16]
    with one_at_a_time(folder):  # encoders may be judged side by side
        _make_small_model(folder, config)
    return _load(folder, wanted)


def _make_small_model(folder: Path, config: QuestionAnsweringConfig) -> None:
    if not folder.is_dir():
        print(f"train the small language model on the questions' text -> {folder}", flush=True)
        _, items, _ = training_items(config)
        train_small_model(items, config.language_model, config).save(folder)


@functools.lru_cache(maxsize=1)
def _load(folder: Path, config: LanguageModelConfig) -> LanguageModel:
    """One model in memory at a time, whatever the number of encoders and tasks."""
    return LanguageModel.load(folder, config)


def train_small_model(items: Sequence[Item], wanted: LanguageModelConfig, config: TaskConfig) -> LanguageModel:
    """A small language model that has learnt to answer the training questions from text.

    In the audio's place stands, more often than not, the answer in words, otherwise nothing: so it learns to use what
    stands there, and to guess well where nothing does. The words are blurred, see `icefall_alp.objectives.answering`.
    """
    seed_everything(config.seed)
    texts = [text for item in items for text in (asked(item), target(item), item.answer)]
    model = LanguageModel.small([*texts, "user\nassistant\n"], wanted)

    def make_batch(indices: np.ndarray, epoch: int) -> QuestionBatch:
        chosen = [items[i] for i in indices]
        draws = [np.random.default_rng(stable_seed(config.seed, epoch, item.key)).random() for item in chosen]
        described = [_fact(item) if draw < DESCRIBED else "" for item, draw in zip(chosen, draws, strict=True)]
        one = torch.ones(len(chosen), dtype=torch.long)
        questions, answers = [asked(item) for item in chosen], [target(item) for item in chosen]
        return QuestionBatch(one[:, None].float(), one, questions, answers, [i.cut_id for i in chosen], described)

    # almost equal: batches of one size, and questions of similar length share them
    lengths = np.array([len(asked(item)) for item in items])
    plan = BatchPlan(1.0 - 1e-3 / lengths, float(wanted.batch_size), NUM_BUCKETS, config.seed)
    stream = TrainStream(HeadDataset(make_batch), plan)
    steps = replace(config, num_steps=wanted.num_steps, base_lr=wanted.base_lr)
    train_head(TextAnsweringObjective(model), stream, steps)
    return model


def _fact(item: Item) -> str:
    """The answer in words; a bare yes or no would say nothing without its question."""
    bare = item.answer.casefold().strip(".") in ("yes", "no")
    return f"{item.text} {item.answer}" if bare else item.answer


def adaptor_digest(encoder: FrozenEncoder, model: LanguageModel, config: QuestionAnsweringConfig) -> str:
    """Digest of all that decides an adaptor's weights."""
    settings = [config_to_dict(config.adaptor), config.answers, config.seed, config.num_steps, config.base_lr]
    settings += [config.batch_size, config.language_model.dtype, config.language_model.load_in_8bit]
    sets = [set_digest(Path(folder)) for folder in config.train_sets]
    return sha256_text("\n".join([json.dumps(settings), encoder.digest, model.digest, *sets, library_digest()]))


def trained_adaptor(
    encoder: FrozenEncoder, model: LanguageModel, config: QuestionAnsweringConfig, exp_dir: Path, dim: int
) -> AudioLLM:
    """The adaptor of this encoder in front of the language model, trained where it is not there yet.

    It is kept in `<exp_dir>/adaptor/<digest>`: its weights alone, and `training.json` with what it was trained on.

    Args:
        encoder: What makes the frames.
        model: Frozen language model.
        config: Of the task.
        exp_dir: Of the run.
        dim: Width C of the encoder's frames.
    """
    seed_everything(config.seed)
    scale = float(model.network.get_input_embeddings().weight.float().std())
    audio_llm = AudioLLM(Adaptor(dim, model.width, config.adaptor, scale), model)
    folder = exp_dir / "adaptor" / adaptor_digest(encoder, model, config)[:16]
    if folder.is_dir():
        audio_llm.adaptor.load(folder)
    else:
        parts = [load_or_encode(encoder, Path(name), config, exp_dir) for name in config.train_sets]
        frames, cuts = [f for part in parts for f in part.frames], [cut for part in parts for cut in part.cuts]
        clips = EncodedClips(frames, cuts, torch.zeros(dim), torch.ones(dim))
        items, num_differing = read_items(clips.cuts, config.answers)
        audio_llm.adaptor.standardize(*clips.statistics())
        stream = question_stream(clips, items, audio_llm, config)
        train_head(AnsweringObjective(PrecomputedFrames(dim), audio_llm), stream, config)
        audio_llm.adaptor.save(folder)
        counts = {"questions": len(items), "clips": len(clips), "left_out_answers_differ": num_differing}
        atomic_write_text(folder / "training.json", json.dumps({**counts, "sets": config.train_sets}, indent=1) + "\n")
        print(f"adaptor: {len(items):,} questions on {len(clips):,} clips, {num_differing:,} left out because their "
              f"answers differ -> {folder}", flush=True)  # fmt: skip
    return audio_llm.to(distributed.device()).eval()
