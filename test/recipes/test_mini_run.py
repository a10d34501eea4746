# SPDX-License-Identifier: Apache-2.0
"""The real run.sh, stages 0-9, in a copy of the repository on a tenth of the embedded corpus; then faults in it.

The recordings are those that come with pip, so that nothing is downloaded. The tests run in the order of this file.
"""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RUNS = ("log_mel", "untrained", "tagging", "contrastive_scratch", "captioning_scratch", "contrastive_tagging")
PROTOCOLS = {"linear_probe", "detection", "retrieval", "captioning", "question_answering"}
WITH_TEXT = {"untuned_retrieval", "zero_shot"}  # for runs that were pretrained with a text tower

pytestmark = pytest.mark.slow


class Recipe:
    """A copy of the repository, its recipe, and a way to run it."""

    def __init__(self, root):
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        for name in names:
            if (ROOT / name).exists() and not name.startswith("test/"):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, root / name)
        (root / ".venv").symlink_to(sys.prefix)  # nothing is installed again
        self.folder = root / "egs/captionstew/ALP"
        self.env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        self.make_tiny_configuration()

    def make_tiny_configuration(self):
        """conf/tiny: conf/mini with few steps and a tenth of the corpus."""
        tiny = self.folder / "conf/tiny"
        shutil.copytree(self.folder / "conf/mini", tiny)
        for path in tiny.rglob("*.yaml"):
            text = re.sub(r"(num_steps: )\d+", r"\g<1>12", path.read_text())
            text = re.sub(r"((?:save|valid)_every: )\d+", r"\g<1>6", text)
            text = re.sub(r"((?:log|average)_every: )\d+", r"\g<1>3", text)
            path.write_text(re.sub(r"(max_duration: )\d+", r"\g<1>60", text))
        corpora = tiny / "corpora.sh"
        corpora.write_text(
            corpora.read_text().replace("make_mini_corpora.py", "make_mini_corpora.py --scale 0.1 --recordings pip")
        )

    def command(self, *arguments):
        return ["bash", self.folder / "run.sh", "--conf", "conf/tiny", *map(str, arguments)]

    def run(self, *arguments):
        return subprocess.run(
            self.command(*arguments), env=self.env, capture_output=True, text=True, cwd=self.folder, timeout=900
        )

    def with_paths(self, *command):
        """Run a command of the recipe as run.sh would."""
        shell = ["bash", "-c", '. ./path.sh; exec "$@"', "bash", *command]
        return subprocess.run(shell, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=900)

    def one_stage(self, stage, *arguments):
        return self.run("--stage", stage, "--stop-stage", stage, *arguments)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return Recipe(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def finished(recipe):
    result = recipe.run()
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    recipe.output = result.stdout
    return recipe


def test_every_run_has_every_number_in_the_table(finished):
    table = (finished.folder / "exp/RESULTS.md").read_text()
    for run in RUNS:
        results = [json.loads(p.read_text()) for p in (finished.folder / "exp" / run / "results").rglob("*.json")]
        assert {r["protocol"] for r in results} == PROTOCOLS | (WITH_TEXT if "contrastive" in run else set()), run
        # so small a language model may not name one letter
        assert all(r["num_scored"] > 0 or r["protocol"] == "question_answering" for r in results)
        assert all("chance" in r and r["command"] for r in results)
    for word in ("Contrastive-scratch", "Captioning-scratch", "Contrastive-init", "Zipformer-AEC", "FSD50k", "R@1"):
        assert word in table


def test_every_removal_has_its_reason(finished):
    with gzip.open(finished.folder / "data/captionstew/removed.jsonl.gz", "rt") as file:
        removed = [json.loads(line) for line in file]
    assert {"too_long", "leak"} <= {row["reason"] for row in removed}
    assert all(row["collides_with"] for row in removed if row["reason"] == "leak")
    skipped = "".join(p.read_text() for p in (finished.folder / "data/manifests").glob("*_skipped.jsonl"))
    assert "unreadable" in skipped and "bad_row" in skipped


def test_second_run_skips_every_stage_and_says_so(finished):
    started = time.monotonic()
    result = finished.run()
    assert result.returncode == 0, result.stderr
    assert "\nrun: " not in result.stdout and result.stdout.count("\nskip: ") > 25
    assert time.monotonic() - started < 90


def test_edited_task_is_evaluated_again_and_nothing_else(finished):
    task = finished.folder / "conf/tiny/tasks/linear_probe/fsd50k.yaml"
    task.write_text(task.read_text().replace("num_steps: 12", "num_steps: 13"))
    result = finished.one_stage(6)
    assert result.returncode == 0, result.stderr
    again = set(re.findall(r"^(\w+) fsd50k mean mAP", result.stdout, re.MULTILINE))
    assert again == set(RUNS)
    assert result.stdout.count("voxceleb2 is done") == len(RUNS) and " voxceleb2 mean" not in result.stdout


def kill_after_a_checkpoint(recipe, run, *arguments):
    """Start a training and kill -9 everything of it once a checkpoint is there."""
    process = subprocess.Popen(
        recipe.command(*arguments), env=recipe.env, cwd=recipe.folder, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pointer = recipe.folder / "exp" / run / "checkpoints/last"
    while not pointer.exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert pointer.exists() and not (recipe.folder / "exp" / run / "encoder").exists()


def test_killed_training_continues_from_its_last_checkpoint(finished):
    arguments = ("--stage", 5, "--stop-stage", 5, "--objective", "captioning", "--init", "tagging")
    overlay = finished.folder / "conf/tiny/init_tagging.yaml"
    overlay.write_text(overlay.read_text().replace("num_steps: 12", "num_steps: 30"))
    kill_after_a_checkpoint(finished, "captioning_tagging", *arguments)
    result = finished.run(*arguments)
    assert result.returncode == 0, result.stderr
    continued = re.search(r"continuing from \S*step_(\d+)", result.stdout + result.stderr)
    assert continued and int(continued[1]) > 0
    assert (finished.folder / "exp/captioning_tagging/encoder/model.safetensors").exists()


def test_the_continued_training_ends_in_the_weights_of_an_unbroken_one(finished):
    conf = "conf/tiny"
    configs = [f"{conf}/encoder.yaml", f"{conf}/train_captioning.yaml", f"{conf}/init_tagging.yaml"]
    command = ["launch.sh", "1", "zipformer/train_captioning.py", "--exp-dir", "exp/unbroken", "--config", *configs]
    result = finished.with_paths(*command)
    assert result.returncode == 0, result.stderr
    names = ("model", "average", "optimizer")
    for file in (f"checkpoints/step_30/{name}.safetensors" for name in names):
        broken, unbroken = (finished.folder / "exp" / run / file for run in ("captioning_tagging", "unbroken"))
        assert broken.read_bytes() == unbroken.read_bytes(), file
    shutil.rmtree(finished.folder / "exp/unbroken")


def test_two_processes_continue_what_one_had_begun_when_it_was_killed(finished):
    encoder = finished.folder / "exp/contrastive_scratch"
    shutil.move(encoder, finished.folder / "exp/kept")
    arguments = ("--stage", 5, "--stop-stage", 5, "--objective", "contrastive", "--init", "scratch")
    kill_after_a_checkpoint(finished, "contrastive_scratch", *arguments)
    result = finished.run(*arguments, "--num-processes", 2)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "saved by 1 processes, continued by 2" in result.stdout + result.stderr
    assert (encoder / "encoder/model.safetensors").exists()
    shutil.rmtree(encoder)
    shutil.move(finished.folder / "exp/kept", encoder)


def test_flipped_bit_in_a_checkpoint_is_named_and_the_one_before_is_used(finished):
    run = finished.folder / "exp/captioning_tagging"
    last = run / "checkpoints" / (run / "checkpoints/last").read_text().strip() / "model.safetensors"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    result = finished.one_stage(5, "--objective", "captioning", "--init", "tagging")
    assert result.returncode == 0, result.stderr
    assert "model.safetensors does not match its digest" in result.stdout + result.stderr


def test_flipped_bit_in_an_encoder_is_one_clear_line(finished):
    weights = finished.folder / "exp/captioning_tagging/encoder/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    result = finished.one_stage(7, "--objective", "captioning", "--init", "tagging")
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "exp/captioning_tagging/encoder" in errors[0] and "Traceback" not in result.stderr


def test_misspelt_key_is_one_clear_line(finished):
    path = finished.folder / "conf/tiny/train_tagging.yaml"
    good = path.read_text()
    path.write_text(good.replace("base_lr", "base_lrr"))
    result = finished.one_stage(4)
    path.write_text(good)
    assert result.returncode != 0 and "Traceback" not in result.stderr
    assert "error: optim.base_lrr: unknown key (did you mean base_lr?)" in result.stderr


def test_changed_configuration_refuses_to_continue_and_names_the_difference(finished):
    path = finished.folder / "conf/tiny/train_tagging.yaml"
    good = path.read_text()
    changed = yaml.safe_load(good)
    changed["optim"]["base_lr"] = 0.01
    path.write_text(yaml.safe_dump(changed))
    result = finished.one_stage(4)
    path.write_text(good)
    assert result.returncode != 0 and "optim.base_lr was 0.02 and is 0.01" in result.stderr


def test_missing_corpus_folder_is_named_and_the_others_are_kept(finished):
    shutil.move(finished.folder / "data/corpora/clotho", finished.folder / "data/clotho_elsewhere")
    left_out = finished.run("--stage", 0, "--stop-stage", 0, "--dry-run", "true")
    assert left_out.returncode == 0
    prepare = ["local/prepare.py", "--corpora", "conf/tiny/corpora.yaml", "--roots", "clotho=data/corpora/clotho"]
    prepare += ["audiocaps=data/corpora/audiocaps"]
    result = finished.with_paths(*prepare)
    assert result.returncode == 0 and "left out: clotho: no folder data/corpora/clotho" in result.stdout
    named = finished.with_paths(*prepare, "--only", "clotho")
    assert named.returncode == 1 and named.stderr.startswith("error: clotho: no folder data/corpora/clotho")
