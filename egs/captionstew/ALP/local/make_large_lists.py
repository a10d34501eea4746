#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the lists of the eight sources and four benchmarks as they are published, at the paper's size, without audio.

Ids and captions are made up; how many rows there are, how long clips are, and which share of one corpus lies in another
is modelled on the real lists: AudioCaps, WavCaps, AudioSetCaps and FusionAudio describe the same AudioSet videos,
and evaluated clips of AudioSet, VGGSound, Freesound and VoxCeleb2 are planted in the sources. Beside every list stands
a scan (`scan_audio.py`), so that stages 0 and 1 can be measured: tools/benchmark.py prepare.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from icefall_alp.data.audio_scan import SCAN_NAME
from icefall_alp.utils.errors import UserError, clean_exit

# clips at the paper's size
SIZES = {
    "audioset_train": 2_063_949, "audioset_test": 20_371, "audiocaps": (49_838, 495, 975), "musiccaps": (2_663, 2_858),
    "clotho": (3_839, 1_045, 1_045), "wavcaps_as": 108_317, "wavcaps_bbc": 31_201, "wavcaps_fsd": 262_300,
    "wavcaps_sb": 1_232, "asc_audioset": 1_910_920, "asc_vggsound": 182_189, "asc_youtube8m": 4_023_990,
    "fusionaudio": 1_200_000, "jamendo_tracks": 360_000, "psc": (116_516, 924_651, 11_967, 14_756),
    "vggsound": (183_730, 15_446), "fsd50k": (40_966, 10_231), "voxceleb2": 1_092_009,
}  # fmt: skip
# words per caption, as the paper's Table 4 has them
WORDS = {"audiocaps": 8, "clotho": 11, "musiccaps": 48, "wavcaps": 8, "audiosetcaps": 28, "fusionaudio": 14}
WORDS |= {"jamendomaxcaps": 63, "paraspeechcaps": 28}
ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", dtype=np.uint8)
SYLLABLES = [first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou"]
STRETCHES_PER_TRACK = 5


def video(number: int) -> str:
    """The YouTube id of a made-up video: different for different numbers."""
    scrambled = number * 0x9E3779B97F4A7C15 % 2**64
    return bytes(ALPHABET[[scrambled >> shift & 63 for shift in range(0, 66, 6)]]).decode()


def start(number: int) -> int:
    """Second at which the clip of a made-up video begins."""
    return number % 300


class Captions:
    """Made-up captions of about `num_words` words; frequent words are frequent as in real text."""

    def __init__(self, corpus: str, generator: np.random.Generator) -> None:
        ranks = np.minimum(generator.zipf(1.3, (4096, -(-WORDS[corpus] // 3))), 20_000)
        self._parts = [" ".join(self._word(int(rank)) for rank in row) for row in ranks]

    @staticmethod
    def _word(rank: int) -> str:
        high, low = divmod(rank, len(SYLLABLES))
        return SYLLABLES[low] + (SYLLABLES[high % len(SYLLABLES)] if high else "") + "n" * (high // len(SYLLABLES))

    def __call__(self, number: int) -> str:
        """Caption of a number: three parts of it."""
        parts = self._parts
        return f"{parts[number % 4096]} {parts[number // 4096 % 4096]} {parts[number * 7 // 3 % 4096]}."


class Corpus:
    """Writes the lists and the scan of one corpus."""

    def __init__(self, root: Path, name: str, scale: float, seed: int) -> None:
        self.root, self.name, self.scale = root / name, name, scale
        self.captions = Captions(name, np.random.default_rng([seed, len(name)])) if name in WORDS else None
        self._scan: list[Iterable[tuple[str, float]]] = []

    def count(self, size: int) -> int:
        """That many at this scale, at least four."""
        return max(4, round(size * self.scale))

    def text(self, name: str, rows: Iterable[str]) -> None:
        """Write a list, a row at a time."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(row + "\n" for row in tqdm(rows, desc=f"{self.name} {name}", unit="row", disable=None))

    def scan(self, clips: Iterable[tuple[str, float]], rate: int = 16000) -> None:
        """Write the scan: path and seconds of every clip."""
        self.root.mkdir(parents=True, exist_ok=True)
        with gzip.open(self.root / SCAN_NAME, "wt", compresslevel=1, encoding="utf-8") as stream:
            rows = tqdm(clips, desc=f"{self.name} scan", unit="file", disable=None)
            stream.writelines(f'["{path}",0,0,{rate},1,{round(seconds * rate)}]\n' for path, seconds in rows)


# Videos: AudioSet's training segments have the numbers from 0, its evaluation segments follow, then those of VGGSound
# alone, then those of YouTube-8M.


def first_eval(c: Corpus) -> int:
    """Number of the first evaluated AudioSet video."""
    return c.count(SIZES["audioset_train"])


def vggsound_videos(c: Corpus) -> tuple[list[int], list[int]]:
    """Videos of VGGSound's training and test clips: of the first a third, of the second 45 % are AudioSet's."""
    train, test = map(c.count, SIZES["vggsound"])
    own = first_eval(c) + c.count(SIZES["audioset_test"])
    shared_train, shared_test = train // 3, min(test * 45 // 100, own - first_eval(c))
    training = [*range(shared_train), *range(own, own + train - shared_train)]
    own += train
    return training, [*range(first_eval(c), first_eval(c) + shared_test), *range(own, own + test - shared_test)]


def audioset(c: Corpus) -> None:
    """Segment lists with one label of three, and their audio."""
    train, test = first_eval(c), c.count(SIZES["audioset_test"])
    c.text("class_labels_indices.csv", ["index,mid,display_name", *(f'{n},/m/{n:03d},"Class {n}"' for n in range(527))])
    lists = {"balanced_train": range(train // 93), "unbalanced_train": range(train // 93, train)}
    for name, numbers in {**lists, "eval": range(train, train + test)}.items():
        rows = (f'{video(n)}, {start(n)}.000, {start(n) + 10}.000, "/m/{n % 527:03d}"' for n in numbers)
        c.text(f"{name}_segments.csv", rows)
    c.scan((f"wav/Y{video(n)}.wav", 10.0) for n in range(train + test))


def audiocaps(c: Corpus) -> None:
    """Training videos of AudioSet, one caption for each training clip and five for the others."""
    begin = 1000
    for name, size, each in zip(("train", "val", "test"), SIZES["audiocaps"], (1, 5, 5), strict=True):
        numbers = range(begin, begin + c.count(size))
        rows = (f"{n}{k},{video(n)},{start(n)},{c.captions(5 * n + k)}" for n in numbers for k in range(each))
        c.text(f"{name}.csv", ["audiocap_id,youtube_id,start_time,caption", *rows])
        begin = numbers.stop
    c.scan((f"audio/{video(n)}_{start(n)}.flac", 10.0) for n in range(1000, begin))


def musiccaps(c: Corpus) -> None:
    """Training clips from AudioSet's training list, test clips from its evaluation list."""
    train, test = map(c.count, SIZES["musiccaps"])
    numbers = [*range(train), *range(first_eval(c), first_eval(c) + test)]
    header = (
        "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval"
    )
    rows = (
        f'{video(n)},{start(n)},{start(n) + 10},"/m/1,/m/2","[\'slow\', \'calm\']","{c.captions(n)}",4,False,'
        f"{n >= first_eval(c)}"
        for n in numbers
    )
    c.text("musiccaps-public.csv", [header, *rows])
    c.scan((f"wav/{video(n)}.wav", 10.0) for n in numbers)


def clotho(c: Corpus) -> None:
    """Crops of Freesound sounds 1, 2, ...; five captions each."""
    number, clips = 1, []
    columns = ",".join(f"caption_{k}" for k in range(1, 6))
    for folder, size in zip(("development", "validation", "evaluation"), SIZES["clotho"], strict=True):
        numbers = range(number, number + c.count(size))
        rows = (f"{n}.wav," + ",".join(c.captions(5 * n + k) for k in range(5)) for n in numbers)
        c.text(f"clotho_captions_{folder}.csv", [f"file_name,{columns}", *rows])
        rows = (f'{n}.wav,word,{n},link,"[44100, {44100 * 21}]",me,cc0' for n in numbers)
        header = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license"
        c.text(f"clotho_metadata_{folder}.csv", [header, *rows])
        clips += [(f"{folder}/{n}.wav", 20.0) for n in numbers]
        number = numbers.stop
    c.scan(clips, 44100)


def wavcaps(c: Corpus) -> None:
    """AudioSet videos, a twentieth of them evaluated ones; Freesound with Clotho's and FSD50K's sounds; long clips."""
    evaluated = range(first_eval(c), first_eval(c) + c.count(SIZES["wavcaps_as"]) // 20)
    videos = [*range(c.count(SIZES["wavcaps_as"]) - len(evaluated)), *evaluated]
    parts = {
        "AudioSet_SL": ("as", [(f"Y{video(n)}", 10.0) for n in videos]),
        "BBC_Sound_Effects": ("bbc", [(f"{n:08d}", 5.0 + n % 220) for n in range(c.count(SIZES["wavcaps_bbc"]))]),
        "FreeSound": ("fsd", [(str(2 * n + 1), 1.0 + n % 170) for n in range(c.count(SIZES["wavcaps_fsd"]))]),
        "SoundBible": ("sb", [(str(n), 1.0 + n % 62) for n in range(c.count(SIZES["wavcaps_sb"]))]),
    }
    for part, (short, clips) in parts.items():
        rows = [{"id": name + (".wav" if short == "as" else ""), "caption": c.captions(n), "duration": seconds}
                for n, (name, seconds) in enumerate(clips)]  # fmt: skip
        content = json.dumps({"num_captions_per_audio": 1, "data": rows})
        c.text(f"json_files/{part}/{short}_final.json", [content])
    c.scan(((f"{part}/{name}.flac", seconds) for part, (_, clips) in parts.items() for name, seconds in clips), 32000)


def audiosetcaps(c: Corpus) -> None:
    """Three lists with three kinds of id; of VGGSound also the test clips."""
    train, test = vggsound_videos(c)
    videos = (train + test[: len(test) // 2])[-c.count(SIZES["asc_vggsound"]) :]
    first = test[-1] + 1 + c.count(SIZES["vggsound"][0])
    lists = {
        "AudioSetCaps": lambda: (f"Y{video(n)}" for n in range(c.count(SIZES["asc_audioset"]))),
        "VGGSound_AudioSetCaps": lambda: (f"{video(n)}_{start(n):06d}" for n in videos),
        "YouTube-8M_AudioSetCaps": lambda: (
            f"{video(n)}_{start(n)}_10" for n in range(first, first + c.count(SIZES["asc_youtube8m"]))
        ),
    }
    for number, (name, ids) in enumerate(lists.items()):
        rows = (f"{clip},{c.captions(n * 3 + number)}" for n, clip in enumerate(ids()))
        c.text(f"Dataset/{name}_caption.csv", _with_header("id,caption", rows))
    c.scan((f"{name}/{clip}.mp3", 10.0) for name, ids in lists.items() for clip in ids())


def fusionaudio(c: Corpus) -> None:
    """AudioSet's training videos, with start and end in the id."""
    numbers = range(c.count(SIZES["fusionaudio"]))
    ids = (f"{video(n)}_{start(n)}_{start(n) + 10}" for n in numbers)
    rows = (f'{{"audio_id":"{i}","task":"caption","output":"{c.captions(n)}"}}' for n, i in enumerate(ids))
    c.text("fusionaudio.jsonl", rows)
    c.scan((f"wav/{video(n)}_{start(n)}_{start(n) + 10}.wav", 10.0) for n in numbers)


def jamendomaxcaps(c: Corpus) -> None:
    """Five stretches of thirty seconds of every track."""
    tracks = range(1, 1 + c.count(SIZES["jamendo_tracks"]))
    rows = (
        f'{{"start_time":{30.0 * k},"end_time":{30.0 * k + 30},"caption":"{c.captions(5 * n + k)}","id":"{n}"}}'
        for n in tracks
        for k in range(STRETCHES_PER_TRACK)
    )
    c.text("final_caption30sec.jsonl", rows)
    c.scan(((f"{n % 1000:03d}/{n}.mp3", 30.0 * STRETCHES_PER_TRACK + n % 60) for n in tracks), 44100)


def utterance(number: int) -> str:
    """Speaker, video and number of a VoxCeleb2 utterance; about 180 for a speaker and 8 for a video."""
    return f"id{number // 182:05d}/{video(10**9 + number // 8)}/{number % 8:05d}"


def paraspeechcaps(c: Corpus) -> None:
    """VoxCeleb2 in the base list, Emilia in the scaled one, EARS in the others."""
    paths = {
        "voxceleb": lambda n: f"voxceleb2/dev/aac/{utterance(9 * n)}_voicefixer.wav",
        "emilia": lambda n: f"EN/EN_B{n // 10**4:05d}/EN_B{n // 10**4:05d}_S{n // 100:05d}/mp3/EN_W{n:06d}.mp3",
        "ears": lambda n: f"p{n % 107:03d}/emo_{n}_sentences.wav",
    }
    names = {"train_base": "voxceleb", "train_scaled": "emilia", "dev": "ears", "holdout": "ears"}
    first, clips = 0, []
    for (name, source), size in zip(names.items(), SIZES["psc"], strict=True):
        numbers = range(first, first + c.count(size))
        first = numbers.stop if source == "ears" else first
        rows = (
            f'{{"source":"{source}","relative_audio_path":"{paths[source](n)}","text_description":["{c.captions(n)}"]}}'
            for n in numbers
        )
        c.text(f"{name}.jsonl", rows)
        clips.append((source, numbers))
    c.scan((paths[source](n), 4.0 + n % 12) for source, numbers in clips for n in numbers)


def vggsound(c: Corpus) -> None:
    """One clip of every video."""
    parts = dict(zip(("train", "test"), vggsound_videos(c), strict=True))
    rows = (f"{video(n)},{start(n)},class {n % 309},{split}" for split, numbers in parts.items() for n in numbers)
    c.text("vggsound.csv", rows)
    c.scan((f"{video(n)}_{start(n):06d}.wav", 10.0) for numbers in parts.values() for n in numbers)


def fsd50k(c: Corpus) -> None:
    """Freesound sounds, every fifth of which WavCaps may have."""
    dev, test = map(c.count, SIZES["fsd50k"])
    c.text("FSD50K.ground_truth/vocabulary.csv", (f"{n},Class_{n},/m/{n:03d}" for n in range(200)))
    sounds = {"dev": range(100_000, 100_000 + 5 * dev, 5), "eval": range(20_000, 20_000 + 5 * test, 5)}
    for part, numbers in sounds.items():
        split = (lambda n: ",val" if n % 50 == 0 else ",train") if part == "dev" else lambda n: ""
        rows = (f"{n},Class_{n % 200},/m/{n % 200:03d}{split(n)}" for n in numbers)
        header = "fname,labels,mids" + (",split" if part == "dev" else "")
        c.text(f"FSD50K.ground_truth/{part}.csv", [header, *rows])
    c.scan(((f"FSD50K.{p}_audio/{n}.wav", 1.0 + n % 29) for p, numbers in sounds.items() for n in numbers), 44100)


def voxceleb2(c: Corpus) -> None:
    """Utterances of the development part."""
    c.scan((f"dev/aac/{utterance(n)}.flac", 4.0 + n % 12) for n in range(c.count(SIZES["voxceleb2"])))


def _with_header(header: str, rows: Iterator[str]) -> Iterator[str]:
    yield header
    yield from rows


CORPORA = (
    audiocaps, clotho, wavcaps, paraspeechcaps, musiccaps, audiosetcaps, fusionaudio, jamendomaxcaps, audioset, fsd50k,
    voxceleb2, vggsound,
)  # fmt: skip


@clean_exit
def main() -> None:
    """Write every corpus below --output-dir."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True, help="a folder for each corpus is made in it")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the paper's size")
    parser.add_argument("--seed", type=int, default=42, help="of the captions")
    args = parser.parse_args()
    if not 0.0 < args.scale <= 1.0:
        raise UserError(f"--scale {args.scale}: a share of the paper's size, more than 0 and at most 1")
    for make in CORPORA:
        make(Corpus(args.output_dir, make.__name__, args.scale, args.seed))
    print(f"{args.output_dir}: " + " ".join(f"{make.__name__}={args.output_dir / make.__name__}" for make in CORPORA))


if __name__ == "__main__":
    main()
