# SPDX-License-Identifier: Apache-2.0
"""Lengths that Lhotse's recipes have measured, so that a scan (`audio_scan`) need not open those files again.

Read are the manifests that `lhotse prepare ...` writes: recordings, and cuts with their recordings. A length counts
where its row names one file as it lies on the disk, no other row says otherwise, and the file has not changed since
the manifest was written, which its date says: a copy of it keeps that (`cp -p`) or is believed too much. Everything
else is noted, and the file is opened as any other.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from icefall_alp.data.audio_scan import AudioIndex, PathTable, ScanRow
from icefall_alp.data.captions import AudioHeader
from icefall_alp.data.corpus_lists import SkipList, json_object, jsonl_rows
from icefall_alp.utils.errors import UserError

# Lhotse measures these with libsndfile, as we do. It has decoders for m4a, which training has not, and what it says of
# Opus depends on its settings.
SAME_DECODER = (".flac", ".wav", ".ogg", ".mp3")
_UNSEEN, _USED, _CHANGED, _CONTRADICTED, _REPEATED = range(5)  # what the scan made of a recording
_MAX_NUMBER = 1 << 62  # a scan keeps numbers in 64 bits
_MAX_DRIFT = 0.01  # seconds between the duration of a recording and that of its samples


class LhotseRecordings:
    """What manifests say about the files below a corpus's folder; a folder that is a link is the one it leads to.

    Emilia alone has tens of millions of recordings: paths and numbers are kept as bytes.
    """

    def __init__(self, root: Path, manifests: Sequence[Path], skipped: SkipList) -> None:
        """Read the manifests.

        Args:
            root: the corpus's folder. Paths that are not absolute begin here, where `lhotse` was run, or else in it.
            manifests: of recordings or cuts, as JSON lines.
            skipped: takes every row that is of no use, with file and line.

        Raises:
            UserError: a manifest is missing, or none of JSON lines.
        """
        for manifest in manifests:
            if not manifest.is_file():
                raise UserError(f"{manifest}: no such manifest; `lhotse prepare` writes it")
            if not manifest.name.endswith((".jsonl", ".jsonl.gz")):
                raise UserError(f"{manifest}: not JSON lines; `lhotse copy {manifest} NEW.jsonl.gz` makes them")
        self._root, self._skipped = os.path.abspath(root), skipped  # noqa: PTH100 (links are kept)
        self._manifests = [(manifest.name, manifest.stat().st_mtime_ns) for manifest in manifests]
        self._headers = array("q")  # sampling rate, channels, samples
        self._places = array("q")  # number of the manifest, line
        self._paths = PathTable(
            path for number, manifest in enumerate(manifests) for path in self._read(number, manifest)
        )
        self._index = AudioIndex(self._paths, str)
        self._states = bytearray(len(self._paths))
        self._find_contradictions()

    def _read(self, number: int, manifest: Path) -> Iterator[str]:
        """Yield the real path of every recording that is of use, and keep the rest of it."""
        opened: Counter[str] = Counter()
        rows = jsonl_rows(manifest, self._skipped)
        for where, row in tqdm(rows, desc=manifest.name, unit="row", disable=None):
            with self._skipped.bad_row(where):
                source, header = file_and_header(row)
                suffix = os.path.splitext(source)[1].lower()  # noqa: PTH122 -- a million names
                if suffix not in SAME_DECODER:
                    opened[suffix] += 1
                    continue
                path = _real_path(self._root, source)
                self._headers.extend((header.sampling_rate, header.num_channels, header.num_samples))
                self._places.extend((number, int(where.rpartition(":")[2])))
                yield path
        for suffix, count in sorted(opened.items()):
            cause = f"{count:,} recordings {suffix or 'without suffix'}, whose lengths no other decoder can tell"
            self._skipped.add("other_decoder", cause, count, where=manifest.name)

    def _find_contradictions(self) -> None:
        for position, path in enumerate(self._paths):
            first = self._index.position(path)
            if first == position:
                continue
            self._states[position] = _REPEATED
            if self._header(position) != self._header(first):
                cause = f"{self._where(first)} says otherwise of this file"
                self._skipped.add("contradiction", cause, where=self._where(position), path=path)
                self._states[first] = _CONTRADICTED

    def _header(self, position: int) -> array[int]:
        return self._headers[3 * position : 3 * position + 3]

    def _where(self, position: int) -> str:
        number, line = self._places[2 * position : 2 * position + 2]
        return f"{self._manifests[number][0]}:{line}"

    def row(self, path: str, status: os.stat_result) -> ScanRow | None:
        """The scan's line of a file, given relative to the folder; None where it has to be opened."""
        try:
            position = self._index.position(_real_path(self._root, f"{self._root}/{path}"))
        except KeyError:
            return None
        if self._states[position] == _CONTRADICTED:
            return None
        _, written = self._manifests[self._places[2 * position]]
        # What comes out of an archive has old times, but its state was changed when it was unpacked.
        is_older = max(status.st_mtime_ns, status.st_ctime_ns) <= written
        self._states[position] = _USED if status.st_size and is_older else _CHANGED
        stamp = (status.st_size, status.st_mtime_ns)
        return [path, *stamp, *self._header(position)] if self._states[position] == _USED else None

    def finish(self) -> int:
        """Note the recordings whose files the scan did not find or that have changed; returns how many it took."""
        changed: Counter[int] = Counter()
        outside: Counter[int] = Counter()
        inside = f"{os.path.realpath(self._root)}/"
        for position, state in enumerate(self._states):
            number = self._places[2 * position]
            if state == _CHANGED:
                changed[number] += 1
            elif state == _UNSEEN and (path := self._paths[position]).startswith(inside):
                details = {"where": self._where(position), "path": path.removeprefix(inside)}
                self._skipped.add("missing", "no such file", **details)
            elif state == _UNSEEN:
                outside[number] += 1
        self._count("changed", "files are newer than the manifest or empty", changed)
        self._count("outside", f"recordings lie outside {self._root}", outside)
        return self._states.count(_USED)

    def _count(self, reason: str, cause: str, counts: Counter[int]) -> None:
        for number, count in counts.items():
            self._skipped.add(reason, f"{count:,} {cause}", count, where=self._manifests[number][0])


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
    if "\0" in source["source"] or not _is_writable(source["source"]):
        raise ValueError(f"no file can be named {source['source'][:80]!r}")
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


def _is_writable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _real_path(root: str, path: str) -> str:
    folder, name = os.path.split(path)
    if not folder and not os.path.exists(name):  # noqa: PTH110
        folder = root
    return f"{_real_folder(root, folder)}/{name}"


@lru_cache(maxsize=1 << 16)
def _real_folder(root: str, folder: str) -> str:
    """The folder without links; one that is not here is one of the corpus."""
    is_here = os.path.isabs(folder) or os.path.isdir(folder or ".")  # noqa: PTH112, PTH117
    return os.path.realpath(folder if is_here else os.path.join(root, folder))  # noqa: PTH118
