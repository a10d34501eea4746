# SPDX-License-Identifier: Apache-2.0
"""Every YAML of the recipe loads strictly into its dataclass, and the mini twins name the same sets."""

from pathlib import Path

import pytest

from icefall_alp import config as schema
from icefall_alp.config.loader import load_config, read_yaml
from icefall_alp.evaluation.tasks import shared_by
from icefall_alp.utils.errors import UserError

CONF = Path(__file__).parents[2] / "egs/captionstew/ALP/conf"
TRAINING = {
    "tagging": schema.TaggingConfig,
    "contrastive": schema.ContrastiveConfig,
    "captioning": schema.CaptioningConfig,
}
TASKS = {
    "linear_probe": schema.LinearProbeConfig,
    "detection": schema.DetectionConfig,
    "retrieval": schema.RetrievalConfig,
    "captioning": schema.CaptioningTaskConfig,
    "zero_shot": schema.ZeroShotConfig,
    "question_answering": schema.QuestionAnsweringConfig,
}


@pytest.mark.parametrize("folder", [CONF, CONF / "mini"], ids=["paper", "mini"])
@pytest.mark.parametrize("objective", TRAINING)
@pytest.mark.parametrize("init", ["scratch", "tagging"])
def test_training_configurations_load(folder, objective, init):
    files = [folder / "encoder.yaml", folder / f"train_{objective}.yaml", folder / f"init_{init}.yaml"]
    config = load_config(TRAINING[objective], files)
    assert config.training.num_steps > 0 and bool(config.init) == (init == "tagging")


@pytest.mark.parametrize("path", sorted(CONF.rglob("supervised_*.yaml")), ids=lambda p: str(p.relative_to(CONF)))
def test_supervised_overlays_train_on_the_clips_that_their_probe_has(path):
    config = load_config(schema.TaggingConfig, [path.parent / "train_tagging.yaml", path])
    task = path.parent / "tasks/linear_probe" / path.name.removeprefix("supervised_")
    probe = load_config(schema.LinearProbeConfig, [task])
    assert (config.data.train_cuts, config.data.class_list) == (probe.train_cuts, probe.class_list)
    assert config.data.valid_cuts == probe.valid_cuts or not probe.valid_cuts
    assert config.multi_label == probe.multi_label


@pytest.mark.parametrize("path", sorted(CONF.rglob("tasks/*/*.yaml")), ids=lambda p: str(p.relative_to(CONF)))
def test_task_configurations_load(path):
    config = load_config(TASKS[path.parent.name], [*shared_by(path), path])
    trains = bool(config.train_cuts or getattr(config, "train_sets", ()))
    assert config.test_cuts and trains == (path.parent.name != "zero_shot")


def test_the_configuration_of_the_small_decoder_loads():
    config = load_config(schema.DenoisingConfig, [CONF / "mini/pretrain_text_decoder.yaml"])
    assert config.optim.steps_per_epoch == config.training.num_steps > 0


def test_the_paper_configurations_hold_the_papers_numbers():
    captioning = [CONF / "encoder.yaml", CONF / "train_captioning.yaml"]
    scratch = load_config(schema.CaptioningConfig, [*captioning, CONF / "init_scratch.yaml"])
    assert (scratch.training.num_steps, scratch.data.max_duration, scratch.parallel_fraction) == (600_000, 640.0, 0.75)
    assert scratch.audio_encoder == schema.ZipformerConfig.presets()["zipformer_m"]
    assert load_config(schema.CaptioningConfig, [*captioning, CONF / "init_tagging.yaml"]).training.num_steps == 200_000


def test_a_misspelt_key_is_named():
    with pytest.raises(UserError, match=r"parallel_fractoin: unknown key \(did you mean parallel_fraction\?\)"):
        load_config(schema.CaptioningConfig, [CONF / "train_captioning.yaml"], ["parallel_fractoin=0.5"])


@pytest.mark.parametrize("name", ["runs.txt", "mini/runs.txt"])
def test_every_listed_run_has_its_configurations(name):
    runs = [line.split() for line in (CONF / name).read_text().splitlines() if not line.startswith("#")]
    for objective, init in runs:
        assert read_yaml((CONF / name).parent / f"train_{objective}.yaml")
        assert read_yaml((CONF / name).parent / f"init_{init}.yaml")
