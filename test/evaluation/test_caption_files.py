# SPDX-License-Identifier: Apache-2.0
"""What people read about a model's captions is what it wrote."""

from __future__ import annotations

from icefall_alp.evaluation.caption_files import write_caption_files


def test_every_clip_is_there_with_references_hypothesis_alignment_and_score(tmp_path):
    hypotheses = ["A dog barks loudly.", "rain on a roof"]
    references = [["A bell rings.", "a cat barks"], ["rain on a roof"]]
    recogs, errs = write_caption_files(tmp_path / "made", "toy", ["yt:1", "yt:2"], hypotheses, references)
    assert (recogs.name, errs.name) == ("recogs-toy.txt", "errs-toy.txt")
    lines = recogs.read_text().splitlines()
    assert lines[:3] == ["yt:1:\tref=A bell rings.", "yt:1:\tref=a cat barks", "yt:1:\thyp=A dog barks loudly."]
    assert lines[-1] == "yt:2:\tROUGE-L=100.0"
    text = errs.read_text()
    # best reference of the first clip: "a cat barks", common "a barks", F1 of 2/4 and 2/3
    assert "yt:1:\ta (cat->dog) barks (*->loudly)\tROUGE-L=57.1" in text
    assert "yt:2:\train on a roof\tROUGE-L=100.0" in text
    assert text.startswith("ROUGE-L 78.57 over 2 clips")
    assert "1 substitutions, 1 insertions, 0 deletions" in text and "1\tcat -> dog" in text


def test_a_clip_without_a_hypothesis_is_all_deletions(tmp_path):
    _, errs = write_caption_files(tmp_path, "toy", ["a"], [""], [["two words"]])
    assert "a:\t(two->*) (words->*)\tROUGE-L=0.0" in errs.read_text()
