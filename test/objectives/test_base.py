# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from icefall_alp.objectives.base import LossOutput, Objective


def test_forward_is_for_subclasses_and_logs_are_optional():
    with pytest.raises(NotImplementedError):
        Objective(nn.Identity())(None)
    assert LossOutput(torch.tensor(1.0), torch.tensor(2)).logs == {}
