# SPDX-License-Identifier: Apache-2.0
"""Features or audio on disk: Lhotse Shar with random access and restartable writing.

    cuts.000000.jsonl.gz                  the cuts of a shard, each a gzip member of its own
    features.000000.tar                   their features, float32, one numpy member each
    recording.000000.tar                  or their audio, 16-bit FLAC
    index.000000.json                     digest of the inputs, where each member lies, which cuts were skipped
    clips.npy, clips.json, skipped.jsonl  written when every shard is there: all that must be known to find a clip
    damaged.jsonl                         what readers found damaged (`damage`); stage 2 stores those shards anew

A folder of ten million clips opens in a moment: `clips.npy` is mapped into memory, and a cut is read when it is
wanted. Lhotse reads the same files: `CutSet.from_shar(fields={"cuts": [...], "features": [...]})`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import io
import json
import os
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse import MonoCut
from lhotse.shar.utils import to_shar_placeholder
from lhotse.shar.writers import TarWriter

from icefall_alp.data.audio import decode_flac, encode_flac
from icefall_alp.data.captions import read_jsonl
from icefall_alp.data.damage import DamageList
from icefall_alp.data.fbank import FRAME_RATE, NUM_BINS, Fbank
from icefall_alp.data.stored_cuts import features_manifest, recording_manifest, stored_cut
from icefall_alp.data.subsets import FILE_NAME, Subset
from icefall_alp.utils.atomic_io import atomic_write_bytes, atomic_write_text, remove_leftovers
from icefall_alp.utils.digests import word_sum
from icefall_alp.utils.errors import UserError

FBANK, AUDIO = "fbank", "audio"
_NAMES, _SUFFIXES = {FBANK: "features", AUDIO: "recording"}, {FBANK: ".npy", AUDIO: ".flac"}
_DTYPE = np.dtype(np.float32)
CLIP = np.dtype([
    ("shard", "<i4"), ("source", "<i2"), ("num_frames", "<i4"),
    ("offset", "<i8"), ("size", "<i8"), ("checksum", "<u8"), ("cut_offset", "<i8"), ("cut_size", "<i4"),
])  # fmt: skip


@functools.lru_cache(maxsize=1 << 14)
def _paths(folder: Path, number: int, kind: str) -> tuple[Path, Path, Path]:
    """Cuts, data and index of one shard."""
    names = (f"cuts.{number:06d}.jsonl.gz", f"{_NAMES[kind]}.{number:06d}.tar", f"index.{number:06d}.json")
    return folder / names[0], folder / names[1], folder / names[2]


@dataclass(frozen=True)
class ShardIndex:
    """What is stored in one shard, and where.

    Attributes:
        digest: of the inputs.
        kind: fbank or audio.
        tar_bytes: size of the data's file.
        offsets: byte in that file at which each clip's values, or its FLAC, begin.
        sizes: bytes of each.
        checksums: `word_sum` of each.
        num_frames: of each clip, 100 a second.
        num_features: values per frame.
        cut_offsets: byte in the cuts' file at which each cut begins, and its end.
        corpora: of each clip.
        skipped: clips that are not there: id, path, reason.
    """

    digest: str
    kind: str
    tar_bytes: int
    offsets: list[int]
    sizes: list[int]
    checksums: list[int]
    num_frames: list[int]
    num_features: int
    cut_offsets: list[int]
    corpora: list[str]
    skipped: list[dict[str, str]]

    @classmethod
    def read(cls, path: Path) -> ShardIndex:
        """Read an index. Raises `UserError` when it is absent or damaged."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"shard index {path} is missing or damaged ({error}); run stage 2 again") from error

    def clips(self, number: int, sources: dict[str, int]) -> np.ndarray:
        """Rows of `clips.npy` for this shard; `sources` numbers the corpora."""
        rows = np.zeros(len(self.offsets), dtype=CLIP)
        rows["shard"], rows["num_frames"] = number, self.num_frames
        rows["offset"], rows["size"] = self.offsets, self.sizes
        rows["checksum"] = np.array(self.checksums, dtype=np.uint64)
        rows["cut_offset"], rows["cut_size"] = self.cut_offsets[:-1], np.diff(self.cut_offsets)
        rows["source"] = [sources.setdefault(name, len(sources)) for name in self.corpora]
        return rows


def start_shards(folder: Path, num_shards: int) -> None:
    """Make the folder; delete what killed writers left, damaged shards, and those past `num_shards`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "skipped.jsonl").unlink(missing_ok=True)
        remove_leftovers(folder)
        for number in DamageList(folder).take():
            _paths(folder, number, FBANK)[2].unlink(missing_ok=True)
        for index in folder.glob("index.*.json"):
            if (number := int(index.name.split(".")[1])) >= num_shards:
                for path in {*_paths(folder, number, FBANK), *_paths(folder, number, AUDIO)}:
                    path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write shards into {folder}: {error.strerror}") from error


def finish_shards(folder: Path, skipped: list[dict[str, str]]) -> None:
    """Declare the folder complete and list the clips that are not in it."""
    indices = [ShardIndex.read(path) for path in sorted(folder.glob("index.*.json"))]
    sources: dict[str, int] = {}
    parts = [index.clips(number, sources) for number, index in enumerate(indices)]
    clips, stream = np.concatenate(parts or [np.zeros(0, dtype=CLIP)]), io.BytesIO()
    np.save(stream, clips, allow_pickle=False)
    atomic_write_bytes(folder / "clips.npy", stream.getvalue())
    about = {
        "kind": indices[0].kind if indices else FBANK,
        "num_features": NUM_BINS,
        "sources": list(sources),
        "checksum": word_sum(clips.view(np.uint8)),
        "digests": [index.digest for index in indices],
        "tar_bytes": [index.tar_bytes for index in indices],
        "cuts_bytes": [index.cut_offsets[-1] for index in indices],
    }
    atomic_write_text(folder / "clips.json", json.dumps(about) + "\n")
    list_skipped(folder / "skipped.jsonl", skipped)


def list_skipped(path: Path, skipped: list[dict[str, str]]) -> None:
    """Write one line for each clip that was left out."""
    atomic_write_text(path, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in skipped))


def stored_shard(folder: Path, number: int, digest: str) -> ShardIndex | None:
    """The shard's index where it is complete and was made from inputs of this digest."""
    index_path = _paths(folder, number, FBANK)[2]
    try:
        index = ShardIndex.read(index_path)
        cuts, data, _ = _paths(folder, number, index.kind)
        sizes = (data.stat().st_size, cuts.stat().st_size)
    except (UserError, OSError, KeyError):
        return None
    return index if index.digest == digest and sizes == (index.tar_bytes, index.cut_offsets[-1]) else None


class ShardWriter:
    """Writes one shard under temporary names; it is there after `finish`, or not at all."""

    def __init__(self, folder: Path, number: int, kind: str = FBANK) -> None:
        self.kind = kind
        self._cuts_path, self._data_path, self._index_path = _paths(folder, number, kind)
        self._other_path = _paths(folder, number, FBANK if kind == AUDIO else AUDIO)[1]
        self._temporary = folder / f".{self._data_path.name}.tmp-{os.getpid()}"
        self._writer = TarWriter(str(self._temporary), shard_size=None)
        self._cuts: list[bytes] = []
        self._num_frames: list[int] = []
        self._checksums: list[int] = []
        self._corpora: list[str] = []

    def __enter__(self) -> ShardWriter:
        self._index_path.unlink(missing_ok=True)
        self._writer.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk was reported where it was met
            self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, cut: MonoCut, values: np.ndarray) -> None:
        """Append a cut with its features (T, F), or where the shard holds audio with its waveform (S,)."""
        if self.kind == FBANK:
            num_frames, manifest = len(values), features_manifest(*values.shape)
            stored = np.ascontiguousarray(values, dtype=_DTYPE)
            stream, data = io.BytesIO(), stored.tobytes()
            np.save(stream, stored, allow_pickle=False)
        else:
            num_frames, manifest = (len(values) + 80) // 160, recording_manifest(cut.id, len(values))
            data = encode_flac(values)
            stream = io.BytesIO(data)
        description = io.BytesIO((json.dumps(to_shar_placeholder(manifest).to_dict()) + "\n").encode())
        try:
            self._writer.write(f"{cut.id}{_SUFFIXES[self.kind]}", stream)
            self._writer.write(f"{cut.id}.json", description, count=False)
        except OSError as error:
            raise UserError(f"cannot write {self._data_path}: {error.strerror}") from error
        line = json.dumps(stored_cut(cut, manifest).to_dict(), ensure_ascii=False, separators=(",", ":"))
        self._cuts.append(gzip.compress(line.encode() + b"\n", compresslevel=6, mtime=0))
        self._num_frames.append(num_frames)
        self._checksums.append(word_sum(data))
        self._corpora.append((cut.custom or {}).get("corpus", ""))

    def finish(self, digest: str, skipped: list[dict[str, str]]) -> None:
        """Give the shard its name, with the digest of its inputs and the clips left out of it."""
        try:
            self._writer.close()
            if not self._cuts:
                tarfile.open(self._temporary, "w").close()
            with tarfile.open(self._temporary, "r:") as tar:
                members = [member for member in tar if member.name.endswith(_SUFFIXES[self.kind])]
            with self._temporary.open("rb") as file:
                os.fsync(file.fileno())
            self._temporary.replace(self._data_path)
            self._other_path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {self._data_path}: {error.strerror}") from error
        sizes = [member.size for member in members]
        if self.kind == FBANK:  # the values alone, without numpy's header
            sizes = [num_frames * NUM_BINS * _DTYPE.itemsize for num_frames in self._num_frames]
        ends = [member.offset_data + member.size for member in members]
        atomic_write_bytes(self._cuts_path, b"".join(self._cuts))
        index = ShardIndex(
            digest=digest,
            kind=self.kind,
            tar_bytes=self._data_path.stat().st_size,
            offsets=[end - size for end, size in zip(ends, sizes, strict=True)],
            sizes=sizes,
            checksums=self._checksums,
            num_frames=self._num_frames,
            num_features=NUM_BINS,
            cut_offsets=np.cumsum([0, *map(len, self._cuts)]).tolist(),
            corpora=self._corpora,
            skipped=skipped,
        )
        atomic_write_text(self._index_path, json.dumps(dataclasses.asdict(index)) + "\n")


def input_files(folder: Path) -> list[Path]:
    """The files that say which cuts a folder of shards, or of a subset of them, has, and what they were made from.

    `clips.json` has the digests of the inputs of every shard, and answers for `clips.npy`, which is large.
    """
    subset = Subset.read(folder)
    shards = folder.parent / subset.of if subset else folder
    return [shards / "clips.json", *([folder / FILE_NAME] if subset else [])]


class FeatureShards:
    """Random access to stored cuts and features; cheap to open.

    Args:
        folder: of the shards, or of a subset of those in a folder beside it (`subsets`), whose cuts are all looked
            at when it is opened.

    Attributes:
        kind: fbank or audio.
        cuts: every cut of the set or subset, in the order of the cutset, read when it is asked for.
        num_frames: (number of cuts,) int64.
        durations: seconds of each cut, (number of cuts,) float64.
        sources: (number of cuts,) places in `source_names`, the corpora.

    Raises:
        UserError: the folder is missing or incomplete, or a shard is truncated or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._subset = Subset.read(Path(folder))
        self.folder = Path(folder).parent / self._subset.of if self._subset else Path(folder)
        if not (self.folder / "skipped.jsonl").is_file():
            raise UserError(f"no complete set of features in {self.folder}; run stage 2, it continues where it stopped")
        try:
            about = json.loads((self.folder / "clips.json").read_text(encoding="utf-8"))
            self._clips = np.load(self.folder / "clips.npy", mmap_mode="r", allow_pickle=False)
            intact = word_sum(self._clips.view(np.uint8)) == about["checksum"]
        except (OSError, ValueError, KeyError, TypeError):
            intact = False
        self._damage = DamageList(self.folder)
        if not intact:
            raise self._damage.error(self.folder / "clips.npy", 0, None, "this or clips.json is damaged", 0)
        self.kind: str = about["kind"]
        self.source_names: list[str] = about["sources"]
        self._num_features: int = about["num_features"]
        for number, sizes in enumerate(zip(about["tar_bytes"], about["cuts_bytes"], strict=True)):
            self._check(number, sizes)
        if self._subset is not None:
            self._clips = self._clips[self._taken(len(about["tar_bytes"]))]
        self.cuts: Sequence[MonoCut] = _Cuts(self)
        self.num_frames = self._clips["num_frames"].astype(np.int64)
        self.durations = self.num_frames / FRAME_RATE
        self.sources = np.asarray(self._clips["source"])

    def _check(self, number: int, sizes: tuple[int, int]) -> None:
        cuts, data, _ = _paths(self.folder, number, self.kind)
        for path, wanted in zip((data, cuts), sizes, strict=True):
            size = path.stat().st_size if path.is_file() else 0
            if size != wanted:
                raise self._damage.error(path, 0, None, f"holds {size} of {wanted} bytes", len(self._clips))

    def _taken(self, num_shards: int) -> np.ndarray:
        """Which of all clips the subset takes."""
        taken = []
        for number in range(num_shards):
            path = _paths(self.folder, number, self.kind)[0]
            try:
                taken += [self._subset.takes(cut) for cut in read_jsonl(path)]
            except UserError as error:
                raise self._damage.error(path, 0, None, "a cut in it is damaged", len(self._clips)) from error
        if len(taken) != len(self._clips):
            raise UserError(f"{self.folder}: {len(taken)} cuts for {len(self._clips)} clips; run stage 2 again")
        return np.array(taken, dtype=bool)

    def __len__(self) -> int:
        return len(self._clips)

    def entry(self, position: int) -> dict[str, Any]:
        """The cut at `position` as it is stored, a mapping. Raises `DamagedClip` when it is damaged."""
        clip = self._clips[position]
        path = _paths(self.folder, int(clip["shard"]), self.kind)[0]
        data = _read(path, int(clip["cut_offset"]), int(clip["cut_size"]))
        try:
            cut = json.loads(gzip.decompress(data))
        except (EOFError, OSError, zlib.error, ValueError) as error:
            offset, name = int(clip["cut_offset"]), f"number {position}"
            raise self._damage.error(path, offset, name, "its description is damaged", len(self._clips)) from error
        if self._subset is not None:
            self._subset.takes(cut)  # which also takes away the captions that are not in it
        return cut

    def features(self, position: int) -> np.ndarray:
        """Features of the cut at `position`: (T, F) float32, computed here where audio is stored.

        Raises:
            UserError: the clip is damaged: a `DamagedClip`, unless too many are.
        """
        if self.kind == AUDIO:
            waveform = torch.from_numpy(self.waveform(position))
            return Fbank()(waveform[None], torch.tensor([len(waveform)]))[0][0].numpy()
        shape = (int(self._clips[position]["num_frames"]), self._num_features)
        return self._data(position).view(_DTYPE).reshape(shape)

    def waveform(self, position: int) -> np.ndarray:
        """Audio of the cut at `position`: (S,) float32 in [-1, 1] at 16 kHz.

        Raises:
            UserError: features are stored; or the audio is damaged: a `DamagedClip`, unless too many are.
        """
        return self.samples(position).astype(np.float32) * np.float32(1 / 32768)

    def samples(self, position: int) -> np.ndarray:
        """The same as it is stored: (S,) int16. Raises as `waveform` does."""
        if self.kind != AUDIO:
            raise UserError(f"{self.folder} holds features, not audio; run stage 2 with --features on_the_fly")
        return decode_flac(self._data(position).data)

    def _data(self, position: int) -> np.ndarray:
        clip = self._clips[position]
        path, offset = _paths(self.folder, int(clip["shard"]), self.kind)[1], int(clip["offset"])
        data = _read(path, offset, int(clip["size"]))
        if len(data) < clip["size"] or word_sum(data) != clip["checksum"]:
            reason = "the file ends inside it" if len(data) < clip["size"] else "it does not match its checksum"
            raise self._damage.error(path, offset, self.cuts[position].id, reason, len(self._clips))
        return data


class _Cuts(Sequence[MonoCut]):
    """The cuts of a folder, each read when it is asked for."""

    def __init__(self, shards: FeatureShards) -> None:
        self._shards = shards

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, position: int) -> MonoCut:
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        return MonoCut.from_dict(self._shards.entry(position))


def _read(path: Path, offset: int, size: int) -> np.ndarray:
    """Bytes of a file, fewer where it ends before."""
    data = np.empty(size, dtype=np.uint8)
    try:
        with path.open("rb", buffering=0) as file:
            return data[: os.preadv(file.fileno(), [data], offset)]
    except OSError as error:
        raise UserError(f"cannot read shard {path}: {error.strerror}; run stage 2 again") from error
