# SPDX-License-Identifier: Apache-2.0
"""A tiny corpus and every objective on it, by the library's own parts: stored features, batch plan, loader, trainer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lhotse import MonoCut, SupervisionSegment

from icefall_alp.config import (
    DataConfig,
    OptimConfig,
    SpecAugmentConfig,
    TextTowerConfig,
    TrainingConfig,
    ZipformerConfig,
)
from icefall_alp.config.loader import config_to_dict
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.datamodule import TrainStream, valid_batches
from icefall_alp.data.datasets import CaptionDataset, LabelDataset
from icefall_alp.data.shards import FeatureShards, ShardWriter, finish_shards, start_shards
from icefall_alp.models import AudioEncoder
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.models.tokenizer import train_sentencepiece
from icefall_alp.objectives.base import Objective
from icefall_alp.objectives.captioning import CaptioningObjective
from icefall_alp.objectives.contrastive import ContrastiveObjective
from icefall_alp.objectives.tagging import TaggingObjective
from icefall_alp.training.trainer import Trainer
from icefall_alp.utils import distributed

OBJECTIVES = ("contrastive", "captioning", "tagging")
CLASSES = ("rain", "bell", "engine")
ENCODER = ZipformerConfig(
    frontend_channels=(2, 4, 8),
    num_encoder_layers=(1, 1),
    downsampling_factor=(1, 2),
    encoder_dim=(16, 24),
    feedforward_dim=(24, 32),
    encoder_unmasked_dim=(16, 16),
    num_heads=(2, 2),
    cnn_module_kernel=(7, 7),
    query_head_dim=4,
    value_head_dim=4,
    pos_head_dim=2,
    pos_dim=8,
)
DATA = DataConfig(
    max_duration=3.0,
    num_buckets=3,
    num_workers=0,
    spec_augment=SpecAugmentConfig(time_warp_factor=5, max_frame_mask=5, max_feature_mask=5),
)
OPTIM = OptimConfig(base_lr=0.02, lr_steps=50.0, warmup_steps=5)


@dataclass(frozen=True)
class Workbench:
    """A folder with shards in `corpus`, and a tokenizer."""

    folder: Path

    @classmethod
    def build(cls, folder: Path, num_clips: int = 26) -> Workbench:
        """Write the corpus: noise of 0.2 to 1.2 s, three captions and a label each."""
        generator = np.random.default_rng(0)
        start_shards(folder / "corpus", 1)
        with ShardWriter(folder / "corpus", 0) as writer:
            for number in range(num_clips):
                num_frames = int(generator.integers(20, 120))
                kind = CLASSES[number % len(CLASSES)]
                texts = [f"the sound of a {kind}", f"a {kind} is heard", f"some {kind} and noise number {number}"]
                custom = {"captions": [{"text": text, "source": "toy"} for text in texts], "labels": [kind]}
                name, seconds = f"toy:{number}", num_frames / 100
                supervision = SupervisionSegment(name, name, 0, seconds, custom=custom)
                cut = MonoCut(name, 0, seconds, 0, supervisions=[supervision], custom={"corpus": "toy"})
                writer.add(cut, generator.normal(-6, 2, size=(num_frames, 80)).astype(np.float32))
            writer.finish("digest", [])
        finish_shards(folder / "corpus", [])
        lines = [f"the sound of a {kind} is heard some and noise number 0123456789" for kind in CLASSES]
        train_sentencepiece(lines * 4, folder / "bpe.model", vocab_size=70)
        return cls(folder)

    def trainer(
        self, objective: str, exp_dir: Path | None, training: TrainingConfig, num_workers: int = 0, seed: int = 1
    ) -> Trainer:
        """A trainer of one objective on the corpus, for this process's rank."""
        torch.manual_seed(seed)
        shards = FeatureShards(self.folder / "corpus")
        make = self._labels if objective == "tagging" else self._captions
        train_set, valid_set = make(shards, seed, DATA), make(shards, seed, None)
        plan = BatchPlan(train_set.durations, DATA.max_duration, DATA.num_buckets, seed)
        ranks = distributed.rank(), distributed.world_size()
        return Trainer(
            self._objective(objective),
            training,
            OPTIM,
            TrainStream(train_set, plan, *ranks, num_workers),
            valid_batches(valid_set, DATA.max_duration, *ranks),
            exp_dir,
            {"training": config_to_dict(training), "objective": objective, "seed": seed},
            seed,
        )

    def _captions(self, shards: FeatureShards, seed: int, config: DataConfig | None) -> CaptionDataset:
        return CaptionDataset(shards, seed, config)

    def _labels(self, shards: FeatureShards, seed: int, config: DataConfig | None) -> LabelDataset:
        return LabelDataset(shards, CLASSES, seed, config)

    def _objective(self, name: str) -> Objective:
        encoder = AudioEncoder(ENCODER)
        tower = TextTowerConfig(
            tokenizer=str(self.folder / "bpe.model"), hidden_size=16, num_layers=1, num_heads=2, feedforward_dim=32,
            max_text_tokens=20,
        )  # fmt: skip
        if name == "contrastive":
            return ContrastiveObjective(encoder, TextEncoder.build(tower), embedding_dim=8, initial_temperature=0.1)
        if name == "captioning":
            return CaptioningObjective(encoder, TextDecoder.build(tower, encoder.output_dim), 0.75, 0.1)
        return TaggingObjective(encoder, len(CLASSES), dropout=0.1)
