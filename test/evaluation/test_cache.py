# SPDX-License-Identifier: Apache-2.0
"""Kept tensors are used again only for the same key, undamaged; other keys' are deleted."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.evaluation.cache import cache_path, read_cache, write_cache

KEY, OTHER = "a" * 64, "b" * 64
TENSORS = {"means": torch.arange(6.0).view(2, 3), "lens": torch.tensor([4, 5])}


def test_round_trip(tmp_path):
    assert read_cache(tmp_path, "set", KEY) is None
    write_cache(tmp_path, "set", KEY, TENSORS)
    stored = read_cache(tmp_path, "set", KEY)
    assert stored.keys() == TENSORS.keys()
    assert all(torch.equal(stored[name], TENSORS[name]) for name in TENSORS)


def test_other_keys_of_the_name_are_deleted_and_nothing_else(tmp_path, capsys):
    write_cache(tmp_path, "set", KEY, TENSORS)
    write_cache(tmp_path, "set_two", KEY, TENSORS)
    (tmp_path / "set_notes").mkdir()
    assert read_cache(tmp_path, "set", OTHER) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set_notes", f"set_two_{KEY[:16]}"]
    assert capsys.readouterr().out.startswith("deleted: ")


def test_renamed_file_is_refused(tmp_path, capsys):
    write_cache(tmp_path, "set", KEY, TENSORS)
    cache_path(tmp_path, "set", KEY).parent.rename(cache_path(tmp_path, "set", OTHER).parent)
    assert read_cache(tmp_path, "set", OTHER) is None
    assert "made from another encoder, set or code" in capsys.readouterr().out


@pytest.mark.parametrize("change", [lambda content: content[:-3], lambda content: content[:-3] + b"xyz"])
def test_truncated_or_flipped_file_is_refused(tmp_path, capsys, change):
    write_cache(tmp_path, "set", KEY, TENSORS)
    path = cache_path(tmp_path, "set", KEY)
    path.write_bytes(change(path.read_bytes()))
    assert read_cache(tmp_path, "set", KEY) is None
    assert "damaged" in capsys.readouterr().out
    write_cache(tmp_path, "set", KEY, TENSORS)
    assert read_cache(tmp_path, "set", KEY) is not None
