# SPDX-License-Identifier: Apache-2.0
"""Items become cuts; what cannot is listed with its cause; a second run writes the same bytes."""

import argparse
import json

import numpy as np
import pytest
import soundfile

from icefall_alp.data.captions import CaptionedAudio, LabelledAudio, captions_of, read_jsonl
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.data.listing import joined_items
from icefall_alp.data.manifests import (
    corpus_roots,
    listed_keys,
    load_corpora,
    read_report,
    write_manifests,
)
from icefall_alp.utils.errors import UserError

CORPORA = """
toy: {role: source, domain: sound, licence: none, audio: {train: 4, test: 1}, captions: {train: 5}, evaluated: [test]}
"""


@pytest.fixture
def args(tmp_path):
    root = tmp_path / "toy"
    root.mkdir()
    (tmp_path / "corpora.yaml").write_text(CORPORA)
    return argparse.Namespace(
        corpus_dir=root, manifests_dir=tmp_path / "manifests", corpora=tmp_path / "corpora.yaml", num_jobs=2
    )


def write_wav(path, seconds=0.5, rate=8000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros((int(seconds * rate), channels)), rate)


def toy_items():
    return [
        CaptionedAudio("fs:2", "b.wav", "train", ("Rain.",)),
        CaptionedAudio("fs:1", "a.wav", "train", ("A dog.",)),
        CaptionedAudio("fs:1", "a.wav", "train", ("It barks.",)),
        CaptionedAudio("fs:3", "zero.wav", "train", ("Nothing.",)),
        CaptionedAudio("fs:4", "text.wav", "train", ("Letters.",)),
        CaptionedAudio("fs:5", None, "test", ("Gone.",)),
    ]


def fill(root):
    write_wav(root / "a.wav")
    write_wav(root / "b.wav", seconds=1.0, channels=2)
    (root / "zero.wav").touch()
    (root / "text.wav").write_text("this is no audio")


def test_cuts_report_and_what_was_left_out(args, capsys):
    fill(args.corpus_dir)
    write_manifests("toy", toy_items(), SkipList(), args)
    cuts = list(read_jsonl(args.manifests_dir / "toy_train_cuts.jsonl.gz"))
    assert [cut["id"] for cut in cuts] == ["fs:1", "fs:2"]
    assert [caption["text"] for caption in captions_of(cuts[0])] == ["A dog.", "It barks."]
    assert [cut["duration"] for cut in cuts] == [0.5, 1.0]
    assert [cut["recording"]["sources"][0]["source"] for cut in cuts] == ["a.wav", "b.wav"]
    assert list(read_jsonl(args.manifests_dir / "toy_test_cuts.jsonl.gz")) == []

    report = read_report(args.manifests_dir / "toy_report.json")
    assert report["expected"]["audio"] == {"train": 4, "valid": 0, "test": 1}
    assert (report["found"]["train"]["audio"], report["found"]["train"]["captions"]) == (2, 3)
    assert report["found"]["train"]["hours"] == pytest.approx(1.5 / 3600)
    assert (report["missing"], report["unreadable"], report["bad_row"]) == (1, 2, 0)
    skipped = [json.loads(line) for line in (args.manifests_dir / "toy_skipped.jsonl").read_text().splitlines()]
    causes = {entry["key"]: entry["cause"] for entry in skipped}
    assert causes["fs:3"] == "empty file" and causes["fs:5"] == "no such file"
    assert causes["fs:4"]
    assert not any(str(args.corpus_dir) in cause for cause in causes.values())
    assert "toy train: 2 clips of 4 (50.0%), 3 captions" in capsys.readouterr().out

    assert corpus_roots(args.manifests_dir) == {"toy": args.corpus_dir.resolve()}
    assert listed_keys(args.manifests_dir, "toy", "test") == {"fs:5"}


def test_a_second_run_writes_the_same_bytes(args):
    fill(args.corpus_dir)
    contents = []
    for _ in range(2):
        write_manifests("toy", reversed(toy_items()) if contents else toy_items(), SkipList(), args)
        contents.append((args.manifests_dir / "toy_test_cuts.jsonl.gz").read_bytes())
        contents.append((args.manifests_dir / "toy_report.json").read_bytes())
    assert contents[:2] == contents[2:]
    write_manifests("toy", toy_items(), SkipList(), args)
    first = (args.manifests_dir / "toy_train_cuts.jsonl.gz").read_bytes()
    write_manifests("toy", toy_items(), SkipList(), args)
    assert (args.manifests_dir / "toy_train_cuts.jsonl.gz").read_bytes() == first


def rows_of(skipped, *items):
    """Items as a script yields them: while it is at a row of its list."""
    for number, item in enumerate(items, start=1):
        with skipped.bad_row(f"list.csv:{number}"):
            yield item


def test_two_rows_with_one_key_and_other_labels_contradict_each_other(args):
    write_wav(args.corpus_dir / "a.wav")
    skipped = SkipList()
    items = [LabelledAudio("fs:1", "a.wav", "train", (label,)) for label in ("Dog", "Dog", "Cat")]
    write_manifests("toy", rows_of(skipped, *items), skipped, args)
    (cut,) = read_jsonl(args.manifests_dir / "toy_train_cuts.jsonl.gz")
    assert cut["supervisions"][0]["custom"]["labels"] == ["Dog"]
    noted = [(entry["reason"], entry["where"], entry["key"]) for entry in skipped.entries]
    assert noted == [("duplicate", "list.csv:2", "fs:1"), ("contradiction", "list.csv:3", "fs:1")]


@pytest.mark.parametrize("piece", [1, 100])
@pytest.mark.parametrize("order", [1, -1])
def test_a_clip_of_two_splits_stays_in_the_one_that_is_held_out(tmp_path, order, piece):
    skipped = SkipList()
    clips = [CaptionedAudio("fs:1", "a.wav", split, ("A dog.",)) for split in ("train", "valid", "test")]
    (kept,) = joined_items(rows_of(skipped, *clips[::order]), skipped, tmp_path, piece)
    assert kept.split == "test" and kept.captions == ("A dog.",)
    assert {entry["split"] for entry in skipped.entries} == {"train", "valid"}
    assert [entry["where"] for entry in skipped.entries] == ["list.csv:2", "list.csv:3"]
    assert {entry["reason"] for entry in skipped.entries} == {"contradiction"}


def test_two_files_with_one_key_are_not_taken_for_one_clip(args):
    # such as two crops of one Freesound sound whose positions are not known
    for name in ("a.wav", "b.wav"):
        write_wav(args.corpus_dir / name)
    skipped = SkipList()
    rows = (("a.wav", "Heard in a."), ("b.wav", "Heard in b."), ("a.wav", "Again in a."))
    items = [CaptionedAudio("fs:1", name, "train", (text,)) for name, text in rows]
    write_manifests("toy", items, skipped, args)
    (cut,) = read_jsonl(args.manifests_dir / "toy_train_cuts.jsonl.gz")
    assert [caption["text"] for caption in captions_of(cut)] == ["Heard in a.", "Again in a."]
    assert [(entry["reason"], entry["path"]) for entry in skipped.entries] == [("duplicate", "b.wav")]


def test_a_benchmark_of_which_only_the_lists_are_there_has_evaluated_clips_and_no_cuts(args, capsys):
    args.corpora.write_text(CORPORA.replace("source", "benchmark"))
    write_wav(args.corpus_dir / "a.wav")
    clips = [CaptionedAudio(f"fs:{n}", path, "test", ("A dog.",)) for n, path in ((1, "a.wav"), (2, None))]
    write_manifests("toy", clips, SkipList(), args)
    assert listed_keys(args.manifests_dir, "toy", "test") == {"fs:1", "fs:2"}
    (args.corpus_dir / "a.wav").unlink()
    write_manifests("toy", clips, SkipList(), args)
    assert not list(args.manifests_dir.glob("*_cuts.jsonl.gz"))
    assert listed_keys(args.manifests_dir, "toy", "test") == {"fs:1", "fs:2"}
    output = capsys.readouterr()
    assert output.err.startswith("warning: ") and "none of the 2 clips that toy lists" in output.err
    assert "toy test: 0 clips of 1 (0.0%)" in output.out
    with pytest.raises(UserError, match="none of the 0 clips"):
        write_manifests("toy", [], SkipList(), args)
    write_wav(args.corpus_dir / "a.wav")
    write_manifests("toy", clips, SkipList(), args)
    (args.manifests_dir / "toy_test_cuts.jsonl.gz").unlink()  # what was found and is lost evaluates nothing in silence
    with pytest.raises(UserError, match="no such manifest"):
        listed_keys(args.manifests_dir, "toy", "test")


def test_errors_of_the_whole_corpus(args):
    with pytest.raises(UserError, match="none of the 1 clips that toy lists"):
        write_manifests("toy", [CaptionedAudio("fs:1", "a.wav", "train", ("A dog.",))], SkipList(), args)
    with pytest.raises(UserError, match="no row other; rows are toy"):
        write_manifests("other", [], SkipList(), args)
    args.corpus_dir.rmdir()
    with pytest.raises(UserError, match="no such folder"):
        write_manifests("toy", [], SkipList(), args)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("toy: {role: sauce, domain: sound}", "role: 'sauce'"),
        ("toy: {role: source, domain: noise}", "domain: 'noise'"),
        ("toy: {role: source, domain: sound, evaluated: [dev]}", "evaluated: 'dev'"),
        ("toy: {role: source, domain: sound, adio: {}}", "adio"),
        ("toy: source", "toy: expected role"),
    ],
)
def test_a_wrong_row_of_corpora_yaml_is_named(tmp_path, text, words):
    (tmp_path / "corpora.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        load_corpora(tmp_path / "corpora.yaml")
