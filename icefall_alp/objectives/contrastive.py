# SPDX-License-Identifier: Apache-2.0
"""Contrastive objective (paper, Eq. 1): each clip finds its caption among all captions of the step, and the reverse.

Audio: masked mean over frames, then a two-layer MLP. Text: the text encoder's vector, then one linear layer. Both are
L2-normalised; similarities are multiplied by `exp(logit_scale)`, the inverse of a learned temperature. Of the N x N
similarities only some rows are held at a time, until the gradients they are needed for are made.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_alp.models.kernels.cross_entropy import cross_entropy_by_rows
from icefall_alp.models.pooling import MeanPooling
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.base import CoupledObjective, LossOutput
from icefall_alp.utils.atomic_io import atomic_folder
from icefall_alp.utils.distributed import rank
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.gather_gradient import gather_with_gradient

MAX_LOGIT_SCALE = 100.0
TEXT_ENCODER, HEADS = "text_encoder", "projections.safetensors"


class ContrastiveObjective(CoupledObjective):
    """Symmetric InfoNCE over the clips of all processes.

    Args:
        audio_encoder: features to frames.
        text_encoder: captions to vectors.
        embedding_dim: size of the common space.
        initial_temperature: similarities are divided by it at the start.
    """

    def __init__(
        self, audio_encoder: nn.Module, text_encoder: TextEncoder, embedding_dim: int, initial_temperature: float
    ):
        super().__init__(audio_encoder)
        self.text_encoder = text_encoder
        self.pooling = MeanPooling()
        self.audio_projection = nn.Sequential(
            nn.Linear(audio_encoder.output_dim, embedding_dim), nn.GELU(), nn.Linear(embedding_dim, embedding_dim)
        )
        self.text_projection = nn.Linear(text_encoder.output_dim, embedding_dim)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(initial_temperature)))

    def save_text_side(self, folder: Path) -> None:
        """Write all but the audio encoder: the text encoder with its tokenizer, both projections, the temperature."""
        with atomic_folder(folder) as temporary:
            self.text_encoder.save(temporary / TEXT_ENCODER)
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self._heads().items()}
            save_file(tensors, temporary / HEADS)

    @classmethod
    def load_text_side(cls, folder: Path, audio_encoder: nn.Module) -> ContrastiveObjective:
        """Read what `save_text_side` wrote.

        Args:
            folder: of a text tower.
            audio_encoder: as wide as the one it was trained with.

        Raises:
            UserError: A file is missing or damaged, or the widths differ.
        """
        text_encoder = TextEncoder.load(folder / TEXT_ENCODER)
        try:
            heads = load_file(folder / HEADS)
            objective = cls(audio_encoder, text_encoder, len(heads["text_projection.bias"]), 1.0)
            if set(heads) != set(objective._heads()):
                raise KeyError(f"it holds {', '.join(sorted(heads))}")
            objective.load_state_dict({**objective.state_dict(), **heads})
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{folder / HEADS}: does not fit its encoder ({reason}); export the run again") from error
        return objective

    def _heads(self) -> dict[str, Tensor]:
        towers = ("audio_encoder.", "text_encoder.")
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(towers)}

    def embed(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Unit vectors of a `CaptionBatch`, those of the audio beside those of the text: (n, 2 * embedding_dim)."""
        # tokens first: they are made on the CPU while the device is still busy with the step before
        ids, lens, num_cut = self.text_encoder.tokenize(batch.captions)
        audio = self.embed_audio(batch.features, batch.feature_lens)
        text = self._project_text(self.text_encoder.encode(ids, lens))
        num_clips = audio.new_full((), len(audio)).detach()
        return torch.cat([audio, text], dim=1), {
            "captions_cut": torch.stack([torch.full_like(num_clips, num_cut), num_clips])
        }

    def embed_audio(self, features: Tensor, feature_lens: Tensor) -> Tensor:
        """Map features (N, T, F) with feature_lens (N,) to unit vectors (N, embedding_dim)."""
        pooled = self.pooling(*self.audio_encoder(features, feature_lens))
        return _unit(self.audio_projection(pooled))

    def embed_text(self, texts: list[str]) -> Tensor:
        """Map N captions to unit vectors (N, embedding_dim)."""
        return self._project_text(self.text_encoder(texts))

    def _project_text(self, vectors: Tensor) -> Tensor:
        return _unit(self.text_projection(vectors))

    def compare(self, embeddings: Tensor) -> LossOutput:
        """Eq. 1 times the number of clips, for what `embed` returned; counted in clips."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return self._compare(*embeddings.chunk(2, dim=1))

    def comparison_parameters(self) -> list[nn.Parameter]:
        """The temperature."""
        return [self.logit_scale]

    def _compare(self, audio: Tensor, text: Tensor) -> LossOutput:
        num_clips, dim = audio.shape
        own_rank = audio.new_full((num_clips, 1), rank())
        # one collective for both sides; the column of ranks says where this process's rows begin
        gathered = gather_with_gradient(torch.cat([audio, text, own_rank], dim=1))
        all_audio, all_text, ranks = gathered.split([dim, dim, 1], dim=1)
        labels = (ranks.squeeze(1) < rank()).sum() + torch.arange(num_clips, device=audio.device)
        scale = self._scale()
        to_text, text_hits = cross_entropy_by_rows(scale, audio, all_text, labels)
        to_audio, audio_hits = cross_entropy_by_rows(scale, text, all_audio, labels)
        count = audio.new_full((), num_clips)
        logs = {"R@1_audio_to_text": text_hits, "R@1_text_to_audio": audio_hits, "temperature": num_clips / scale}
        logs = {name: torch.stack([v.detach().to(count), count]) for name, v in logs.items()}
        return LossOutput(0.5 * (to_text + to_audio), count, logs)

    def _scale(self) -> Tensor:
        # clamped in place: inside the graph the gradient would vanish at the limit and the scale never come back
        with torch.no_grad():
            self.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))
        return self.logit_scale.exp()


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)
