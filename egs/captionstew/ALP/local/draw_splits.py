#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stage 1: the cutsets that tasks need and no corpus publishes, each drawn by its seed or picked by a list of ids.

The paper scores 500 clips of ParaSpeechCaps and of MusicCaps without saying which. A row of the configuration names
the cutset to take from; the ids drawn are listed beside it. A drawn clip that is also in a training cutset is an error,
and so is a cutset that no corpus has; one whose corpus was not prepared is named and left out.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icefall_alp.config.loader import config_from_dict, read_yaml
from icefall_alp.data.captions import jsonl_writer, read_jsonl
from icefall_alp.data.manifests import load_corpora
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError, clean_exit


@dataclass(frozen=True)
class Split:
    """One row: where from, which, and what it may not overlap."""

    source: str = ""  # a cutset of stage 0
    ids: str = ""  # file with one id per line; empty takes all
    size: int = 0  # at most so many, drawn by the seed; 0 takes all
    seed: int = 42
    not_in: tuple[str, ...] = ()  # training cutsets of stage 0


@clean_exit
def main() -> None:
    """Read the command line, write a cutset and a list per row."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--splits", type=Path, required=True, help="YAML: name of the new cutset -> row")
    parser.add_argument("--corpora", type=Path, required=True, help="corpora.yaml, whose cutsets a row may name")
    parser.add_argument("--manifests-dir", type=Path, default=Path("data/manifests"))
    parser.add_argument("--output-dir", type=Path, default=Path("data/splits"))
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    corpora = sorted(load_corpora(args.corpora))
    for name, row in read_yaml(args.splits).items():
        split = config_from_dict(Split, row, name)
        source, *trained_on = (cutset(name, of, args.manifests_dir, corpora) for of in (split.source, *split.not_in))
        if source is None:
            print(f"left out: {name}: no cuts of {split.source}; its corpus was not prepared")
            continue
        ids, total = draw(split, source)
        for other, path in zip(split.not_in, trained_on, strict=True):
            if path is None:
                print(
                    f"not checked: {name}: overlap with {other}; its corpus was not prepared, so nothing trains on it"
                )
            else:
                refuse_overlap(name, ids, other, path)
        with jsonl_writer(args.output_dir / f"{name}_cuts.jsonl.gz") as write:
            for cut in read_jsonl(source):
                if cut["id"] in ids:
                    write(cut)
        atomic_write_text(args.output_dir / f"{name}_ids.txt", "".join(f"{key}\n" for key in sorted(ids)))
        print(f"{name}: {len(ids)} of the {total} cuts of {split.source}, seed {split.seed}")


def draw(split: Split, source: Path) -> tuple[set[str], int]:
    """The ids of a split, and how many there were to draw from."""
    ids = sorted(cut["id"] for cut in read_jsonl(source))
    if split.ids:
        try:
            wanted = set(Path(split.ids).read_text(encoding="utf-8").splitlines())
        except OSError as error:
            raise UserError(f"cannot read {split.ids}: {error.strerror}; prepare the corpus again (stage 0)") from error
        ids = [key for key in ids if key in wanted]
    if not split.size or split.size >= len(ids):
        return set(ids), len(ids)
    # each id once in a seeded order of the sorted ids, so the draw follows from the ids and the seed alone
    return {ids[i] for i in np.random.default_rng(split.seed).permutation(len(ids))[: split.size]}, len(ids)


def cutset(row: str, name: str, manifests: Path, corpora: list[str]) -> Path | None:
    """The cutset of stage 0 that a row names, or None where its corpus was not prepared.

    Raises:
        UserError: There is no such corpus, or it was prepared and has no such cutset.
    """
    path, (corpus, _, _) = manifests / f"{name}_cuts.jsonl.gz", name.rpartition("_")
    if path.is_file():
        return path
    if corpus not in corpora:
        raise UserError(f"{row}: {name}: no cutset of that name; they are <corpus>_<split> of {', '.join(corpora)}")
    if (manifests / f"{corpus}_report.json").is_file():
        raise UserError(
            f"{row}: {name}: {corpus} was prepared and has no such cutset; mend the name or prepare it again"
        )
    return None


def refuse_overlap(row: str, ids: set[str], other: str, path: Path) -> None:
    """Stop where a clip of the split is also a training clip."""
    shared = sorted(cut["id"] for cut in read_jsonl(path) if cut["id"] in ids)
    if shared:
        raise UserError(f"{row}: {len(shared)} clips are also in {other}, {shared[0]} among them; mend the lists")


if __name__ == "__main__":
    main()
