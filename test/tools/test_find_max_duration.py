# SPDX-License-Identifier: Apache-2.0
"""The search is right wherever the limit lies; on a CPU a real limit on memory is found through the recipe's script."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from faults.workbench import ENCODER, Workbench
from find_max_duration import LARGEST, largest

from icefall_alp.config.loader import save_config

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "egs/captionstew/ALP/zipformer/train_tagging.py"


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 16, 33, 1000, 12345, 4 * LARGEST])
def test_the_largest_that_fits_is_found_without_trying_much_more(limit):
    tried = []
    found = largest(lambda number: tried.append(number) or number <= limit)
    assert found <= limit and (limit > LARGEST or found >= limit - max(1, limit // 16))
    assert len(tried) < 40 and max(tried) <= max(2, 2 * limit)


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
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ALP_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
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
