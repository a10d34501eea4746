# SPDX-License-Identifier: Apache-2.0
"""A causal language model from a Hugging Face folder, with the chat template that says how a conversation is written.

Also the small Qwen2 that is made where no pretrained model is at hand, saved as such a folder.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils import logging

from icefall_alp.config import LanguageModelConfig
from icefall_alp.models.text_tower import initial_std
from icefall_alp.utils import distributed
from icefall_alp.utils.atomic_io import atomic_folder
from icefall_alp.utils.digests import folder_digest
from icefall_alp.utils.errors import UserError

AUDIO_MARK = "<|audio|>"  # stands in the user's turn where the audio goes; never tokenised
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_OPTIONAL = {"load_in_8bit": "bitsandbytes", "device_map": "accelerate"}
_KEPT = 1 << 14  # questions whose token ids are remembered
_END, _START, _STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ChatFormat:
    """How one question with audio, and its answer, are written for a model: token ids around the audio.

    `prompt(question)` and `answer(question, answer)` are `_prompt` and `_answer`, remembered.

    Args:
        tokenizer: of the model; its chat template decides.
        origin: the model's folder, for messages.
        max_tokens: of question, template and answer together.

    Raises:
        UserError: there is no chat template, or it changes or repeats what the user says.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, origin: str, max_tokens: int) -> None:
        if not tokenizer.chat_template:
            raise UserError(f"{origin}: a model folder without a chat template; take the chat or instruct version")
        self.tokenizer, self.origin, self.max_tokens = tokenizer, origin, max_tokens
        self._special = sorted({AUDIO_MARK, *tokenizer.all_special_tokens, *tokenizer.get_added_vocab()})
        # a small set of questions comes back every epoch, and templates cost more than the small model's own step
        self.prompt = functools.lru_cache(maxsize=_KEPT)(self._prompt)
        self.answer = functools.lru_cache(maxsize=_KEPT)(self._answer)
        self.end_id = self.answer("?", "!")[-1]

    def _prompt(self, question: str) -> tuple[list[int], list[int]]:
        """Token ids before the audio, and after it up to where the answer begins.

        Raises:
            UserError: the question holds a control token of the model, or is too long.
        """
        before, mark, after = self._written(question).partition(AUDIO_MARK)
        if not mark or AUDIO_MARK in after:
            raise UserError(f"{self.origin}: the chat template does not write the user's turn once, as it was said")
        ids = self._ids(before), self._ids(after)
        self._check_length(question, *ids)
        return ids

    def _answer(self, question: str, answer: str) -> list[int]:
        """Token ids of the answer and of the end of its turn.

        Raises:
            UserError: the answer has no token, holds a control token, or is too long; or the template cannot be used.
        """
        prompt = self._written(question)
        turns = [*self._user(question), {"role": "assistant", "content": self._checked(answer.strip())}]
        whole = self.tokenizer.apply_chat_template(turns, tokenize=False)
        if not answer.strip():
            raise UserError(f"an empty answer to {question!r}: nothing could be learnt from it; leave the question out")
        if not whole.startswith(prompt + answer.strip()) or whole.rstrip() == prompt + answer.strip():
            raise UserError(f"{self.origin}: the chat template does not write an answer, and its end, after the prompt")
        ids = self._ids(whole[len(prompt) :].rstrip())
        self._check_length(question, *(self._ids(part) for part in prompt.split(AUDIO_MARK)), ids)
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of generated tokens, without control tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _written(self, question: str) -> str:
        written = self.tokenizer.apply_chat_template(self._user(question), tokenize=False, add_generation_prompt=True)
        return str(written)

    def _user(self, question: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{AUDIO_MARK}\n{self._checked(question)}"}]

    def _checked(self, text: str) -> str:
        for token in self._special:
            if token in text:
                raise UserError(f"{text[:80]!r} holds {token!r}, a control token of {self.origin}; leave it out")
        return text

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _check_length(self, question: str, *parts: list[int]) -> None:
        if (length := sum(map(len, parts))) > self.max_tokens:
            raise UserError(
                f"{question[:80]!r}: {length} tokens with template and answer, more than "
                f"language_model.max_text_tokens {self.max_tokens}; raise it or leave the question out"
            )


class LanguageModel:
    """A causal language model with its way to write a chat; frozen unless `trainable`.

    Attributes:
        network: the model of transformers, on this process's device.
        chat: see `ChatFormat`.
        digest: of the folder it came from.
    """

    def __init__(
        self, network: nn.Module, tokenizer: PreTrainedTokenizerBase, origin: str, config: LanguageModelConfig
    ):
        self.network = network
        self.chat = ChatFormat(tokenizer, origin, config.max_text_tokens)
        # greedy, and nothing of what the publishers sample with
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.chat.end_id
        network.generation_config = GenerationConfig(
            do_sample=False, num_beams=1, eos_token_id=self.chat.end_id, pad_token_id=pad
        )
        self.digest = ""

    @property
    def width(self) -> int:
        """Width D of its embeddings."""
        return int(self.network.get_input_embeddings().weight.shape[1])

    @classmethod
    def load(cls, folder: Path, config: LanguageModelConfig) -> LanguageModel:
        """Load a folder, frozen, in the precision and onto the devices of `config`.

        Raises:
            UserError: the folder is absent or damaged, has no chat template, or needs a package that is not installed.
        """
        options = _loading_options(config)
        network, tokenizer = _read_folder(str(folder), options)
        if "device_map" not in options:
            network = network.to(distributed.device())
        model = cls(network.eval().requires_grad_(False), tokenizer, str(folder), config)
        model.digest = folder_digest(Path(folder))
        return model

    @classmethod
    def small(cls, texts: Iterable[str], config: LanguageModelConfig) -> LanguageModel:
        """A Qwen2 of the sizes in `config` with random weights, and a byte-level BPE of `texts`; it can be trained."""
        tokenizer = Tokenizer(tokenizer_models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=config.vocab_size,
            special_tokens=[_END, _START, _STOP],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_STOP, pad_token=_END)
        wrapped.chat_template = _TEMPLATE
        sizes = Qwen2Config(
            vocab_size=len(wrapped),
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_heads,
            intermediate_size=config.feedforward_dim,
            tie_word_embeddings=True,
            initializer_range=initial_std(config.hidden_size),
            bos_token_id=None,
            eos_token_id=wrapped.eos_token_id,
            pad_token_id=wrapped.pad_token_id,
        )
        return cls(Qwen2ForCausalLM(sizes).to(distributed.device()), wrapped, "the small language model", config)

    def save(self, folder: Path) -> None:
        """Write a Hugging Face folder; it is there when it is complete."""
        with atomic_folder(folder) as temporary:
            self.network.save_pretrained(temporary)
            self.chat.tokenizer.save_pretrained(temporary)


def _loading_options(config: LanguageModelConfig) -> dict[str, Any]:
    if config.dtype not in _DTYPES:
        raise UserError(f"language_model.dtype is {config.dtype!r}; use {' or '.join(_DTYPES)}")
    for option, package in _OPTIONAL.items():
        if getattr(config, option) and importlib.util.find_spec(package) is None:
            raise UserError(f"language_model.{option} needs the package {package}; install it or leave the option out")
    options: dict[str, Any] = {"dtype": _DTYPES[config.dtype]}
    if config.device_map:
        options["device_map"] = config.device_map
    if config.load_in_8bit:
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
        options.setdefault("device_map", {"": distributed.device()})
    return options


def _read_folder(folder: str, options: dict[str, Any]) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    if not (Path(folder) / "config.json").is_file():
        raise UserError(f"no language model at '{folder}'; put a Hugging Face folder with its weights there")
    logging.disable_progress_bar()
    try:
        json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        network, report = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, use_safetensors=True, **options
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot be loaded as a language model: {' '.join(str(error).split())}") from error
    if report["missing_keys"]:
        raise UserError(f"{folder}: {len(report['missing_keys'])} weights are missing, {min(report['missing_keys'])} "
                        "among them; copy the folder again")  # fmt: skip
    return network, tokenizer
