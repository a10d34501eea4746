#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ParaSpeechCaps: descriptions of speaking style for VoxCeleb, Expresso, EARS and Emilia.

Source:   https://huggingface.co/datasets/ajd12342/paraspeechcaps (lists; each audio corpus has its own source)
Licence:  lists CC BY-NC-SA 4.0; VoxCeleb CC BY 4.0, Expresso, EARS and Emilia CC BY-NC 4.0.
Layout:   <corpus-dir>/[data/]{train_base,train_scaled,dev,holdout}*.parquet (needs pyarrow), .jsonl or .jsonl.gz with
              source,relative_audio_path,text_description (list of captions),duration and further columns
          audio at <corpus-dir>/<source>/<relative_audio_path>, source one of voxceleb, expresso, ears, emilia, or at
          <corpus-dir>/<relative_audio_path> for a source without a folder. A list that is absent is noted.
Expected: train_base 116,516 + train_scaled 924,651 (train), dev 11,967 (valid), holdout 14,756 (test).
Ids:      vox:<speaker>/<YouTube id>/<utterance> (without _voicefixer), expresso:<stem>, ears:<speaker>/<stem>,
          emilia:<stem>. The VoxCeleb files are denoised copies: the same key as VoxCeleb, another waveform.
Lhotse:   its recipes of EARS and Emilia list whole corpora; these lists name the files they need. What they measured
          serves a scan: scan_audio.py --recordings data/lhotse/{ears_recordings,emilia_cuts_EN}.jsonl.gz
Lists:    paraspeechcaps_base.txt has the ids of train_base, which people wrote: the paper's training set of tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from icefall_alp.data import audio_keys
from icefall_alp.data.captions import CaptionedAudio, clean_caption
from icefall_alp.data.corpus_lists import SkipList, duration_field, jsonl_rows, text_field
from icefall_alp.data.damaged_rows import rescue
from icefall_alp.data.manifests import preparation_parser, write_manifests
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError, clean_exit

SPLIT_OF_LIST = {"train_base": "train", "train_scaled": "train", "dev": "valid", "holdout": "test"}
COLUMNS = ["source", "relative_audio_path", "text_description", "duration"]
KEY_OF_SOURCE: dict[str, Callable[[str], str]] = {
    "voxceleb": audio_keys.voxceleb,
    "expresso": audio_keys.expresso,
    "ears": audio_keys.ears,
    "emilia": audio_keys.emilia,
}


def list_rows(path: Path, skipped: SkipList, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield file:row and row."""
    if path.suffix != ".parquet":
        yield from jsonl_rows(path, skipped, rescue(audio_keys.paraspeechcaps, split))
        return
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{path}: reading parquet needs `pip install pyarrow`; or convert it to .jsonl") from error
    try:
        batches = parquet.ParquetFile(path).iter_batches(columns=COLUMNS)
        for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), start=1):
            yield f"{path.name}:{number}", row
    except (OSError, ValueError) as error:  # what pyarrow raises is one of these
        raise UserError(f"{path}: no such parquet file of ParaSpeechCaps ({error}); download it again") from error


def find_lists(root: Path, name: str) -> list[Path]:
    """The files of one list, jsonl before parquet."""
    for suffix in (".jsonl", ".jsonl.gz", ".parquet"):
        if found := [path for folder in (root, root / "data") for path in sorted(folder.glob(f"{name}*{suffix}"))]:
            return found
    return []


def good_captions(row: dict[str, Any], noted: Callable[[], AbstractContextManager]) -> Iterator[str]:
    """The captions of a row; one that is none is noted."""
    texts = row.get("text_description")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("text_description is no list of captions")
    for text in texts:
        with noted():
            yield clean_caption(text)


def paraspeechcaps(root: Path, skipped: SkipList, base: set[str]) -> Iterator[CaptionedAudio]:
    """Yield each clip with its captions; put the ids of train_base into `base`."""
    lists = {name: find_lists(root, name) for name in SPLIT_OF_LIST}
    if not any(lists.values()):
        raise UserError(f"{root}: none of {', '.join(lists)} as .jsonl or .parquet; see the layout in --help")
    folders = {source: f"{source}/" if (root / source).is_dir() else "" for source in KEY_OF_SOURCE}
    for name, path in ((name, path) for name, paths in lists.items() for path in paths or [None]):
        if path is None:
            skipped.add("no_list", "no such file", where=name)
            continue
        with skipped.reading(path.name, split := SPLIT_OF_LIST[name]):
            for where, row in list_rows(path, skipped, split):
                with skipped.bad_row(where):
                    relative, source = text_field(row, "relative_audio_path"), str(row.get("source"))
                    key = KEY_OF_SOURCE.get(source, audio_keys.paraspeechcaps)(relative)
                    noted = partial(skipped.bad_row, where, key=key, split=split)
                    with noted():
                        if source not in KEY_OF_SOURCE:
                            raise ValueError(f"source {source[:40]!r} is none of {', '.join(KEY_OF_SOURCE)}")
                        if name == "train_base":
                            base.add(key)
                        duration_field(row)  # the file's own counts, but a row with a broken one is not to be trusted
                        if captions := list(good_captions(row, noted)):
                            yield CaptionedAudio(key, folders[source] + relative, split, tuple(captions), row=name)


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    base: set[str] = set()
    with SkipList() as skipped:
        write_manifests("paraspeechcaps", paraspeechcaps(args.corpus_dir, skipped, base), skipped, args)
    atomic_write_text(args.manifests_dir / "paraspeechcaps_base.txt", "".join(f"{key}\n" for key in sorted(base)))


if __name__ == "__main__":
    main()
