# SPDX-License-Identifier: Apache-2.0
"""Messages reach the terminal and the file, and neither after the block."""

import logging
from pathlib import Path

from icefall_alp.utils.logging import LOGGER, logging_to


def test_messages_of_the_library_go_to_both(tmp_path, capsys):
    log = logging.getLogger("icefall_alp.training.trainer")
    with logging_to(tmp_path / "train.log"):
        log.info("step %d", 5)
    with logging_to(tmp_path / "train.log"):
        log.warning("again")
    log.warning("after")
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO step 5", "WARNING again"]
    assert "INFO step 5" in capsys.readouterr().err
    assert LOGGER.handlers == []


def test_without_a_file_only_the_terminal_is_used(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with logging_to(None):
        LOGGER.info("hello")
    assert "hello" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_other_processes_report_warnings_only_with_their_rank(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("icefall_alp.utils.distributed.is_main", lambda: False)
    monkeypatch.setattr("icefall_alp.utils.distributed.rank", lambda: 3)
    with logging_to(tmp_path / "train.log"):
        LOGGER.info("quiet")
        LOGGER.warning("loud")
    assert "rank 3 WARNING loud" in (text := capsys.readouterr().err) and "quiet" not in text
    assert not (tmp_path / "train.log").exists()


def test_a_full_disk_under_the_text_log_is_told_once_on_the_terminal(capsys):
    with logging_to(Path("/dev/full")):
        LOGGER.info("first")
        LOGGER.info("second")
    text = capsys.readouterr().err
    assert text.count("cannot write /dev/full") == 1 and "Traceback" not in text and "INFO second" in text
