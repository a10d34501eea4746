# SPDX-License-Identifier: Apache-2.0
"""Shared by all tests: they compute on the CPU but where they ask for a GPU; what this decides before any of them.

Without a GPU its tests are skipped, and Triton's kernels run in Triton's interpreter.
"""

import os

import pytest
import torch

from icefall_alp.utils.exact_arithmetic import compute_exactly

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported, which other libraries do as well

compute_exactly()  # kernels are compared with a library's float32


@pytest.fixture(scope="session", autouse=True)
def on_the_cpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALP_DEVICE", "cpu")
        yield


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
