#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""VoxCeleb2 speaker identification: the speakers of the development part, with a test set held out here.

Source:   https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox2.html
Licence:  CC BY 4.0; the videos belong to their uploaders.
Layout:   <corpus-dir>/dev/aac/<speaker>/<YouTube id>/<utterance>.m4a; dev/ may hold flac or wav of the same names
          instead, and has to: m4a is listed as unreadable (ffmpeg -i 00001.m4a 00001.flac converts it).
Expected: 1,092,009 utterances of 5,994 speakers in dev/. The official test part has other speakers, so the paper's
          36,693 test utterances were held out by an unpublished rule.
          Here: corpora.yaml gives the share of the test set, seeded and for each speaker. Whole videos are held out, at
          least one; a speaker with one video gives single utterances, a speaker with one utterance none.
          voxceleb2_split.tsv lists path and split.
Ids:      vox:<speaker>/<YouTube id>/<utterance>. The label is the speaker.
Lhotse:   its recipe joins dev and test to one training set, takes .m4a alone, and with the torchaudio of
          requirements.txt stops at the first. Lengths of m4a are of no use in a scan: training cannot decode it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from icefall_alp.data.audio_keys import voxceleb
from icefall_alp.data.captions import LabelledAudio
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.data.manifests import corpus_row, find_audio, preparation_parser, write_classes, write_manifests
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError, clean_exit
from icefall_alp.utils.seeds import stable_seed


def hold_out(paths: list[str], share: float, seed: int) -> set[str]:
    """The test utterances of one speaker: whole videos if there are two or more, at most `share` beyond the first."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        groups[PurePosixPath(path).parts[-2]].append(path)
    if len(groups) == 1:
        groups = {path: [path] for path in paths}
    drawn = sorted(groups, key=lambda name: stable_seed(seed, name))
    held: set[str] = set()
    for name in drawn[:-1]:  # one group stays for training
        if not held or len(held) + len(groups[name]) <= share * len(paths):
            held.update(groups[name])
    return held


def voxceleb2(args: argparse.Namespace, skipped: SkipList) -> Iterator[LabelledAudio]:
    """Yield every utterance with its speaker; write the list of splits and of classes."""
    counts = corpus_row("voxceleb2", args).audio
    speakers: dict[str, list[str]] = defaultdict(list)
    for path in find_audio(args.corpus_dir, "dev"):
        with skipped.bad_row(path):
            speakers[voxceleb(path).removeprefix("vox:").split("/")[0]].append(path)
    if not speakers:
        raise UserError(f"{args.corpus_dir}: no utterances below dev/; see the layout in --help")
    share = counts.test / max(1, counts.train + counts.test)
    splits = []
    for speaker, paths in sorted(speakers.items()):
        held = hold_out(paths, share, args.seed) if counts.test else set()
        for path in paths:
            split = "test" if path in held else "train"
            with skipped.bad_row(path):
                clip = LabelledAudio(voxceleb(path), path, split, (speaker,))
                splits.append(f"{path}\t{split}\n")
                yield clip
    atomic_write_text(args.manifests_dir / "voxceleb2_split.tsv", "".join(splits))
    write_classes(args.manifests_dir, "voxceleb2", sorted(speakers))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    parser = preparation_parser(__doc__)
    parser.add_argument("--seed", type=int, default=42, help="of the hold-out")
    args = parser.parse_args()
    skipped = SkipList()
    write_manifests("voxceleb2", voxceleb2(args, skipped), skipped, args)


if __name__ == "__main__":
    main()
