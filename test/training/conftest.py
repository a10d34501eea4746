# SPDX-License-Identifier: Apache-2.0
"""Makes `training_toys` importable, as it is for the worker script beside it; a corpus with what trains on it."""

import sys
from pathlib import Path

import pytest
from faults.workbench import Workbench

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Workbench.build(tmp_path_factory.mktemp("bench"))
