# SPDX-License-Identifier: Apache-2.0
"""Shared by all tests: GPU tests are skipped where there is no GPU."""

import pytest
import torch


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
