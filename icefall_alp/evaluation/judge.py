# SPDX-License-Identifier: Apache-2.0
"""Judges of free answers: a language model on this disk, or one behind an OpenAI-compatible endpoint.

A judge turns a prompt into a reply, at temperature 0. The endpoint's key comes from the environment; it is sent in one
header, to one address, never followed to another, and never written anywhere: not into messages either.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import torch
import urllib3

from icefall_alp.config import JudgeConfig, LanguageModelConfig
from icefall_alp.models.audio_llm import generate_answers
from icefall_alp.models.language_model import LanguageModel
from icefall_alp.utils.digests import folder_digest
from icefall_alp.utils.errors import UserError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 120.0  # seconds, also where the server asks for more
_MOST_TOKENS = 8192  # of a prompt to a local judge


class Judge(Protocol):
    """Anything that answers prompts.

    Attributes:
        name: what tells this judge from any other: a judgement is never taken for another judge's.
        num_parallel: prompts that may be put at the same time.
    """

    name: str
    num_parallel: int

    def reply(self, prompt: str) -> str:
        """The judge's answer to one prompt."""


def build_judge(config: JudgeConfig) -> Judge | None:
    """The judge of a configuration, None for none. Raises UserError when it cannot be used."""
    if config.kind == "local":
        return LocalJudge(config)
    return EndpointJudge(config) if config.kind == "endpoint" else None


class LocalJudge:
    """A language model from a folder whose digest is pinned.

    Raises:
        UserError: the folder's digest does not begin with `revision`, or see `LanguageModel.load`.
    """

    num_parallel = 1

    def __init__(self, config: JudgeConfig) -> None:
        folder = Path(config.model)
        digest = folder_digest(folder) if folder.is_dir() else ""
        if folder.is_dir() and not digest.startswith(config.revision.lower()):
            raise UserError(
                f"judge.revision is {config.revision}, but the digest of {folder} is {digest}: another model or "
                "revision; name this digest if it is the one you want"
            )
        self._model = LanguageModel.load(folder, LanguageModelConfig(max_text_tokens=_MOST_TOKENS))
        self._max_tokens = config.max_reply_tokens
        self.name = f"local {digest}"

    def reply(self, prompt: str) -> str:
        """Greedy answer to one prompt."""
        nothing = torch.empty(0, self._model.width)
        return generate_answers(self._model, [nothing], [prompt], self._max_tokens)[0]


class EndpointJudge:
    """A chat model behind `<base_url>/chat/completions`.

    Rate limits, server errors, time-outs, dropped connections and replies that are no completion are tried again,
    waiting twice as long each time or as long as the server asks; anything else is an error at once.

    Args:
        config: the endpoint.
        sleep: waits so many seconds.

    Raises:
        UserError: the address is none, the key is missing, or plain HTTP would carry it through a network.
    """

    def __init__(self, config: JudgeConfig, sleep: Callable[[float], None] = time.sleep) -> None:
        self._config = config
        self._sleep = sleep
        self._url = f"{config.base_url.rstrip('/')}/chat/completions"
        address = urlsplit(self._url)
        local = address.hostname in _LOOPBACK
        if address.scheme not in ("http", "https") or not address.hostname or address.username or address.password:
            raise UserError("judge.base_url is no address such as https://<host>/v1, or holds a name or a password")
        if address.scheme == "http" and not local:
            raise UserError(f"judge.base_url: the key would cross the network to {address.hostname} unencrypted; https")
        self._key = os.environ.get(config.key_variable, "").strip()
        if not self._key and not local:
            raise UserError(f"no key for the judge: set the environment variable {config.key_variable}")
        self.num_parallel = config.num_parallel
        self.name = f"endpoint {address.hostname} {config.model}"
        self._pool = urllib3.PoolManager(maxsize=config.num_parallel, block=True)

    def reply(self, prompt: str) -> str:
        """The model's reply to one prompt.

        Raises:
            UserError: the endpoint refuses, or does not answer after `max_tries`.
        """
        wait, cause = self._config.retry_seconds, ""
        for attempt in range(self._config.max_tries):
            if attempt:
                self._sleep(min(wait, _LONGEST_WAIT))
            asked, cause, text = self._try(prompt)
            if text is not None:
                return text
            wait = asked if asked is not None else self._config.retry_seconds * 2 ** (attempt + 1)
        raise UserError(
            f"{self.name}: no reply after {self._config.max_tries} tries ({cause}); what was judged is kept, start "
            "again later"
        )

    def _try(self, prompt: str) -> tuple[float | None, str, str | None]:
        """One request: (seconds the server asks to wait, why there is no reply, the reply)."""
        body = {
            "model": self._config.model,
            "temperature": 0,
            "max_tokens": self._config.max_reply_tokens,
            "messages": [{"role": "user", "content": prompt}],
        }
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=json.dumps(body).encode(),
                headers=headers,
                timeout=self._config.timeout_seconds,
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            return None, self._safe(f"{type(error).__name__}"), None
        if response.status in _TRANSIENT:
            return _seconds(response.headers.get("Retry-After")), f"HTTP {response.status}", None
        if response.status != 200:
            text = self._safe(" ".join(response.data.decode("utf-8", "replace").split())[:200])
            raise UserError(f"{self.name}: HTTP {response.status}: {text}; what was judged is kept")
        reply = _completion(response.data)
        return None, "the response is no chat completion", reply

    def _safe(self, text: str) -> str:
        return text.replace(self._key, "<key>") if self._key else text


def _completion(data: bytes) -> str | None:
    """The text of a chat completion, None where it is none."""
    try:
        content: Any = json.loads(data)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return content if isinstance(content, str) else None


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:  # a date, or nothing
        return None
    return seconds if 0.0 <= seconds < float("inf") else None
