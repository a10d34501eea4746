# SPDX-License-Identifier: Apache-2.0
"""The search is right wherever the limit lies; on a CPU a real limit on memory is found through the recipe's script."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import find_max_duration
import pytest
import torch
from faults.workbench import ENCODER, Workbench
from find_max_duration import LARGEST, largest

from icefall_alp.config.loader import save_config
from icefall_alp.utils.errors import UserError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "egs/captionstew/ALP/zipformer/train_tagging.py"


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 16, 33, 1000, 12345, 4 * LARGEST])
def test_the_largest_that_fits_is_found_without_trying_much_more(limit):
    tried = []
    found = largest(lambda number: tried.append(number) or number <= limit)
    assert found <= limit and (limit > LARGEST or found >= limit - max(1, limit // 16))
    assert len(tried) < 40 and max(tried) <= max(2, 2 * limit)


def test_a_limit_for_a_cpu_is_refused_on_a_gpu_which_a_forked_trial_could_not_use(monkeypatch, capsys):
    monkeypatch.setattr(find_max_duration.distributed, "device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(sys, "argv", ["f.py", str(SCRIPT), "--config", "c.yaml", "--memory-gib", "4"])
    with pytest.raises(SystemExit, match="1"):
        find_max_duration.main()
    error = "error: --memory-gib is for a CPU and here is a GPU; leave it out, or set ALP_DEVICE=cpu\n"
    assert capsys.readouterr().err == error


def stub(tmp_path, body):
    """A process that asks `fits_apart` about a trial; of its own, since the one of the tests has threads by now."""
    script = tmp_path / "ask.py"
    script.write_text(
        "import os, time\nfrom pathlib import Path\nimport torch\nfrom find_max_duration import fits_apart\n"
        f"log = Path({str(tmp_path)!r})\nclass Trial:\n    trainer = None\n{body}\n"
        "print([fits_apart(Trial(), 1.0, 2, 3.0) for _ in range(2)])\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}", "OMP_NUM_THREADS": "2"}
    return subprocess.Popen(
        [sys.executable, script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_trials_apart_may_compute_with_several_threads(tmp_path):
    body = (
        "    @property\n    def trainer(self):\n        return torch.randn(1 << 20).exp().sum()\n"
        "    def fits(self, num_clips, seconds):\n        return bool(self.trainer > 0)"
    )
    process = stub(tmp_path, body)
    try:
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert output == "[True, True]\n", errors


def test_a_trainer_that_cannot_be_built_is_not_taken_for_one_that_is_too_large(tmp_path):
    process = stub(tmp_path, "    @property\n    def trainer(self):\n        raise ValueError('no tokenizer')")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "no tokenizer" in errors and "could not be built" in errors


def test_a_killed_search_leaves_no_trial_running(tmp_path):
    body = (
        "    def fits(self, num_clips, seconds):\n        (log / 'tmp').write_text(str(os.getpid()))\n"
        "        (log / 'tmp').rename(log / 'pid')\n        time.sleep(60)"
    )
    process, deadline = stub(tmp_path, body), time.monotonic() + 60
    while not (tmp_path / "pid").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    trial = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    while Path(f"/proc/{trial}/stat").exists() and Path(f"/proc/{trial}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_recorded_steps_are_refused(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("training: {encoder_steps: record}\n")
    with pytest.raises(UserError, match="train with half: recordings hold as much"):
        find_max_duration.Trial(SCRIPT, [str(config)], [])


def test_more_memory_fits_longer_batches(tmp_path):
    bench = Workbench.build(tmp_path)
    (tmp_path / "classes.txt").write_text("rain\nbell\nengine\n")
    save_config(ENCODER, tmp_path / "sizes.yaml")
    sizes = (tmp_path / "sizes.yaml").read_text()
    config = tmp_path / "config.yaml"
    config.write_text(
        f"audio_encoder:\n  {sizes.replace(chr(10), chr(10) + '  ').rstrip()}\n"
        f"data: {{train_cuts: {bench.folder / 'corpus'}, class_list: {tmp_path / 'classes.txt'}}}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ALP_DEVICE": "cpu", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(ROOT / "tools/find_max_duration.py"), str(SCRIPT), "--config", str(config)]
    found = []
    for more in ([], ["--memory-gib", "0.15", "--seconds", "1", "0.1"], ["--memory-gib", "0.4", "--seconds", "1"]):
        done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, timeout=300)
        found.append((done.returncode, done.stdout, done.stderr))
    assert found[0][0] == 1 and "--memory-gib" in found[0][2]
    limits = [re.search(r'data: \{max_durations: \["1=(\d+)"\]\}', output) for _, output, _ in found[1:]]
    assert all(limits), found
    assert "up to 0.1 s: not one clip fits" in found[1][2]
    assert 1 < int(limits[0][1]) < int(limits[1][1])
