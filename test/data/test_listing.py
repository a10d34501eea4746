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

KEYS = ["fs:1", "fs:2", "yt:-_é\u2028:as"]
PLACES = st.sampled_from([(key, path) for n, key in enumerate(KEYS) for path in (f"a{n}.wav", f"b{n}.wav", None)])
SPLITS = st.sampled_from(["train", "test"])


def plainly(items):
    """What the rows of every key leave, folded in a dictionary: split, file, captions; and how many notes."""
    joined, notes = {}, 0
    for item in items:
        split, path, texts = joined.setdefault(item.key, (item.split, item.path, []))
        if item.split != split:
            notes += 1
            if item.split == "test":
                joined[item.key] = ("test", item.path, [*item.captions])
        elif item.path != path or item.captions[0] in texts:
            notes += 1
        else:
            texts.extend(item.captions)
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


def left_out(items, tmp_path, piece=1):
    """What is left of the items, and reason and key of each note."""
    skipped = SkipList()
    joined = list(joined_items(items, skipped, tmp_path, piece))
    return joined, [(entry["reason"], entry["key"]) for entry in skipped.entries]


def captioned(*texts, row=None, key="fs:1", **options):
    return CaptionedAudio(key, options.pop("path", "1.wav"), options.pop("split", "train"), texts, row=row, **options)


def test_a_row_counts_once_and_the_first_of_its_versions(tmp_path):
    rows = [("7", "Rain."), ("8", "Rain."), ("7", "Rain."), ("8", "Hail."), ("9", "Snow."), ("9", "Snow.")]
    joined, notes = left_out([captioned(text, row=row) for row, text in rows], tmp_path)
    assert [item.captions for item in joined] == [("Rain.", "Rain.", "Snow.")]
    assert notes == [("duplicate", "fs:1"), ("contradiction", "fs:1"), ("duplicate", "fs:1")]


def test_rows_without_a_name_are_the_same_where_their_captions_are(tmp_path):
    joined, notes = left_out([captioned(text) for text in ("Rain.", "Hail.", "Rain.")], tmp_path)
    assert [item.captions for item in joined] == [("Rain.", "Hail.")] and notes == [("duplicate", "fs:1")]


def test_rows_of_the_split_that_counts_are_not_compared_with_those_of_the_other(tmp_path):
    rows = [captioned("Rain.", row="1"), captioned("Hail.", row="1"), captioned("Hail.", row="1", split="test")]
    joined, notes = left_out([*rows, captioned("Snow.", row="1", split="test")], tmp_path)
    assert [(item.split, item.captions) for item in joined] == [("test", ("Hail.",))]
    assert [reason for reason, _ in notes] == ["contradiction"] * 3


def test_of_two_clips_in_one_file_the_first_row_stays(tmp_path):
    keys = ["yt:-_abcdefghi:30000", "yt:-_abcdefghi:0", "yt:other_video:0"]
    items = [captioned("Rain.", key=key, path=f"{key[3:8]}.wav") for key in keys]
    assert left_out(items, tmp_path) == ([items[0], items[2]], [("contradiction", keys[1])])


def test_of_two_clips_in_one_file_the_held_out_one_stays_wherever_it_stands(tmp_path):
    keys = {"mtat:1": "train", "mtat:20": "train", "mtat:3": "test", "mtat:4": "valid"}
    items = [captioned("Rain.", key=key, split=split) for key, split in keys.items()]
    notes = [("contradiction", key) for key in ("mtat:1", "mtat:20", "mtat:4")]
    assert left_out(items, tmp_path) == ([items[2]], notes)


def test_stretches_of_one_file_and_clips_that_are_not_there_are_no_contradiction(tmp_path):
    stretches = [captioned("A harp.", key=f"jam:7:{n}-{n + 9}", start=float(n), duration=9.0) for n in (0, 9)]
    absent = [captioned("Rain.", key=f"yt:{name}:0", path=None) for name in ("other_video", "third_video")]
    assert left_out(stretches + absent, tmp_path) == (stretches + absent, [])
