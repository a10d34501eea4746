# SPDX-License-Identifier: Apache-2.0
"""Configuration: dataclasses are the schema, YAML files the experiment, `--set` tonight's change."""

from icefall_alp.config.question_answering import (
    AdaptorConfig,
    JudgeConfig,
    LanguageModelConfig,
    QuestionAnsweringConfig,
    QuestionPart,
)
from icefall_alp.config.schema import (
    CaptioningConfig,
    CaptioningTaskConfig,
    ContrastiveConfig,
    DataConfig,
    DenoisingConfig,
    DetectionConfig,
    EvaluationConfig,
    LinearProbeConfig,
    OptimConfig,
    ProbeConfig,
    RetrievalConfig,
    SpecAugmentConfig,
    TaggingConfig,
    TaskConfig,
    TextTowerConfig,
    TrainConfig,
    TrainingConfig,
    ZeroShotConfig,
)
from icefall_alp.config.zipformer import ZipformerConfig

__all__ = [
    "AdaptorConfig",
    "CaptioningConfig",
    "CaptioningTaskConfig",
    "ContrastiveConfig",
    "DataConfig",
    "DenoisingConfig",
    "DetectionConfig",
    "EvaluationConfig",
    "JudgeConfig",
    "LanguageModelConfig",
    "LinearProbeConfig",
    "OptimConfig",
    "ProbeConfig",
    "QuestionAnsweringConfig",
    "QuestionPart",
    "RetrievalConfig",
    "SpecAugmentConfig",
    "TaggingConfig",
    "TaskConfig",
    "TextTowerConfig",
    "TrainConfig",
    "TrainingConfig",
    "ZeroShotConfig",
    "ZipformerConfig",
]
