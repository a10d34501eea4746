# SPDX-License-Identifier: Apache-2.0
"""Encoder sizes: presets by name, tuples of one length."""

import pytest

from icefall_alp.config import ZipformerConfig


def test_presets_have_the_published_widths():
    widths = {name: preset.output_dim for name, preset in ZipformerConfig.presets().items()}
    assert widths == {"zipformer_s": 256, "zipformer_m": 512, "zipformer_l": 768, "auden_base": 512, "auden_large": 768}


def test_every_stack_needs_every_size():
    with pytest.raises(ValueError, match="num_heads: 1 values for 6 stacks"):
        ZipformerConfig(num_heads=(4,))
