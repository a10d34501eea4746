# SPDX-License-Identifier: Apache-2.0
"""The embedded corpora, made once for all tests that look at them."""

import json

import pytest

from test.recipes.embedded import SCALE, make


@pytest.fixture(scope="session")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini")
    done = make(folder)
    assert done.returncode == 0, done.stderr
    return folder / "corpora"


@pytest.fixture(scope="session")
def clips(corpora):
    return [json.loads(line) for line in (corpora / "sources.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def planner(tmp_path_factory):
    from mini.planning import Planner
    from mini.sources import Recordings

    return Planner(Recordings(tmp_path_factory.mktemp("none")), seed=42, scale=float(SCALE))


@pytest.fixture(scope="session")
def items(planner):
    from mini.planned import plan_corpora

    return plan_corpora(planner)
