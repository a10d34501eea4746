# SPDX-License-Identifier: Apache-2.0
"""The feed-forward module against golden outputs and gradients."""

from __future__ import annotations

from icefall_alp.models.zipformer.feedforward import FeedForward


def test_feed_forward(units, check_module):
    check_module(FeedForward(6, 10), units("feedforward"), lambda m, x: m(x))
