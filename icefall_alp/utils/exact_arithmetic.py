# SPDX-License-Identifier: Apache-2.0
"""What a GPU's libraries may not save at the expense of digits."""

from __future__ import annotations

import torch


def compute_exactly() -> None:
    """Let a GPU's libraries compute float32 as float32, and sum in it; and leave out cuDNN's attention.

    That one makes a plan for every new shape, and some of its kernels know dropout in steps of a sixteenth only.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.enable_cudnn_sdp(False)
