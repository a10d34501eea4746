#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stage 4, where no public decoder is used: pretrain a small one on the training captions, as BART was on its text.

Captioning then tunes its cross-attention and nothing else. No audio and no caption of an evaluated clip is read.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from icefall_alp.config import DenoisingConfig
from icefall_alp.config.loader import load_config
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.captions import captions_of, read_jsonl
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.evaluation.heads import HeadDataset
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.denoising import DenoisingObjective
from icefall_alp.training.trainer import Trainer
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError, clean_exit
from icefall_alp.utils.seeds import seed_everything

NUM_BUCKETS = 8  # captions of similar length share a batch


def caption_batches(captions: list[str], objective: DenoisingObjective, config: DenoisingConfig) -> TrainStream:
    """Endless batches of captions without audio, measured in tokens."""
    lengths = np.array(objective.text_decoder.tokenizer.lengths(captions), dtype=np.float64)

    def make_batch(indices: np.ndarray, epoch: int) -> CaptionBatch:
        nothing = torch.zeros(len(indices), 1, 1), torch.ones(len(indices), dtype=torch.int64)
        return CaptionBatch(*nothing, [captions[i] for i in indices], [f"caption:{i}" for i in indices])

    plan = BatchPlan(lengths, config.batch_size * lengths.mean(), NUM_BUCKETS, config.seed)
    return TrainStream(HeadDataset(make_batch), plan)


@clean_exit
def main() -> None:
    """Read the command line, train, write the decoder."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--cuts", type=Path, default=Path("data/captionstew/captionstew_train_cuts.jsonl.gz"))
    parser.add_argument("--output-dir", type=Path, default=Path("data/pretrained/text_decoder"))
    parser.add_argument("--set", nargs="*", default=[], help="key=value, winning over the file")
    args = parser.parse_args()
    config = load_config(DenoisingConfig, [args.config], args.set)
    captions = [caption["text"] for cut in read_jsonl(args.cuts) for caption in captions_of(cut)]
    if not captions:
        raise UserError(f"{args.cuts}: no captions to learn from; run stages 0 and 1")
    distributed.setup()
    seed_everything(config.seed)
    tower = config.text_decoder
    objective = DenoisingObjective(
        TextEncoder.build(replace(tower, num_layers=config.text_encoder_layers)),
        TextDecoder.build(tower, tower.hidden_size),
        config.masked_share,
        config.label_smoothing,
    )
    stream = caption_batches(captions, objective, config)
    Trainer(objective, config.training, config.optim, stream, [], None, {}, config.seed).fit()
    objective.text_decoder.save(args.output_dir)
    print(f"{args.output_dir}: {config.training.num_steps} steps on {len(captions):,} captions")


if __name__ == "__main__":
    main()
