# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import torch

from icefall_alp.training.peak_flops import peak_flops

CPU = torch.device("cpu")


def test_the_peak_of_this_machine_is_plausible():
    assert 1e9 < peak_flops(CPU, "float32") < 1e14


def test_a_known_device_has_what_its_maker_states(monkeypatch):
    names = {"NVIDIA H200": (67e12, 989e12), "NVIDIA L40S": (91.6e12, 362e12), "NVIDIA L40": (90.5e12, 181e12)}
    names |= {"NVIDIA H200 NVL": (60e12, 835e12), "NVIDIA H100 PCIe": (51e12, 756e12), "H100 80GB": (67e12, 989e12)}
    for name, (single, half) in names.items():
        library = SimpleNamespace(get_device_name=lambda device, name=name: name)
        monkeypatch.setattr(torch, "get_device_module", lambda device, library=library: library)
        assert peak_flops(torch.device("cuda"), "float32") == single
        assert peak_flops(torch.device("cuda"), "bfloat16") == half
