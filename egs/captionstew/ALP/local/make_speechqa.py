#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SpeechQA: questions about emotion, gender and age of speakers, made from templates (stage 1).

  local/make_speechqa.py --config conf/speechqa.yaml --output-dir data/speechqa

The paper's own 160,000 questions of this kind are private. Here they are drawn from the training halves of the same
five corpora: as many of each attribute as of the others, and of each value as of the others, as far as there are
clips. Clips that AIR-Bench names are left out. Written are `speechqa_train_cuts.jsonl.gz`, one cut per clip with all
its questions, and `report.json` with the counts. The same seed draws the same questions.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from icefall_alp.config.loader import load_config
from icefall_alp.data.captions import CutDict, Question, jsonl_writer, question_dict, read_jsonl
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError, clean_exit
from icefall_alp.utils.seeds import stable_seed

TEMPLATES = {
    "emotion": (
        "What emotion does the speaker show?",
        "How does the person in the recording feel?",
        "Which emotion is in the voice?",
        "What is the mood of the speaker?",
        "Which feeling does this utterance express?",
    ),
    "gender": (
        "What is the gender of the speaker?",
        "Is this a man or a woman speaking?",
        "Which gender does the voice belong to?",
        "Whose voice is this, male or female?",
        "Tell the speaker's gender.",
    ),
    "age": (
        "How old is the speaker?",
        "Which age group does the speaker belong to?",
        "What is the likely age of the person speaking?",
        "Estimate the speaker's age.",
        "Which age range fits this voice?",
    ),
}
VALUES = {
    "emotion": (
        "angry", "calm", "disgusted", "excited", "fearful", "frustrated", "happy", "neutral", "sad", "surprised"
    ),
    "gender": ("female", "male"),
    "age": ("teens-twenties", "thirties-fourties", "fifties-sixties", "seventies-eighties"),
}  # fmt: skip
MOST_CHOICES = 4
Cell = tuple[str, str]  # attribute and value


@dataclass(frozen=True)
class SpeechQAConfig:
    """What is drawn from which corpora."""

    corpora: tuple[str, ...] = ()
    num_questions: int = 160_000
    choice_share: float = 0.5  # share of the questions that offer choices, as AIR-Bench does
    shuffle_choices: bool = True  # False: in the order of VALUES
    emotions: tuple[str, ...] = ()  # only these; empty takes all
    seed: int = 42


@dataclass
class Pool:
    """What can be asked about.

    Attributes:
        cells: ids of the cuts with an attribute's value.
        offered: (corpus, attribute, value) that occur: choices come from the clip's own corpus.
        num_named: clips left out because AIR-Bench names them.
    """

    cells: dict[Cell, list[str]]
    offered: set[tuple[str, str, str]]
    num_named: int


def training_cuts(manifests_dir: Path, corpora: tuple[str, ...]) -> Iterator[tuple[str, CutDict]]:
    """Corpus and cut of every training clip with attributes; a corpus that was not prepared is named."""
    for corpus in corpora:
        path = manifests_dir / f"{corpus}_train_cuts.jsonl.gz"
        if not path.is_file():
            print(f"left out: {corpus} was not prepared", flush=True)
            continue
        for cut in read_jsonl(path):
            if cut["supervisions"][0]["custom"].get("attributes"):
                yield corpus, cut


def named_by_airbench(manifests_dir: Path) -> set[str]:
    """File stems of AIR-Bench's clips; empty where it was not prepared."""
    path = manifests_dir / "airbench_test_cuts.jsonl.gz"
    return {_stem(cut["id"]) for cut in read_jsonl(path)} if path.is_file() else set()


def _stem(key: str) -> str:
    return PurePosixPath(key.partition(":")[2]).stem


def fill(total: int, available: dict[str, int]) -> dict[str, int]:
    """Shares of `total`, as equal as `available` allows; what is left over goes to the first names."""
    shares = dict.fromkeys(available, 0)
    left = min(total, sum(available.values()))
    while left:
        open_names = [name for name in available if shares[name] < available[name]]
        for place, name in enumerate(open_names):
            part = left // (len(open_names) - place)
            part = min(max(part, 1), available[name] - shares[name], left)
            shares[name] += part
            left -= part
    return shares


def draw(cells: dict[Cell, list[str]], config: SpeechQAConfig) -> dict[str, set[str]]:
    """Which attributes are asked about which cut: by cut id."""
    of_attribute = {name: sum(len(ids) for (a, _), ids in cells.items() if a == name) for name in TEMPLATES}
    chosen: dict[str, set[str]] = {}
    for attribute, quota in fill(config.num_questions, of_attribute).items():
        sizes = {value: len(ids) for (name, value), ids in cells.items() if name == attribute}
        for value, number in fill(quota, sizes).items():
            order = sorted(cells[attribute, value], key=lambda key: (stable_seed(config.seed, attribute, key), key))
            for key in order[:number]:
                chosen.setdefault(key, set()).add(attribute)
    return chosen


def make_question(key: str, attribute: str, answer: str, offered: tuple[str, ...], config: SpeechQAConfig) -> Question:
    """A question in one of the wordings, half of them with choices of which one is right."""
    generator = np.random.default_rng(stable_seed(config.seed, "wording", attribute, key))
    text = TEMPLATES[attribute][generator.integers(len(TEMPLATES[attribute]))]
    others = [value for value in offered if value != answer]
    if generator.random() >= config.choice_share or not others:
        return Question(text, (answer,))
    wrong = generator.permutation(others)[: MOST_CHOICES - 1].tolist()
    choices = generator.permutation([answer, *wrong]).tolist()
    if not config.shuffle_choices:
        choices.sort(key=VALUES[attribute].index)
    return Question(text, (answer,), tuple(choices))


@clean_exit
def main() -> None:
    """Count what there is, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="speechqa.yaml")
    parser.add_argument("--manifests-dir", type=Path, default=Path("data/manifests"), help="what stage 0 wrote")
    parser.add_argument("--output-dir", type=Path, required=True)
    options = parser.parse_args()
    config = load_config(SpeechQAConfig, [options.config])
    pool = read_pool(options.manifests_dir, config)
    if not pool.cells:
        print("left out: no corpus with attributes of speakers was prepared: no SpeechQA", flush=True)
        return
    write(draw(pool.cells, config), pool, config, options)


def read_pool(manifests_dir: Path, config: SpeechQAConfig) -> Pool:
    """Count what there is.

    Raises:
        UserError: an attribute has a value that is not in VALUES.
    """
    named = named_by_airbench(manifests_dir)
    pool = Pool({}, set(), 0)
    for corpus, cut in training_cuts(manifests_dir, config.corpora):
        if _stem(cut["id"]) in named:
            pool.num_named += 1
            continue
        for attribute, value in cut["supervisions"][0]["custom"]["attributes"].items():
            if value not in VALUES.get(attribute, ()):
                raise UserError(f"{cut['id']}: {attribute} {value!r} is none that SpeechQA asks for; see VALUES")
            if attribute == "emotion" and config.emotions and value not in config.emotions:
                continue
            pool.cells.setdefault((attribute, value), []).append(cut["id"])
            pool.offered.add((corpus, attribute, value))
    return pool


def write(chosen: dict[str, set[str]], pool: Pool, config: SpeechQAConfig, options: argparse.Namespace) -> None:
    """Write the cuts, sorted by key, and the report."""
    counts: Counter[str] = Counter()
    cuts = []
    for corpus, cut in training_cuts(options.manifests_dir, config.corpora):
        names = [name for name in TEMPLATES if name in chosen.get(cut["id"], ())]
        if not names:
            continue
        custom = cut["supervisions"][0]["custom"]
        known = custom.pop("attributes")
        custom.pop("labels", None)
        custom["questions"] = []
        for name in names:
            offered = tuple(value for value in VALUES[name] if (corpus, name, value) in pool.offered)
            question = make_question(cut["id"], name, known[name], offered, config)
            custom["questions"].append(question_dict(question, "speechqa"))
            counts[f"{corpus} {name} {known[name]}"] += 1
        cuts.append(cut)
    with jsonl_writer(options.output_dir / "speechqa_train_cuts.jsonl.gz") as write_cut:
        for cut in sorted(cuts, key=lambda cut: cut["id"]):
            write_cut(cut)
    report = {"questions": sum(counts.values()), "wanted": config.num_questions, "clips": len(cuts)}
    report |= {"named_by_airbench": pool.num_named, "by_corpus_attribute_value": dict(sorted(counts.items()))}
    path = options.output_dir / "report.json"
    atomic_write_text(path, json.dumps(report, indent=1) + "\n")
    print(f"speechqa: {report['questions']:,} of {config.num_questions:,} questions on {len(cuts):,} clips, "
          f"{pool.num_named} clips left out because AIR-Bench names them; counts in {path}")  # fmt: skip


if __name__ == "__main__":
    main()
