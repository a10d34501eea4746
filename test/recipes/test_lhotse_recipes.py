# SPDX-License-Identifier: Apache-2.0
"""Where Lhotse's recipes of VoxCeleb1 and Common Voice agree with ours and where not. (MUSAN: test_prepare_others.py)

Ids, layouts and columns are the publishers'; audio is silence.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lhotse.recipes import commonvoice, voxceleb

from icefall_alp.data.audio_keys import voxceleb as utterance_key
from test.recipes.preparation import Workplace, labels


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Threads in place of processes, and a trial list that is there already."""
    monkeypatch.chdir(tmp_path)
    for recipe in (commonvoice, voxceleb):
        monkeypatch.setattr(recipe, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    monkeypatch.setattr(voxceleb, "resumable_download", lambda _, filename: Path(filename).touch())
    return Workplace(tmp_path)


def test_voxceleb1_has_the_utterances_of_lhotses_recipe_in_another_split(place):
    buckley = ("id10001/1zcIwhmdeo4/00001", "id10001/1zcIwhmdeo4/00002", "id10001/7w0IBEWc9Qw/00001")
    names = (*buckley, "id10270/5r0dWxy17C8/00001")
    lines = (f"{part} {name}.wav\n" for part, name in zip((1, 2, 3, 1), names, strict=True))
    place.text("voxceleb1/iden_split.txt", "".join(lines))
    speakers = "id10001\tA.J._Buckley\tm\tIreland\tdev\nid10270\tEartha_Kitt\tf\tUSA\ttest\n"
    place.text("voxceleb1/vox1_meta.csv", "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n" + speakers)
    place.audio(*(f"voxceleb1/wav/{name}.wav" for name in names))
    place.prepare("voxceleb1")
    theirs = voxceleb.prepare_voxceleb(voxceleb1_root=place.corpora / "voxceleb1")
    spoken = {
        utterance_key(one.recording_id): (split, one.speaker, one.duration)
        for split in ("train", "test")
        for one in theirs[split]["supervisions"]
    }
    ours = {
        key: (split, labels(cut)[0], cut["duration"])
        for split in ("train", "valid", "test")
        for key, cut in place.cuts(f"voxceleb1_{split}").items()
    }
    assert {key: what[1:] for key, what in ours.items()} == {key: what[1:] for key, what in spoken.items()}
    assert [ours[f"vox:{name}"][0] for name in names] == ["train", "valid", "test", "train"]
    assert [spoken[f"vox:{name}"][0] for name in names] == ["train", "train", "train", "test"]


def test_common_voice_has_the_clips_of_lhotses_recipe_and_names_what_that_one_passes_over(place):
    columns = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment\n"
    row = '{0}\tcommon_voice_en_{0}.wav\t"Quoted" odd"\t2\t0\tfourties\tmale\t\t\ten\t\n'
    for number, part in enumerate(("train", "dev", "test")):
        place.text(f"commonvoice/en/{part}.tsv", columns + row.format(number) + row.format(number + 7))
        place.audio(f"commonvoice/en/clips/common_voice_en_{number}.wav")
    place.prepare("commonvoice")
    theirs = commonvoice.prepare_commonvoice(place.corpora / "commonvoice", place.manifests / "lhotse", languages="en")
    for part, split in (("train", "train"), ("dev", "valid"), ("test", "test")):
        (one,) = theirs["en"][part]["supervisions"]
        ((key, cut),) = place.cuts(f"commonvoice_{split}").items()
        assert (key, cut["duration"]) == (f"cv:{one.id}", one.duration)
        assert (one.gender, one.custom["age"]) == ("male", "fourties")
        known = {"gender": "male", "age": "thirties-fourties"}  # ages as AIR-Bench has them
        assert cut["supervisions"][0]["custom"]["attributes"] == known
    missing = [entry["key"] for entry in place.skipped("commonvoice") if entry["reason"] == "missing"]
    assert missing == [f"cv:common_voice_en_{number}" for number in (7, 8, 9)]
