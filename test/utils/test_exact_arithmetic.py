# SPDX-License-Identifier: Apache-2.0
import torch

from icefall_alp.utils import distributed
from icefall_alp.utils.exact_arithmetic import compute_exactly


def test_a_gpu_computes_float32_as_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv("ALP_DEVICE", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "0")
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    try:
        products.allow_bf16_reduced_precision_reduction = products.allow_fp16_reduced_precision_reduction = True
        products.allow_tf32 = convolutions.allow_tf32 = True
        torch.backends.cuda.enable_cudnn_sdp(True)
        assert distributed.device() == torch.device("cuda", 0)
        assert not (products.allow_bf16_reduced_precision_reduction or products.allow_fp16_reduced_precision_reduction)
        assert not (products.allow_tf32 or convolutions.allow_tf32 or torch.backends.cuda.cudnn_sdp_enabled())
    finally:
        compute_exactly()
