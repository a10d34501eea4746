# SPDX-License-Identifier: Apache-2.0
"""Open question answering: frozen encoder, trained adaptor, frozen language model (paper, Table 3b and A.4).

One adaptor per encoder is trained on all question sets together; each task is a benchmark that it then answers. Beside
every number stands that of the same language model without audio. Answers are kept one by one in
`exp/<run>/answers/<task>_<digest>/`, in AIR-Bench's format, and judgements beside them: evaluation started again goes
on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from icefall_alp.config import JudgeConfig, QuestionAnsweringConfig, QuestionPart
from icefall_alp.config.loader import config_to_dict
from icefall_alp.data.shards import FeatureShards
from icefall_alp.evaluation import caption_scores
from icefall_alp.evaluation.adaptors import adaptor_digest, language_model, trained_adaptor
from icefall_alp.evaluation.air_bench import prediction_row, right_letter, score_choices
from icefall_alp.evaluation.encode import EncodedClips, load_or_encode, set_digest
from icefall_alp.evaluation.encoders import FrozenEncoder
from icefall_alp.evaluation.item_log import ItemLog
from icefall_alp.evaluation.judge import Judge, build_judge
from icefall_alp.evaluation.judging import Judgement, judge_responses
from icefall_alp.evaluation.question_stream import asked
from icefall_alp.evaluation.questions import Item, read_items
from icefall_alp.evaluation.tasks import Protocol, Score
from icefall_alp.models.audio_llm import AudioLLM, generate_answers
from icefall_alp.models.language_model import LanguageModel
from icefall_alp.utils import distributed
from icefall_alp.utils.atomic_io import one_at_a_time
from icefall_alp.utils.digests import library_digest, sha256_text
from icefall_alp.utils.errors import UserError

CHOICE_METRICS = ("accuracy", "strict accuracy", "instruction following")
MODEL_FOLDER, BLIND_FOLDER = "language_model", "without_audio"  # below exp, shared by all runs
Audio = Callable[[Sequence[Item]], list[Tensor]]


def numbers(config: QuestionAnsweringConfig) -> list[tuple[str, str]]:
    """(pooling, metric) of every number of a task: those of its first part, of its second, ..."""
    judged = ["judge score"] if config.judge.kind != "none" else []
    repeated = ["judge agreement"] if judged and config.judge.repeats > 1 else []
    metrics = CHOICE_METRICS if config.kind == "choice" else ("ROUGE-L", *judged, *repeated)
    return [("", _name(part, metric)) for part in config.parts for metric in metrics]


def score(
    encoder: FrozenEncoder, config: QuestionAnsweringConfig, exp_dir: Path, poolings: Sequence[str]
) -> Iterator[Score]:
    """Train the adaptor unless it is there, answer every question with and without audio, and score both."""
    wanted = [part.task for part in config.parts]
    items, _ = read_items(FeatureShards(Path(config.test_cuts)).cuts, config.answers, wanted)
    check_items(items, config)
    judge = build_judge(config.judge) if config.kind == "chat" else None
    heard, unheard = _answers(encoder, items, config, exp_dir)
    for part in config.parts:
        chosen = [i for i, item in enumerate(items) if part.task in ("", item.task)]
        if not chosen:
            print(f"left out: {part.name}: no question of {part.task} in {config.test_cuts}", flush=True)
            continue
        own = [items[i] for i in chosen]
        pair = [_Answers(answers.folder, [answers.texts[i] for i in chosen]) for answers in (heard, unheard)]
        found = _choice_scores(own, *pair) if config.kind == "choice" else _chat_scores(own, *pair, judge, config)
        for one in found:
            yield replace(one, metric=_name(part, one.metric), num_expected=part.num_expected or None)


@dataclass(frozen=True)
class _Answers:
    """Answers to a list of items, and the folder that they are kept in."""

    folder: Path
    texts: list[str]


def _answers(
    encoder: FrozenEncoder, items: Sequence[Item], config: QuestionAnsweringConfig, exp_dir: Path
) -> tuple[_Answers, _Answers]:
    """Answers with audio, and without: these are the same for all encoders, and shared."""
    model = language_model(config, exp_dir.parent / MODEL_FOLDER)
    nothing = torch.empty(0, model.width, device=distributed.device())
    digests = adaptor_digest(encoder, model, config), model.digest
    roots = exp_dir / "answers", exp_dir.parent / BLIND_FOLDER
    sources: tuple[Audio, Audio] = (
        _Hearing(encoder, model, config, exp_dir),
        lambda chosen: [nothing] * len(chosen),
    )
    made = []
    for digest, root, audio in zip(digests, roots, sources, strict=True):
        folder = root / f"{Path(config.test_cuts).name}_{_answers_digest(config, digest)[:16]}"
        with one_at_a_time(folder):  # encoders may be judged side by side, and those without audio are shared
            made.append(_Answers(folder, answer_items(items, model, audio, config, folder)))
    return made[0], made[1]


def _name(part: QuestionPart, metric: str) -> str:
    return f"{part.name} {metric}".strip()


def check_items(items: Sequence[Item], config: QuestionAnsweringConfig) -> None:
    """Refuse a benchmark that the task's kind cannot score, before anything is computed.

    Raises:
        UserError: a question of a choice task without usable choices, or nothing for a judge to go by.
    """
    for item in items:
        if config.kind == "choice":
            right_letter(item)
        elif config.judge.kind != "none" and not item.reference:
            raise UserError(f"{item.cut_id}, {item.text!r}: no description for the judge; prepare the benchmark again")


class _Hearing:
    """Audio embeddings of items; adaptor and frames are made when the first is asked for."""

    def __init__(
        self, encoder: FrozenEncoder, model: LanguageModel, config: QuestionAnsweringConfig, exp_dir: Path
    ) -> None:
        self._parts = encoder, model, config, exp_dir
        self._made: tuple[EncodedClips, AudioLLM] | None = None

    def __call__(self, items: Sequence[Item]) -> list[Tensor]:
        if self._made is None:
            encoder, model, config, exp_dir = self._parts
            clips = load_or_encode(encoder, Path(config.test_cuts), config, exp_dir)
            self._made = clips, trained_adaptor(encoder, model, config, exp_dir, clips.dim)
        clips, audio_llm = self._made
        frames, lens = clips.batch(np.array([item.clip for item in items]))
        with torch.no_grad():
            return audio_llm.audio(frames.to(distributed.device()), lens.to(distributed.device()))


def answer_items(
    items: Sequence[Item], model: LanguageModel, audio: Audio, config: QuestionAnsweringConfig, folder: Path
) -> list[str]:
    """Answers to all items in order; those that `<folder>/answers.jsonl` holds are not computed again.

    Args:
        items: questions.
        model: the frozen language model.
        audio: items -> their embeddings (A_i, D).
        config: of the task.
        folder: of the answers.
    """
    with ItemLog(folder / "answers.jsonl") as log:
        # equal lengths together: less padding
        left = sorted((item for item in items if item.key not in log.rows), key=lambda item: len(asked(item)))
        with tqdm(total=len(left), desc="answer", unit="question", disable=None) as progress:
            for start in range(0, len(left), config.answer_batch):
                chosen = left[start : start + config.answer_batch]
                questions = [asked(item) for item in chosen]
                texts = generate_answers(model, audio(chosen), questions, config.max_answer_tokens)
                log.add({item.key: prediction_row(item, text) for item, text in zip(chosen, texts, strict=True)})
                progress.update(len(chosen))
        return [log.rows[item.key]["response"] for item in items]


def _answers_digest(config: QuestionAnsweringConfig, model: str) -> str:
    """Digest of what decides the answers: the model with its adaptor, the questions, the code."""
    settings = json.dumps([config_to_dict(config)["parts"], config.answers, config.max_answer_tokens])
    return sha256_text("\n".join([settings, model, set_digest(Path(config.test_cuts)), library_digest()]))


def _choice_scores(items: Sequence[Item], heard: _Answers, unheard: _Answers) -> Iterator[Score]:
    ours, blind = score_choices(items, heard.texts), score_choices(items, unheard.texts)
    yield Score("accuracy", ours.accuracy, ours.chance, ours.num_read, without_audio=blind.accuracy)
    yield Score("strict accuracy", ours.strict_accuracy, ours.chance, len(items), without_audio=blind.strict_accuracy)
    following = (ours.instruction_following, blind.instruction_following)
    yield Score("instruction following", following[0], None, len(items), without_audio=following[1])


def _chat_scores(
    items: Sequence[Item], heard: _Answers, unheard: _Answers, judge: Judge | None, config: QuestionAnsweringConfig
) -> Iterator[Score]:
    references = [[item.answer] for item in items]
    ours, blind = (caption_scores.rouge_l(answers.texts, references) for answers in (heard, unheard))
    chance = caption_scores.rouge_l(caption_scores.captions_of_others(references, config.seed), references)
    yield Score("ROUGE-L", ours, chance, len(items), without_audio=blind)
    if judge is not None:
        judged, beside = (_judge(items, answers, judge, config.judge) for answers in (heard, unheard))
        yield Score("judge score", judged.score, None, judged.num_scored, without_audio=beside.score)
        if judged.agreement is not None:
            yield Score("judge agreement", judged.agreement, None, judged.num_scored, without_audio=beside.agreement)


def _judge(items: Sequence[Item], answers: _Answers, judge: Judge, config: JudgeConfig) -> Judgement:
    judgement = judge_responses(items, answers.texts, judge, config, answers.folder / "judgements.jsonl")
    print(judgement.summary(), flush=True)
    return judgement


PROTOCOL = Protocol("question_answering", QuestionAnsweringConfig, numbers, score, shares_work=True, fills_gpu=True)
