# SPDX-License-Identifier: Apache-2.0
"""A small published table with results, and a toy task that any working protocol solves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import Features, MonoCut, SupervisionSegment

from icefall_alp.config import TextTowerConfig, ZipformerConfig
from icefall_alp.data.captions import AudioHeader, LabelledAudio, jsonl_writer, make_cut
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.data.feature_storage import store_features
from icefall_alp.data.shards import ShardWriter, finish_shards
from icefall_alp.evaluation.encoders import FrozenEncoder, LogMelStatistics, PrecomputedFrames
from icefall_alp.evaluation.results import Result, write_result
from icefall_alp.models import AudioEncoder
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.models.tokenizer import train_sentencepiece
from icefall_alp.objectives.contrastive import ContrastiveObjective
from icefall_alp.objectives.denoising import DenoisingObjective

PUBLISHED = """
runs: {ours: Theirs, second: Theirs-init}
baselines: {floor: the floor}
lower_is_better: [loss]
versus: [{title: Caption loss, protocol: captioning, metric: loss, baseline: floor}]
tables:
  - title: Table 1
    columns:
      - {title: Sounds mAP, protocol: linear_probe, task: sounds, pooling: mean, metric: mAP, decimals: 3}
      - {title: Never run, protocol: linear_probe, task: other, pooling: mean, metric: mAP}
    rows:
      Theirs: [0.400, 7]
      Theirs-init: [~, 8]
"""


def _result(run: str, protocol: str, metric: str, value: float, chance: float | None, pooling: str = "") -> Result:
    return Result(
        run=run,
        protocol=protocol,
        task="sounds",
        metric=metric,
        value=value,
        num_scored=90,
        num_expected=100,
        seed=1,
        command=f"evaluate {run}",
        encoder_digest="e",
        task_digest="t",
        pooling=pooling,
        chance=chance,
    )


@pytest.fixture
def published_yaml(tmp_path: Path) -> Path:
    path = tmp_path / "published.yaml"
    path.write_text(PUBLISHED, encoding="utf-8")
    return path


@pytest.fixture
def exp_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "exp"
    for run, score, loss in (("ours", 0.5, 2.0), ("floor", 0.25, 3.0)):
        write_result(folder / run, _result(run, "linear_probe", "mAP", score, 0.1, "mean"))
        write_result(folder / run, _result(run, "captioning", "loss", loss, None))
    log = '{"step": 5, "train": {"loss": 9}}\n{"step": 10, "train": {"loss": 4}}\n{"step": 10, "valid": {"loss": 5}}\n'
    (folder / "ours" / "losses.jsonl").write_text(log, encoding="utf-8")
    return folder


KINDS = ("dog", "rain", "bell", "engine")


def write_shards(
    folder: Path, num_clips: int, prefix: str, captions_per_clip: int = 1, skipped: int = 0, middle: float = 0.0
) -> None:
    """A stage 2 folder of noisy clips whose spectrum tells their kind, which is their label and in their captions.

    What tells it is louder by `middle` in the middle half, which is the clip's event.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(prefix))
    with ShardWriter(folder, 0) as writer:
        for i in range(num_clips):
            kind, num_frames = i % len(KINDS), int(rng.integers(20, 60))
            values = rng.normal(size=(num_frames, 80)).astype(np.float32)
            band = slice(kind * 20, kind * 20 + 20)
            values[:, band] += 3.0
            values[num_frames // 4 : 3 * num_frames // 4, band] += middle
            writer.add(_cut(f"{prefix}:{i}", KINDS[kind], num_frames, captions_per_clip), values)
        writer.finish("digest", [{"id": f"{prefix}:lost", "path": "p", "reason": "unreadable"}] * skipped)
    finish_shards(folder, [{"id": f"{prefix}:lost"}] * skipped)


@pytest.fixture
def write_mixed() -> Callable[[Path], None]:
    """Writes a folder of two clips of its own and three of the toy task's test clips."""

    def write(folder: Path) -> None:
        folder.mkdir()
        with ShardWriter(folder, 0) as writer:
            for cut_id in ("valid:0", "test:0", "test:1", "valid:1", "test:5"):
                writer.add(_cut(cut_id, KINDS[0], 30, 1), np.zeros((30, 80), dtype=np.float32))
            writer.finish("digest", [])
        finish_shards(folder, [])

    return write


def wordings(kind: str) -> list[str]:
    return [f"the sound of a {kind}", f"here a {kind} is heard", f"{kind} noise", f"some {kind}", f"it is a {kind}"]


def _cut(cut_id: str, kind: str, num_frames: int, num_captions: int) -> MonoCut:
    """A cut whose one event is its middle half."""
    texts = wordings(kind)
    duration = num_frames / 100
    custom = {
        "labels": [kind],
        "captions": [{"text": text, "source": "toy"} for text in texts[:num_captions]],
        "events": [{"label": kind, "onset": duration / 4, "offset": 3 * duration / 4}],
    }
    features = Features(
        type="kaldi-fbank", num_frames=num_frames, num_features=80, frame_shift=0.01, sampling_rate=16000, start=0,
        duration=duration, storage_type="shar", storage_path="", storage_key="",
    )  # fmt: skip
    supervision = SupervisionSegment(cut_id, cut_id, 0, duration, custom=custom)
    return MonoCut(cut_id, 0, duration, 0, supervisions=[supervision], features=features, custom={"corpus": "toy"})


@pytest.fixture(scope="session")
def event_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Train and test folders whose events can be heard, as a task's configuration names them."""
    folder = tmp_path_factory.mktemp("events")
    write_shards(folder / "train", 80, "train", middle=3.0)
    write_shards(folder / "test", 20, "test", middle=3.0)
    return {"train_cuts": str(folder / "train"), "test_cuts": str(folder / "test")}


@pytest.fixture(scope="session")
def toy_task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Train and test folders, class list and tokenizer, as a task's configuration names them."""
    folder = tmp_path_factory.mktemp("toy")
    write_shards(folder / "train", 80, "train")
    write_shards(folder / "test", 20, "test", captions_per_clip=5, skipped=1)
    (folder / "classes.txt").write_text("\n".join(KINDS) + "\n", encoding="utf-8")
    texts = [f"the sound of a {kind} here is heard noise some it" for kind in KINDS]
    train_sentencepiece(texts, folder / "bpe.model", 120)
    paths = {"train_cuts": "train", "test_cuts": "test", "class_list": "classes.txt", "tokenizer": "bpe.model"}
    return {key: str(folder / name) for key, name in paths.items()}


TINY = ZipformerConfig(
    frontend_channels=(4, 4, 8), num_encoder_layers=(1, 1), downsampling_factor=(1, 2), encoder_dim=(16, 24),
    feedforward_dim=(16, 24), encoder_unmasked_dim=(16, 16), num_heads=(2, 2), cnn_module_kernel=(7, 7),
    query_head_dim=8, value_head_dim=4, pos_dim=8,
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported encoder with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    AudioEncoder(TINY).save(folder)
    return folder


@pytest.fixture(scope="session")
def toy_decoder(toy_task: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a decoder pretrained on the toy captions."""
    torch.manual_seed(0)
    tower = _tower(toy_task)
    objective = DenoisingObjective(TextEncoder.build(tower), TextDecoder.build(tower, tower.hidden_size), 0.3, 0.0)
    texts = [text for kind in KINDS for text in wordings(kind)]
    ids = [f"text:{i}" for i in range(len(texts))]
    batch = CaptionBatch(torch.zeros(len(texts), 1, 1), torch.ones(len(texts), dtype=torch.int64), texts, ids)
    optimizer = torch.optim.Adam(objective.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        output = objective(batch)
        (output.total / output.count).backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("pretrained") / "decoder"
    objective.text_decoder.save(folder)
    return str(folder)


@pytest.fixture
def with_text_tower(log_mel: FrozenEncoder, toy_tower: TextTowerConfig, tmp_path: Path) -> FrozenEncoder:
    """Log-mel statistics with an untrained text tower beside them."""
    torch.manual_seed(0)
    objective = ContrastiveObjective(PrecomputedFrames(160), TextEncoder.build(toy_tower), 16, 0.07)
    objective.save_text_side(tmp_path / "text_tower")
    return replace(log_mel, text_tower=tmp_path / "text_tower")


@pytest.fixture
def log_mel() -> FrozenEncoder:
    return FrozenEncoder("log_mel", LogMelStatistics().eval(), "digest")


def _tower(toy_task: dict[str, str]) -> TextTowerConfig:
    return TextTowerConfig(
        tokenizer=toy_task["tokenizer"], hidden_size=32, num_layers=1, num_heads=2, feedforward_dim=64, dropout=0.0,
        max_text_tokens=24,
    )  # fmt: skip


@pytest.fixture
def toy_tower(toy_task: dict[str, str]) -> TextTowerConfig:
    return _tower(toy_task)


@pytest.fixture
def stored(tmp_path):
    """`data/fbank/toy_test` of three clips with its manifest and audio."""
    data, root = tmp_path / "data", tmp_path / "toy"
    root.mkdir()
    rng = np.random.default_rng(0)
    cuts = []
    for i in range(3):
        samples = rng.normal(size=8000 + 3000 * i).astype(np.float32) * 0.1
        soundfile.write(root / f"{i}.wav", samples, 16000, subtype="FLOAT")
        item = LabelledAudio(f"fs:{i}", f"{i}.wav", "test", ("rain",))
        cuts.append(make_cut(item, AudioHeader(16000, 1, len(samples)), "toy", "sound"))
    manifest = data / "manifests/toy_test_cuts.jsonl.gz"
    with jsonl_writer(manifest) as write:
        for cut in cuts:
            write(cut)
    report = {"corpus": "toy", "root": str(root)}
    (data / "manifests/toy_report.json").write_text(json.dumps(report), encoding="utf-8")
    store_features(manifest, data / "fbank/toy_test", {"toy": root}, 10, 1)
    return data / "fbank/toy_test"


@pytest.fixture
def recordings(tmp_path):
    """Five sounds of several formats and lengths, and one file of every bad kind."""
    folder, rng = tmp_path / "recordings", np.random.default_rng(0)
    folder.mkdir()
    for i, (name, rate, seconds) in enumerate(
        [
            ("a.wav", 16000, 1.0),
            ("b.flac", 44100, 0.5),
            ("c.ogg", 22050, 2.0),
            ("d d.wav", 8000, 7.0),
            ("e.wav", 16000, 3),
        ]
    ):
        noise = (
            rng.normal(size=(int(seconds * rate), 1 + i % 2))
            * 0.1
            * np.sin(np.arange(int(seconds * rate)) / (9 + i))[:, None]
        )
        soundfile.write(folder / name, noise.astype(np.float32), rate)
    (folder / "empty.wav").touch()
    (folder / "text.mp3").write_text("not audio")
    soundfile.write(folder / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    loud = rng.normal(size=16000).astype(np.float32) * np.float32(1e21)
    soundfile.write(folder / "loud.wav", loud, 16000, subtype="FLOAT")
    (folder / "link.wav").symlink_to(folder / "gone.wav")
    return folder
