# SPDX-License-Identifier: Apache-2.0
"""Captioning: only cross-attention moves, captions say what is heard, and can be read afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from icefall_alp.config import CaptioningTaskConfig, TextTowerConfig
from icefall_alp.evaluation import captioning
from icefall_alp.evaluation.encode import encode_clips
from icefall_alp.evaluation.encoders import LogMelStatistics, PrecomputedFrames
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.objectives.captioning import CaptioningObjective


@pytest.fixture
def config(toy_task, toy_decoder):
    return CaptioningTaskConfig(
        train_cuts=toy_task["train_cuts"],
        test_cuts=toy_task["test_cuts"],
        text_decoder=TextTowerConfig(pretrained=toy_decoder, dropout=0.0, max_text_tokens=24),
        batch_size=20,
        num_steps=80,
        beam_size=2,
        max_caption_tokens=20,
    )


def test_the_tuned_parameters_are_cross_attention_and_bridge(toy_tower):
    decoder = captioning.tune_only_cross_attention(TextDecoder.build(toy_tower, 160))
    tuned = {name for name, parameter in decoder.named_parameters() if parameter.requires_grad}
    parts = [f"{p}_proj.{kind}" for p in ("q", "k", "v", "out") for kind in ("weight", "bias")]
    assert tuned == {f"layers.0.encoder_attn.{part}" for part in parts} | {"bridge.weight", "bridge.bias"}


def test_tuning_leaves_every_other_weight_as_it_was_pretrained(config, log_mel, tmp_path, monkeypatch):
    decoders = []
    plain = captioning.write_captions
    monkeypatch.setattr(captioning, "write_captions", lambda d, *rest: decoders.append(d) or plain(d, *rest))
    list(captioning.score(log_mel, replace(config, num_steps=3), tmp_path, [""]))
    before, after = TextDecoder.load(config.text_decoder.pretrained).state_dict(), decoders[0].state_dict()
    changed = {name for name, value in after.items() if not (name in before and value.equal(before[name]))}
    assert changed and all(".encoder_attn." in name or name.startswith("bridge.") for name in changed)
    assert {name.split(".")[0] for name in changed} == {"layers", "bridge"}


def test_kinds_are_told_apart_and_what_was_written_can_be_read(config, log_mel, tmp_path):
    scores = {s.metric: s for s in captioning.score(log_mel, config, tmp_path, [""])}
    assert list(scores) == [metric for _, metric in captioning.numbers(config)]
    # training captions are "the sound of a <kind>", which is one of each test clip's five
    assert scores["ROUGE-L"].value > max(85.0, scores["ROUGE-L"].chance + 5.0)
    assert scores["BLEU-4"].value > scores["BLEU-4"].chance and scores["CIDEr-D"].value > scores["CIDEr-D"].chance
    assert scores["ROUGE-L"].details == {"captions stopped at max_caption_tokens": 0}
    assert scores["loss"].chance is None and scores["captions cut"].value == 0.0
    recogs = (tmp_path / "results" / "captioning" / "recogs-test.txt").read_text()
    assert recogs.count(":\thyp=") == 20 and recogs.count(":\tref=") == 100
    assert (tmp_path / "results" / "captioning" / "errs-test.txt").is_file()


def test_captions_that_are_stopped_are_counted(config, log_mel, tmp_path):
    config = replace(config, num_steps=1, max_caption_tokens=2)
    scores = {s.metric: s for s in captioning.score(log_mel, config, tmp_path, [""])}
    assert scores["ROUGE-L"].details == {"captions stopped at max_caption_tokens": 20}


def test_loss_is_per_token_over_all_captions(toy_task, toy_tower):
    clips = encode_clips(LogMelStatistics(), Path(toy_task["test_cuts"]), 10.0)
    torch.manual_seed(0)
    decoder = TextDecoder.build(toy_tower, 160)
    for parameter in decoder.parameters():
        torch.nn.init.zeros_(parameter)
    objective = CaptioningObjective(PrecomputedFrames(160), decoder, 0.0, 0.1).eval()
    uniform = torch.log(torch.tensor(float(decoder.sizes.vocab_size))).item()
    assert captioning.caption_loss(objective, clips) == pytest.approx(uniform, abs=1e-4)
