#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write a run's towers, averaged over its last steps, each with what it needs to be loaded alone.

exp/<run>/encoder/ is the audio encoder. Beside it lies what it was trained with: text_tower/ (text encoder, tokenizer
and projections, for search by text) or text_decoder/ (decoder and tokenizer, for captions).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor

from icefall_alp.config import TextTowerConfig, ZipformerConfig
from icefall_alp.config.loader import config_from_dict
from icefall_alp.models import AudioEncoder
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.contrastive import ContrastiveObjective
from icefall_alp.training.checkpoint import export_state, find_checkpoint, load_config
from icefall_alp.utils.errors import UserError, clean_exit

PREFIX = "audio_encoder."


@clean_exit
def main() -> None:
    """Average, cut out the towers, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--exp-dir", type=Path, required=True, help="a training run")
    exp_dir = parser.parse_args().exp_dir
    state, step = export_state(exp_dir)
    config = load_config(find_checkpoint(exp_dir))
    if not part(state, PREFIX):
        raise UserError(f"{exp_dir}: its checkpoint has no parameter that begins with {PREFIX}")
    encoder = AudioEncoder(config_from_dict(ZipformerConfig, config["audio_encoder"], "audio_encoder"))
    encoder.load_state_dict(part(state, PREFIX))
    # the encoder last: where it lies, the rest does
    save_text_side(encoder, state, config, exp_dir)
    encoder.save(exp_dir / "encoder")
    print(f"{exp_dir}/encoder: {sum(p.numel() for p in encoder.parameters()):,} parameters, averaged up to step {step}")


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def save_text_side(encoder: AudioEncoder, state: dict[str, Tensor], config: dict[str, Any], exp_dir: Path) -> None:
    """Save the text tower or the text decoder that the run's configuration names; a tagger has neither."""
    if "text_encoder" in config:
        text_encoder = TextEncoder.build(config_from_dict(TextTowerConfig, config["text_encoder"], "text_encoder"))
        objective = ContrastiveObjective(encoder, text_encoder, config["embedding_dim"], config["initial_temperature"])
        objective.load_state_dict(state)
        objective.save_text_side(exp_dir / "text_tower")
    if "text_decoder" in config:
        tower = config_from_dict(TextTowerConfig, config["text_decoder"], "text_decoder")
        decoder = TextDecoder.build(tower, encoder.output_dim)
        decoder.load_state_dict(part(state, "text_decoder."))
        decoder.save(exp_dir / "text_decoder")


if __name__ == "__main__":
    main()
