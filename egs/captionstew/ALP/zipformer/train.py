# SPDX-License-Identifier: Apache-2.0
"""What every training variant shares: options, ranks, data, and the Trainer. A variant adds towers and an objective."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from icefall_alp.config import TrainConfig
from icefall_alp.config.loader import config_to_dict, load_config, overridden_keys
from icefall_alp.data.datamodule import TrainStream, valid_batches
from icefall_alp.data.shards import input_files
from icefall_alp.models import AudioEncoder
from icefall_alp.training.trainer import Trainer
from icefall_alp.utils import distributed
from icefall_alp.utils.digests import sha256_file
from icefall_alp.utils.errors import UserError, clean_exit
from icefall_alp.utils.seeds import seed_everything


@clean_exit
def run(config_class: type, build_objective: Callable, build_dataset: Callable) -> None:
    """Train `build_objective(config)` on `build_dataset(config.data, folder, training, seed)` until its last step."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--exp-dir", type=Path, required=True, help="where checkpoints go, and are found again")
    parser.add_argument("--config", nargs="+", required=True, help="YAML files, later ones winning")
    parser.add_argument("--set", nargs="*", default=[], help="key=value, winning over files and checkpoint")
    options = parser.parse_args()
    config = load_config(config_class, options.config, options.set)
    distributed.setup()
    seed_everything(config.seed)
    train_set = build_dataset(config.data, config.data.train_cuts, training=True, seed=config.seed)
    valid_set = build_dataset(config.data, config.data.valid_cuts, training=False, seed=config.seed)
    data, objective = config.data, build_objective(config)
    stream = TrainStream.build(train_set, data, config.seed, *distributed.place())
    if config.calibrate_frontend and not config.init:
        objective.audio_encoder.calibrate_frontend(*stream.first_features())
    start = Path(config.init) / "model.safetensors" if Path(config.init).is_dir() else Path(config.init)
    inputs = [*input_files(Path(data.train_cuts)), *([start] if config.init else [])]
    valid = valid_batches(valid_set, data.max_duration, *distributed.place())
    record = {**config_to_dict(config), "inputs_sha256": list(map(sha256_file, sorted(inputs)))}
    declared, loops = overridden_keys(options.set), (config.training, config.optim)
    Trainer(objective, *loops, stream, valid, options.exp_dir, record, config.seed, declared).fit()
    distributed.cleanup()


def initial_encoder(config: TrainConfig) -> AudioEncoder:
    """A random encoder, or the one that `init` names: a folder of stage 4 or 5, or an icefall or Auden checkpoint."""
    if not config.init:
        return AudioEncoder(config.audio_encoder)
    encoder = AudioEncoder.load(config.init)
    if encoder.config != config.audio_encoder:
        raise UserError(f"init: {config.init} has other sizes than audio_encoder; make them equal: {encoder.config}")
    return encoder
