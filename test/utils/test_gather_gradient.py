# SPDX-License-Identifier: Apache-2.0
"""Gloo processes with two, three and no rows against one process with all."""

import json
from pathlib import Path

import pytest
import torch
from gather_gradient_worker import SIZES
from processes import run_processes

from icefall_alp.utils.gather_gradient import gather_with_gradient


@pytest.mark.parametrize("size", [2, 3])
def test_gather_is_exact_for_uneven_rows(tmp_path, size):
    outcomes = run_processes(Path(__file__).with_name("gather_gradient_worker.py"), size, str(tmp_path))
    assert [status for status, _ in outcomes] == [0] * size, outcomes
    gathered = [row for rank in range(size) for row in json.loads((tmp_path / f"rank_{rank}.json").read_text())]
    rows = torch.arange(10, dtype=torch.float64).view(5, 2)[: sum(SIZES[:size])].requires_grad_()
    (sum(rank + 1 for rank in range(size)) * rows.pow(3).sum() + rows.sum()).backward()
    torch.testing.assert_close(torch.tensor(gathered, dtype=torch.float64), rows.grad, rtol=1e-12, atol=0)


def test_alone_the_rows_stay_what_they_are():
    rows = torch.ones(2, 3, requires_grad=True)
    assert gather_with_gradient(rows) is rows
