# SPDX-License-Identifier: Apache-2.0
"""Joining in pieces on the disk gives what joining in a dictionary gives, whatever the size of the pieces."""

from hypothesis import given, settings
from hypothesis import strategies as st

from icefall_alp.data import captions
from icefall_alp.data.captions import (
    AudioItem,
    CaptionedAudio,
    EventAudio,
    LabelledAudio,
    Question,
    QuestionedAudio,
    SoundEvent,
)
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.data.listing import joined_items

PLACES = st.tuples(st.sampled_from(["fs:1", "fs:2", "yt:-_é\u2028:as"]), st.sampled_from(["a.wav", "b.wav", None]))
SPLITS = st.sampled_from(["train", "test"])


def plainly(items):
    """What the rows of every key leave, folded in a dictionary: split, file, captions; and how many notes."""
    joined, notes = {}, 0
    for item in items:
        known = joined.setdefault(item.key, (item.split, item.path, []))
        if item.split != known[0]:
            notes += 1
            if item.split == "test":
                joined[item.key] = ("test", item.path, [*item.captions])
        elif item.path != known[1]:
            notes += 1
        else:
            known[2].extend(item.captions)
    return [(key, split, path, tuple(texts)) for key, (split, path, texts) in sorted(joined.items())], notes


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(PLACES, SPLITS, st.text("ab", max_size=3)), max_size=12), piece=st.integers(1, 13))
def test_captions_are_joined_in_their_order(tmp_path_factory, rows, piece):
    items = [CaptionedAudio(key, path, split, (text,)) for (key, path), split, text in rows]
    skipped = SkipList()
    folder = tmp_path_factory.getbasetemp() / "pieces"
    joined = [(i.key, i.split, i.path, i.captions) for i in joined_items(items, skipped, folder, piece)]
    assert (joined, sum(skipped.counts().values())) == plainly(items)
    assert not folder.exists() or not list(folder.iterdir())


def test_every_kind_of_item_comes_back_from_the_disk(tmp_path):
    kinds = {value for value in vars(captions).values() if isinstance(value, type) and issubclass(value, AudioItem)}
    items = [
        AudioItem("a:1", "1.wav", "test"),
        CaptionedAudio("a:2", "2.wav", "test", ("A harp.",), start=1.5, duration=0.25),
        LabelledAudio("a:3", None, "test", ("Dog", "Cat")),
        EventAudio("a:3e", "3.wav", "test", (SoundEvent("Dog", 0.5, 1.25), SoundEvent("Cat", 1.0, 2.0))),
        QuestionedAudio("a:4", "4.wav", "test", (Question("Is it wet?", ("yes", "no")), Question("Why?", ("rain",)))),
    ]
    assert {type(item) for item in items} == kinds
    skipped = SkipList()
    assert list(joined_items(items, skipped, tmp_path, piece=1)) == items
    other = LabelledAudio("a:3", None, "test", ("Dog",))
    assert list(joined_items([*items, other], skipped, tmp_path, piece=2)) == items
    assert [(entry["reason"], entry["key"]) for entry in skipped.entries] == [("contradiction", "a:3")]
