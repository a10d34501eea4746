# SPDX-License-Identifier: Apache-2.0
import torch

from icefall_alp.evaluation.head_inputs import channel_statistics, in_a_row, standardized


def test_standardised_values_have_mean_0_and_deviation_1():
    values = torch.randn(200, 3) * torch.tensor([0.1, 1.0, 30.0]) + torch.tensor([5.0, 0.0, -2.0])
    exact = values.double()
    scaled = standardized(values, channel_statistics(exact.mean(0), exact.std(0, correction=0)))
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_a_channel_that_hardly_varies_stays_bounded():
    deviation = torch.tensor([1e-9, 2.0, 4.0], dtype=torch.float64)
    mean = torch.zeros(3, dtype=torch.float64)
    assert standardized(torch.full((1, 3), 0.1), channel_statistics(mean, deviation)).abs().max() < 51
    assert standardized(mean.float(), channel_statistics(mean, mean)).abs().max() == 0


def test_frames_in_a_row_are_those_that_are_no_padding():
    frames, lens = torch.randn(3, 5, 2), torch.tensor([5, 2, 4])
    row = in_a_row(frames, lens)
    expected = torch.cat([clip[:length] for clip, length in zip(frames, lens.tolist(), strict=True)])
    assert torch.equal(row, expected)
