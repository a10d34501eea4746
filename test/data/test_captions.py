# SPDX-License-Identifier: Apache-2.0
"""A captioned cut is a Lhotse cut of the stated shape; its files are whole, repeatable, and errors name the line."""

import copy
import gzip
import json

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut, load_manifest_lazy

from icefall_alp.data.captions import (
    AudioHeader,
    CaptionedAudio,
    LabelledAudio,
    Question,
    QuestionedAudio,
    captions_of,
    check_cut,
    clean_caption,
    group_questions,
    jsonl_writer,
    make_cut,
    read_jsonl,
)
from icefall_alp.utils.errors import UserError

HEADER = AudioHeader(sampling_rate=8000, num_channels=2, num_samples=12000)
ITEM = CaptionedAudio("yt:__p-iA312kg:70000", "audio/a.wav", "train", ("A bell rings.", "Ding dong."))


def test_lhotse_reads_the_cut(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((12000, 2)), 8000)
    path = tmp_path / "cuts.jsonl.gz"
    with jsonl_writer(path) as write:
        write(make_cut(ITEM, HEADER, "audiocaps", "sound"))
    (cut,) = load_manifest_lazy(path)
    assert (cut.id, cut.start, cut.duration, cut.channel) == (ITEM.key, 0.0, 1.5, 0)
    assert cut.custom == {"corpus": "audiocaps"}
    (supervision,) = cut.supervisions
    assert supervision.id == ITEM.key
    assert supervision.custom["domain"] == "sound"
    assert supervision.custom["captions"] == [
        {"text": "A bell rings.", "source": "audiocaps"},
        {"text": "Ding dong.", "source": "audiocaps"},
    ]
    cut.recording.sources[0].source = str(tmp_path / "a.wav")
    assert cut.load_audio().shape == (1, 12000)


def test_the_cut_is_what_lhotse_itself_writes():
    questions = QuestionedAudio("fs:1", "1.wav", "train", (Question("Is it wet?", ("yes", "no")),))
    stretch = CaptionedAudio("jam:7:500-1250", "a.wav", "train", ("A harp.",), start=0.5, duration=0.75)
    for item in (ITEM, stretch, LabelledAudio("fs:1", "1.wav", "test", ("Dog",)), questions):
        cut = make_cut(item, HEADER, "audiocaps", "sound")
        again = MonoCut.from_dict(copy.deepcopy(cut)).to_dict()
        assert again == cut and json.dumps(again) == json.dumps(cut)


def test_a_stretch_of_a_file_is_a_cut_of_its_recording(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.repeat([0.0, 0.25, 0.5], 4000), 8000)
    item = CaptionedAudio("jam:7:500-1250", "a.wav", "train", ("A harp.",), start=0.5, duration=0.75)
    header = AudioHeader(sampling_rate=8000, num_channels=1, num_samples=12000)
    path = tmp_path / "cuts.jsonl.gz"
    with jsonl_writer(path) as write:
        write(make_cut(item, header, "jamendomaxcaps", "music"))
    (cut,) = load_manifest_lazy(path)
    assert (cut.start, cut.duration, cut.recording.duration) == (0.5, 0.75, 1.5)
    assert (cut.supervisions[0].start, cut.supervisions[0].duration) == (0.0, 0.75)
    cut.recording.sources[0].source = str(tmp_path / "a.wav")
    assert np.array_equal(cut.load_audio()[0], np.repeat([0.25, 0.5], [4000, 2000]))


def test_a_stretch_ends_with_its_file_and_needs_some_of_it():
    def seconds(start, duration):
        return CaptionedAudio("jam:7", "a.wav", "train", (), start=start, duration=duration).seconds_in(HEADER)

    assert (seconds(0.5, 30.0), seconds(0.5, None), seconds(0.0, None)) == (1.0, 1.0, 1.5)
    with pytest.raises(ValueError, match=r"begins at 1\.5 s, the audio ends at 1\.5 s"):
        seconds(1.5, 1.0)


def test_labels_are_names():
    cut = make_cut(LabelledAudio("fs:1", "1.wav", "test", ("Bark", "Dog")), HEADER, "fsd50k", "sound")
    assert cut["supervisions"][0]["custom"] == {"domain": "sound", "labels": ["Bark", "Dog"]}
    assert check_cut(cut) == ""


def test_questions_keep_every_answer():
    pairs = [("Does it bark?", "yes"), ("How often?", "twice"), ("Does it bark?", "no"), ("Does it bark?", "yes")]
    questions = group_questions(pairs)
    assert questions == (Question("Does it bark?", ("yes", "no", "yes")), Question("How often?", ("twice",)))
    cut = make_cut(QuestionedAudio("fs:1", "1.wav", "train", questions), HEADER, "clothoaqa", "sound")
    assert cut["supervisions"][0]["custom"] == {
        "domain": "sound",
        "questions": [
            {"text": "Does it bark?", "answers": ["yes", "no", "yes"], "source": "clothoaqa"},
            {"text": "How often?", "answers": ["twice"], "source": "clothoaqa"},
        ],
    }
    assert check_cut(cut) == ""
    cut["supervisions"][0]["custom"]["questions"][1]["answers"].clear()
    assert check_cut(cut) == "a question without text or answers"


def test_captions_lose_their_line_breaks_only():
    assert clean_caption("  A dog\n barks,\ttwice. ") == "A dog barks, twice."
    with pytest.raises(ValueError, match="empty caption"):
        clean_caption(" \t\n")


def test_what_is_no_caption_is_refused():
    assert clean_caption("\u201cWoof\u201d, says the dog \U0001f415.")  # quotes and pictures are text
    with pytest.raises(ValueError, match=r"1,048,576 characters \(at most 10,000\)"):
        clean_caption("a" * (1 << 20))
    for text in ("a dog\0", "half a dog \ud83d", "\x1b[2J"):
        with pytest.raises(ValueError, match="control character or half a surrogate"):
            clean_caption(text)


@pytest.mark.parametrize("path", ["../a.wav", "/a.wav", "a/../../b.wav", "a\0.wav", "a\udc80.wav"])
def test_a_path_that_leaves_the_corpus_or_cannot_be_written_down_makes_no_clip(path):
    with pytest.raises(ValueError, match="the path"):
        CaptionedAudio("fs:1", path, "train", ("A dog.",))
    assert CaptionedAudio("fs:1", "a..b/...wav", "train", ("A dog.",)).path


@pytest.mark.parametrize(("start", "duration"), [(-1.0, 1.0), (float("nan"), 1.0), (0.0, 0.0), (0.0, float("inf"))])
def test_times_that_bound_nothing_make_no_clip(start, duration):
    with pytest.raises(ValueError, match="bound no clip"):
        CaptionedAudio("fs:1", "a.wav", "train", ("A dog.",), start=start, duration=duration)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda cut: cut["supervisions"].append(cut["supervisions"][0]), "2 supervisions"),
        (lambda cut: cut.update(id="fs:2"), "id"),
        (lambda cut: cut["supervisions"][0]["custom"].update(domain="noise"), "domain 'noise'"),
        (lambda cut: captions_of(cut).clear(), "neither captions nor labels"),
        (lambda cut: captions_of(cut)[0].update(text=" "), "without text"),
        (lambda cut: cut.pop("custom"), "no corpus"),
        (lambda cut: cut.update(duration=0.0), "no duration"),
    ],
)
def test_a_broken_shape_is_named(damage, words):
    cut = make_cut(ITEM, HEADER, "audiocaps", "sound")
    assert check_cut(cut) == ""
    damage(cut)
    assert words in check_cut(cut)


def test_equal_rows_make_equal_bytes_and_an_error_leaves_the_old_file(tmp_path):
    first, second = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    for path in (first, second):
        with jsonl_writer(path) as write:
            write({"text": "Käfer"})
    before = first.read_bytes()
    assert before == second.read_bytes()
    with pytest.raises(RuntimeError), jsonl_writer(first) as write:
        write({"text": "half"})
        raise RuntimeError
    assert first.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl.gz", "b.jsonl.gz"]


def test_damaged_files_are_named_with_the_line(tmp_path):
    path = tmp_path / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"id": "a"}).encode() + b"\n{oops\n"))
    rows = read_jsonl(path)
    assert next(rows) == {"id": "a"}
    with pytest.raises(UserError, match=r"cuts\.jsonl\.gz: damaged at line 2"):
        next(rows)
    path.write_bytes(gzip.compress(b'{"id": "a"}\n' * 5000)[:-20])
    with pytest.raises(UserError, match="damaged at line"):
        list(read_jsonl(path))
    with pytest.raises(UserError, match="no such manifest"):
        list(read_jsonl(tmp_path / "absent.jsonl.gz"))
