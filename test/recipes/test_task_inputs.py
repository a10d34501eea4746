# SPDX-License-Identifier: Apache-2.0
"""What tasks need besides corpora: drawn splits, a pretrained text decoder, the towers of a run."""

import gzip
import json

import pytest
import torch
import yaml

from icefall_alp.config import ContrastiveConfig, OptimConfig, TextTowerConfig, TrainingConfig, ZipformerConfig
from icefall_alp.config.loader import config_to_dict
from icefall_alp.data.captions import read_jsonl
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.models import AudioEncoder
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.models.tokenizer import train_sentencepiece
from icefall_alp.objectives.contrastive import ContrastiveObjective
from icefall_alp.training.trainer import Trainer
from test.recipes.preparation import ROOT, run


def write_cuts(path, ids, text="a dog barks"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for key in ids:
            supervision = {"custom": {"captions": [{"text": f"{text} {key[-1]} times", "source": "toy"}]}}
            file.write(json.dumps({"id": key, "supervisions": [supervision]}) + "\n")


@pytest.fixture
def place(tmp_path):
    for name, count in (("sets_train", 30), ("sets_test", 50)):
        write_cuts(tmp_path / "manifests" / f"{name}_cuts.jsonl.gz", [f"{name}:{n:02d}" for n in range(count)])
    return tmp_path


def draw(place, rows):
    (place / "splits.yaml").write_text(yaml.safe_dump(rows), encoding="utf-8")
    corpora = {name: {"role": "source", "domain": "sound"} for name in ("sets", "absent")}
    (place / "corpora.yaml").write_text(yaml.safe_dump(corpora), encoding="utf-8")
    folders = ["--manifests-dir", place / "manifests", "--output-dir", place / "splits"]
    folders += ["--corpora", place / "corpora.yaml"]
    return run("draw_splits.py", "--splits", place / "splits.yaml", *folders)


def drawn(place, name="sets_eval"):
    ids = (place / "splits" / f"{name}_ids.txt").read_text().splitlines()
    assert [cut["id"] for cut in read_jsonl(place / "splits" / f"{name}_cuts.jsonl.gz")] == ids
    return ids


def test_a_split_follows_from_its_seed_and_is_listed(place):
    row = {"source": "sets_test", "size": 20, "not_in": ["sets_train"]}
    result = draw(place, {"sets_eval": row})
    assert result.returncode == 0 and "sets_eval: 20 of the 50 cuts of sets_test, seed 42" in result.stdout
    first = drawn(place)
    assert len(set(first)) == 20 and all(key.startswith("sets_test:") for key in first)
    draw(place, {"sets_eval": row})
    assert drawn(place) == first
    draw(place, {"sets_eval": {**row, "seed": 1}})
    assert drawn(place) != first
    draw(place, {"sets_eval": {**row, "size": 100}})
    assert len(drawn(place)) == 50


def test_a_split_by_ids_takes_those_and_a_missing_corpus_is_left_out(place):
    (place / "ids.txt").write_text("sets_train:03\nsets_train:11\nelsewhere:1\n")
    rows = {"base": {"source": "sets_train", "ids": str(place / "ids.txt")}, "other": {"source": "absent_test"}}
    result = draw(place, rows)
    assert result.returncode == 0 and drawn(place, "base") == ["sets_train:03", "sets_train:11"]
    assert "left out: other: no cuts of absent_test; its corpus was not prepared" in result.stdout
    missing = draw(place, {"base": {"source": "sets_train", "ids": str(place / "none.txt")}})
    assert missing.returncode == 1 and "none.txt" in missing.stderr


def test_a_split_that_overlaps_training_is_refused(place):
    write_cuts(place / "manifests" / "sets_train_cuts.jsonl.gz", ["sets_test:07", "sets_train:1"])
    result = draw(place, {"sets_eval": {"source": "sets_test", "not_in": ["sets_train"]}})
    assert result.returncode == 1 and "1 clips are also in sets_train, sets_test:07 among them" in result.stderr
    assert not (place / "splits" / "sets_eval_cuts.jsonl.gz").exists()


@pytest.mark.parametrize("name", ["set_train", "sets_trian", "sets"])
def test_a_training_set_that_no_corpus_has_is_an_error_and_one_not_prepared_is_named(place, name):
    (place / "manifests" / "sets_report.json").write_text("{}")
    result = draw(place, {"sets_eval": {"source": "sets_test", "not_in": [name]}})
    assert result.returncode == 1 and f"sets_eval: {name}: " in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (place / "splits" / "sets_eval_cuts.jsonl.gz").exists()
    assert draw(place, {"sets_eval": {"source": name}}).returncode == 1
    result = draw(place, {"sets_eval": {"source": "sets_test", "not_in": ["absent_train", "sets_train"]}})
    assert result.returncode == 0 and len(drawn(place)) == 50
    assert "not checked: sets_eval: overlap with absent_train; its corpus was not prepared" in result.stdout


def test_a_decoder_is_pretrained_on_the_captions(place):
    cuts = place / "manifests" / "sets_train_cuts.jsonl.gz"
    train_sentencepiece(["a dog barks 1 2 3 4 5 6 7 8 9 0 times"] * 9, place / "bpe.model", 60)
    config = yaml.safe_load((ROOT / "egs/captionstew/ALP/conf/mini/pretrain_text_decoder.yaml").read_text())
    config["text_decoder"] |= {"tokenizer": str(place / "bpe.model"), "hidden_size": 32, "feedforward_dim": 64}
    config["training"]["num_steps"] = 3
    (place / "pretrain.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = ["--config", place / "pretrain.yaml", "--cuts", cuts, "--output-dir", place / "decoder"]
    result = run("pretrain_text_decoder.py", *arguments)
    assert result.returncode == 0 and "3 steps on 30 captions" in result.stdout
    tower = TextTowerConfig(pretrained=str(place / "decoder"), max_text_tokens=32)
    assert TextDecoder.build(tower, 48).sizes.encoder_dim == 48
    write_cuts(cuts, [])
    assert "no captions to learn from" in run("pretrain_text_decoder.py", *arguments).stderr


SMALL = ZipformerConfig(
    frontend_channels=(4, 4, 8), num_encoder_layers=(1, 1), downsampling_factor=(1, 2), encoder_dim=(16, 16),
    feedforward_dim=(16, 16), encoder_unmasked_dim=(16, 16), num_heads=(2, 2), cnn_module_kernel=(5, 5),
    query_head_dim=4, value_head_dim=4, pos_dim=8,
)  # fmt: skip


def test_the_text_tower_is_exported_beside_the_encoder(tmp_path):
    train_sentencepiece(["a dog barks", "rain falls"] * 9, tmp_path / "bpe.model", 40)
    tower = TextTowerConfig(
        tokenizer=str(tmp_path / "bpe.model"), hidden_size=16, num_layers=1, num_heads=2, feedforward_dim=32
    )
    config = ContrastiveConfig(audio_encoder=SMALL, text_encoder=tower, embedding_dim=8)
    objective = ContrastiveObjective(AudioEncoder(SMALL), TextEncoder.build(tower), 8, 0.07)
    exp_dir, training = tmp_path / "exp", TrainingConfig(num_steps=1, save_every=1, average_every=1, valid_every=0)
    Trainer(objective, training, OptimConfig(), OneBatch(), [], exp_dir, config_to_dict(config), 0).fit()
    result = run(ROOT / "tools" / "export_encoder.py", "--exp-dir", exp_dir)
    assert result.returncode == 0, result.stderr
    encoder = AudioEncoder.load(exp_dir / "encoder")
    towers = ContrastiveObjective.load_text_side(exp_dir / "text_tower", encoder).eval()
    assert towers.embed_text(["a dog barks"]).shape == (1, 8)
    assert not (exp_dir / "text_decoder").exists()


class OneBatch:
    """A stream of one batch."""

    max_duration = 1.0

    def iterate(self, start_step):
        features = torch.randn(2, 40, 80)
        while True:
            yield CaptionBatch(features, torch.tensor([40, 30]), ["a dog barks", "rain falls"], ["a", "b"])

    def epoch_of(self, step):
        return 0
