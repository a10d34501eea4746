# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from icefall_alp.data.damage import DamagedClip, DamageList
from icefall_alp.utils.errors import UserError


def rows(folder):
    return [json.loads(line) for line in (folder / "damaged.jsonl").read_text().splitlines()]


def test_a_find_is_listed_once_and_says_what_to_do(tmp_path):
    damage, path = DamageList(tmp_path), tmp_path / "features.000012.tar"
    for _ in range(2):
        error = damage.error(path, 512, "fs:1", "it does not match its checksum", 1000)
        assert isinstance(error, DamagedClip) and "cut fs:1" in str(error) and "run stage 2 again" in str(error)
    found = {"id": "fs:1", "path": path.name, "offset": 512, "reason": "it does not match its checksum"}
    assert rows(tmp_path) == [found]


def test_more_than_a_share_is_another_error(tmp_path):
    damage, path = DamageList(tmp_path), tmp_path / "features.000000.tar"
    kinds = [type(damage.error(path, offset, "x", "bad", 300)) for offset in range(5)]
    assert kinds == [DamagedClip] * 3 + [UserError] * 2
    assert "5 of 300 clips are damaged" in str(DamageList(tmp_path).error(path, 0, "x", "bad", 300))


def test_taking_the_list_names_the_shards_and_clears_it(tmp_path):
    damage = DamageList(tmp_path)
    for name in ("features.000012.tar", "cuts.000003.jsonl.gz", "clips.npy"):
        damage.error(tmp_path / name, 0, None, "bad", 1000)
    with (tmp_path / "damaged.jsonl").open("a") as file:
        file.write('{"id": "half of a li')
    assert damage.take() == {3, 12} and damage.take() == set() and not list(tmp_path.iterdir())


def test_a_find_that_cannot_be_listed_is_an_error(tmp_path):
    with pytest.raises(UserError, match="cannot be listed"):
        DamageList(tmp_path / "nowhere").error(tmp_path / "features.000000.tar", 0, "x", "bad", 1000)
