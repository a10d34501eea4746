# SPDX-License-Identifier: Apache-2.0
"""Features on disk: Lhotse Shar (cuts and float32 features) with random access and restartable writing.

    cuts.000000.jsonl.gz   the cuts of a shard
    features.000000.tar    their features, one numpy member each
    index.000000.json      written last: digest of the inputs, where each member lies, which cuts were skipped
    skipped.jsonl          written when every shard is there

Lhotse reads the same files: `CutSet.from_shar(fields={"cuts": [...], "features": [...]})`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse import MonoCut
from lhotse.shar.writers import ArrayTarWriter

from icefall_alp.data.captions import jsonl_writer, read_jsonl
from icefall_alp.data.subsets import FILE_NAME, Subset
from icefall_alp.utils.atomic_io import atomic_write_text, remove_leftovers
from icefall_alp.utils.errors import UserError

_DTYPE = np.dtype(np.float32)


def _paths(folder: Path, number: int) -> tuple[Path, Path, Path]:
    """Cuts, features and index of one shard."""
    names = (f"cuts.{number:06d}.jsonl.gz", f"features.{number:06d}.tar", f"index.{number:06d}.json")
    return folder / names[0], folder / names[1], folder / names[2]


@dataclass(frozen=True)
class ShardIndex:
    """What is stored in one shard, and where.

    Attributes:
        digest: of the inputs.
        tar_bytes: size of the features' file.
        offsets: byte in that file at which each clip's values begin.
        num_frames: of each clip.
        num_features: values per frame.
        skipped: clips that are not there: id, path, reason.
    """

    digest: str
    tar_bytes: int
    offsets: list[int]
    num_frames: list[int]
    num_features: int
    skipped: list[dict[str, str]]

    @classmethod
    def read(cls, path: Path) -> ShardIndex:
        """Read an index. Raises `UserError` when it is absent or damaged."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"shard index {path} is missing or damaged ({error}); run stage 2 again") from error


def start_shards(folder: Path, num_shards: int) -> None:
    """Make the folder; delete what killed writers left, and shards past `num_shards`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "skipped.jsonl").unlink(missing_ok=True)
        remove_leftovers(folder)
        for index in folder.glob("index.*.json"):
            if (number := int(index.name.split(".")[1])) >= num_shards:
                for path in reversed(_paths(folder, number)):
                    path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write shards into {folder}: {error.strerror}") from error


def finish_shards(folder: Path, skipped: list[dict[str, str]]) -> None:
    """Declare the folder complete and list the clips that are not in it."""
    lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in skipped]
    atomic_write_text(folder / "skipped.jsonl", "".join(lines))


def stored_shard(folder: Path, number: int, digest: str) -> ShardIndex | None:
    """The shard's index where it is complete and was made from inputs of this digest."""
    cuts, features, index_path = _paths(folder, number)
    if not (cuts.exists() and features.exists() and index_path.exists()):
        return None
    try:
        index = ShardIndex.read(index_path)
    except UserError:
        return None
    return index if index.digest == digest and features.stat().st_size == index.tar_bytes else None


class ShardWriter:
    """Writes one shard under temporary names; it is there after `finish`, or not at all."""

    def __init__(self, folder: Path, number: int) -> None:
        self._cuts_path, self._features_path, self._index_path = _paths(folder, number)
        self._temporary = folder / f".{self._features_path.name}.tmp-{os.getpid()}"
        self._writer = ArrayTarWriter(str(self._temporary), shard_size=None)
        self._cuts: list[MonoCut] = []

    def __enter__(self) -> ShardWriter:
        self._index_path.unlink(missing_ok=True)
        self._writer.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk was reported where it was met
            self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, cut: MonoCut, features: np.ndarray) -> None:
        """Append a cut, which describes its features, and their values (T, F)."""
        try:
            self._writer.write(cut.id, np.ascontiguousarray(features, dtype=_DTYPE), cut.features)
        except OSError as error:
            raise UserError(f"cannot write {self._features_path}: {error.strerror}") from error
        self._cuts.append(cut)

    def finish(self, digest: str, skipped: list[dict[str, str]]) -> None:
        """Give the shard its name, with the digest of its inputs and the clips left out of it."""
        try:
            self._writer.close()
            if not self._cuts:
                tarfile.open(self._temporary, "w").close()
            with tarfile.open(self._temporary, "r:") as tar:
                ends = [member.offset_data + member.size for member in tar if member.name.endswith(".npy")]
            with self._temporary.open("rb") as file:
                os.fsync(file.fileno())
            self._temporary.replace(self._features_path)
        except OSError as error:
            raise UserError(f"cannot write {self._features_path}: {error.strerror}") from error
        num_frames = [cut.features.num_frames for cut in self._cuts]
        num_features = self._cuts[0].features.num_features if self._cuts else 0
        row = num_features * _DTYPE.itemsize
        offsets = [end - frames * row for end, frames in zip(ends, num_frames, strict=True)]
        size = self._features_path.stat().st_size
        with jsonl_writer(self._cuts_path) as write:
            for cut in self._cuts:
                write(cut.to_dict())
        index = ShardIndex(digest, size, offsets, num_frames, num_features, skipped)
        atomic_write_text(self._index_path, json.dumps(dataclasses.asdict(index)) + "\n")


def input_files(folder: Path) -> list[Path]:
    """The files that say which cuts a folder of shards, or of a subset of them, has."""
    subset = Subset.read(folder)
    shards = folder.parent / subset.of if subset else folder
    return [*sorted(shards.glob("cuts.*.jsonl.gz")), *([folder / FILE_NAME] if subset else [])]


class FeatureShards:
    """Random access to stored cuts and features; cheap to send to a worker process.

    Args:
        folder: of the shards, or of a subset of those in a folder beside it (`subsets`).

    Attributes:
        cuts: every cut of the set or subset, in the order of the cutset.
        num_frames: (number of cuts,) int64.
        durations: seconds of each cut, (number of cuts,) float64.

    Raises:
        UserError: the folder is missing or incomplete, or a shard is truncated or damaged.
    """

    def __init__(self, folder: Path) -> None:
        subset = Subset.read(Path(folder))
        self.folder = Path(folder).parent / subset.of if subset else Path(folder)
        if not (self.folder / "skipped.jsonl").is_file():
            raise UserError(f"no complete set of features in {self.folder}; run stage 2, it continues where it stopped")
        self._num_shards = len(list(self.folder.glob("index.*.json")))
        cuts: list[MonoCut] = []
        shards, offsets, num_frames = [], [], []
        self._num_features = 0
        for number in range(self._num_shards):
            index = self._check(number)
            entries = list(read_jsonl(_paths(self.folder, number)[0]))
            if len(entries) != len(index.offsets):
                raise UserError(f"{_paths(self.folder, number)[0]} does not match its index; run stage 2 again")
            taken = [place for place, entry in enumerate(entries) if subset is None or subset.takes(entry)]
            cuts += [MonoCut.from_dict(entries[place]) for place in taken]
            shards.append(np.full(len(taken), number))
            offsets.append(np.array(index.offsets, dtype=np.int64)[taken])
            num_frames.append(np.array(index.num_frames, dtype=np.int64)[taken])
            self._num_features = max(self._num_features, index.num_features)
        self.cuts: Sequence[MonoCut] = cuts
        self._shards, self._offsets = np.concatenate(shards), np.concatenate(offsets)
        self.num_frames = np.concatenate(num_frames)
        self.durations = np.array([cut.duration for cut in cuts])

    def _check(self, number: int) -> ShardIndex:
        _, features, index_path = _paths(self.folder, number)
        index = ShardIndex.read(index_path)
        size = features.stat().st_size if features.is_file() else 0
        if size != index.tar_bytes:
            raise UserError(f"shard {features} holds {size} of {index.tar_bytes} bytes; run stage 2 again")
        return index

    def __len__(self) -> int:
        return len(self.cuts)

    def features(self, position: int) -> np.ndarray:
        """Features of the cut at `position`: (T, F) float32."""
        shape = (int(self.num_frames[position]), self._num_features)
        path = _paths(self.folder, int(self._shards[position]))[1]
        with path.open("rb") as file:
            file.seek(int(self._offsets[position]))
            data = file.read(shape[0] * shape[1] * _DTYPE.itemsize)
        if len(data) < shape[0] * shape[1] * _DTYPE.itemsize:
            raise UserError(f"shard {path} ends inside cut {self.cuts[position].id}; run stage 2 again")
        return np.frombuffer(data, dtype=_DTYPE).reshape(shape).astype(np.float32)
