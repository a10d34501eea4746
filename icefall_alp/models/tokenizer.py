# SPDX-License-Identifier: Apache-2.0
"""Captions to token ids and back: a Hugging Face tokenizer folder or a SentencePiece model, one interface.

Every caption becomes `<s> words </s>` (BERT: `[CLS] words [SEP]`). Nothing here touches the network.
Shapes: N captions, U tokens of the longest one, `<s>` and `</s>` included.
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor

from icefall_alp.utils.errors import UserError

LOGGER = logging.getLogger(__name__)
PIECES = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}  # ids 0 to 3 of a SentencePiece model
MASK_PIECE = "<mask>"
_CONFIG = "tokenizer_config.json"
_GENERIC_CLASS = "PreTrainedTokenizerFast"  # version 4's name, which 5 knows too; 4 does not know 5's TokenizersBackend


class Tokenizer(ABC):
    """What the text towers need to know about a vocabulary."""

    vocab_size: int
    pad_id: int
    bos_id: int
    eos_id: int
    mask_id: int

    @abstractmethod
    def _words_to_ids(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text without `<s>` and `</s>`."""

    @abstractmethod
    def _ids_to_words(self, ids: list[int]) -> str:
        """Return the text of ids that hold no special token."""

    @abstractmethod
    def save(self, folder: Path) -> str:
        """Write the tokenizer into `folder` and return the name it has there, for `load_tokenizer`."""

    def encode(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor, int]:
        """Tokenize captions, padded on the right.

        Args:
            texts: N captions.
            max_tokens: longest row allowed, `<s>` and `</s>` included; longer captions lose their last words.

        Returns:
            ids (N, U) int64, lens (N,) int64 and the number of captions that were cut. Both tensors are on the CPU.
        """
        room = max_tokens - 2
        words = self._words_to_ids(list(texts))
        num_cut = sum(len(row) > room for row in words)
        rows = [[self.bos_id, *row[:room], self.eos_id] for row in words]
        lens = torch.tensor([len(row) for row in rows])
        ids = torch.full((len(rows), int(lens.max())), self.pad_id)
        for row, padded in zip(rows, ids, strict=True):
            padded[: len(row)] = torch.tensor(row)
        return ids, lens, num_cut

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, `<s>` and `</s>` included, nothing cut."""
        return [len(row) + 2 for row in self._words_to_ids(list(texts))]

    def decode(self, ids: Sequence[Sequence[int]] | Tensor) -> list[str]:
        """Return one string per row of ids; everything from the first `</s>` on and all special tokens are left out."""
        rows = ids.tolist() if isinstance(ids, Tensor) else ids
        return [self._ids_to_words(self._strip(row)) for row in rows]

    def _strip(self, row: Sequence[int]) -> list[int]:
        start = 1 if len(row) > 0 and row[0] == self.bos_id else 0
        words = list(row[start:])
        if self.eos_id in words:
            words = words[: words.index(self.eos_id)]
        return [i for i in words if i not in (self.pad_id, self.bos_id, self.mask_id)]


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model with the special pieces that `train_sentencepiece` gives it."""

    def __init__(self, path: Path):
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise UserError(f"{path}: not a SentencePiece model; train one on the captions (stage 3)") from error
        self.vocab_size = self._model.get_piece_size()
        self.pad_id, self.bos_id, self.eos_id = self._model.pad_id(), self._model.bos_id(), self._model.eos_id()
        self.mask_id = self._model.piece_to_id(MASK_PIECE)
        if min(self.pad_id, self.bos_id, self.eos_id) < 0 or self.mask_id == self._model.unk_id():
            wanted = ", ".join([*PIECES.values(), MASK_PIECE])
            raise UserError(f"{path}: this SentencePiece model lacks one of {wanted}; train it again (stage 3)")

    def _words_to_ids(self, texts: list[str]) -> list[list[int]]:
        return self._model.encode(texts)

    def _ids_to_words(self, ids: list[int]) -> str:
        return self._model.decode(ids)

    def save(self, folder: Path) -> str:
        """Write `tokenizer.model` into `folder`."""
        (folder / "tokenizer.model").write_bytes(self._model.serialized_model_proto())
        return "tokenizer.model"


class HuggingFaceTokenizer(Tokenizer):
    """A folder with a Hugging Face tokenizer: BERT, RoBERTa, BART and their kin."""

    def __init__(self, path: Path):
        # transformers takes seconds to import and a SentencePiece model does not need it
        from transformers import AutoTokenizer

        try:
            self._model = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(_why_unreadable(path, error)) from error
        special = {
            "pad": self._model.pad_token_id,
            "bos": _first(self._model.cls_token_id, self._model.bos_token_id),
            "eos": _first(self._model.sep_token_id, self._model.eos_token_id),
            "mask": self._model.mask_token_id,
        }
        missing = ", ".join(name for name, value in special.items() if value is None)
        if missing:
            raise UserError(f"{path}: the tokenizer has no {missing} token; take one of BERT, RoBERTa or BART")
        if self._words_to_ids(["The Big Dog"]) == self._words_to_ids(["the big dog"]):
            LOGGER.warning("%s: this tokenizer lower-cases what it reads; RoBERTa's and BART's do not", path)
        self.vocab_size = len(self._model)
        self.pad_id, self.bos_id, self.eos_id, self.mask_id = special.values()

    def _words_to_ids(self, texts: list[str]) -> list[list[int]]:
        return self._model(texts, add_special_tokens=False, verbose=False)["input_ids"]

    def _ids_to_words(self, ids: list[int]) -> str:
        return self._model.decode(ids, skip_special_tokens=True).strip()

    def save(self, folder: Path) -> str:
        """Write the folder `tokenizer` into `folder`, for transformers 4 and 5."""
        self._model.save_pretrained(str(folder / "tokenizer"))
        path = folder / "tokenizer" / _CONFIG
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.get("tokenizer_class") == "TokenizersBackend":
            config["tokenizer_class"] = _GENERIC_CLASS
            path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return "tokenizer"


def _why_unreadable(path: Path, error: Exception) -> str:
    import transformers

    if not (path / "tokenizer.json").is_file():
        return f"{path}: no Hugging Face tokenizer in it; copy its tokenizer.json there"
    return (
        f"{path}: transformers {transformers.__version__} does not read this tokenizer ({error}); if another version "
        f"wrote it, set tokenizer_class in its {_CONFIG} to {_GENERIC_CLASS}"
    )


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load a tokenizer from disk.

    Args:
        path: a Hugging Face folder or a SentencePiece `.model` file.

    Raises:
        UserError: nothing is there, or it is neither of the two.
    """
    path = Path(path)
    if path.is_dir():
        return HuggingFaceTokenizer(path)
    if path.is_file():
        return SentencePieceTokenizer(path)
    raise UserError(f"no tokenizer at '{path}'; give a Hugging Face folder or train a SentencePiece model (stage 3)")


def train_sentencepiece(texts: Iterable[str], path: Path, vocab_size: int) -> None:
    """Train a BPE model with the special pieces that `load_tokenizer` expects.

    Args:
        texts: the training captions.
        path: the `.model` file to write.
        vocab_size: upper bound on the number of pieces; few captions give fewer.
    """
    special = {f"{name}_id": index for index, name in enumerate(PIECES)}
    special |= {f"{name}_piece": piece for name, piece in PIECES.items()}
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=file, model_type="bpe", vocab_size=vocab_size,
            hard_vocab_limit=False, character_coverage=1.0, user_defined_symbols=[MASK_PIECE],
            normalization_rule_name="identity",  # what people wrote, letter by letter
            num_threads=1, minloglevel=2, **special,
        )  # fmt: skip


def _first(preferred: int | None, otherwise: int | None) -> int | None:
    return otherwise if preferred is None else preferred
