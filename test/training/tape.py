# SPDX-License-Identifier: Apache-2.0
"""What a CUDA graph does, on a CPU: keeps the operations of a function with the tensors they read and write.

A replay runs them again in order, on the same memory, and nothing of the function's Python. Triton's kernels, in its
interpreter, are kept as launches.
"""

from __future__ import annotations

from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READING = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "_to_cpu"}


class Tape(TorchDispatchMode):
    """Records while active."""

    def __init__(self):
        super().__init__()
        self.steps = []
        self.launching = False

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = operation.overloadpacket.__name__
        assert name not in READING, f"{name} reads what the device has computed"
        results = operation(*args, **kwargs)
        if not self.launching:
            self.steps.append((operation, args, kwargs, results))
        return results

    def launched(self, original):
        """Instead of a launch in Triton's interpreter."""

        def launch(executor, *args, **kwargs):
            self.launching = True
            original(executor, *args, **kwargs)
            self.launching = False
            self.steps.append((original, (executor, *args), kwargs, None))

        return launch

    def replay(self):
        with torch.no_grad():
            for operation, args, kwargs, results in self.steps:
                again = operation(*args, **kwargs)
                for old, new in zip(tree_leaves(results), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def record(function):
    """`function` runs once; what is returned runs its operations."""
    tape = Tape()
    try:
        from triton.runtime.interpreter import GridExecutor
    except ImportError:
        with tape:
            function()
    else:
        with patch.object(GridExecutor, "__call__", tape.launched(GridExecutor.__call__)), tape:
            function()
    return tape.replay
