# SPDX-License-Identifier: Apache-2.0
"""Stored clips that are no longer what was written: listed beside them, so that stage 2 stores them anew, and capped.

damaged.jsonl    in the folder of the shards, a line for each find: id, path, offset, reason
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from icefall_alp.utils.errors import UserError

LOGGER = logging.getLogger(__name__)

FILE_NAME = "damaged.jsonl"
MAX_SHARE = 0.01  # of the clips, or one clip: where more are damaged, the disk is to be mended


class DamagedClip(UserError):
    """A stored clip is not what was written. It is listed; training goes on without it."""


class DamageList:
    """The finds in a folder of shards, shared by all processes that read it.

    Args:
        folder: of the shards.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def error(self, path: Path, offset: int, cut_id: str | None, reason: str, num_clips: int) -> UserError:
        """List a find, once; what to raise: `DamagedClip`, or where more than a share of the clips is damaged another.

        Args:
            path: the file that is damaged.
            offset: where in it.
            cut_id: whose clip lies there; None for the file itself.
            reason: what is wrong.
            num_clips: in the folder.

        Raises:
            UserError: the find cannot be listed.
        """
        message = f"shard {path}: " + (f"cut {cut_id}: {reason}" if cut_id else reason)
        found = {(row["path"], row["offset"]) for row in self._rows()}
        if (path.name, offset) not in found:
            found.add((path.name, offset))
            self._append({"id": cut_id, "path": path.name, "offset": offset, "reason": reason}, message)
        message += "; run stage 2 again, which stores it anew"
        if len(found) <= max(1, MAX_SHARE * num_clips) and len(found) < num_clips:
            return DamagedClip(message)
        return UserError(f"{len(found)} of {num_clips} clips are damaged, listed in {self._path}; {message}")

    def take(self) -> set[int]:
        """Numbers of the shards with finds; the list is gone afterwards."""
        parts = {row["path"].split(".")[1] for row in self._rows()}
        self._path.unlink(missing_ok=True)
        return {int(part) for part in parts if part.isdecimal()}

    def _append(self, row: dict[str, Any], message: str) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(
                f"{message}, which cannot be listed in {self._path}: {error.strerror}; make that folder writable, and "
                "run stage 2 again"
            ) from error
        LOGGER.warning("%s; listed in %s", message, self._path)

    def _rows(self) -> list[dict[str, Any]]:
        """Of several writers at a time one may leave half a line: its find is made again."""
        rows = []
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines() if self._path.exists() else []
        for line in lines:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows
