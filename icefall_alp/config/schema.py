# SPDX-License-Identifier: Apache-2.0
"""Every knob of a run, with its unit and its reason. YAML holds only what differs from here.

Defaults are engineering choices; what the paper states stands in `conf/*.yaml` with its source.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from icefall_alp.config.zipformer import ZipformerConfig


@dataclass(frozen=True)
class SpecAugmentConfig:
    """Time warping and masking of training features."""

    probability: float = 0.9  # share of clips that are augmented
    time_warp_factor: int = 80  # frames; 0 switches warping off
    num_frame_masks: int = 10
    max_frame_mask: int = 100  # frames
    max_frame_share: float = 0.15  # of the clip, over all frame masks
    num_feature_masks: int = 2
    max_feature_mask: int = 27  # mel bins


@dataclass(frozen=True)
class DataConfig:
    """What is read and how batches are made."""

    train_cuts: str = ""  # folder of stage 2: shards of cuts with features
    valid_cuts: str = ""
    class_list: str = ""  # tagging only: one class name per line
    max_duration: float = 640.0  # seconds of audio per batch and process
    max_durations: tuple[str, ...] = ()  # seconds=max_duration for clips up to that long: tools/find_max_duration.py
    num_buckets: int = 30  # clips of similar length are batched together
    num_workers: int = 2  # loader processes; 0 loads in the training process
    mixture: tuple[str, ...] = ()  # corpus=weight: visits of each of its clips per epoch; 1 where it is not named
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    # What follows changes waveforms, so it needs stage 2 to have stored audio (--features on_the_fly).
    speeds: tuple[float, ...] = (1.0,)  # each visit of a clip is played at one of these
    noise_cuts: str = ""  # folder of stage 2 with noise, such as MUSAN; empty mixes none
    noise_probability: float = 0.5  # share of clips that noise is mixed into
    noise_snr: tuple[float, ...] = (10.0, 20.0)  # dB, drawn evenly between these


@dataclass(frozen=True)
class OptimConfig:
    """ScaledAdam and the Eden schedule (steps and epochs both shrink the rate)."""

    base_lr: float = 0.045
    clipping_scale: float = 2.0  # gradients over this multiple of their recent median norm are scaled down
    lr_steps: float = 7500.0
    lr_epochs: float = 3.5
    steps_per_epoch: int = 0  # 0 counts real passes over the data; otherwise an epoch is this many steps
    warmup_steps: int = 500
    warmup_start: float = 0.5


@dataclass(frozen=True)
class TrainingConfig:
    """The loop: how long, how often, in what precision."""

    num_steps: int = 600_000  # optimizer updates
    accumulate: int = 1  # micro-batches per update and process; their loss is that of one large batch
    precision: str = "float32"  # float32 | bfloat16 | float16 (with a loss scale that adapts)
    encoder_steps: str = "run"  # run | recompute (less memory) | record (a GPU replays them, in more memory)
    log_every: int = 50  # steps
    valid_every: int = 2000  # steps; 0 validates at the end only
    save_every: int = 2000  # steps; 0 writes no checkpoint
    keep_checkpoints: int = 10  # the newest ones
    hang_seconds: float = 45.0  # without progress, until all leave and say who hangs; more where steps take that long
    average_every: int = 200  # steps between updates of the running model average
    average_last: float = 0.25  # the exported encoder averages this last share of the steps
    initial_batch_count: float = 0.0  # where the schedules start; an encoder that is trained already needs no warm-up
    peak_tflops: float = 0.0  # of one device at this precision, for MFU in the log; 0: known by name, or measured
    reference_seconds: float = 600.0  # batch count of the schedules = step x seconds per step over all ranks / this


@dataclass(frozen=True)
class TextTowerConfig:
    """A transformer tower over text: BERT-base or BART-base shape unless shrunk."""

    tokenizer: str = ""  # Hugging Face folder or SentencePiece .model
    pretrained: str = ""  # Hugging Face folder with weights; empty starts from random weights of the sizes below
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    feedforward_dim: int = 3072
    dropout: float = 0.1
    max_text_tokens: int = 128  # the share of captions cut is logged


@dataclass(frozen=True)
class TrainConfig:
    """What every objective shares; the subclasses add their own."""

    seed: int = 42
    init: str = ""  # empty starts from scratch; otherwise an encoder folder or checkpoint
    calibrate_frontend: bool = False  # from scratch: scale its layers by the first batch, which shortens the start
    audio_encoder: ZipformerConfig = field(default_factory=ZipformerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True)
class TaggingConfig(TrainConfig):
    """Supervised tagging: the paper's Zipformer-AEC, and encoders trained on one dataset alone (Table 7)."""

    dropout: float = 0.1  # before the classifier
    multi_label: bool = True  # False: exactly one class per clip


@dataclass(frozen=True)
class ContrastiveConfig(TrainConfig):
    """Audio and caption towers pulled together (paper, Eq. 1)."""

    text_encoder: TextTowerConfig = field(default_factory=TextTowerConfig)
    embedding_dim: int = 512
    initial_temperature: float = 0.07  # learnable; the logit scale 1/temperature is clamped to 100


@dataclass(frozen=True)
class CaptioningConfig(TrainConfig):
    """Caption decoder on encoder frames (paper, Eq. 2 and 3)."""

    text_decoder: TextTowerConfig = field(default_factory=lambda: TextTowerConfig(num_layers=6))
    parallel_fraction: float = 0.75  # share of captions predicted in parallel from masks
    label_smoothing: float = 0.1


@dataclass(frozen=True)
class EvaluationConfig:
    """One downstream task: which cuts, how long a head is trained."""

    seed: int = 42
    train_cuts: str = ""  # folders of stage 2
    test_cuts: str = ""
    num_expected: int = 0  # test items the official split has; 0 where there is none
    max_duration: float = 640.0  # seconds of audio per batch of the frozen encoder
    batch_size: int = 256  # clips per update of the head
    num_steps: int = 2000  # optimizer updates of the head


@dataclass(frozen=True)
class TaskConfig(EvaluationConfig):
    """A task whose head is a text tower."""

    cache_frames: bool = False  # keep the encoder's frames in exp/<run>/frames for other tasks on the same clips
    base_lr: float = 0.045  # ScaledAdam


@dataclass(frozen=True)
class ProbeConfig(EvaluationConfig):
    """Small heads on frozen frames: every learning rate and seed at once, the rate chosen on validation clips."""

    valid_cuts: str = ""  # empty holds a share of train_cuts out
    valid_share: float = 0.1  # of the recordings of train_cuts, where there are no valid_cuts
    class_list: str = ""  # one class name per line
    learning_rates: tuple[float, ...] = (0.0003, 0.001, 0.003, 0.01, 0.03)  # Adam, peak
    num_seeds: int = 5  # heads per learning rate: seed, seed + 1, ...
    frames_gb: float = 16.0  # memory for the frames of a set, in 1e9 bytes; larger sets are encoded in every epoch


@dataclass(frozen=True)
class LinearProbeConfig(ProbeConfig):
    """One linear layer on pooled frames (paper, Tables 3a and 9)."""

    multi_label: bool = True  # False: exactly one class per clip
    metric: str = "mAP"  # mAP | accuracy
    poolings: tuple[str, ...] = ("mean", "attention")
    attention_heads: int = 8  # of the attention pooling


@dataclass(frozen=True)
class DetectionConfig(ProbeConfig):
    """One linear layer on every frame, scored by PSDS1 (paper, Table 3a)."""

    median_seconds: float = 0.36  # of the median filter over each class's scores; 0 for none


@dataclass(frozen=True)
class RetrievalConfig(TaskConfig):
    """A text encoder aligned to the frozen audio encoder (LiT; paper, Table 3b)."""

    text_encoder: TextTowerConfig = field(default_factory=TextTowerConfig)
    embedding_dim: int = 512
    initial_temperature: float = 0.07
    captions_per_clip: int = 0  # of a test clip, its first ones; 0 takes all


@dataclass(frozen=True)
class CaptioningTaskConfig(TaskConfig):
    """The cross-attention of a pretrained decoder tuned on frozen frames (paper, Table 3b)."""

    text_decoder: TextTowerConfig = field(default_factory=lambda: TextTowerConfig(num_layers=6))
    label_smoothing: float = 0.1
    beam_size: int = 4
    length_penalty: float = 1.0  # exponent of the length that a caption's log-probability is divided by
    max_caption_tokens: int = 60


@dataclass(frozen=True)
class ZeroShotConfig(TaskConfig):
    """Classes found by their names, with the text tower that an encoder was pretrained with; nothing is tuned."""

    class_list: str = ""  # one class name per line
    multi_label: bool = False  # True: several classes per clip, scored by mAP; False: accuracy
    prompts: tuple[str, ...] = ("the sound of {}",)  # a class is the mean of its prompts' embeddings


@dataclass(frozen=True)
class DenoisingConfig:
    """Pretraining of a small text decoder on captions alone, as BART's (what `pretrained` then names)."""

    seed: int = 42
    text_decoder: TextTowerConfig = field(default_factory=lambda: TextTowerConfig(num_layers=6))
    text_encoder_layers: int = 6  # of the encoder that reads the spoilt captions; its other sizes are the decoder's
    masked_share: float = 0.3  # of a caption's tokens, BART's; 1 leaves nothing to read but the language itself
    label_smoothing: float = 0.1
    batch_size: int = 64  # captions
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
