# SPDX-License-Identifier: Apache-2.0
"""One cut per piece of audio, nothing over a minute, no benchmark audio, and a line for everything that left."""

import pytest

from icefall_alp.data.audio_keys import AudioKey
from icefall_alp.data.captions import AudioHeader, CaptionedAudio, captions_of, jsonl_writer, make_cut, read_jsonl
from icefall_alp.data.leaks import LeakFilter
from icefall_alp.data.merge import merge_sources
from icefall_alp.utils.errors import UserError


def write_source(path, corpus, clips):
    """clips: (key, seconds, captions)."""
    with jsonl_writer(path) as write:
        for key, seconds, captions in clips:
            header = AudioHeader(1000, 1, int(seconds * 1000))
            write(make_cut(CaptionedAudio(key, f"{corpus}.wav", "train", captions), header, corpus, "sound"))
    return path


def merge(tmp_path, sources, evaluated=None, strict=False, **options):
    paths = {name: write_source(tmp_path / f"{name}.jsonl.gz", name, clips) for name, clips in sources.items()}
    summary = merge_sources(
        paths, LeakFilter(evaluated or {}, strict), tmp_path / "out", **{"valid_share": 0, **options}
    )
    train = list(read_jsonl(tmp_path / "out/captionstew_train_cuts.jsonl.gz"))
    valid = list(read_jsonl(tmp_path / "out/captionstew_valid_cuts.jsonl.gz"))
    return summary, train, valid, list(read_jsonl(tmp_path / "out/removed.jsonl.gz"))


def test_same_audio_becomes_one_cut_with_all_captions(tmp_path):
    summary, train, _, removed = merge(
        tmp_path,
        {
            "first": [("yt:-aaaaaaaaaa:0", 10, ("A dog barks.", "a dog BARKS.")), ("yt:_bbbbbbbbbb:0", 9, ("Rain.",))],
            "second": [("fs:7", 5, ("Wind.",)), ("yt:-aaaaaaaaaa:0", 8, ("A dog barks.", "Barking."))],
        },
    )
    assert [cut["id"] for cut in train] == ["fs:7", "yt:-aaaaaaaaaa:0", "yt:_bbbbbbbbbb:0"]
    both = train[1]
    assert both["custom"]["corpus"] == "first" and both["duration"] == 10
    assert captions_of(both) == [
        {"text": "A dog barks.", "source": "first"},
        {"text": "Barking.", "source": "second"},
    ]
    assert removed == [
        {"key": "yt:-aaaaaaaaaa:0", "corpus": "first", "reason": "duplicate_caption", "collides_with": "first",
         "text": "a dog BARKS."},
        {"key": "yt:-aaaaaaaaaa:0", "corpus": "second", "reason": "duplicate_caption", "collides_with": "first",
         "text": "A dog barks."},
    ]  # fmt: skip
    first, second = summary.sources["first"], summary.sources["second"]
    assert (first.audio_in, first.captions_in, first.audio_out, first.captions_out) == (2, 3, 2, 2)
    assert (second.audio_in, second.merged, second.audio_out, second.captions_out) == (2, 1, 1, 2)
    assert summary.train == {"audio": 3, "captions": 4, "hours": pytest.approx(24 / 3600)}


def test_long_clips_and_leaks_leave_with_their_reason(tmp_path):
    summary, train, _, removed = merge(
        tmp_path,
        {
            "web": [
                ("fs:1", 60.001, ("Too long.",)),
                ("fs:2", 60, ("Just a minute.",)),
                ("fs:3", 5, ("A sound whose crop is evaluated.",)),
                ("yt:Yaaaaaaaaaa:30000", 10, ("The evaluated clip itself.",)),
                ("yt:Ybbbbbbbbbb:21000", 10, ("A second and more in common.",)),
                ("yt:Yccccccccccc"[:14] + ":40000", 10, ("Right after the evaluated clip.",)),
                ("yt:Yddddddddddd"[:14] + ":as", 10, ("Somewhere in an evaluated video.",)),
            ]
        },
        {
            "clotho_test": ["fs:3:5000-20000"],
            "audiocaps_test": [f"yt:Y{letter * 10}:30000" for letter in "abcd"],
        },
    )
    assert [cut["id"] for cut in train] == ["fs:2", "yt:Ycccccccccc:40000"]
    assert [(row["key"], row["reason"], row["collides_with"]) for row in removed] == [
        ("fs:1", "too_long", None),
        ("fs:3", "leak", "fs:3:5000-20000"),
        ("yt:Yaaaaaaaaaa:30000", "leak", "yt:Yaaaaaaaaaa:30000"),
        ("yt:Ybbbbbbbbbb:21000", "leak", "yt:Ybbbbbbbbbb:30000"),
        ("yt:Ydddddddddd:as", "leak", "yt:Ydddddddddd:30000"),
    ]
    assert removed[1]["benchmark"] == "clotho_test"
    assert summary.to_dict()["leaks"] == {"web": {"clotho_test": 1, "audiocaps_test": 3}}
    counts = summary.sources["web"]
    assert (counts.audio_in, counts.too_long, counts.leak, counts.merged, counts.audio_out) == (7, 1, 4, 0, 2)


def test_a_file_longer_than_its_youtube_key_may_hold_any_part_of_the_video(tmp_path):
    clips = [
        ("yt:Yaaaaaaaaaa:30000", 50, ("It may begin at 30 s and go on into what is evaluated.",)),
        ("yt:Ybbbbbbbbbb:30000", 50, ("It may be the whole video.",)),
        ("yt:Yccccccccc-:30000", 10.04, ("Ten seconds, and what a codec adds.",)),
        ("yt:Ydddddddddd:30000", 50, ("Nothing of the video is evaluated.",)),
    ]
    evaluated = {"test": ["yt:Yaaaaaaaaaa:60000", "yt:Ybbbbbbbbbb:0", "yt:Yccccccccc-:40000"]}
    _, train, _, removed = merge(tmp_path, {"web": clips}, evaluated)
    assert [row["key"] for row in removed] == ["yt:Yaaaaaaaaaa:30000", "yt:Ybbbbbbbbbb:30000"]
    assert [cut["id"] for cut in train] == ["yt:Yccccccccc-:30000", "yt:Ydddddddddd:30000"]


def test_strict_mode_drops_the_whole_video(tmp_path):
    clips = [
        ("vox:id00012/21Uxsk56VDQ/00002", 5, ("He whispers.",)),
        ("vox:id00012/31Uxsk56VDQ/00001", 5, ("He shouts.",)),
        ("yt:Ycccccccccc:90000", 10, ("Much later in the same video.",)),
    ]
    evaluated = {"audioset_test": ["yt:Ycccccccccc:0"], "voxceleb2_test": ["vox:id00012/21Uxsk56VDQ/00001"]}
    _, train, _, _ = merge(tmp_path, {"web": clips}, evaluated)
    assert len(train) == 3
    _, train, _, removed = merge(tmp_path, {"web": clips}, evaluated, strict=True)
    assert [cut["id"] for cut in train] == ["vox:id00012/31Uxsk56VDQ/00001"]
    assert {row["reason"] for row in removed} == {"leak"}


def test_validation_is_seeded_and_shares_no_recording(tmp_path):
    clips = [(f"yt:video{number:06d}:{start}", 1, ("Hum.",)) for number in range(500) for start in (0, 20000)]
    summary, train, valid, _ = merge(tmp_path, {"web": clips}, valid_share=0.1)
    assert summary.valid["audio"] == len(valid) and len(train) + len(valid) == 1000
    assert 60 <= len(valid) <= 140
    assert not {AudioKey.parse(c["id"]).origin for c in train} & {AudioKey.parse(c["id"]).origin for c in valid}
    before = (tmp_path / "out/captionstew_valid_cuts.jsonl.gz").read_bytes()
    merge(tmp_path, {"web": clips}, valid_share=0.1)
    assert (tmp_path / "out/captionstew_valid_cuts.jsonl.gz").read_bytes() == before
    _, _, other, _ = merge(tmp_path, {"web": clips}, valid_share=0.1, seed=7)
    assert [cut["id"] for cut in other] != [cut["id"] for cut in valid]


def test_unsorted_cuts_are_refused(tmp_path):
    with pytest.raises(UserError, match="fs:1 comes after fs:2; prepare web again"):
        merge(tmp_path, {"web": [("fs:2", 1, ("A.",)), ("fs:1", 1, ("B.",))]})
    assert not (tmp_path / "out/captionstew_train_cuts.jsonl.gz").exists()
