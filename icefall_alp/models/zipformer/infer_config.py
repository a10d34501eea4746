# SPDX-License-Identifier: Apache-2.0
"""The configuration of an encoder, read from the shapes of its parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.utils.errors import UserError

# Values that the shapes do not hold; `AudioEncoder.load` takes them as arguments.
SETTINGS = (
    "feature_dim", "num_heads", "query_head_dim", "pos_head_dim", "encoder_unmasked_dim", "chunk_size",
    "left_context_frames", "mask_padding",
)  # fmt: skip


def infer_config(state: Mapping[str, Tensor], **settings: Any) -> ZipformerConfig:
    """Configuration whose encoder has the parameters of `state`.

    Args:
        state: names and tensors of an encoder, without a classifier.
        settings: what shapes cannot tell (`SETTINGS`). By default the heads have icefall's widths (query 32,
            position 4), from which their number follows; unmasked widths are those of the preset with the same
            stacks, else that of the narrowest stack.

    Raises:
        UserError: no Zipformer, or settings that the shapes contradict.
    """
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise UserError(f"unknown setting {', '.join(unknown)}; what shapes cannot tell is {', '.join(SETTINGS)}")
    stacks = [_Stack(state, index) for index in range(_count(state, "encoder.encoders."))]
    if not stacks:
        raise UserError("not a Zipformer encoder: no parameter is called encoder.encoders.0...")
    default = ZipformerConfig()
    pos_head_dim = settings.get("pos_head_dim", default.pos_head_dim)
    num_heads = settings.pop("num_heads", None) or tuple(s.rows("linear_pos") // pos_head_dim for s in stacks)
    dims = tuple(stack.size("norm.bias") for stack in stacks)
    config = ZipformerConfig(
        frontend_channels=tuple(_shape(state, f"encoder_embed.conv.{i}.weight")[0] for i in (0, 4, 7)),
        num_encoder_layers=tuple(stack.num_layers for stack in stacks),
        downsampling_factor=tuple(stack.factor for stack in stacks),
        encoder_dim=dims,
        feedforward_dim=tuple(stack.size("feed_forward2.in_proj.bias") for stack in stacks),
        cnn_module_kernel=tuple(stack.kernel for stack in stacks),
        num_heads=tuple(num_heads),
        value_head_dim=stacks[0].size("self_attn1.in_proj.bias") // max(num_heads[0], 1),
        pos_dim=stacks[0].shape("self_attn_weights.linear_pos.weight")[1],
        causal=stacks[0].causal,
        **{"encoder_unmasked_dim": _unmasked(dims), **settings},
    )
    _check_heads(config, stacks)
    return config


class _Stack:
    """Sizes of one stack, read from its first layer."""

    def __init__(self, state: Mapping[str, Tensor], index: int) -> None:
        prefix = f"encoder.encoders.{index}."
        bias = state.get(f"{prefix}downsample.bias")
        self.state, self.factor = state, 1 if bias is None else bias.numel()
        layers = prefix + ("layers." if bias is None else "encoder.layers.")
        self.num_layers, self.first = _count(state, layers), f"{layers}0."
        self.causal = f"{self.first}conv_module1.depthwise_conv.chunkwise_conv.weight" in state

    def shape(self, name: str) -> tuple[int, ...]:
        return _shape(self.state, self.first + name)

    def size(self, name: str) -> int:
        return self.shape(name)[0]

    def rows(self, projection: str) -> int:
        return self.size(f"self_attn_weights.{projection}.weight")

    @property
    def kernel(self) -> int:
        conv = "chunkwise_conv." if self.causal else ""
        return self.shape(f"conv_module1.depthwise_conv.{conv}weight")[-1]


def _check_heads(config: ZipformerConfig, stacks: list[_Stack]) -> None:
    query, position = config.query_head_dim, config.pos_head_dim
    for index, (stack, heads) in enumerate(zip(stacks, config.num_heads, strict=True)):
        if stack.rows("in_proj") != heads * (2 * query + position) or stack.rows("linear_pos") != heads * position:
            raise UserError(
                f"stack {index}: {heads} heads with query_head_dim {query} and pos_head_dim {position} do not give "
                f"{stack.rows('in_proj')} attention channels, {stack.rows('linear_pos')} of them positional; "
                "say num_heads, query_head_dim and pos_head_dim"
            )


def _unmasked(dims: tuple[int, ...]) -> tuple[int, ...]:
    for preset in ZipformerConfig.presets().values():
        if preset.encoder_dim == dims:
            return preset.encoder_unmasked_dim
    return (min(dims),) * len(dims)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbers follow the prefix."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state:
        raise UserError(f"not a complete Zipformer encoder: parameter {name} is missing")
    shape = tuple(state[name].shape)
    if not shape:
        raise UserError(f"not a Zipformer encoder: parameter {name} is a single number")
    return shape


def differences(config: ZipformerConfig, declared: Mapping[str, Any]) -> list[str]:
    """Fields of `config` that a file declares otherwise (lists of one number stand for the number)."""
    found = []
    for field in dataclasses.fields(config):
        if field.name in declared:
            value = plain_setting(field.name, declared[field.name])
            if value != getattr(config, field.name):
                found.append(f"{field.name} is {getattr(config, field.name)} by the shapes but {value} in the file")
    return found


def plain_setting(name: str, value: Any) -> Any:
    """A field as `ZipformerConfig` wants it: tuples for lists, a number for the list of one that Auden writes."""
    if isinstance(value, list):
        return value[0] if len(value) == 1 and name.endswith("head_dim") else tuple(value)
    return value
