# SPDX-License-Identifier: Apache-2.0
"""The audio encoder as the rest of the library sees it: features in, frames at 25 Hz out; saved and loaded strictly.

`AudioEncoder.load` reads this library's folders, AudioSet tagging checkpoints of icefall (`{"model": ...}`) and the
encoder folders of Auden. All three use the same parameter names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models.encoder_files import check_names, read_encoder, write_encoder
from icefall_alp.models.zipformer.calibration import calibrate
from icefall_alp.models.zipformer.clock import Clock
from icefall_alp.models.zipformer.encoder import Zipformer
from icefall_alp.models.zipformer.frontend import Conv2dSubsampling
from icefall_alp.models.zipformer.layer import ZipformerLayer
from icefall_alp.models.zipformer.masks import padding_mask
from icefall_alp.models.zipformer.regularizers import Whiten, settle_verdicts
from icefall_alp.models.zipformer.schedule import attach_clock
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.transfer import send

MIN_FRAMES = 9  # of the input, for one frame of the output
ALIGNED = 16  # frames at 50 Hz: at 25 Hz a row of 8 half precision numbers is what a GPU moves at once


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
        features = _cut_or_padded(features, self._aligned(longest, features.device))
        encoder_out = self.encode(features, lens, padded=(shortest - 7) // 2 < (features.shape[1] - 7) // 2)
        return encoder_out[:, : ((longest - 7) // 2 + 1) // 2], (lens + 1) // 2

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
        """So many frames at 100 Hz, or a few more where rows of attention weights then begin at even addresses."""
        if device.type == "cpu" or not self.config.mask_padding:
            return num_frames
        return 2 * ALIGNED * -(-((num_frames - 7) // 2) // ALIGNED) + 8

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
        write_encoder(Path(folder), self.config, self.state_dict())

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
            config, state = read_encoder(path, settings)
            encoder = cls(config)
            check_names(encoder.state_dict(), state)
        except (UserError, ValueError) as error:
            raise UserError(f"{path}: {error}") from error
        encoder.load_state_dict(state)
        return encoder


def _cut_or_padded(features: Tensor, num_frames: int) -> Tensor:
    """(N, T, F) to (N, num_frames, F)."""
    missing = num_frames - features.shape[1]
    return F.pad(features, (0, 0, 0, missing)) if missing > 0 else features[:, :num_frames]
