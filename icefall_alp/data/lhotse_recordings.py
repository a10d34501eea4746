# SPDX-License-Identifier: Apache-2.0
"""Lengths that Lhotse's recipes have measured, so that a scan (`audio_scan`) need not open those files again.

Read are the manifests that `lhotse prepare ...` writes: recordings, and cuts with their recordings. A length counts
where its row names one file as it lies on the disk, no other row says otherwise, and the file has not changed since
the manifest was written. Everything else is noted, and the file is opened as any other.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from icefall_alp.data.audio_scan import ScanRow
from icefall_alp.data.captions import AudioHeader
from icefall_alp.data.corpus_lists import SkipList, json_object, jsonl_rows
from icefall_alp.utils.errors import UserError

# Lhotse measures these with libsndfile, as we do. It has decoders for m4a, which training has not, and what it says of
# Opus depends on its settings.
SAME_DECODER = (".flac", ".wav", ".ogg", ".mp3")
_MAX_NUMBER = 1 << 62  # a scan keeps numbers in 64 bits
_MAX_DRIFT = 0.01  # seconds between the duration of a recording and that of its samples


class LhotseRecordings:
    """What manifests say about the files below a corpus's folder; a folder that is a link is the one it leads to."""

    def __init__(self, root: Path, manifests: Iterable[Path], skipped: SkipList) -> None:
        """Read the manifests.

        Args:
            root: the corpus's folder. Paths that are not absolute begin here, where `lhotse` was run, or else in it.
            manifests: of recordings or cuts, as JSON lines.
            skipped: takes every row that is of no use, with file and line.

        Raises:
            UserError: a manifest is missing, or none of JSON lines.
        """
        self._root, self._skipped = os.path.abspath(root), skipped  # noqa: PTH100 (links are kept)
        self._known: dict[str, tuple[AudioHeader | None, int, str]] = {}  # by real path; None where rows disagree
        self._seen: set[str] = set()
        self._changed: set[str] = set()
        for path in manifests:
            self._read(path)

    def _read(self, manifest: Path) -> None:
        if not manifest.is_file():
            raise UserError(f"{manifest}: no such manifest; `lhotse prepare` writes it")
        if not manifest.name.endswith((".jsonl", ".jsonl.gz")):
            raise UserError(f"{manifest}: not JSON lines; `lhotse copy {manifest} NEW.jsonl.gz` makes them")
        written, opened = manifest.stat().st_mtime_ns, Counter[str]()
        rows = jsonl_rows(manifest, self._skipped)
        for where, row in tqdm(rows, desc=manifest.name, unit="row", disable=None):
            with self._skipped.bad_row(where):
                source, header = file_and_header(row)
                suffix = os.path.splitext(source)[1].lower()  # noqa: PTH122 -- a million names
                if suffix in SAME_DECODER:
                    self._add(_real_path(self._root, source), header, written, where)
                else:
                    opened[suffix] += 1
        for suffix, count in sorted(opened.items()):
            cause = f"{count:,} recordings {suffix or 'without suffix'}, whose lengths no other decoder can tell"
            self._skipped.add("other_decoder", cause, count, where=manifest.name)

    def _add(self, path: str, header: AudioHeader, written: int, where: str) -> None:
        known, _, first = self._known.setdefault(path, (header, written, where))
        if known != header:
            self._skipped.add("contradiction", f"{first} says otherwise of this file", where=where, path=path)
            self._known[path] = (None, written, first)

    def row(self, path: str, size: int, time: int) -> ScanRow | None:
        """The scan's line of a file, given relative to the folder; None where it has to be opened."""
        real = _real_path(self._root, os.path.join(self._root, path))  # noqa: PTH118 -- a million names
        if real not in self._known:
            return None
        self._seen.add(real)
        header, written, _ = self._known[real]
        if header is None:
            return None
        if not size or time > written:
            self._changed.add(real)
            return None
        return [path, size, time, header.sampling_rate, header.num_channels, header.num_samples]

    def finish(self) -> int:
        """Note the recordings whose files the scan did not find or that have changed; returns how many it took."""
        changed, outside = Counter[str](), Counter[str]()
        num_used, inside = 0, f"{os.path.realpath(self._root)}/"
        for path, (header, _, where) in self._known.items():
            manifest = where.rpartition(":")[0]
            if path in self._changed:
                changed[manifest] += 1
            elif path in self._seen:
                num_used += header is not None
            elif path.startswith(inside):
                self._skipped.add("missing", "no such file", where=where, path=path.removeprefix(inside))
            else:
                outside[manifest] += 1
        for name, count in changed.items():
            cause = f"{count:,} files are newer than the manifest or empty"
            self._skipped.add("changed", cause, count, where=name)
        for name, count in outside.items():
            self._skipped.add("outside", f"{count:,} recordings lie outside {self._root}", count, where=name)
        return num_used


def file_and_header(row: dict[str, Any]) -> tuple[str, AudioHeader]:
    """The file of a recording, or of a cut's recording, and its length.

    Raises:
        ValueError: it is not one file as it lies on the disk, or its numbers are none of audio.
    """
    recording = json_object(row.get("recording", row))
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1:
        raise ValueError(f"{len(sources) if isinstance(sources, list) else 'no'} sources instead of one file")
    source = json_object(sources[0])
    if source.get("type") != "file" or not isinstance(source.get("source"), str):
        raise ValueError(f"the source is {source.get('type')!r} instead of a file")
    if recording.get("transforms") or source.get("video"):
        raise ValueError("a recording that is transformed, or a video's, has not the length of its file")
    channels = source.get("channels")
    if not isinstance(channels, list) or not channels or channels != list(range(len(channels))):
        raise ValueError(f"the channels are {str(channels)[:40]} instead of 0 and those after it")
    rate, num_samples, duration = (recording.get(name) for name in ("sampling_rate", "num_samples", "duration"))
    if not all(type(number) is int and 0 < number < _MAX_NUMBER for number in (rate, num_samples)):
        raise ValueError(f"{str(num_samples)[:40]} samples at {str(rate)[:40]} Hz")
    if type(duration) not in (int, float) or not abs(duration - num_samples / rate) < _MAX_DRIFT:
        raise ValueError(f"a duration of {str(duration)[:40]} s for {num_samples:,} samples at {rate:,} Hz")
    return source["source"], AudioHeader(rate, len(channels), num_samples)


def _real_path(root: str, path: str) -> str:
    folder, name = os.path.split(path)
    return f"{_real_folder(root, folder)}/{name}"


@lru_cache(maxsize=1 << 16)
def _real_folder(root: str, folder: str) -> str:
    """The folder without links; one that is not here is one of the corpus."""
    is_here = os.path.isabs(folder) or os.path.isdir(folder or ".")  # noqa: PTH112, PTH117
    return os.path.realpath(folder if is_here else os.path.join(root, folder))  # noqa: PTH118
