# SPDX-License-Identifier: Apache-2.0
"""The configuration read from the shapes of the parameters."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from icefall_alp.config.zipformer import PRESETS
from icefall_alp.models import AudioEncoder
from icefall_alp.models.zipformer.infer_config import differences, infer_config, plain_setting
from icefall_alp.utils.errors import UserError


@pytest.mark.parametrize("name", ["zipformer_s", "zipformer_l", "auden_base", "auden_large"])
def test_presets_are_inferred_from_their_shapes(name):
    with torch.device("meta"):
        state = AudioEncoder(PRESETS[name]).state_dict()
    inferred = infer_config(state, encoder_unmasked_dim=PRESETS[name].encoder_unmasked_dim)
    assert inferred == PRESETS[name]


def test_causal_config_is_inferred(golden, make_config):
    tiny = make_config(golden("tiny_config.json")["config"])
    config = dataclasses.replace(tiny, causal=True)
    heads = {"query_head_dim": config.query_head_dim, "pos_head_dim": config.pos_head_dim}
    inferred = infer_config(AudioEncoder(config).state_dict(), **heads)
    assert inferred.causal and inferred.cnn_module_kernel == config.cnn_module_kernel


def test_what_is_no_zipformer_says_so():
    with pytest.raises(UserError, match="no parameter is called"):
        infer_config({})
    with pytest.raises(UserError, match=r"norm\.bias is missing"):
        infer_config({"encoder.encoders.0.layers.0.self_attn_weights.linear_pos.weight": torch.zeros(16, 48)})
    with pytest.raises(UserError, match="single number"):
        infer_config({"encoder.encoders.0.layers.0.self_attn_weights.linear_pos.weight": torch.zeros(())})


def test_differences_from_a_declared_configuration():
    config = PRESETS["zipformer_m"]
    assert plain_setting("query_head_dim", [32]) == 32 and plain_setting("chunk_size", [-1]) == (-1,)
    assert differences(config, {"query_head_dim": [32], "encoder_dim": list(config.encoder_dim), "other": 1}) == []
    assert "pos_dim is 48" in differences(config, {"pos_dim": 47})[0]
