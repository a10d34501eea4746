# SPDX-License-Identifier: Apache-2.0
"""The loops of `native` as a shared library, compiled by the system's C compiler when first needed and then kept.

It lies in `$XDG_CACHE_HOME/icefall_alp` (`~/.cache/icefall_alp`), under a name made of all that it depends on, the
processor included, and of its own content. So computers of different kinds may share the folder, processes may
compile at the same time, and what is damaged is compiled anew.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

LOGGER = logging.getLogger(__name__)
COMPILERS = ("cc", "gcc", "clang")
# without traps and errno loops become vector instructions; infinity and NaN keep their meaning
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared")
FOLDER = Path(__file__).parent
SOURCES = [FOLDER / f"cpu_{name}.c" for name in ("elementwise", "linear", "attention", "convolution", "scaled_adam")]
HEADERS = [FOLDER / f"cpu_{name}.h" for name in ("numbers", "registers")]
# numbers of arguments, in this order: pointers, long integers, floats, integers
SIGNATURES = {
    "swoosh": (3, 3, 2, 2),
    "swoosh_backward": (5, 3, 2, 2),
    "linear": (5, 5, 2, 2),
    "linear_backward_input": (6, 4, 2, 1),
    "linear_backward_weight": (3, 4, 0, 1),
    "gate": (4, 4, 0, 3),
    "gate_backward": (6, 4, 0, 3),
    "bias_norm": (5, 2, 0, 1),
    "bias_norm_backward": (8, 2, 0, 1),
    "bypass": (4, 3, 0, 2),
    "bypass_backward": (7, 4, 0, 2),
    "moments": (3, 3, 0, 2),
    "add_line": (5, 3, 0, 2),
    "attention_weights": (6, 10, 0, 2),
    "attention_weights_backward": (11, 8, 0, 2),
    "mix": (3, 5, 0, 1),
    "mix_backward": (5, 5, 0, 1),
    "depthwise_conv": (4, 6, 0, 2),
    "depthwise_conv_backward": (5, 6, 0, 2),
    "scaled_adam": (7, 1, 6, 2),
    "scaled_adam_grow": (4, 1, 0, 1),
}


@cache
def library() -> ctypes.CDLL | None:
    """The library, or None, once logged, where there is no compiler that makes one."""
    try:
        loaded = ctypes.CDLL(str(compiled(cache_folder())))
    except (OSError, subprocess.SubprocessError) as error:
        LOGGER.info("CPU kernels in C are not used, those of PyTorch are: %s", error)
        return None
    kinds = (ctypes.c_void_p, ctypes.c_long, ctypes.c_float, ctypes.c_int)
    for name, numbers in SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes = [kind for kind, number in zip(kinds, numbers, strict=True) for _ in range(number)]
        function.restype = None
    return loaded


def cache_folder() -> Path:
    """Where compiled libraries are kept."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "icefall_alp"


def compiled(folder: Path) -> Path:
    """The library's file, found in the folder or made there.

    Raises:
        OSError: no compiler, or nothing can be written.
        subprocess.SubprocessError: the compiler fails.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise FileNotFoundError(f"none of {', '.join(COMPILERS)} is installed")
    name = f"cpu_kernels-{_dependencies(compiler)}"
    for path in sorted(folder.glob(f"{name}-*.so")):
        if _digest(path.read_bytes()) == path.stem.rpartition("-")[2]:
            return path
    return _compile(compiler, folder, name)


def _compile(compiler: str, folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / "made.so"
        command = [compiler, *FLAGS, *map(str, SOURCES), "-o", str(made), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        return made.replace(folder / f"{name}-{_digest(made.read_bytes())}.so")


def _dependencies(compiler: str) -> str:
    """Digest of the sources, the flags, the compiler and the processor."""
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=60).stdout
    texts = [path.read_bytes() for path in (*SOURCES, *HEADERS)]
    return _digest(b"\0".join([*texts, " ".join(FLAGS).encode(), version, processor().encode()]))


def processor() -> str:
    """What `-march=native` looks at: the processor's kind, and what it can do."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    kept = ("vendor_id", "cpu family", "model", "flags", "features", "cpu part")
    return "\n".join([platform.machine(), *(line for line in lines if line.split("\t")[0].lower() in kept)])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def call(name: str, half: Tensor | None, *arguments: Tensor | float | None) -> None:
    """Call a loop with the tensors' addresses; `half` is a tensor of the type that the loop reads."""
    addresses = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
    kind = () if half is None else (half.dtype == torch.bfloat16,)
    getattr(library(), name)(*addresses, *kind, torch.get_num_threads())
