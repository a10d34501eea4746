# SPDX-License-Identifier: Apache-2.0
"""Which state of the code this is."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git_commit(folder: Path = Path(__file__).parent) -> str:
    """The git commit of `folder`, and whether tracked files differ from it; `unknown` outside a repository."""
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return "unknown (not a git work tree)"
    return head + (" with uncommitted changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
