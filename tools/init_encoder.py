#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write an encoder that has learnt nothing: random weights of the sizes in a training configuration. A baseline."""

from __future__ import annotations

import argparse
from pathlib import Path

from icefall_alp.config import ZipformerConfig
from icefall_alp.config.loader import config_from_dict, read_yaml
from icefall_alp.models import AudioEncoder
from icefall_alp.utils.errors import clean_exit
from icefall_alp.utils.seeds import seed_everything


@clean_exit
def main() -> None:
    """Build from the `audio_encoder` section and save below --exp-dir."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--exp-dir", type=Path, required=True, help="the encoder is written to its folder encoder/")
    parser.add_argument("--config", type=Path, required=True, help="a training YAML with the section audio_encoder")
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    seed_everything(options.seed)
    section = read_yaml(options.config).get("audio_encoder", {})
    AudioEncoder(config_from_dict(ZipformerConfig, section, "audio_encoder")).save(options.exp_dir / "encoder")


if __name__ == "__main__":
    main()
