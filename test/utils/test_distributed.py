# SPDX-License-Identifier: Apache-2.0
"""Two and three gloo processes against one."""

import json
from pathlib import Path

import pytest
import torch
from processes import run_processes

from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError


@pytest.fixture(scope="module", params=[2, 3])
def reports(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    outcomes = run_processes(Path(__file__).with_name("distributed_worker.py"), request.param, str(folder))
    assert [status for status, _ in outcomes] == [0] * request.param, outcomes
    return [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in range(request.param)]


def test_every_process_knows_its_place(reports):
    size = len(reports)
    assert [report["ranks"] for report in reports] == [[rank, rank, size] for rank in range(size)]
    assert [report["main"] for report in reports] == [True, False, False][:size]
    assert all(report["alone"] == [0, 1, 5.0] for report in reports)


def test_collectives(reports):
    size = len(reports)
    for report in reports:
        assert report["sum"] == size * (size + 1) / 2
        assert report["json"] == [{"name": "ä" * rank} for rank in range(size)]
        assert report["from_main"] == [0, "said"]


def test_a_refusal_of_the_first_process_ends_all(reports):
    assert [report["refusal"] for report in reports] == ["UserError no", *["SystemExit 1"] * (len(reports) - 1)]


def test_alone_everything_is_the_identity(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert distributed.setup() == distributed.Ranks(0, 0, 1)
    rows = torch.ones(2, 3, requires_grad=True)
    total = distributed.all_reduce_sum(rows)
    assert torch.equal(total, rows) and not total.requires_grad
    assert distributed.gather_json({"a": 1}) == [{"a": 1}]
    assert distributed.on_main(lambda: 3) == 3
    distributed.cleanup()


def test_the_environment_can_ask_for_the_cpu_but_not_for_nonsense(monkeypatch):
    monkeypatch.setenv("ALP_DEVICE", "cpu")
    assert distributed.device() == torch.device("cpu")
    monkeypatch.setenv("ALP_DEVICE", "tpu")
    with pytest.raises(UserError, match="ALP_DEVICE=tpu"):
        distributed.device()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv("ALP_DEVICE", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UserError, match="process 1 of this machine finds only 1 GPUs"):
        distributed.device()
