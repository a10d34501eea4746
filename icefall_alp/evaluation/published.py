# SPDX-License-Identifier: Apache-2.0
"""Published tables as data: which number of ours belongs beside which cell.

Tables, columns and the row that each run stands for are a YAML file of the recipe, so nothing here names a corpus, a
task or an objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from icefall_alp.config.loader import config_from_dict, read_yaml
from icefall_alp.utils.errors import UserError


class Key(NamedTuple):
    """What names a number within a run; `pooling` is empty for most protocols."""

    protocol: str
    task: str
    pooling: str
    metric: str


@dataclass(frozen=True)
class Column:
    """One column of a published table and the result of ours that belongs there."""

    title: str = ""
    run: str = ""  # ours, where every row of the column stands beside the same run; otherwise the row's
    protocol: str = ""
    task: str = ""
    pooling: str = ""
    metric: str = ""
    decimals: int = 2

    @property
    def key(self) -> Key:
        """The number that belongs into this column."""
        return Key(self.protocol, self.task, self.pooling, self.metric)


@dataclass(frozen=True)
class Versus:
    """A number whose runs are to be read beside one baseline."""

    title: str = ""
    protocol: str = ""
    metric: str = ""
    baseline: str = ""


@dataclass(frozen=True)
class PublishedTable:
    """One published table: values by row, None where a cell is empty."""

    title: str
    columns: tuple[Column, ...]
    rows: dict[str, list[float | None]]


@dataclass(frozen=True)
class Published:
    """Published tables and the names that tie our runs to them."""

    tables: tuple[PublishedTable, ...]
    runs: dict[str, str]  # our run -> row
    baselines: dict[str, str]  # our run -> what it is
    lower_is_better: tuple[str, ...]  # metrics
    versus: tuple[Versus, ...]


def load_published(path: Path) -> Published:
    """Read the YAML file of published numbers.

    Raises:
        UserError: A key is unknown or missing, or a row has more or fewer values than its table has columns.
    """
    content = read_yaml(path)
    keys = ("runs", "baselines", "lower_is_better", "versus", "tables")
    wrong = sorted((set(content) - {"corpora"}) ^ set(keys))  # corpora: what stage 3 shows
    if wrong:
        raise UserError(f"{path}: {wrong[0]}: unknown or missing key; the keys are {', '.join(keys)}")
    return Published(
        tables=tuple(_table(table, f"{path}: tables[{i}]") for i, table in enumerate(content["tables"])),
        runs=content["runs"],
        baselines=content["baselines"],
        lower_is_better=tuple(content["lower_is_better"]),
        versus=tuple(
            config_from_dict(Versus, wanted, f"{path}: versus[{i}]") for i, wanted in enumerate(content["versus"])
        ),
    )


def _table(content: dict[str, Any], where: str) -> PublishedTable:
    wrong = sorted({"title", "columns", "rows"} ^ set(content))
    if wrong:
        raise UserError(f"{where}: {wrong[0]}: unknown or missing key; a table has title, columns and rows")
    columns = tuple(config_from_dict(Column, c, f"{where}.columns[{j}]") for j, c in enumerate(content["columns"]))
    for row, values in content["rows"].items():
        if len(values) != len(columns):
            raise UserError(f"{where}.rows.{row}: {len(values)} values for {len(columns)} columns; write ~ where empty")
    return PublishedTable(content["title"], columns, content["rows"])
