# SPDX-License-Identifier: Apache-2.0
"""A frozen language model that hears: audio embeddings in the user's turn of its chat template (paper, A.4).

N batch, T frames, C frame width, A audio embeddings, U tokens, D language model width, V vocabulary. The sequence of
one question is [template | audio (A, D) | question, template | answer]. Sequences are padded on the left, so that all
end together. Zero audio embeddings are the model without audio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from icefall_alp.config import AdaptorConfig
from icefall_alp.models.language_model import LanguageModel
from icefall_alp.utils.atomic_io import atomic_folder
from icefall_alp.utils.errors import UserError

IGNORED = -100  # targets that are not of an answer


class Adaptor(nn.Module):
    """Frames to embeddings: standardised, k frames stacked, then Linear - GELU - Linear.

    For standardised frames the output begins at about the scale of the language model's own embeddings.

    Args:
        frame_dim: C.
        width: D.
        config: k and the hidden width.
        scale: deviation of the language model's embeddings.
    """

    def __init__(self, frame_dim: int, width: int, config: AdaptorConfig, scale: float = 1.0) -> None:
        super().__init__()
        self.stack = config.stack
        self.register_buffer("mean", torch.zeros(frame_dim))
        self.register_buffer("deviation", torch.ones(frame_dim))
        hidden = config.hidden_size or width
        self.layers = nn.Sequential(
            nn.Linear(frame_dim * config.stack, hidden),
            nn.GELU(),
            nn.Linear(hidden, width),
        )
        nn.init.normal_(self.layers[2].weight, std=2.0 * scale / math.sqrt(hidden))
        nn.init.zeros_(self.layers[2].bias)

    def forward(self, frames: Tensor, frame_lens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, C), (N,) -> (N, ceil(T / k), D), (N,); a clip's last stack is filled with zeros.

        What lies past a clip's length does not matter.
        """
        valid = torch.arange(frames.shape[1], device=frames.device) < frame_lens[:, None]
        frames = ((frames - self.mean) / self.deviation).masked_fill(~valid[..., None], 0.0)
        frames = F.pad(frames, (0, 0, 0, -frames.shape[1] % self.stack))
        lens = (frame_lens + self.stack - 1).div(self.stack, rounding_mode="floor")
        return self.layers(frames.unflatten(1, (-1, self.stack)).flatten(2)), lens

    def standardize(self, mean: Tensor, deviation: Tensor) -> None:
        """Subtract the mean (C,) of the training frames and divide by their deviation (C,) from now on."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def save(self, folder: Path) -> None:
        """Write the weights, alone; the folder is there when it is complete."""
        with atomic_folder(folder) as temporary:
            weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
            save_file(weights, temporary / "adaptor.safetensors")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises UserError when it is damaged or of other sizes."""
        path = Path(folder) / "adaptor.safetensors"
        try:
            self.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: not the weights of this adaptor ({reason}); delete its folder") from error


class AudioLLM(nn.Module):
    """The adaptor in front of a frozen language model.

    Only the adaptor is this module's: its parameters, its checkpoint. The language model is not registered, so that no
    trainer moves, saves, averages or broadcasts its billions of weights.

    Args:
        adaptor: frames to embeddings.
        language_model: the frozen model.
    """

    def __init__(self, adaptor: Adaptor, language_model: LanguageModel) -> None:
        super().__init__()
        self.adaptor = adaptor
        self._language_model = (language_model,)

    @property
    def language_model(self) -> LanguageModel:
        """The frozen model."""
        return self._language_model[0]

    def audio(self, frames: Tensor, frame_lens: Tensor) -> list[Tensor]:
        """(N, T, C), (N,) -> N embeddings (A_i, D) of the clips, in the language model's precision."""
        embeddings, lens = self.adaptor(frames, frame_lens)
        embeddings = embeddings.to(self.language_model.network.get_input_embeddings().weight.dtype)
        return [clip[:length] for clip, length in zip(embeddings, lens.tolist(), strict=True)]


def answer_logits(
    model: LanguageModel, audio: Sequence[Tensor], questions: Sequence[str], answers: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Predictions of the answers' tokens.

    Args:
        model: the language model.
        audio: N embeddings (A_i, D); A_i may be 0.
        questions: N strings.
        answers: N strings.

    Returns:
        logits (N, U, V) float32 and targets (N, U), U the tokens of the longest answer with the end of its turn;
        targets are `IGNORED` before an answer begins.

    Raises:
        UserError: see `ChatFormat`; an answer without tokens is an error.
    """
    ids = [model.chat.answer(question, answer) for question, answer in zip(questions, answers, strict=True)]
    embeddings, mask = _sequences(model, audio, questions, ids)
    longest = max(map(len, ids))
    logits = model.network(
        inputs_embeds=embeddings,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
        logits_to_keep=longest + 1,
    ).logits[:, :-1]
    targets = torch.full((len(ids), longest), IGNORED)
    for row, answer in zip(targets, ids, strict=True):
        row[longest - len(answer) :] = torch.tensor(answer)
    return logits.float(), targets.to(logits.device)


@torch.no_grad()
def generate_answers(
    model: LanguageModel, audio: Sequence[Tensor], questions: Sequence[str], max_tokens: int
) -> list[str]:
    """Greedy answers to N questions, each at most `max_tokens` tokens long; see `answer_logits`."""
    embeddings, mask = _sequences(model, audio, questions, [[]] * len(questions))
    out = model.network.generate(inputs_embeds=embeddings, attention_mask=mask, max_new_tokens=max_tokens)
    texts = []
    for row in out.tolist():
        end = row.index(model.chat.end_id) if model.chat.end_id in row else len(row)
        texts.append(model.chat.decode(row[:end]))
    return texts


def embed_text(model: LanguageModel, texts: Sequence[str]) -> list[Tensor]:
    """The model's own embeddings (U_i, D) of texts: what a clip described in words would put in the audio's place."""
    embed, tokenizer = model.network.get_input_embeddings(), model.chat.tokenizer
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    return [embed(torch.tensor(own, dtype=torch.long, device=embed.weight.device)) for own in ids]


def _sequences(
    model: LanguageModel, audio: Sequence[Tensor], questions: Sequence[str], answers: Sequence[list[int]]
) -> tuple[Tensor, Tensor]:
    """Embeddings (N, L, D), padded on the left with zeros, and their mask (N, L)."""
    embed = model.network.get_input_embeddings()
    rows = []
    for clip, question, answer in zip(audio, questions, answers, strict=True):
        before, after = model.chat.prompt(question)
        ids = torch.tensor([*before, *after, *answer], device=embed.weight.device)
        tokens = embed(ids)
        rows.append(torch.cat([tokens[: len(before)], clip.to(tokens), tokens[len(before) :]]))
    lens = torch.tensor([len(row) for row in rows], device=rows[0].device)
    embeddings = pad_sequence(rows, batch_first=True, padding_side="left")
    length = embeddings.shape[1]
    mask = torch.arange(length, device=embeddings.device) >= length - lens[:, None]
    return embeddings, mask.long()
