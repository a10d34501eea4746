#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""IEMOCAP: ten actors in dialogues, each turn with the emotion that listeners agreed on.

Source:   https://sail.usc.edu/iemocap
Licence:  by agreement with the University of Southern California, research.
Layout:   <corpus-dir>/Session<1-5>/sentences/wav/<dialogue>/<turn>.wav and
              Session<1-5>/dialog/EmoEvaluation/<dialogue>.txt with one line per turn:
              [<start> - <end>]<TAB><turn><TAB><emotion code><TAB>[<valence>, <activation>, <dominance>]
Expected: 10,039 turns, of which 2,507 have no emotion that most listeners agreed on (xxx) and, for the rest, some that
          hardly occur. Sessions 1 to 4 are for training, session 5, with other actors, for test.
Ids:      iemocap:<turn>. The speaker's gender is the letter before the turn's number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from icefall_alp.data.audio_keys import iemocap
from icefall_alp.data.captions import AudioItem
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.data.manifests import preparation_parser, write_manifests
from icefall_alp.data.times import stretch
from icefall_alp.utils.errors import UserError, clean_exit

EMOTIONS = {
    "ang": "angry", "hap": "happy", "sad": "sad", "neu": "neutral", "fru": "frustrated", "exc": "excited",
    "fea": "fearful", "sur": "surprised", "dis": "disgusted",
}  # fmt: skip
GENDERS = {"F": "female", "M": "male"}
NO_EMOTION = ("xxx", "oth")  # listeners disagreed, or agreed on none of the list
TEST_SESSION = "Session5"
_TURN = re.compile(r"\[(.+) - (.+)\]\t(Ses0[1-5][FM]_\w+_([FM])[0-9]{3}\w?)\t([a-z]{3})\t.*")
_OTHER_LINE = re.compile(r"\s*|%.*|\[START.*|[AC]-\w+:.*")  # header, and what single listeners said


def turns(path: Path, skipped: SkipList) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Place, turn and what is known about it, for each line of an evaluation that begins a turn."""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if _OTHER_LINE.fullmatch(line):
            continue
        where = f"{path.name}:{number}"
        with skipped.bad_row(where):
            match = _TURN.fullmatch(line.rstrip("\r"))
            if match is None or "\ufffd" in line:
                raise ValueError("not [<start> - <end>] <turn> <emotion> [...] in UTF-8")
            start, end, turn, gender, emotion = match.groups()
            stretch(start, end)  # the file's own length counts, but a row with broken times is not to be trusted
            known = {"gender": GENDERS[gender]}
            if emotion not in NO_EMOTION:
                if emotion not in EMOTIONS:
                    raise ValueError(f"emotion {emotion!r} is none of {', '.join(EMOTIONS)}")
                known["emotion"] = EMOTIONS[emotion]
            yield where, turn, known


def iemocap_items(root: Path, skipped: SkipList) -> Iterator[AudioItem]:
    """Yield every turn."""
    evaluations = sorted(root.glob("Session[1-5]/dialog/EmoEvaluation/Ses*.txt"))
    if not evaluations:
        raise UserError(f"{root}: no Session<1-5>/dialog/EmoEvaluation/Ses*.txt; see the layout in --help")
    for path in evaluations:
        session = path.parents[2].name
        split = "test" if session == TEST_SESSION else "train"
        for where, turn, known in turns(path, skipped):
            with skipped.bad_row(where):
                audio = f"{session}/sentences/wav/{turn.rpartition('_')[0]}/{turn}.wav"
                yield AudioItem(iemocap(turn), audio, split, attributes=known)


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    skipped = SkipList()
    write_manifests("iemocap", iemocap_items(args.corpus_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
