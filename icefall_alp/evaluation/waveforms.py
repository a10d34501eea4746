# SPDX-License-Identifier: Apache-2.0
"""Clips read from their audio files, for baselines that were trained elsewhere, on waveforms."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from icefall_alp.data.audio import read_audio
from icefall_alp.data.captions import read_jsonl
from icefall_alp.data.manifests import corpus_roots
from icefall_alp.data.shards import FeatureShards
from icefall_alp.utils.errors import UserError


class WaveformClips:
    """The clips of a stage 2 folder, as waveforms of their audio files instead of features.

    Args:
        folder: Of stage 2, below the same `data` folder as the manifests of stage 0.

    Raises:
        UserError: The features, the manifest or the folder of a corpus is missing, or a clip is not in the manifest.
    """

    def __init__(self, folder: Path) -> None:
        shards = FeatureShards(folder)
        self.folder, self.cuts, self.durations = shards.folder, shards.cuts, shards.durations
        data = Path(folder).resolve().parents[1]
        found = sorted(data.glob(f"*/{Path(folder).name}_cuts.jsonl.gz"))
        if not found:
            raise UserError(f"{data}: no {Path(folder).name}_cuts.jsonl.gz below it; waveforms need what stage 0 wrote")
        self._roots = corpus_roots(data / "manifests")
        self._rows = {row["id"]: row for row in read_jsonl(found[0])}
        absent = [cut.id for cut in self.cuts if cut.id not in self._rows]
        if absent:
            raise UserError(f"{found[0]}: {len(absent)} clips of {folder} are not in it, {absent[0]} among them")

    def __len__(self) -> int:
        return len(self.cuts)

    def features(self, position: int) -> np.ndarray:
        """Samples of the cut at `position`: (S,) float32 at 16 kHz, mono."""
        row = self._rows[self.cuts[position].id]
        corpus, source = row["custom"]["corpus"], row["recording"]["sources"][0]["source"]
        if corpus not in self._roots:
            raise UserError(f"{row['id']}: the folder of corpus {corpus} is not known; run stage 0 again")
        try:
            return read_audio(self._roots[corpus] / source, row["start"], row["duration"]).numpy()
        except ValueError as error:
            raise UserError(f"{self._roots[corpus] / source}: {error}; it could be read in stage 2") from error
