# SPDX-License-Identifier: Apache-2.0
"""Five thousand damaged rows in the lists of every corpus: no traceback, and no good row is lost.

Every other row is left whole. A whole row must be read, so its key is among the cuts or the missing clips, and what is
damaged must not make the script fall over. One line says why a list as a whole was given up.
"""

import json
import random

import pytest

from icefall_alp.data.captions import read_jsonl
from icefall_alp.data.manifests import load_corpora
from test.recipes.preparation import CORPORA, Workplace, run

NUM_ROWS = 700  # of each list, half of them damaged
VIDEO_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def video(number):
    dice = random.Random(number)
    return dice.choice("Y-_ab") + "".join(dice.choices(VIDEO_ALPHABET, k=10))


def caption(number):
    return f"A dog number {number} barks, then rests."


# a row of a corpus's list, as text or JSON value, and its key
def audiocaps(n):
    return f'{n},{video(n)},{n % 500},"{caption(n)}"\n', f"yt:{video(n)}:{n % 500 * 1000}"


def musiccaps(n):
    row = f'{video(n)},{n % 500},{n % 500 + 10},"/m/04rlf","[\'slow, low\']","{caption(n)}\nAgain.",{n % 9},False,'
    return f"{row}{n % 2 == 0}\n", f"yt:{video(n)}:{n % 500 * 1000}"


def audiosetcaps(n):
    return f'{video(n)}_{n % 500:06d},"{caption(n)}"\n', f"yt:{video(n)}:{n % 500 * 1000}"


def wavcaps(n):
    return {"id": f"Y{video(n)}.wav", "caption": caption(n), "audio": "wav_path", "duration": 10.0}, f"yt:{video(n)}:as"


def fusionaudio(n):
    row = {"audio_id": f"{video(n)}_{n % 500}_{n % 500 + 10}", "instruction": "Describe.", "input": ""}
    return {**row, "task": "caption", "output": caption(n)}, f"yt:{video(n)}:{n % 500 * 1000}"


def jamendomaxcaps(n):
    row = {"start_time": 30.0 * n, "end_time": 30.0 * n + 30, "caption": caption(n), "id": str(n)}
    return row, f"jam:{n}:{30000 * n}-{30000 * n + 30000}"


def paraspeechcaps(n):
    path = f"voxceleb2/dev/aac/id{n:05d}/{video(n)}/{n:05d}_voicefixer.wav"
    return {"source": "voxceleb", "relative_audio_path": path, "text_description": [caption(n)]}, (
        f"vox:id{n:05d}/{video(n)}/{n:05d}"
    )


def audioset(n):
    return f'{video(n)}, {n % 500}.000, {n % 500 + 10}.000, "/m/09x0r,/m/068hy"\n', f"yt:{video(n)}:{n % 500 * 1000}"


def audioset_strong(n):
    return f"{video(n)}_{n % 500 * 1000}\t0.5\t2.25\t/m/09x0r\n", f"yt:{video(n)}:{n % 500 * 1000}"


def fsd50k(n):
    return f'{n},"Bark,Animal","/m/05tny_,/m/0jbk"\n', f"fs:{n}"


def vggsound(n):
    return f'{video(n)},{n % 500},"bird chirping, tweeting",{"train" if n % 5 else "test"}\n', (
        f"yt:{video(n)}:{n % 500 * 1000}"
    )


def voxceleb1(n):
    return f"{n % 3 + 1} id{n:05d}/{video(n)}/{n:05d}.wav\n", f"vox:id{n:05d}/{video(n)}/{n:05d}"


def cremad(n):
    return f'{n},"{1000 + n % 91}_DFA_ANG_{chr(65 + n // 26 % 26)}{chr(65 + n % 26)}"\n', (
        f"crema:{1000 + n % 91}_DFA_ANG_{chr(65 + n // 26 % 26)}{chr(65 + n % 26)}"
    )


def urbansound8k(n):
    return f"{n}-3-0-0.wav,{n},1.5,4.25,1,5,3,dog_bark\n", f"fs:{n}:1500-4250"


def esc50(n):
    return f"1-{n}-A-0.wav,1,0,dog,True,{n},A\n", f"fs:{n}/A"


def clothoaqa(n):
    return f'rain {n}.wav,"What falls, {n}?",rain,yes\n', f"clotho:aqa/rain {n}.wav"


def clotho(n):
    return f"rain {n}.wav,{','.join([caption(n).replace(',', '')] * 5)}\n", f"clotho:train/rain {n}.wav"


def musicqa(n):
    turns = [{"from": "human", "value": f"What plays, {n}?"}, {"from": "gpt", "value": "A harp."}]
    return {"audio_name": f"{n:06d}.wav", "conversation": turns}, f"musicqa:{n:06d}"


def nsynth(n):
    name = f"bass_synthetic_{n:03d}-022-050"
    return {"note_str": name, "instrument_family_str": "bass"}, f"nsynth:{name}"


CLOTHO_COLUMNS = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
CLOTHO_METADATA = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
LISTS = {
    audiocaps: ("train.csv", "audiocap_id,youtube_id,start_time,caption\n"),
    musiccaps: ("musiccaps-public.csv", "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,"
                "is_balanced_subset,is_audioset_eval\n"),
    audiosetcaps: ("VGGSound_AudioSetCaps_caption.csv", "id,caption\n"),
    wavcaps: ("json_files/AudioSet_SL/as_final.json", "data"),
    fusionaudio: ("captions.jsonl", ""),
    jamendomaxcaps: ("final_caption30sec.jsonl", ""),
    paraspeechcaps: ("train_base.jsonl", ""),
    audioset: ("balanced_train_segments.csv", "# made\n"),
    audioset_strong: ("audioset_train_strong.tsv", "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"),
    fsd50k: ("FSD50K.ground_truth/eval.csv", "fname,labels,mids\n"),
    vggsound: ("vggsound.csv", ""),
    voxceleb1: ("iden_split.txt", ""),
    cremad: ("SentenceFilenames.csv", "Stimulus_Number,Filename\n"),
    urbansound8k: ("metadata/UrbanSound8K.csv", "slice_file_name,fsID,start,end,salience,fold,classID,class\n"),
    esc50: ("meta/esc50.csv", "filename,fold,target,category,esc10,src_file,take\n"),
    clothoaqa: ("clotho_aqa_test.csv", "file_name,QuestionText,answer,confidence\n"),
    clotho: ("clotho_captions_development.csv", CLOTHO_COLUMNS),
    musicqa: ("FinetuneMusicQA.json", ""),
    nsynth: ("nsynth-train/examples.json", ""),
}  # fmt: skip
OTHERS = {  # what must lie beside the list
    audiocaps: dict.fromkeys(("val.csv", "test.csv"), "audiocap_id,youtube_id,start_time,caption\n"),
    audioset: {"eval_segments.csv": "# made\n", "class_labels_indices.csv":
               "index,mid,display_name\n0,/m/09x0r,Speech\n72,/m/068hy,Pets\n"},
    audioset_strong: {"audioset_eval_strong.tsv": "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n",
                      "mid_to_display_name.tsv": "/m/09x0r\tSpeech\n"},
    fsd50k: {"FSD50K.ground_truth/dev.csv": "fname,labels,mids,split\n",
             "FSD50K.ground_truth/vocabulary.csv": "0,Animal,/m/0jbk\n1,Bark,/m/05tny_\n"},
    clothoaqa: {f"clotho_aqa_{name}.csv": "file_name,QuestionText,answer\n" for name in ("train", "val")},
    clotho: {f"clotho_captions_{name}.csv": CLOTHO_COLUMNS for name in ("validation", "evaluation")}
    | {f"clotho_metadata_{name}.csv": CLOTHO_METADATA for name in ("development", "validation", "evaluation")},
    nsynth: {f"nsynth-{name}/examples.json": "{}" for name in ("valid", "test")},
}  # fmt: skip


# ---- damage ---------------------------------------------------------------------------------------------------------

ODD_TEXTS = [
    "", " ", "nan", "-1", "inf", "1e999", "../../passwd.wav", "/etc/a.wav", "x" * 2000, "\x00", "\u2028", "\x1b[2J",
    "9" * 5000, "caf\u00e9 \u65e5\u672c", "Yab", "=cmd()", "%s{0}", "ab:1-2", '"', "'", "\t", ";", "None", "-" * 12,
]  # fmt: skip
ODD_VALUES = [
    None, True, -1, float("nan"), float("inf"), 10**400, [], {}, [None], {"a": []}, "\ud83d", *ODD_TEXTS,
]  # fmt: skip


def damaged_line(line, dice):
    """One of: bytes flipped, cut off, columns lost, added or odd, another delimiter, stray quotes, a megabyte."""
    raw = bytearray(line.rstrip("\n").encode())
    delimiter = next(mark for mark in (b"\t", b",", b" ") if mark in raw)
    kind = dice.randrange(9)
    if kind == 0:
        for _ in range(dice.randrange(1, 6)):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
    elif kind == 1:
        raw = raw[: dice.randrange(len(raw))]
    elif kind in (2, 3, 4):
        fields = raw.split(delimiter)
        place = dice.randrange(len(fields))
        odd = dice.choice(ODD_TEXTS).encode()
        fields[place : place + (kind != 3)] = [] if kind == 2 else [odd]
        raw = delimiter.join(fields)
    elif kind == 5:
        raw = raw.replace(delimiter, b";")
    elif kind == 6:
        place = dice.randrange(len(raw))
        raw = raw[:place] + b'"' + raw[place:]
    elif kind == 7:
        raw = raw + raw
    else:
        raw = raw.replace(b"dog", b"d" * (1 << 20)) if dice.random() < 0.05 else raw.upper()
    return bytes(raw).replace(b"\n", b" ") + b"\n"


def damaged_value(row, dice):
    """A JSON row with a field lost, odd or of another type, or something that is no row."""
    row = dict(row)
    field = dice.choice(list(row))
    kind = dice.randrange(5)
    if kind == 0:
        del row[field]
    elif kind == 1:
        return dice.choice(ODD_VALUES)
    elif kind == 2 and isinstance(row[field], str):
        row[field] = row[field][dice.randrange(5) :] + dice.choice(ODD_TEXTS)
    else:
        row[field] = dice.choice(ODD_VALUES)
    return row


def write_list(place, corpus, make, dice):
    """The list with every other row damaged; returns the keys of the others."""
    name, header = LISTS[make]
    rows = [make(number) for number in range(NUM_ROWS)]
    whole = {key for number, (_, key) in enumerate(rows) if number % 2 == 0}
    if isinstance(rows[0][0], str):
        lines = [damaged_line(row, dice) if number % 2 else row.encode() for number, (row, _) in enumerate(rows)]
        place.text(f"{corpus}/{name}", header.encode() + b"".join(lines))
        return whole
    values = [damaged_value(row, dice) if number % 2 else row for number, (row, _) in enumerate(rows)]
    if name.endswith(".jsonl"):
        lines = [json.dumps(value).encode() for value in values]
        for number in range(1, NUM_ROWS, 6):
            cut = dice.randrange(len(lines[number]))
            lines[number] = dice.choice([lines[number][:cut], b"[" * 5000, lines[number].replace(b'"', b"\xff", 1)])
        place.text(f"{corpus}/{name}", b"\n".join(lines))
    elif make is nsynth:
        content = {key.removeprefix("nsynth:"): value for (_, key), value in zip(rows, values, strict=True)}
        place.text(f"{corpus}/{name}", json.dumps(content | {text: {} for text in [*ODD_TEXTS, "\ud83d"]}))
    else:
        place.text(f"{corpus}/{name}", json.dumps({header: values} if header else values))
    return whole


@pytest.mark.parametrize("make", LISTS, ids=lambda make: make.__name__)
def test_damaged_rows_spoil_no_good_one(tmp_path, make):
    corpus, place = make.__name__, Workplace(tmp_path)
    whole = write_list(place, corpus, make, random.Random(corpus))
    for name, text in OTHERS.get(make, {}).items():
        place.text(f"{corpus}/{name}", text)
    options = ("--corpus-dir", place.corpora / corpus, "--manifests-dir", place.manifests, "--corpora", CORPORA)
    result = run(f"prepare_{corpus}.py", *options)
    # no audio is there, so in the end one line says that nothing can be read, which only a source cannot go without
    assert result.returncode == (load_corpora(CORPORA)[corpus].role == "source")
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "clips that" in result.stderr and "can be read there" in result.stderr
    skipped = place.skipped(corpus)
    missing = {entry["key"] for entry in skipped if entry["reason"] == "missing"}
    assert not whole - missing, sorted(whole - missing)[:5]
    report = json.loads((place.manifests / f"{corpus}_report.json").read_text())
    assert report["bad_row"] > NUM_ROWS // 20 and report["bad_row"] == sum(e["reason"] == "bad_row" for e in skipped)
    assert all(entry["where"] for entry in skipped if entry["reason"] == "bad_row")
    assert all(len(entry["cause"]) < 400 for entry in skipped)
    assert not any(cut for path in place.manifests.glob("*_cuts.jsonl.gz") for cut in read_jsonl(path))


def test_there_are_five_thousand_damaged_rows():
    assert NUM_ROWS // 2 * len(LISTS) >= 5000
