# SPDX-License-Identifier: Apache-2.0
"""The audio encoder as the rest of the library sees it: features in, frames at 25 Hz out; saved and loaded strictly.

`AudioEncoder.load` reads this library's folders, AudioSet tagging checkpoints of icefall (`{"model": ...}`) and the
encoder folders of Auden. All three use the same parameter names.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_alp.config.loader import config_from_dict, read_yaml, save_config
from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models.zipformer.calibration import calibrate
from icefall_alp.models.zipformer.encoder import Zipformer
from icefall_alp.models.zipformer.frontend import Conv2dSubsampling
from icefall_alp.models.zipformer.infer_config import SETTINGS, differences, infer_config, plain_setting
from icefall_alp.models.zipformer.layer import ZipformerLayer
from icefall_alp.models.zipformer.masks import padding_mask
from icefall_alp.models.zipformer.regularizers import Whiten, settle_verdicts
from icefall_alp.models.zipformer.schedule import Clock, attach_clock
from icefall_alp.utils.atomic_io import atomic_folder
from icefall_alp.utils.digests import sha256_file
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.transfer import send

CONFIG_FILE, WEIGHTS_FILE = "config.yaml", "model.safetensors"
DIGEST_FILE = "model.safetensors.sha256"  # as `sha256sum` writes it: safetensors itself notices no flipped bit
MIN_FRAMES = 9  # of the input, for one frame of the output
ALIGNED = 16  # frames at 50 Hz: at 25 Hz a row of 8 half precision numbers is what a GPU moves at once
NAMES_SHOWN = 10


class AudioEncoder(nn.Module):
    """Zipformer on log-mel features.

    Args:
        config: sizes; `config.mask_padding` makes a clip's frames independent of its padding and batch mates.
    """

    min_frames = MIN_FRAMES

    def __init__(self, config: ZipformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder_embed = Conv2dSubsampling(config.feature_dim, config.encoder_dim[0], config.frontend_channels)
        self.encoder = Zipformer(config)
        self.clock = Clock()
        attach_clock(self, self.clock)
        self._whitens = {name: module for name, module in self.named_modules() if isinstance(module, Whiten)}

    @property
    def output_dim(self) -> int:
        """Channels of `encoder_out`."""
        return self.config.output_dim

    def forward(self, features: Tensor, feature_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            features: (N, T, feature_dim) at 100 Hz, padded at the end to any T.
            feature_lens: valid frames (N,), each from 9 to T; on the CPU, else reading them waits for the device.

        Returns:
            encoder_out (N, T', output_dim) at 25 Hz and encoder_out_lens (N,); frames at and behind an item's
            length are meaningless.

        Raises:
            UserError: wrong shapes, or an item that is too short.
        """
        longest, shortest = self._check(features, feature_lens)
        lens = send((feature_lens.cpu() - 7) // 2, features.device)
        needed = (longest - 7) // 2
        num_frames = self._aligned(needed, features.device)
        features = _cut_or_padded(features, max(longest, 2 * num_frames + 7))
        encoder_out = self.encode(features, lens, padded=(shortest - 7) // 2 < num_frames)
        return encoder_out[:, : (needed + 1) // 2], (lens + 1) // 2

    def encode(self, features: Tensor, lens: Tensor, padded: bool) -> Tensor:
        """What the device does of `forward`: nothing here depends on what it finds.

        Args:
            features: (N, T, feature_dim).
            lens: valid frames at 50 Hz (N,), at most (T - 7) // 2.
            padded: whether any is less.
        """
        hide = padding_mask(lens, (features.shape[1] - 7) // 2) if padded and self.config.mask_padding else None
        return self.encoder(self.encoder_embed(features, hide), lens, padded)[0]

    def _aligned(self, num_frames: int, device: torch.device) -> int:
        """So many frames at 50 Hz, or a few more where rows of attention weights then begin at even addresses."""
        if device.type == "cpu" or not self.config.mask_padding:
            return num_frames
        return -(-num_frames // ALIGNED) * ALIGNED

    def calibrate_frontend(self, features: Tensor, feature_lens: Tensor) -> None:
        """Scale a fresh frontend by features (N, T, feature_dim) with lengths (N,), each clip cut to the shortest."""
        calibrate(self.encoder_embed, features[:, : self._check(features, feature_lens)[1]])

    def _check(self, features: Tensor, lens: Tensor) -> tuple[int, int]:
        """Longest and shortest length."""
        wanted = self.config.feature_dim
        if features.dim() != 3 or features.shape[2] != wanted or lens.shape != features.shape[:1] or not len(lens):
            raise UserError(
                f"features {tuple(features.shape)} with lengths {tuple(lens.shape)}: expected (N, T, {wanted}) and (N,)"
            )
        shortest, longest = torch.stack(lens.aminmax()).tolist()
        if shortest < MIN_FRAMES or longest > features.shape[1]:
            bad = int(lens.argmin() if shortest < MIN_FRAMES else lens.argmax())
            raise UserError(
                f"item {bad} of the batch has {int(lens[bad])} frames; "
                f"the encoder needs at least {MIN_FRAMES} and at most the {features.shape[1]} that were given"
            )
        return longest, shortest

    def set_batch_count(self, value: float) -> None:
        """Set how far training is, in reference batches, before a step; all schedules follow."""
        self.settle()
        self.clock.batch_count = float(value)

    def settle(self) -> None:
        """Let what backward found decide how often regularisers look; waits for the device."""
        settle_verdicts(list(self._whitens.values()))

    def set_loss_scale(self, scale: float | Tensor) -> None:
        """Set what the summed loss is multiplied by before backward; penalties of absolute size follow."""
        self.clock.loss_scale = scale

    def layers(self) -> list[nn.Module]:
        """Every layer of every stack, in order."""
        return [module for module in self.modules() if isinstance(module, ZipformerLayer)]

    def training_state(self) -> dict[str, Any]:
        """What training changes besides parameters, for checkpoints (plain JSON types)."""
        self.settle()
        return {
            "batch_count": self.clock.batch_count,
            "whiten_prob": {name: module.prob for name, module in self._whitens.items()},
        }

    def set_training_state(self, state: dict[str, Any]) -> None:
        """Continue from `training_state`."""
        self.clock.batch_count = state["batch_count"]
        for name, module in self._whitens.items():
            module.prob = state["whiten_prob"][name]

    def save(self, folder: Path | str) -> None:
        """Write `config.yaml`, `model.safetensors` and its digest; the folder appears complete or not at all."""
        with atomic_folder(Path(folder)) as temporary:
            save_config(self.config, temporary / CONFIG_FILE)
            state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
            save_file(state, temporary / WEIGHTS_FILE)
            digest = sha256_file(temporary / WEIGHTS_FILE)
            (temporary / DIGEST_FILE).write_text(f"{digest}  {WEIGHTS_FILE}\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str, **settings: Any) -> AudioEncoder:
        """Load weights strictly: every parameter must be there, and no other.

        Args:
            path: a folder of `save`; an icefall checkpoint file with `{"model": ...}` (its classifier is left
                out); or an Auden folder with `config.json` and one `.safetensors` or `.pt` file.
            settings: fields of `ZipformerConfig` that shapes cannot tell, such as `num_heads` or `mask_padding`;
                they outrank the folder's own configuration.

        Raises:
            UserError: unreadable or incomplete files; the message lists missing and unexpected names.
        """
        path = Path(path)
        try:
            if (path / CONFIG_FILE).is_file():
                unknown = sorted(set(settings) - set(SETTINGS))
                if unknown:
                    raise UserError(f"unknown setting {', '.join(unknown)}; known are {', '.join(SETTINGS)}")
                config = config_from_dict(ZipformerConfig, read_yaml(path / CONFIG_FILE))
                config = dataclasses.replace(config, **settings)
                _check_digest(path)
                state = read_tensors(path / WEIGHTS_FILE)
            elif path.is_dir():
                state, config = _read_auden_folder(path, settings)
            else:
                state = _encoder_part(read_tensors(path))
                config = infer_config(state, **settings)
            encoder = cls(config)
            _check_names(encoder.state_dict(), state)
        except (UserError, ValueError) as error:
            raise UserError(f"{path}: {error}") from error
        encoder.load_state_dict(state)
        return encoder


def _cut_or_padded(features: Tensor, num_frames: int) -> Tensor:
    """(N, T, F) to (N, num_frames, F)."""
    missing = num_frames - features.shape[1]
    return F.pad(features, (0, 0, 0, missing)) if missing > 0 else features[:, :num_frames]


def _check_digest(folder: Path) -> None:
    """Refuse weights that are not those `save` wrote."""
    if (folder / DIGEST_FILE).is_file() and (folder / WEIGHTS_FILE).is_file():
        wanted = (folder / DIGEST_FILE).read_text(encoding="utf-8", errors="replace").split()[:1]
        if wanted != [sha256_file(folder / WEIGHTS_FILE)]:
            raise UserError(f"{WEIGHTS_FILE} does not match its digest: it is damaged; export the encoder again")


def _read_auden_folder(path: Path, settings: dict[str, Any]) -> tuple[dict[str, Tensor], ZipformerConfig]:
    try:
        declared = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"no readable {CONFIG_FILE} or config.json ({error})") from error
    if not isinstance(declared, dict):
        raise UserError("config.json is not a mapping")
    weights = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.pt"))
    if len(weights) != 1:
        raise UserError(f"expected one .safetensors or .pt file, found {[file.name for file in weights]}")
    state = _encoder_part(read_tensors(weights[0]))
    declared = {name: plain_setting(name, value) for name, value in declared.items()} | settings
    config = infer_config(state, **{name: declared[name] for name in SETTINGS if name in declared})
    wrong = differences(config, declared)
    if wrong:
        raise UserError(f"config.json does not fit {weights[0].name}: {'; '.join(wrong)}")
    return state, config


def read_tensors(path: Path) -> dict[str, Any]:
    """Content of a .safetensors or PyTorch file; nothing in it is executed."""
    if not path.is_file():
        raise UserError(f"no file {path.name}" if path.parent.is_dir() else f"no folder {path.parent}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([pathlib.PosixPath]):  # icefall's checkpoints hold its options
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make the readers fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path.name} is damaged, or holds more than tensors and plain values: {reason}") from error


def _encoder_part(content: Any) -> dict[str, Tensor]:
    """Parameters of the encoder under this library's names."""
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError('expected a state dict, or {"model": state dict}')
    content = {name: tensor for name, tensor in content.items() if not name.startswith("classifier.")}
    if any(name.startswith("encoder.encoder_embed.") for name in content):  # a tagging model of Auden
        content = {name.removeprefix("encoder."): tensor for name, tensor in content.items()}
    content.pop("model_batch_count", None)  # Auden's own clock
    return content


def _check_names(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    problems = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": shapes,
    }
    lines = [f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names]
    if lines:
        raise UserError(f"parameters do not fit the encoder: {'; '.join(lines)}")


def _some(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
