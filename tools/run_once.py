#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run a command unless it has already succeeded with the same inputs.

  run_once.py --done data/done/merge.json --inputs conf/corpora.yaml data/manifests/*.gz -- local/merge.py --arguments

The digest covers the command line, the content of every input file (of a folder: names, sizes and times), and, when
the command is a Python script, that script with every module of this repository that it imports. Numbers of processes
are left out: they do not change a result.
"""

from __future__ import annotations

import argparse
import ast
import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_IN_DIGEST = ("--num-jobs", "--num-processes")
PR_SET_PDEATHSIG = 1


def main() -> int:
    """Parse, compare digests, run; the exit status is the command's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--done", type=Path, required=True, help="marker file, written when the command succeeds")
    parser.add_argument("--inputs", type=Path, nargs="*", default=[], help="files and folders the result depends on")
    parser.add_argument("--outputs", type=Path, nargs="*", default=[], help="what must be there for it to be skipped")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, command = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    if not command:
        parser.error("no command after --")
    digests = input_digests(command, arguments.inputs)
    reason = why_run(arguments.done, digests, arguments.outputs)
    if reason is None:
        print(f"skip: {arguments.done.stem} is done and nothing it depends on has changed", flush=True)
        return 0
    print(f"run: {arguments.done.stem} ({reason})", flush=True)
    arguments.done.unlink(missing_ok=True)
    started = time.monotonic()
    status = run(command)
    if status == 0:
        record = {"command": command, "seconds": round(time.monotonic() - started, 1), "inputs": digests}
        arguments.done.parent.mkdir(parents=True, exist_ok=True)
        temporary = arguments.done.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        temporary.replace(arguments.done)
    return status if status >= 0 else 128 - status


def run(command: list[str]) -> int:
    """Run to the end; signals to stop are passed on, and the command dies with this process."""
    die_with_parent()
    process = subprocess.Popen(command, preexec_fn=die_with_parent)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda received, _: process.send_signal(received))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command as well
    return process.wait()


def die_with_parent() -> None:
    """Let Linux kill this process when its parent is gone, so that a killed run.sh leaves nothing running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def why_run(done: Path, digests: dict[str, str], outputs: list[Path]) -> str | None:
    """The reason to run, in words, or None when the marker, the inputs and the outputs all agree."""
    missing = [str(path) for path in outputs if not path.exists()]
    if not done.exists():
        return "not done yet"
    if missing:
        return f"{missing[0]} is missing"
    try:
        before = json.loads(done.read_text(encoding="utf-8"))["inputs"]
    except (ValueError, KeyError, TypeError):
        return f"{done} is damaged"
    changed = sorted(name for name in before.keys() | digests.keys() if before.get(name) != digests.get(name))
    return f"{changed[0]} changed" if changed else None


def input_digests(command: list[str], inputs: list[Path]) -> dict[str, str]:
    """SHA-256 by input name: the command, each input, and each source file of the command."""
    digests = {"the command": _sha256(json.dumps(_significant(command)).encode())}
    for path in inputs:
        digests[str(path)] = digest_path(path)
    for path in sorted(source_files([ROOT, Path.cwd()], scripts_of(command))):
        digests[path.name if ROOT not in path.parents else str(path.relative_to(ROOT))] = digest_path(path)
    return digests


def scripts_of(command: list[str]) -> list[Path]:
    """The Python files among a command's words, by path or found on PATH."""
    words = [word for word in command if word.endswith(".py")]
    return [Path(word if Path(word).is_file() else shutil.which(word) or word) for word in words]


def digest_path(path: Path) -> str:
    """Of a file its content; of a folder the names, sizes and modification times below it; of nothing, "absent"."""
    if path.is_dir():
        return _digest_folder(path)
    if not path.exists():
        return "absent"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) else _sha256(file.read())


def _digest_folder(path: Path) -> str:
    """A file at a time: a corpus may hold ten million."""
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            place = os.path.join(parent, name)  # noqa: PTH118 -- ten million names
            if os.path.isfile(place):  # noqa: PTH113 -- a link may lead nowhere
                status = os.stat(place)  # noqa: PTH116
                line = f"{os.path.relpath(place, path)}\0{status.st_size} {status.st_mtime_ns}\n"
                digest.update(os.fsencode(line))
    return digest.hexdigest()


def source_files(roots: list[Path], scripts: list[Path]) -> set[Path]:
    """The scripts, all modules below `roots` or beside the scripts that they import, and C files beside these."""
    found: set[Path] = set()
    waiting = [script.resolve() for script in scripts if script.is_file()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found |= {path, *path.parent.glob("*.[ch]")}
        for module in _imported_modules(path):
            for root in [*roots, path.parent]:
                stem = root.resolve().joinpath(*module.split("."))
                waiting += [p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()]
    return found


def _imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def _significant(command: list[str]) -> list[str]:
    skipped = {i + k for i, word in enumerate(command) if word in NOT_IN_DIGEST for k in (0, 1)}
    # launch.sh takes its number of processes first.
    skipped |= {i + 1 for i, word in enumerate(command) if Path(word).name == "launch.sh"}
    return [word for i, word in enumerate(command) if i not in skipped]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
