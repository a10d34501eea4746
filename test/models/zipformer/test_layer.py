# SPDX-License-Identifier: Apache-2.0
"""One layer against the golden trace of its modules; uniform attention; the unused parameter."""

from __future__ import annotations

import torch


def test_trace_of_one_layer(tiny, tiny_input, golden, close):
    expected = {k: v for k, v in golden("tiny_eval.safetensors").items() if k.startswith("trace/")}
    seen: dict[str, torch.Tensor] = {}

    def record(name, module):
        module.register_forward_hook(lambda _m, _a, out: seen.__setitem__(name, out))

    embed, layer = tiny.encoder.encoder_embed, tiny.encoder.encoder.encoders[2].encoder.layers[0]
    record("embed.convnext", embed.convnext)
    for index in (0, 4, 7):
        record(f"embed.conv.{index}", embed.conv[index])
    for name, child in layer.named_children():
        record(f"stack2.layer0.{name}", child)
    record("stack2.layer0.output", layer)
    inputs = []
    layer.register_forward_pre_hook(lambda _m, args: inputs.extend(args))
    with torch.no_grad():
        tiny.encoder(*tiny_input[:2])
    compared = 0
    for name, value in seen.items():
        golden_value = expected.get(f"trace/{name}")
        if golden_value is None:
            continue  # regularisers, which are the identity
        if name.endswith("self_attn_weights"):
            value = value[0]
        if name == "embed.convnext":
            value = value.permute(0, 3, 1, 2)
        if name.startswith("embed"):
            value = value[:1, :, : golden_value.shape[2]]
        elif not name.endswith("self_attn_weights"):
            value = value.transpose(0, 1)
        close(value, golden_value, rtol=1e-5, atol=2e-5)
        compared += 1
    source, pos_emb, context = inputs[:3]
    close(source.transpose(0, 1), expected["trace/stack2.layer0.src"], rtol=1e-5, atol=2e-5)
    close(pos_emb, expected["trace/stack2.layer0.pos_emb"][0], rtol=1e-5, atol=2e-5)
    assert torch.equal(context.keep[..., 0] == 0, expected["trace/stack2.layer0.key_padding_mask"].bool())
    depthwise = "trace/stack2.layer0.conv_module1.depthwise_conv"  # covered through its module's output
    assert compared + 4 == len(expected) and depthwise in expected


def test_attention_is_uniform_now_and_then(tiny, draw):
    layer = tiny.encoder.encoder.encoders[0].layers[0].train()
    tiny.encoder.set_batch_count(0)
    weights = torch.tensor([[[0.7, 0.3, 0.0], [0.2, 0.5, 0.3]]])
    draw(0.999)
    assert layer._mixing(weights) is weights
    draw(0.0)
    assert layer._mixing(weights).tolist() == [[[0.5, 0.5, 0.0], torch.full((3,), 1 / 3).tolist()]]
    assert layer.eval()._mixing(weights) is weights
