# SPDX-License-Identifier: Apache-2.0
"""Convolutional frontend: 80 mel bins at 100 Hz to the first stack's width at 50 Hz.

Three 3x3 convolutions and a ConvNeXt layer, all with channels innermost in memory (N, T, F, C).
arXiv:2310.11230, section 3.1.
"""

from __future__ import annotations

from torch import Tensor, nn

from icefall_alp.models.kernels import chains
from icefall_alp.models.kernels.slices import in_slices
from icefall_alp.models.zipformer.activations import SwooshL, SwooshR, scale_initial
from icefall_alp.models.zipformer.draws import dropout_masks, sequence_masks
from icefall_alp.models.zipformer.normalization import BiasNorm
from icefall_alp.models.zipformer.regularizers import Balancer, ScaleGrad, Whiten
from icefall_alp.models.zipformer.schedule import ScheduledModule, schedule

FIRST_GRAD_SCALE = 0.2


class ImageConv(nn.Conv2d):
    """3x3 convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, F), or (N, T, F) of a single channel, to (N, D, T', F')."""
        return chains.image_conv(x if x.dim() == 4 else x[:, None], self.weight, self.bias, self.stride, self.padding)


class ConvNeXt(ScheduledModule):
    """Residual depthwise 7x7 convolution and two linear layers over the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 3 * channels
        self.depthwise_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.pointwise_conv1 = nn.Conv2d(channels, hidden, 1)
        self.hidden_balancer = Balancer(0.3, 1.0, 0.75, 5.0)
        self.pointwise_conv2 = scale_initial(nn.Conv2d(hidden, channels, 1), 0.01)
        self.out_balancer = Balancer(0.4, 0.6, 1.0, 6.0)
        self.out_whiten = Whiten(5.0)
        self.layerdrop_rate = schedule((0, 0.2), (20000, 0.015))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, F, C) to the same."""
        y = chains.depthwise_image_conv(x, self.depthwise_conv.weight, self.depthwise_conv.bias)
        first, second = self.pointwise_conv1, self.pointwise_conv2
        parameters = (first.weight, first.bias, second.weight, second.bias)
        y = chains.pointwise_feed_forward(y, *parameters, SwooshL.shift, SwooshL.offset, self.hidden_balancer)
        (keep,) = sequence_masks(self.rates(self.layerdrop_rate), y) if self.training else [None]
        x, _ = chains.residual(x, y, None if keep is None else keep.unsqueeze(-1))
        return self.out_whiten(self.out_balancer(x))


class Conv2dSubsampling(ScheduledModule):
    """fbank features to the input of the first stack."""

    def __init__(self, feature_dim: int, out_dim: int, channels: tuple[int, int, int]) -> None:
        super().__init__()
        first, second, third = channels
        self.conv = nn.Sequential(
            ImageConv(1, first, 3, padding=(0, 1)),
            ScaleGrad(FIRST_GRAD_SCALE),
            Balancer(max_abs=1.0, channel_dim=1),
            SwooshR(),
            ImageConv(first, second, 3, stride=2),
            Balancer(max_abs=4.0, channel_dim=1),
            SwooshR(),
            ImageConv(second, third, 3, stride=(1, 2)),
            Balancer(max_abs=4.0, channel_dim=1),
            SwooshR(),
        )
        self.convnext = ConvNeXt(third)
        self.num_bins = ((feature_dim - 1) // 2 - 1) // 2
        self.out = nn.Linear(third * self.num_bins, out_dim)
        self.out_whiten = Whiten(schedule((0, 4.0), (20000, 8.0), default=4.0), grad_scale=0.02)
        self.out_norm = BiasNorm(out_dim)
        self.dropout_p = schedule((0, 0.3), (20000, 0.1))

    def forward(self, features: Tensor, padding: Tensor | None = None) -> Tensor:
        """Subsample.

        Args:
            features: (N, T, feature_dim), T at least 9.
            padding: output frames (N, (T - 7) // 2) to keep out of the ConvNeXt's 7x7 windows, or None.

        Returns:
            (N, (T - 7) // 2, out_dim).
        """
        widest = features.shape[1] // 2 * self.num_bins * self.convnext.pointwise_conv1.out_channels
        weight = self._channels_innermost(self.out.weight)
        x = in_slices(lambda *parts: self._convolve(weight, *parts), widest, features, padding)
        x = self.out_norm(self.out_whiten(x))
        (mask,) = dropout_masks(self.rates(self.dropout_p), x.shape[-1:], x) if self.training else [None]
        return x if mask is None else x * mask

    def _convolve(self, weight: Tensor, features: Tensor, padding: Tensor | None) -> Tensor:
        x = self.conv(features).permute(0, 2, 3, 1)
        if padding is not None:
            x = x.masked_fill(padding[:, :, None, None], 0.0)
        return chains.linear(self.convnext(x).flatten(2), weight, self.out.bias)

    def _channels_innermost(self, weight: Tensor) -> Tensor:
        """The stored weight counts channels outermost (D, C * F); ours innermost (D, F * C)."""
        return weight.unflatten(1, (-1, self.num_bins)).transpose(1, 2).flatten(1)
