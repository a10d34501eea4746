# SPDX-License-Identifier: Apache-2.0
"""The embedded corpora at a fiftieth of their size, from what comes with pip, for the tests that look at them."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LOCAL = REPOSITORY / "egs" / "captionstew" / "ALP" / "local"
sys.path.insert(0, str(LOCAL))

SCALE = "0.02"


def make(folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(LOCAL / "make_mini_corpora.py"), "--recordings", "pip", "--scale", SCALE, *options]
    command += ["--output-dir", str(folder / "corpora"), "--work-dir", str(folder / "downloads")]
    environment = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def rows_of(path: Path, encoding: str = "utf-8", delimiter: str = ",") -> list[list[str]]:
    with path.open(encoding=encoding, newline="") as stream:
        return list(csv.reader(stream, delimiter=delimiter))
