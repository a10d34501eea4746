# SPDX-License-Identifier: Apache-2.0
"""What was done item by item, as JSON lines: work that is started again does the rest, and nothing twice."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icefall_alp.utils.errors import UserError


class ItemLog:
    """Rows by key, appended to a file as they come; use it as a context manager.

    Rows are on the disk before `add` returns. A line that a kill cut off is removed when the file is opened again.

    Args:
        path: the file; its folder is made when missing.

    Raises:
        UserError: on entering: another process has it open, or a line in it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> ItemLog:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except OSError as error:
            self._file.close()
            raise UserError(f"{self.path}: another process writes to it; wait for it or stop it") from error
        except UserError:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, rows: Mapping[str, dict[str, Any]]) -> None:
        """Append rows by key."""
        self.rows.update(rows)
        lines = [json.dumps({"key": key, **row}, ensure_ascii=False) + "\n" for key, row in rows.items()]
        self._file.write("".join(lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                row = json.loads(line)
                self.rows[row.pop("key")] = row
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise UserError(f"{self.path}:{number}: damaged; delete this line and start again") from error
