# SPDX-License-Identifier: Apache-2.0
"""Open question answering: a frozen encoder, an adaptor, a frozen language model, and who judges (paper, A.4)."""

from __future__ import annotations

from dataclasses import dataclass, field

from icefall_alp.config.schema import TaskConfig

ANSWER_RULES = ("majority", "unanimous")
KINDS = ("choice", "chat")
JUDGES = ("none", "local", "endpoint")


@dataclass(frozen=True)
class LanguageModelConfig:
    """A causal language model with a chat template; without `pretrained` a small Qwen2 is trained on the text alone."""

    pretrained: str = ""  # Hugging Face folder; empty trains one of the sizes below on the training questions' text
    dtype: str = "bfloat16"  # float32 | bfloat16
    load_in_8bit: bool = False  # needs the package bitsandbytes and a GPU
    device_map: str = ""  # "auto" spreads the layers over all GPUs; needs the package accelerate
    max_text_tokens: int = 512  # of a question with its template and answer; longer ones are an error
    vocab_size: int = 1000  # from here on: of the small model
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    feedforward_dim: int = 256
    num_steps: int = 500
    batch_size: int = 32  # questions
    base_lr: float = 0.02  # ScaledAdam


@dataclass(frozen=True)
class AdaptorConfig:
    """What is trained: frames are stacked, then Linear - GELU - Linear to the language model's width."""

    stack: int = 4  # frames made one embedding; the encoder's 25 Hz become 6.25 Hz
    hidden_size: int = 0  # 0: the language model's width

    def __post_init__(self) -> None:
        """Refuse what cannot be stacked."""
        if self.stack < 1:
            raise ValueError(f"stack: {self.stack} frames cannot be stacked; give 1 or more")


@dataclass(frozen=True)
class JudgeConfig:
    """Who scores free answers: nobody, a language model on this disk, or an OpenAI-compatible endpoint."""

    kind: str = "none"  # none | local | endpoint
    model: str = ""  # local: Hugging Face folder; endpoint: the model's name there
    revision: str = ""  # local: first digits of the folder's digest, so that another model never judges unnoticed
    base_url: str = ""  # endpoint: the part before /chat/completions
    key_variable: str = "OPENAI_API_KEY"  # environment variable that holds the key
    allow_network: bool = False  # endpoint: nothing is sent anywhere without this
    repeats: int = 1  # judgements of each answer and order; from 2 on their agreement is reported
    max_reply_tokens: int = 32
    timeout_seconds: float = 60.0
    max_tries: int = 6  # of one request, waiting longer each time
    retry_seconds: float = 2.0  # first wait
    num_parallel: int = 4  # requests at a time
    prompt_price: float = 0.0  # per million tokens, for the estimate
    reply_price: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no judge understands."""
        if self.kind not in JUDGES:
            raise ValueError(f"kind: {self.kind!r} is none of {', '.join(JUDGES)}")
        if self.repeats < 1 or self.max_tries < 1 or self.num_parallel < 1:
            raise ValueError("repeats, max_tries and num_parallel begin at 1")
        if self.kind == "local" and (not self.model or len(self.revision) < 8):
            raise ValueError("model, revision: a local judge needs a folder and at least 8 digits of its digest")
        if self.kind == "endpoint" and not (self.model and self.base_url):
            raise ValueError("model, base_url: a judge behind an endpoint needs both")


@dataclass(frozen=True)
class QuestionPart:
    """A part of a benchmark that has its own numbers."""

    name: str = ""  # before the metric: "emotion" makes "emotion accuracy"
    task: str = ""  # of the questions meant; empty means all
    num_expected: int = 0  # questions that the official part has; 0 where there is none


@dataclass(frozen=True)
class QuestionAnsweringConfig(TaskConfig):
    """One benchmark of questions; the adaptor is trained once on `train_sets` and serves every benchmark."""

    train_sets: tuple[str, ...] = ()  # folders of stage 2 whose cuts have questions
    answers: str = "majority"  # majority | unanimous: which of several people's answers counts
    kind: str = "choice"  # choice: options A to D, accuracy | chat: free answers, ROUGE-L and a judge
    parts: tuple[QuestionPart, ...] = (QuestionPart(),)  # of the test cuts' questions those that are asked
    max_answer_tokens: int = 64
    answer_batch: int = 16  # questions answered at a time
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    adaptor: AdaptorConfig = field(default_factory=AdaptorConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)

    def __post_init__(self) -> None:
        """Refuse what the protocol does not have."""
        if self.kind not in KINDS:
            raise ValueError(f"kind: {self.kind!r} is none of {', '.join(KINDS)}")
        if self.answers not in ANSWER_RULES:
            raise ValueError(f"answers: {self.answers!r} is none of {', '.join(ANSWER_RULES)}")
