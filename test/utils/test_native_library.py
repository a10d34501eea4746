# SPDX-License-Identifier: Apache-2.0
"""Compiling once and keeping it: without a compiler, with a broken one, by two at once, from a damaged file."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from icefall_alp.utils import native_library
from icefall_alp.utils.native_library import COMPILERS, NativeLibrary

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C compiler")


@pytest.fixture
def quick(tmp_path):
    """A library that compiles at once."""
    source = tmp_path / "one.c"
    source.write_text("int one(void) { return 1; }\n")
    return NativeLibrary("quick", [source], [], {})


@needs_compiler
def test_compiled_once_and_found_again(quick, tmp_path):
    first = quick.compiled(tmp_path / "cache")
    written = first.stat().st_mtime_ns
    assert quick.compiled(tmp_path / "cache") == first and first.stat().st_mtime_ns == written
    assert ctypes.CDLL(str(first)).one() == 1
    quick.sources[0].write_text("int one(void) { return 11; }\n")
    assert ctypes.CDLL(str(quick.compiled(tmp_path / "cache"))).one() == 11


@needs_compiler
def test_another_processor_gets_its_own(quick, monkeypatch, tmp_path):
    first = quick.compiled(tmp_path)
    monkeypatch.setattr(native_library, "processor", lambda: "another")
    assert quick.compiled(tmp_path) != first and first.exists()


@needs_compiler
@pytest.mark.parametrize("content", [b"", b"\x7fELF damaged", None])
def test_a_damaged_file_is_made_again(quick, tmp_path, content):
    path = quick.compiled(tmp_path)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    assert ctypes.CDLL(str(quick.compiled(tmp_path))).one() == 1


@needs_compiler
def test_many_may_compile_at_once(quick, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: quick.compiled(tmp_path / "new"), range(4)))
    assert all(ctypes.CDLL(str(path)).one() == 1 for path in paths)
    assert {path.suffix for path in (tmp_path / "new").iterdir()} == {".so"}


@needs_compiler
def test_two_processes_start_on_an_empty_folder(tmp_path):
    program = (
        "import torch; from icefall_alp.models.kernels import chains; "
        "print(chains.form_for('cpu').__name__, float(chains.swoosh(torch.ones(3), 4.0, 0.035)[0]))"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "ICEFALL_ALP_FUSED": "1"}
    command = [sys.executable, "-c", program]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert said[0] == said[1] and said[0].startswith("icefall_alp.models.kernels.native ")
    assert list((tmp_path / "icefall_alp").glob("*.so"))


@pytest.mark.parametrize("script", [None, "exit 1"])
def test_without_a_working_compiler_one_line_is_logged(quick, monkeypatch, tmp_path, caplog, script):
    """A stand-in for PATH: empty, or with a compiler that fails."""
    if script is not None:
        (tmp_path / "cc").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with caplog.at_level(logging.INFO):
        assert quick.functions is None and quick.functions is None
    assert len(caplog.records) == 1 and "not used" in caplog.text


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert native_library.cache_folder() == tmp_path / ".cache" / "icefall_alp"


def test_a_user_without_a_home_goes_without(quick, monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(native_library.Path, "home", unknown)
    assert quick.functions is None


def test_the_processor_is_described():
    assert native_library.processor() == native_library.processor() != ""
