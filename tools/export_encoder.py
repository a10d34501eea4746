#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write exp/<run>/encoder/: the audio encoder of a run, averaged over its last steps, with its configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from icefall_alp.config import ZipformerConfig
from icefall_alp.config.loader import config_from_dict
from icefall_alp.models import AudioEncoder
from icefall_alp.training.checkpoint import export_state, find_checkpoint, load_config
from icefall_alp.utils.errors import UserError, clean_exit

PREFIX = "audio_encoder."


@clean_exit
def main() -> None:
    """Average, cut out the encoder, save."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--exp-dir", type=Path, required=True, help="a training run")
    exp_dir = parser.parse_args().exp_dir
    state, step = export_state(exp_dir)
    config = load_config(find_checkpoint(exp_dir))
    weights = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    if not weights:
        raise UserError(f"{exp_dir}: its checkpoint has no parameter that begins with {PREFIX}")
    encoder = AudioEncoder(config_from_dict(ZipformerConfig, config["audio_encoder"], "audio_encoder"))
    encoder.load_state_dict(weights)
    encoder.save(exp_dir / "encoder")
    print(f"{exp_dir}/encoder: {sum(p.numel() for p in encoder.parameters()):,} parameters, averaged up to step {step}")


if __name__ == "__main__":
    main()
