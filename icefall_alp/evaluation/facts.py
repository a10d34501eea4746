# SPDX-License-Identifier: Apache-2.0
"""What a report says besides the scores: the machine, the commit, how each run was trained."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path

import torch


def machine() -> dict[str, str]:
    """Processor, cores, memory, GPU and versions, by name."""
    facts = {
        "processor": _processor(),
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
        "memory": _memory(),
        "GPU": ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or "none",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "torch": torch.__version__,
    }
    return {name: fact for name, fact in facts.items() if fact}


def commit(folder: Path) -> str:
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


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):
        return ""


def training_summaries(exp_dir: Path) -> dict[str, dict[str, str]]:
    """How each run was trained, from the losses it logged.

    Args:
        exp_dir: Folder that holds one folder per run.

    Returns:
        run -> name -> text; runs without a log are left out.
    """
    summaries = {}
    for path in sorted(exp_dir.glob("*/losses.jsonl")):
        last: dict[str, dict[str, float]] = {}
        step = 0
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            step = entry.pop("step")
            last |= entry
        summary = {"steps": f"{step}"}
        for kind, values in last.items():
            summary |= {f"{kind} {name}": f"{value:.3f}" for name, value in values.items() if "loss" in name}
        summaries[path.parent.name] = summary
    return summaries
