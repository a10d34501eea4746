# SPDX-License-Identifier: Apache-2.0
import random

import torch
from faults.workbench import ENCODER

from icefall_alp.models import AudioEncoder
from icefall_alp.training.recompute import recompute_activations


def gradients(recompute):
    torch.manual_seed(0)
    random.seed(0)
    encoder = AudioEncoder(ENCODER).train()
    encoder.set_batch_count(0.0)  # where dropping, masking and regularising are at their strongest
    if recompute:
        recompute_activations(encoder.layers())
    features, lens = torch.randn(3, 90, 80), torch.tensor([90, 50, 31])
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.nbytes) or tensor, lambda t: t):
        encoder_out, _ = encoder(features, lens)
    encoder_out.square().sum().backward()
    after = random.random(), torch.rand(1).item()
    return [None if p.grad is None else p.grad.clone() for p in encoder.parameters()], after, sum(saved)


def test_gradients_and_random_numbers_are_the_same_to_the_bit_in_less_memory():
    plain, after_plain, held_plain = gradients(recompute=False)
    again, after_again, held_again = gradients(recompute=True)
    assert after_plain == after_again
    assert any(gradient is not None for gradient in plain)
    for one, other in zip(plain, again, strict=True):
        assert (one is None) == (other is None) and (one is None or torch.equal(one, other))
    assert held_again < 0.7 * held_plain
