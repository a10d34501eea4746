# SPDX-License-Identifier: Apache-2.0
"""What the text encoder and the text decoder share: their folder on disk, and reading pretrained folders.

A tower's folder holds `config.yaml` (sizes), `model.safetensors` (weights) and its tokenizer, so it needs nothing else.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from icefall_alp.config import TextTowerConfig
from icefall_alp.models.tokenizer import Tokenizer, load_tokenizer
from icefall_alp.utils.atomic_io import atomic_folder
from icefall_alp.utils.errors import UserError

TOWER_CONFIG, TOWER_WEIGHTS = "config.yaml", "model.safetensors"


def save_tower(folder: Path, module: nn.Module, tokenizer: Tokenizer, sizes: dict[str, Any]) -> None:
    """Write a tower's folder; one that exists is replaced when the new one is complete.

    Args:
        folder: where to.
        module: the weights.
        tokenizer: goes into the same folder.
        sizes: what is needed to build `module` again, in YAML's types.
    """
    with atomic_folder(Path(folder)) as temporary:
        sizes = {"tokenizer": tokenizer.save(temporary), **sizes}
        (temporary / TOWER_CONFIG).write_text(yaml.safe_dump(sizes, sort_keys=False), encoding="utf-8")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
        save_file(tensors, temporary / TOWER_WEIGHTS)


def read_tower(folder: Path) -> tuple[dict[str, Any], Tokenizer, dict[str, Tensor]]:
    """Read the sizes, the tokenizer and the weights that `save_tower` wrote.

    Raises:
        UserError: a file is missing or damaged.
    """
    folder = Path(folder)
    try:
        sizes = yaml.safe_load((folder / TOWER_CONFIG).read_text(encoding="utf-8"))
        weights = load_file(folder / TOWER_WEIGHTS)
        tokenizer = load_tokenizer(folder / sizes.pop("tokenizer"))
    except (OSError, SafetensorError, yaml.YAMLError, AttributeError, KeyError) as error:
        raise UserError(f"{folder}: not a saved text tower ({error}); it is written by .save(folder)") from error
    return sizes, tokenizer, weights


def restore(module: nn.Module, weights: dict[str, Tensor], origin: Path) -> None:
    """Load `weights` strictly into `module`.

    Raises:
        UserError: names or shapes differ.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{origin}: the weights do not fit the sizes beside them: {reason}") from error


def tower_tokenizer(config: TextTowerConfig) -> Tokenizer:
    """Check a tower's configuration and load the tokenizer it names; a pretrained folder brings its own.

    Raises:
        UserError: neither is given, or the sizes contradict each other.
    """
    if config.max_text_tokens < 3:
        raise UserError(f"max_text_tokens: {config.max_text_tokens} leaves no room for words; give at least 3")
    if config.hidden_size % config.num_heads:
        raise UserError(f"num_heads: {config.num_heads} does not divide hidden_size {config.hidden_size}")
    if not config.tokenizer and not config.pretrained:
        raise UserError("text tower: no tokenizer; set `tokenizer` to a Hugging Face folder or a SentencePiece .model")
    return load_tokenizer(config.tokenizer or config.pretrained)


def read_pretrained(
    model_class: Any, folder: str, architectures: tuple[str, ...], may_lack: tuple[str, ...] = (), **options: Any
) -> nn.Module:
    """Load a Hugging Face folder offline, refusing one that lacks weights.

    Args:
        model_class: the class of transformers to load it with.
        folder: the folder.
        architectures: the `model_type` its `config.json` may name.
        may_lack: names of weights that may be absent because they are tied or zero.
        **options: passed on to `from_pretrained`.

    Raises:
        UserError: the folder is absent, damaged or of another architecture.
    """
    config = Path(folder) / "config.json"
    if not config.is_file():
        raise UserError(f"no pretrained model at '{folder}'; give a Hugging Face folder with config.json and weights")
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError) as error:
        raise UserError(f"{config}: cannot be read as JSON ({error}); copy the pretrained folder again") from error
    if kind not in architectures:
        raise UserError(f"{folder}: a {kind} model; this tower takes {', '.join(architectures)}")
    try:
        model, report = model_class.from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: cannot be loaded as {model_class.__name__}: {reason}") from error
    missing = set(report["missing_keys"]).difference(may_lack)
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} weights are missing for {model_class.__name__}, {min(missing)} among them; "
            "copy the pretrained folder again"
        )
    return model


def check_fit(tokenizer: Tokenizer, max_tokens: int, vocab_size: int, num_positions: int, folder: str) -> None:
    """Refuse a tokenizer or a caption length that pretrained weights in `folder` have no rows for."""
    if tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} pieces, the weights {vocab_size}; use the folder's own"
        )
    if max_tokens > num_positions:
        raise UserError(f"{folder}: max_text_tokens {max_tokens} is more than its {num_positions} positions; lower it")


def initial_std(hidden_size: int) -> float:
    """Standard deviation of random weights: BERT's and BART's 0.02 at width 768, in proportion at others."""
    return 0.02 * math.sqrt(768 / hidden_size)


def quieten_branches(module: nn.Module, outputs: str, num_branches: int) -> None:
    """Scale the random weights that end residual branches, so that the sum of all is as large as one would be.

    With BERT's and BART's plain weights a deep tower that normalises after each addition stands still for the first
    hundreds of steps. This is GPT-2's scaling of its residual projections.

    Args:
        module: the tower.
        outputs: regular expression for the ends of the weights' names.
        num_branches: how many branches are added one after the other.
    """
    ends = re.compile(rf"({outputs})\.weight$")
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if ends.search(name):
                weight.mul_(num_branches**-0.5)
