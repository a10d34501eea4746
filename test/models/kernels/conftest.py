# SPDX-License-Identifier: Apache-2.0
"""Triton's kernels run on a GPU where there is one, else in Triton's interpreter."""

import pytest
import torch


@pytest.fixture
def on_the_device():
    """New tensors lie where the kernels run; its name."""
    with torch.device("cuda" if torch.cuda.is_available() else "cpu") as device:
        yield device.type
