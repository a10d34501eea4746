# SPDX-License-Identifier: Apache-2.0
"""Anybody's recordings searched by text, in an index of embeddings.

The index is a folder: embeddings, one row per window of a file, and what they belong to. A file that has not changed
since, embedded by the same encoder, is not embedded again.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from icefall_alp.data.fbank import Fbank
from icefall_alp.data.recordings import Window, shown
from icefall_alp.evaluation.windows import batch_features, encoded_windows, say
from icefall_alp.models import AudioEncoder
from icefall_alp.objectives.contrastive import ContrastiveObjective
from icefall_alp.utils import distributed
from icefall_alp.utils.atomic_io import atomic_folder
from icefall_alp.utils.digests import sha256_file, sha256_text
from icefall_alp.utils.errors import UserError

VECTORS, ENTRIES = "embeddings.safetensors", "entries.json"


def run_folder(folder: Path, beside: str) -> Path:
    """The run that `folder` means: exp/<run>, or its encoder.

    Args:
        folder: as a person named it.
        beside: what must lie beside the encoder.

    Raises:
        UserError: It does not.
    """
    run = folder.parent if (folder / "model.safetensors").is_file() else folder
    for name in ("encoder", beside):
        if not (run / name).is_dir():
            raise UserError(f"{run}: no {name}/ in it; name a run whose towers were exported (export_encoder.py)")
    return run


@dataclass(frozen=True)
class Entry:
    """One row of an index."""

    file: str
    start: float  # seconds
    end: float
    stamp: str  # changes when the file does


class Embedder:
    """Windows of audio, and texts, to unit vectors.

    Args:
        run: folder with `encoder` and `text_tower`.
    """

    def __init__(self, run: Path) -> None:
        encoder = AudioEncoder.load(run / "encoder", mask_padding=True)
        self.objective = ContrastiveObjective.load_text_side(run / "text_tower", encoder)
        self.objective.to(distributed.device()).eval()
        files = sorted(path for name in ("encoder", "text_tower") for path in (run / name).rglob("*") if path.is_file())
        self.digest = sha256_text("\n".join(map(sha256_file, files)))
        self.fbank = Fbank().to(distributed.device())

    @torch.no_grad()
    def embed(self, windows: list[Window]) -> Tensor:
        """Vectors (n, E) of n windows, on the CPU; a window's vector does not depend on the others."""
        features, lens = batch_features(self.fbank, windows)
        return self.objective.embed_audio(features, lens).float().cpu()

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Tensor:
        """Vectors (n, E) of n texts, on the CPU; a text that is longer than the tower reads is named.

        Raises:
            UserError: A vector is not finite.
        """
        tower = self.objective.text_encoder
        for text, length in zip(texts, tower.tokenizer.lengths(texts), strict=True):
            if length > tower.max_tokens:
                start = shown(textwrap.shorten(text, 60, placeholder=" ..."))
                say(f"note: only the first {tower.max_tokens} of its {length} tokens are searched for: {start}")
        vectors = self.objective.embed_text(texts).float().cpu()
        if not vectors.isfinite().all():
            raise UserError("the text tower's vectors are not finite; did training diverge?")
        return vectors


@dataclass
class Index:
    """Embeddings of windows of files: rows of `vectors` (M, E) belong to `entries`."""

    entries: list[Entry]
    vectors: Tensor

    def search(self, query: Tensor, top: int) -> list[tuple[float, Entry]]:
        """The `top` entries most like a vector (E,), best first, with their cosine similarity."""
        scores, rows = (self.vectors @ query).topk(min(top, len(self.entries)))
        return [(float(score), self.entries[int(row)]) for score, row in zip(scores, rows, strict=True)]

    @classmethod
    def build(cls, folder: Path, files: list[Path], embedder: Embedder, seconds: float) -> Index:
        """Bring the index in `folder` up to date with `files`, and write it.

        Args:
            folder: of the index; it is made when missing.
            files: what is to be in it.
            embedder: makes the vectors.
            seconds: length of a window.

        Raises:
            UserError: No file is usable, or the folder cannot be written.
        """
        settings = {"towers": embedder.digest, "window": seconds}
        old = _read(folder, settings)
        stamps = {path: stamp for path in files if (stamp := _stamp(path))}
        present = {(str(path), stamp) for path, stamp in stamps.items()}
        rows = [i for i, entry in enumerate(old.entries) if (entry.file, entry.stamp) in present]
        kept = {old.entries[i].file for i in rows}
        entries, vectors = [old.entries[i] for i in rows], [old.vectors[rows]] if rows else []
        new = [path for path in files if str(path) not in kept]
        with tqdm(total=len(new), desc="embed", unit=" files", disable=None) as progress:
            windows = encoded_windows(_counted(new, progress), seconds, lambda batch: (embedder.embed(batch),))
            for batch, (embedded,) in windows:
                vectors.append(embedded)
                entries += [Entry(str(w.path), w.start, w.end, stamps.get(w.path, "")) for w in batch]
        if not entries:
            raise UserError(f"none of the {len(files)} files can be searched; each is named above with its cause")
        index = cls(entries, torch.cat(vectors))
        with atomic_folder(folder) as temporary:
            save_file({"embeddings": index.vectors}, temporary / VECTORS)
            content = {**settings, "entries": [asdict(entry) for entry in entries]}
            # escaped, since a file's name need not be UTF-8
            (temporary / ENTRIES).write_text(json.dumps(content), encoding="utf-8")
        say(f"{folder}: {len({e.file for e in entries})} files, {len(entries)} windows; {len(new)} files read now")
        return index


def _read(folder: Path, settings: dict[str, object]) -> Index:
    """The index that is there, or an empty one: where it was made otherwise, or is damaged, it is made again."""
    empty = Index([], torch.empty(0, 0))
    try:
        content = json.loads((folder / ENTRIES).read_text(encoding="utf-8"))
        vectors = load_file(folder / VECTORS)["embeddings"]
        entries = [Entry(**entry) for entry in content.pop("entries")]
    except FileNotFoundError:
        return empty
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        say(f"note: {folder}: damaged index ({error}); everything is embedded again")
        return empty
    fits = content == settings and len(entries) == len(vectors) and bool(vectors.isfinite().all())
    return Index(entries, vectors) if fits else empty


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _counted(files: list[Path], progress: tqdm) -> Iterator[Path]:
    for path in files:
        yield path
        progress.update()
