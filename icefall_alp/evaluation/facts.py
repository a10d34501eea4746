# SPDX-License-Identifier: Apache-2.0
"""What a report says besides the scores: the machine, how each run was trained."""

from __future__ import annotations

import json
import operator
import os
import platform
import re
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
    """How each run was trained, from what it logged: steps, last losses, seconds of audio and of training.

    Args:
        exp_dir: Folder that holds one folder per run.

    Returns:
        run -> name -> text; runs without a log are left out. Seconds come from the rates in the text log.
    """
    summaries = {}
    for path in sorted(exp_dir.glob("*/losses.jsonl")):
        last: dict[str, dict[str, float]] = {}
        step = 0
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            step = entry.pop("step")
            last |= entry
        summary = {"steps": f"{step:,}"}
        for kind in ("train", "valid"):
            if "loss" in last.get(kind, {}):
                summary[f"{kind} loss"] = f"{last[kind]['loss']:.3f}"
        summaries[path.parent.name] = summary | _training_rates(path.with_name("train.log"), step)
    return summaries


def _training_rates(path: Path, num_steps: int) -> dict[str, str]:
    """Hours of audio and minutes of training behind `num_steps`, from the rates in the text log."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    rates = [float(rate) for rate in re.findall(r" train: .*audio-s/s ([\d.e+]+)", text)]
    steps = [float(seconds) for seconds in re.findall(r" train: .*seconds per step ([\d.e+-]+)", text)]
    if not rates or not steps:
        return {}
    wall = num_steps * sum(steps) / len(steps)
    audio = num_steps * sum(map(operator.mul, rates, steps)) / len(steps)  # each rate over its own seconds
    return {"hours of audio": f"{audio / 3600:.1f}", "minutes": f"{wall / 60:.1f}", "audio-s/s": f"{audio / wall:.0f}"}
