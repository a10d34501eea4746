# SPDX-License-Identifier: Apache-2.0
"""A log that outlives kills, and refuses two writers and damage."""

from __future__ import annotations

import subprocess
import sys

import pytest

from icefall_alp.evaluation.item_log import ItemLog
from icefall_alp.utils.errors import UserError


def test_rows_come_back_and_a_cut_line_is_done_again(tmp_path):
    path = tmp_path / "new" / "log.jsonl"
    with ItemLog(path) as log:
        log.add({"a": {"text": "line\u2028break\r"}, "b": {"n": 1}})
    with path.open("ab") as file:
        file.write(b'{"key": "c", "n"')  # killed while writing
    with ItemLog(path) as log:
        assert log.rows == {"a": {"text": "line\u2028break\r"}, "b": {"n": 1}}
        log.add({"c": {"n": 2}})
    with ItemLog(path) as log:
        assert log.rows["c"] == {"n": 2} and len(log.rows) == 3


def test_rows_are_on_disk_before_the_process_ends(tmp_path):
    path = tmp_path / "log.jsonl"
    program = (
        "import os, sys, pathlib; from icefall_alp.evaluation.item_log import ItemLog\n"
        "log = ItemLog(pathlib.Path(sys.argv[1])).__enter__()\nlog.add({'a': {}}); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == 9
    with ItemLog(path) as log:
        assert log.rows == {"a": {}}


def test_a_second_writer_is_refused(tmp_path):
    with ItemLog(tmp_path / "log"), pytest.raises(UserError, match="another process writes"), ItemLog(tmp_path / "log"):
        pass


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "log").write_text('{"key": "a"}\nnot json\n')
    with pytest.raises(UserError, match="log:2: damaged"), ItemLog(tmp_path / "log"):
        pass
    (tmp_path / "log").write_text("[1]\n")
    with pytest.raises(UserError, match="log:1: damaged"), ItemLog(tmp_path / "log"):
        pass
