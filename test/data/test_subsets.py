# SPDX-License-Identifier: Apache-2.0
"""Subsets are nested, of the wanted size, in the proportions of the sources; features are read from the whole set."""

import copy
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icefall_alp.data.captions import AudioHeader, CaptionedAudio, captions_of, make_cut
from icefall_alp.data.shards import FeatureShards, input_files
from icefall_alp.data.subsets import FILE_NAME, Census, Subset, SubsetPlan, load_plan
from icefall_alp.utils.errors import UserError
from test.data.conftest import stored_cut

SOURCES = ("clotho", "music", "web")


def cut_of(number, counts):
    """A cut with that many captions of each source."""
    cut = make_cut(
        CaptionedAudio(f"fs:{number}", "a.wav", "train", ()), AudioHeader(8000, 1, 8000 + number), "x", "sound"
    )
    captions_of(cut)[:] = [
        {"text": f"{source} {k}", "source": source}
        for source, count in zip(SOURCES, counts, strict=True)
        for k in range(count)
    ]
    return cut


def pairs_of(subset, cuts):
    """(cut, caption) of every pair, as reading would have them."""
    pairs = set()
    for cut in copy.deepcopy(cuts):
        if subset.takes(cut):
            pairs |= {(cut["id"], caption["source"], caption["text"]) for caption in captions_of(cut)}
    return pairs


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.tuples(*[st.integers(0, 3)] * 3).filter(any), min_size=1, max_size=40),
    sizes=st.lists(st.integers(1, 150), min_size=2, max_size=4).map(sorted),
    seed=st.integers(0, 3),
)
def test_larger_subsets_hold_the_smaller_and_counts_are_those_of_the_pairs(counts, sizes, seed):
    cuts = [cut_of(number, each) for number, each in enumerate(counts)]
    census = Census(cuts, seed)
    wanted = {f"n{place}": size for place, size in enumerate(sizes)}
    subsets = census.plan(SubsetPlan(seed, wanted, True), "whole")
    everything = {(c["id"], x["source"], x["text"]) for c in cuts for x in captions_of(c)}
    of_source = Counter(pair[1] for pair in everything)
    smaller: set = set()
    for name, size in wanted.items():
        pairs = pairs_of(subsets[name], cuts)
        assert smaller <= pairs <= everything
        smaller = pairs
        taken = Counter(pair[1] for pair in pairs)
        for source, total in of_source.items():
            quota = min(total, size * total // len(everything))
            assert quota - 3 < taken[source] <= quota  # up to three captions of a source share their clip's draw
        count = census.count(subsets[name])
        clips = {pair[0] for pair in pairs}
        assert (count["captions"], count["audio"], count["sources"]) == (
            len(pairs),
            len(clips),
            dict.fromkeys(census.sources, 0) | taken,
        )
        assert count["hours"] == pytest.approx(sum(c["duration"] for c in cuts if c["id"] in clips) / 3600)
    for absent in of_source:
        assert pairs_of(subsets[f"leave_one_out_{absent}"], cuts) == {pair for pair in everything if pair[1] != absent}


def test_a_thousand_of_ten_thousand_are_in_proportion_and_another_seed_draws_others():
    cuts = [cut_of(number, (5 if number % 100 == 0 else 0, number % 2, 1 - number % 2)) for number in range(10_000)]
    drawn = []
    for seed in (1, 2):
        (subset,) = Census(cuts, seed).plan(SubsetPlan(seed, {"small": 1000}, False), "whole").values()
        drawn.append(pairs_of(subset, cuts))
        by_source = Counter(pair[1] for pair in drawn[-1])
        assert by_source["clotho"] in range(45, 49) and {by_source["music"], by_source["web"]} == {476}
    assert len(drawn[0] & drawn[1]) < 200  # by chance 95


def test_shards_of_a_subset_are_those_of_the_whole_set(store, tmp_path):
    cuts = [stored_cut(f"fs:{number}", 20 + number) for number in range(10)]
    for number, cut in enumerate(cuts):
        captions = cut.supervisions[0].custom["captions"]
        captions[0]["source"] = "web" if number % 2 else "clotho"
        del captions[2]
    folder, clips = store(cuts, tmp_path / "captionstew_train")
    Subset("captionstew_train", 1, {"web": 2**32}).write(tmp_path / "captionstew_web")
    shards = FeatureShards(tmp_path / "captionstew_web")
    assert [cut.id for cut in shards.cuts] == [f"fs:{number}" for number in (1, 3, 5, 7, 9)]
    assert [c["text"] for c in shards.cuts[0].supervisions[0].custom["captions"]] == ["fs:1 first"]
    for place, number in enumerate((1, 3, 5, 7, 9)):
        np.testing.assert_array_equal(shards.features(place), clips[number].astype(np.float32))
    assert shards.durations.tolist() == [cuts[number].duration for number in (1, 3, 5, 7, 9)]
    assert [path.name for path in (tmp_path / "captionstew_web").iterdir()] == [FILE_NAME]
    assert input_files(tmp_path / "captionstew_web") == [*input_files(folder), tmp_path / "captionstew_web" / FILE_NAME]
    assert len(FeatureShards(folder)) == 10


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"of": "x"}', '{"of": "../x", "seed": 1, "limits": {}}', '{"of": 1, "seed": 1, "limits": {}}']
)
def test_a_damaged_rule_is_named(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(UserError, match=r"subset\.json: damaged; run stage 1 again"):
        FeatureShards(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 1\npairs: {a: 2}\n", "the keys are seed, pairs and leave_one_out"),
        ("seed: 1\npairs: {a: x}\nleave_one_out: true\n", "a: expected name: number of pairs, found 'x'"),
        ("seed: 1\npairs: 7.5\nleave_one_out: true\n", "pairs: expected name"),
        ("seed: 1\npairs: {a: 2}\nleave_one_out: 3\n", "leave_one_out true or false"),
    ],
)
def test_a_wrong_plan_is_named(tmp_path, text, words):
    (tmp_path / "subsets.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        load_plan(tmp_path / "subsets.yaml")
