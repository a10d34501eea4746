# SPDX-License-Identifier: Apache-2.0
"""The file of published numbers is read strictly."""

from __future__ import annotations

import pytest

from icefall_alp.evaluation.published import Key, load_published
from icefall_alp.utils.errors import UserError


def test_tables_and_names(published_yaml):
    published = load_published(published_yaml)
    assert published.tables[0].columns[0].key == Key("linear_probe", "sounds", "mean", "mAP")
    assert published.tables[0].rows == {"Theirs": [0.4, 7], "Theirs-init": [None, 8]}
    assert published.runs["second"] == "Theirs-init"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[0.400, 7]", "[0.400]", "rows.Theirs: 1 values for 2 columns"),
        ("pooling: mean", "pooled: mean", "unknown key"),
        ("versus:", "verses:", "verses: unknown or missing key"),
        ("title: Table 1", "name: Table 1", "unknown or missing key"),
    ],
)
def test_mistakes_are_named(published_yaml, old, new, message):
    published_yaml.write_text(published_yaml.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_published(published_yaml)
