# SPDX-License-Identifier: Apache-2.0
"""Corpora in their published layout, in small, and the real preparation scripts run on them in this process."""

from __future__ import annotations

import io
import json
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile

from icefall_alp.data.captions import read_jsonl

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "egs/captionstew/ALP/local"
CORPORA = ROOT / "egs/captionstew/ALP/conf/corpora.yaml"
PAPER = CORPORA.with_name("paper.yaml")
sys.path.insert(0, str(LOCAL))  # the scripts run in this process, and share modules that lie beside them


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


def run(script, *arguments):
    """Run a script as `__main__` in this process: seven imports of torch are a minute."""
    stdout, stderr, status = io.StringIO(), io.StringIO(), 0
    command = [str(LOCAL / script), *map(str, arguments)]
    with redirect_stdout(stdout), redirect_stderr(stderr), patch.object(sys, "argv", command):
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as error:
            status = error.code
    return Result(status, stdout.getvalue(), stderr.getvalue())


class Workplace:
    """Where the corpora are and where the manifests go."""

    def __init__(self, folder):
        self.corpora = folder / "corpora"
        self.manifests = folder / "manifests"
        self.captionstew = folder / "captionstew"

    def audio(self, *names, seconds=0.2):
        for name in names:
            path = self.corpora / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.zeros(int(seconds * 1000)), 1000)

    def text(self, name, text, encoding="utf-8"):
        path = self.corpora / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))

    def prepare(self, corpus, *arguments):
        options = ("--corpus-dir", self.corpora / corpus, "--manifests-dir", self.manifests, "--corpora", CORPORA)
        result = run(f"prepare_{corpus}.py", *options, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def cuts(self, name):
        return {cut["id"]: cut for cut in read_jsonl(self.manifests / f"{name}_cuts.jsonl.gz")}

    def skipped(self, corpus):
        lines = (self.manifests / f"{corpus}_skipped.jsonl").read_text().split("\n")  # rows may hold other line ends
        return [json.loads(line) for line in lines if line]


def captions(cut):
    return [caption["text"] for caption in cut["supervisions"][0]["custom"]["captions"]]


def labels(cut):
    return cut["supervisions"][0]["custom"]["labels"]


def source(cut):
    return cut["recording"]["sources"][0]["source"]


def reasons(entries):
    return sorted((entry["reason"], entry.get("where") or entry["key"]) for entry in entries)
