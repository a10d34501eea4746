# SPDX-License-Identifier: Apache-2.0
"""Functions in C as shared libraries, compiled by the system's C compiler when first needed and then kept.

They lie in `$XDG_CACHE_HOME/icefall_alp` (`~/.cache/icefall_alp`), under a name made of all that each depends on, the
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
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

LOGGER = logging.getLogger(__name__)
COMPILERS = ("cc", "gcc", "clang")
# without traps and errno loops become vector instructions; infinity and NaN keep their meaning
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared")
_NUMBERS = {int, float, bool, type(None)}
_KINDS = (ctypes.c_void_p, ctypes.c_long, ctypes.c_float, ctypes.c_int)


class NativeLibrary:
    """A library made of C files.

    Args:
        name: of the file, and in the log.
        sources: C files; none includes others than `headers`.
        headers: what they include.
        signatures: for each function its numbers of arguments, in this order: pointers, long integers, floats,
            integers. It returns nothing.
    """

    def __init__(
        self, name: str, sources: Sequence[Path], headers: Sequence[Path], signatures: Mapping[str, Sequence[int]]
    ) -> None:
        self.name, self.sources, self.headers, self.signatures = name, sources, headers, signatures

    @cached_property
    def functions(self) -> ctypes.CDLL | None:
        """The library, or None, once logged, where there is no compiler that makes one."""
        try:
            loaded = ctypes.CDLL(str(self.compiled(cache_folder())))
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # Runtime: nobody's home is known
            LOGGER.info("%s in C are not used, those of PyTorch are: %s", self.name, error)
            return None
        for name, numbers in self.signatures.items():
            function = getattr(loaded, name)
            function.argtypes = [kind for kind, number in zip(_KINDS, numbers, strict=True) for _ in range(number)]
            function.restype = None
        return loaded

    def compiled(self, folder: Path) -> Path:
        """The library's file, found in the folder or made there.

        Raises:
            OSError: no compiler, or nothing can be written.
            subprocess.SubprocessError: the compiler fails.
        """
        compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
        if compiler is None:
            raise FileNotFoundError(f"none of {', '.join(COMPILERS)} is installed")
        name = f"{self.name}-{self._dependencies(compiler)}"
        for path in sorted(folder.glob(f"{name}-*.so")):
            if _digest(path.read_bytes()) == path.stem.rpartition("-")[2]:
                return path
        return self._compile(compiler, folder, name)

    def _compile(self, compiler: str, folder: Path, name: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / "made.so"
            command = [compiler, *FLAGS, *map(str, self.sources), "-o", str(made), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=300)
            return made.replace(folder / f"{name}-{_digest(made.read_bytes())}.so")

    def _dependencies(self, compiler: str) -> str:
        """Digest of the sources, the flags, the compiler and the processor."""
        version = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=60).stdout
        texts = [path.read_bytes() for path in (*self.sources, *self.headers)]
        return _digest(b"\0".join([*texts, " ".join(FLAGS).encode(), version, processor().encode()]))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function with numbers, None, and tensors, which are passed as their addresses."""
        getattr(self.functions, name)(*[a if type(a) in _NUMBERS else a.data_ptr() for a in arguments])


def cache_folder() -> Path:
    """Where compiled libraries are kept."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "icefall_alp"


def processor() -> str:
    """What `-march=native` looks at: the processor's kind, and what it can do."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    kept = ("vendor_id", "cpu family", "model", "flags", "features", "cpu part")
    return "\n".join([platform.machine(), *(line for line in lines if line.split("\t")[0].lower() in kept)])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
