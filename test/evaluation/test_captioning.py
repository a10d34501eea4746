# SPDX-License-Identifier: Apache-2.0
"""Captioning: only cross-attention moves, the blind decoder is made once, and captions say what is heard."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from icefall_alp.config import CaptioningTaskConfig
from icefall_alp.evaluation import captioning
from icefall_alp.evaluation.encode import encode_clips
from icefall_alp.evaluation.encoders import LogMelStatistics, PrecomputedFrames
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.objectives.captioning import CaptioningObjective


@pytest.fixture
def config(toy_task, toy_tower):
    return CaptioningTaskConfig(
        train_cuts=toy_task["train_cuts"],
        test_cuts=toy_task["test_cuts"],
        text_decoder=toy_tower,
        language_model_steps=60,
        max_duration=8.0,
        num_steps=80,
        beam_size=2,
        max_caption_tokens=20,
    )


@pytest.fixture
def train_clips(toy_task):
    return encode_clips(LogMelStatistics(), Path(toy_task["train_cuts"]), 10.0)


def test_the_tuned_parameters_are_cross_attention_and_bridge(toy_tower):
    decoder = captioning.tune_only_cross_attention(TextDecoder.build(toy_tower, 160))
    tuned = {name for name, parameter in decoder.named_parameters() if parameter.requires_grad}
    parts = [f"{p}_proj.{kind}" for p in ("q", "k", "v", "out") for kind in ("weight", "bias")]
    assert tuned == {f"layers.0.encoder_attn.{part}" for part in parts} | {"bridge.weight", "bridge.bias"}


def test_kinds_are_told_apart_and_the_language_is_shared(config, log_mel, tmp_path):
    scores = {s.metric: s for s in captioning.score(log_mel, config, tmp_path / "log_mel", [""])}
    # training captions are "the sound of a <kind>", which is one of each test clip's five
    assert scores["ROUGE-L"].value > scores["ROUGE-L"].chance + 5.0
    assert scores["ROUGE-L"].value > 85.0
    assert scores["loss"].chance is None
    (blind,) = (tmp_path / "blind_decoder").iterdir()
    stamp = (blind / "model.safetensors").stat().st_mtime_ns
    again = {s.metric: s.value for s in captioning.score(log_mel, config, tmp_path / "log_mel", [""])}
    assert again == {metric: s.value for metric, s in scores.items()}
    assert (blind / "model.safetensors").stat().st_mtime_ns == stamp


def test_the_language_does_not_depend_on_the_encoder(config, train_clips, tmp_path):
    wide = captioning.language_decoder(train_clips, config, tmp_path)
    narrow = LogMelStatistics(40)
    clips = encode_clips(_First(narrow), Path(config.train_cuts), 10.0)
    other = captioning.language_decoder(clips, config, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    for name, value in wide.state_dict().items():
        if not name.startswith("bridge."):
            torch.testing.assert_close(other.state_dict()[name], value, atol=0, rtol=0)


class _First(torch.nn.Module):
    """An encoder of half the bins."""

    def __init__(self, statistics: LogMelStatistics) -> None:
        super().__init__()
        self.statistics = statistics
        self.output_dim = statistics.output_dim

    def forward(self, features, feature_lens):
        return self.statistics(features[:, :, :40], feature_lens)


def test_loss_is_per_token_over_all_captions(toy_task, toy_tower):
    clips = encode_clips(LogMelStatistics(), Path(toy_task["test_cuts"]), 10.0)
    torch.manual_seed(0)
    decoder = TextDecoder.build(toy_tower, 160)
    for parameter in decoder.parameters():
        torch.nn.init.zeros_(parameter)
    objective = CaptioningObjective(PrecomputedFrames(160), decoder, 0.0, 0.1).eval()
    uniform = torch.log(torch.tensor(float(decoder.sizes.vocab_size))).item()
    assert captioning.caption_loss(objective, clips) == pytest.approx(uniform, abs=1e-4)
