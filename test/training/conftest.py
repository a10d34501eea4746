# SPDX-License-Identifier: Apache-2.0
"""Makes `training_toys` importable, as it is for the worker script beside it; keeps these tests on the CPU."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def on_the_cpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALP_DEVICE", "cpu")
        yield
