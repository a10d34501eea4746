# SPDX-License-Identifier: Apache-2.0
"""What audio lies below a corpus's folder: walked and opened each time, or read from a scan that was kept.

A scan is `<corpus folder>/audio_scan.gz`, written by `local/scan_audio.py`: a line for every file,

    [path, bytes, modification time in ns, sampling rate, channels, samples]
    [path, bytes, modification time in ns, why it cannot be read]

While it is there it is believed: neither the folder is walked nor a file opened. The files of one clip in several
formats are neighbours, the preferred one first. Ten million paths stay in memory as bytes and numbers, about 80 bytes
a file.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile

from icefall_alp.data.captions import AudioHeader, read_jsonl
from icefall_alp.utils.errors import UserError

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3", ".m4a")  # first come, first taken for one clip
SCAN_NAME = "audio_scan.gz"
ScanRow = list[Any]


# ---- on the disk ----------------------------------------------------------------------------------------------------


def walk_audio(root: Path, folder: str = ".") -> Iterator[str]:
    """Every audio file under `root/folder`, relative to `root`, folder by folder; links are followed, loops are not."""
    visited = set()
    for parent, folders, files in os.walk(root / folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link back to a parent
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        inside = os.path.relpath(parent, root)
        prefix = "" if inside == "." else f"{inside}/"
        audio = (name for name in files if _suffix(name).lower() in AUDIO_SUFFIXES)
        yield from (prefix + name for name in sorted(audio, key=_by_stem_then_preference))


def _by_stem_then_preference(name: str) -> tuple[str, int, str]:
    suffix = _suffix(name)
    return name[: -len(suffix)], AUDIO_SUFFIXES.index(suffix.lower()), suffix


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1]  # noqa: PTH122 -- ten million names


def read_header(path: Path) -> AudioHeader:
    """Read the header of an audio file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it holds no audio that can be read; the message is the cause.
    """
    if path.stat().st_size == 0:
        raise ValueError("empty file")
    try:
        info = soundfile.info(os.fsencode(path))
    except soundfile.LibsndfileError as error:
        hint = "; convert it to flac or wav first" if path.suffix.lower() == ".m4a" else ""
        raise ValueError(f"{error.error_string.strip().rstrip('.')}{hint}") from error
    if info.frames <= 0 or info.samplerate <= 0:
        raise ValueError("no samples")
    return AudioHeader(info.samplerate, info.channels, info.frames)


# ---- in memory ------------------------------------------------------------------------------------------------------


class PathTable(Sequence[str]):
    """An unchanging sequence of strings in one piece of memory."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._bytes, self._ends = bytearray(), array("q", [0])
        for path in paths:
            self._bytes += path.encode("utf-8", "surrogateescape")
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, position: Any) -> Any:
        """The string at a position that is not negative."""
        if position >= len(self):
            raise IndexError(position)
        begin, end = self._ends[position], self._ends[position + 1]
        return self._bytes[begin:end].decode("utf-8", "surrogateescape")


class AudioIndex(Mapping[str, str]):
    """Paths by the name that `name_of` makes of each: of several with one name the first.

    Paths for which `name_of` raises ValueError belong to something else and are passed over. Only a hash and a
    position are kept of each; what is found is named again, so equal hashes do no harm.
    """

    def __init__(self, paths: Sequence[str], name_of: Callable[[str], str]) -> None:
        self._paths, self._name_of = paths, name_of
        hashes, positions = array("q"), array("q")
        for position, path in enumerate(paths):
            try:
                hashes.append(hash(name_of(path)))
            except ValueError:
                continue
            positions.append(position)
        order = np.argsort(np.array(hashes, dtype=np.int64), kind="stable")
        self._hashes = np.array(hashes, dtype=np.int64)[order]
        self._positions = np.array(positions, dtype=np.int64)[order]

    def position(self, name: str) -> int:
        """Place of the first path of this name. Raises KeyError when there is none."""
        for position, _ in self._found(name):
            return position
        raise KeyError(name)

    def every(self, name: str) -> list[str]:
        """All paths of this name, in their order."""
        return [path for _, path in self._found(name)]

    def _found(self, name: str) -> Iterator[tuple[int, str]]:
        wanted = hash(name)
        at = int(np.searchsorted(self._hashes, wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            position = int(self._positions[at])
            path: str = self._paths[position]
            if self._name_of(path) == name:
                yield position, path
            at += 1

    def __getitem__(self, name: str) -> str:
        for _, path in self._found(name):
            return path
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        places = {self._name_of(self._paths[position]): None for position in np.sort(self._positions)}
        return iter(places)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def stem_of(path: str) -> str:
    """The file name without its extension."""
    return os.path.splitext(path[path.rfind("/") + 1 :])[0]  # noqa: PTH122 -- ten million names


# ---- kept -----------------------------------------------------------------------------------------------------------


class AudioScan:
    """A kept scan.

    Attributes:
        paths: of every file, in the order of the scan.
    """

    def __init__(self, path: Path, stamps: bool = False) -> None:
        """Read it; `stamps` keeps sizes and times as well. Raises UserError when a line is damaged."""
        self._path, self._keep_stamps = path, stamps
        self._headers = array("q")  # sampling rate, channels, samples; zeros where the file cannot be read
        self._stamps = array("q")  # bytes, time
        self._causes: dict[int, str] = {}
        self.paths = PathTable(map(self._take, read_jsonl(path)))
        self._index = AudioIndex(self.paths, str)

    def _take(self, row: Any) -> str:
        number = len(self._headers) // 3
        if not isinstance(row, list) or [type(value) for value in row] not in ([str, *[int] * 5], [str, int, int, str]):
            raise UserError(f"{self._path}: line {number + 1} is none of a scan; run local/scan_audio.py again")
        if len(row) == 4:
            self._causes[number] = row[3]
        self._headers.extend(row[3:] if len(row) == 6 else (0, 0, 0))
        if self._keep_stamps:
            self._stamps.extend(row[1:3])
        path: str = row[0]
        return path

    def header(self, path: str) -> AudioHeader:
        """As `read_header`, from the scan; raises FileNotFoundError when it does not list the file."""
        try:
            position = self._index.position(path)
        except KeyError as error:
            raise FileNotFoundError(path) from error
        if cause := self._causes.get(position):
            raise ValueError(cause)
        return AudioHeader(*self._headers[3 * position : 3 * position + 3])

    def row(self, path: str, status: os.stat_result) -> ScanRow | None:
        """The line of a file that has not changed; None of another one. Needs `stamps`."""
        if path not in self._index:
            return None
        position, stamp = self._index.position(path), [status.st_size, status.st_mtime_ns]
        if list(self._stamps[2 * position : 2 * position + 2]) != stamp:
            return None
        cause = self._causes.get(position)
        return [path, *stamp, *([cause] if cause else self._headers[3 * position : 3 * position + 3])]


@lru_cache(maxsize=1)
def _open_scan(path: Path, _: int) -> AudioScan:
    print(f"audio as {path} lists it; delete it or run local/scan_audio.py again when the audio has changed")
    return AudioScan(path)


def kept_scan(root: Path) -> AudioScan | None:
    """The scan of a corpus folder, read once per process; None where none is kept."""
    path = root / SCAN_NAME
    return _open_scan(path, path.stat().st_mtime_ns) if path.is_file() else None


class Known(Protocol):
    """Who may know a file that lies there in such a state: an earlier scan, Lhotse's manifests."""

    def row(self, path: str, status: os.stat_result) -> ScanRow | None:
        """The line of that file; None where it has to be opened."""


def scan_file(root: Path, path: str, *known: Known) -> ScanRow | None:
    """The scan's line of one file, that of the first who knows it, else it is opened; None where it has gone."""
    try:
        status = (root / path).stat()
        stamp = (status.st_size, status.st_mtime_ns)
        rows = [who.row(path, status) for who in known]  # all are asked: they count what they are asked for
        if row := next(filter(None, rows), None):
            return row
        header = read_header(root / path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        return [path, *stamp, str(error)]
    except OSError as error:
        return [path, 0, 0, error.strerror or "cannot be read"]
    return [path, *stamp, header.sampling_rate, header.num_channels, header.num_samples]


def find_audio(root: Path, folder: str = ".") -> Sequence[str]:
    """All audio under `root/folder`, relative to `root`, in a fixed order; of one clip in several formats one file."""
    scan = kept_scan(root)
    inside = "" if folder == "." else f"{folder.rstrip('/')}/"
    paths = (path for path in scan.paths if path.startswith(inside)) if scan else walk_audio(root, folder)
    return PathTable(_first_of_each_stem(paths))


def _first_of_each_stem(paths: Iterable[str]) -> Iterator[str]:
    last = None
    for path in paths:
        stem = os.path.splitext(path)[0]  # noqa: PTH122 -- ten million names
        if stem != last:
            yield path
        last = stem


def index_audio(paths: Sequence[str], identify: Callable[[str], str]) -> AudioIndex:
    """Paths by what `identify` makes of their stems; files it raises ValueError for belong to something else."""
    return AudioIndex(paths, lambda path: identify(stem_of(path)))
