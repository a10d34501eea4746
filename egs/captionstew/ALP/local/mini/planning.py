# SPDX-License-Identifier: Apache-2.0
"""Which clips each corpus gets: ids, scenes, captions, labels, and the salt that real corpora bring.

Training splits draw from the "train" side of the material, every validation, test and hold-out split from the
"heldout" side, speaker identification from a third pool, so that no benchmark clip shares a source with training:
no recording, no sample of the soundfont, no synthetic voice.
The salt breaks this on purpose and says so in `Item.salt`: "duplicate" (the same audio in two corpora) and "leak"
(a benchmark's clip in a caption source).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace

import numpy as np

from .captions import describe, describe_style, style_tags
from .events import FSD50K_TAGS, TAGS, Event, build_catalogue
from .scenes import Layer, Scene, Sound, draw_scene, pick, record, split_spoken
from .sources import Recordings
from .speech import LANGUAGES, REAL_SPEAKERS, VARIANTS, Utterance, number_text

YOUTUBE_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SALTED_STARTS = ("-", "_", "-_", "__")
DOMAINS, DOMAIN_SHARES = ("sound", "music", "speech"), (0.5, 0.3, 0.2)
ARRANGEMENTS, SHARES = ("single", "sequence", "together", "background"), (0.5, 0.25, 0.15, 0.1)
AUDIOCAPS = {"train": (1800, 1), "val": (100, 5), "test": (220, 5)}
CLOTHO = {"development": 380, "validation": 40, "evaluation": 60}
WAVCAPS = {"AudioSet_SL": 330, "BBC_Sound_Effects": 130, "FreeSound": 280, "SoundBible": 100}
PARASPEECHCAPS = {"train_base": 320, "train_scaled": 160, "dev": 24, "holdout": 220}
AUDIOSET = {"balanced_train": 1200, "eval": 220}
FSD50K = {"train": 480, "val": 120, "test": 250}
SPEAKERS, VIDEOS, UTTERANCES = 25, 3, 10
FREESOUND_IDS = {"fsd50k": 100000, "clotho": 300000, "wavcaps": 500000}
DUPLICATES = {"audiocaps": 36, "clotho": 12}
LONG_SECONDS = 66.0
LEAST = 16  # clips of a split that gives salt, at any scale


@dataclass(frozen=True)
class Item:
    """One clip of one corpus.

    Attributes:
        corpus: folder name.
        split: the corpus's own name of the split.
        ident: the corpus's own id.
        path: audio file, relative to the corpus folder.
        key: of the rendering; items of one key hold the same audio.
        scene: what is rendered.
        captions: texts, empty in benchmarks without.
        tags: event classes.
        start: second in the YouTube video.
        rate: sampling rate of the file.
        channels: of the file.
        salt: "", "duplicate" or "leak".
        details: what only this corpus has.
        questions: each with its answers.
    """

    corpus: str
    split: str
    ident: str
    path: str
    key: str
    scene: Scene
    captions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    start: int = 0
    rate: int = 16000
    channels: int = 1
    salt: str = ""
    details: dict[str, str] = field(default_factory=dict)
    questions: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Planner:
    """Plans all corpora from one seed.

    Args:
        recordings: the real material.
        seed: of everything.
        scale: 1.0 for the full miniature; sizes of all splits are multiplied, the salt is not.
    """

    def __init__(self, recordings: Recordings, seed: int, scale: float) -> None:
        self.seed, self.scale = seed, scale
        self.events = build_catalogue(recordings)
        self.speech = split_spoken(recordings)

    def plan(self) -> list[Item]:
        """Every clip of every corpus."""
        audiocaps, audioset = self.audiocaps(), self.audioset()
        clotho, fsd50k, voxceleb2 = self.clotho(), self.fsd50k(), self.voxceleb2()
        planted = self.planted(audiocaps, audioset, clotho, fsd50k)
        wavcaps = self.wavcaps(planted)
        return [*audiocaps, *clotho, *wavcaps, *self.paraspeechcaps(voxceleb2), *audioset, *fsd50k, *voxceleb2]

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def rng(self, *parts: object) -> np.random.Generator:
        """A generator that depends on the seed and on `parts` only."""
        return np.random.default_rng([self.seed, zlib.crc32("/".join(map(str, parts)).encode())])

    def count(self, full: int, least: int = 2) -> int:
        """A size at this scale."""
        return max(least, round(full * self.scale))

    def usable(self, side: str) -> list[Event]:
        """Events with material on a side."""
        return [event for event in self.events if side == "train" or not event.alone]

    def free_scene(self, rng: np.random.Generator, side: str) -> Scene:
        """A scene of any events, for captions; those that can be learnt from more material are more frequent."""
        arrangement = str(rng.choice(ARRANGEMENTS, p=SHARES))
        number = 1 if arrangement == "single" else 2
        if arrangement == "sequence" and rng.random() < 0.25:
            number = 3
        chosen: list[Event] = []
        while len(chosen) < number:
            domain = str(rng.choice(DOMAINS, p=DOMAIN_SHARES))
            usable = [event for event in self.usable(side) if event.domain == domain]
            variety = np.array([event.variety for event in usable], dtype=float)
            event = usable[int(rng.choice(len(usable), p=variety / variety.sum()))]
            if event not in chosen:
                chosen.append(event)
        return draw_scene(rng, chosen, arrangement, side, self.speech)

    def tagged_scene(self, rng: np.random.Generator, side: str, tags: list[str], index: int) -> Scene:
        """A scene of events of the tags; the first goes round, so that all classes are about equally frequent."""
        arrangement = str(rng.choice(ARRANGEMENTS, p=(0.55, 0.2, 0.15, 0.1)))
        wanted = [tags[index % len(tags)]]
        if arrangement != "single":
            wanted.append(str(pick(rng, [tag for tag in tags if tag != wanted[0]])))
        wanted = [wanted[i] for i in rng.permutation(len(wanted))]
        usable = self.usable(side)
        events = [pick(rng, [event for event in usable if _has_tag(event, tag)]) for tag in wanted]
        return draw_scene(rng, events, arrangement, side, self.speech)

    def tags(self, known: tuple[str, ...]) -> list[str]:
        """Those of the known tags that have events on both sides."""
        return [tag for tag in known if any(_has_tag(event, tag) for event in self.usable("heldout"))]

    def youtube_ids(self, name: str, number: int) -> list[str]:
        """Ids of 11 characters; the first ones begin with - and _."""
        rng = self.rng("ids", name)
        starts = SALTED_STARTS + ("",) * number
        return [s + "".join(rng.choice(list(YOUTUBE_ALPHABET), 11 - len(s))) for s in starts[:number]]

    def freesound_ids(self, corpus: str, number: int) -> list[str]:
        """Numbers that no other corpus has."""
        steps = self.rng("ids", corpus).integers(1, 150, number)
        return [str(FREESOUND_IDS[corpus] + int(total)) for total in np.cumsum(steps)]

    # ---- caption corpora --------------------------------------------------------------------------------------------

    def audiocaps(self) -> list[Item]:
        """One caption for training clips, five for the others."""
        items = []
        for split, (full, captions) in AUDIOCAPS.items():
            side = "train" if split == "train" else "heldout"
            for ident in self.youtube_ids(f"audiocaps/{split}", self.count(full, LEAST)):
                rng = self.rng("audiocaps", ident)
                scene, start = self.free_scene(rng, side), int(rng.integers(0, 30)) * 10
                texts = tuple(describe(scene, rng, captions, full_stop=""))
                path = f"audio/{split}/{ident}_{start}.flac"
                key = f"yt:{ident}:{start}"
                items.append(Item("audiocaps", split, ident, path, key, scene, texts, tuple(scene.tags), start))
        return items

    def clotho(self) -> list[Item]:
        """Five captions; every tenth file is stereo at 44.1 kHz, as all of the real corpus are."""
        numbers = iter(self.freesound_ids("clotho", sum(self.count(full, LEAST) for full in CLOTHO.values())))
        items = []
        for split, full in CLOTHO.items():
            for index in range(self.count(full, LEAST)):
                ident = next(numbers)
                rng = self.rng("clotho", ident)
                scene = self.free_scene(rng, "train" if split == "development" else "heldout")
                name = f"{scene.sounds[0].event.name.replace(' ', '_')} {ident[-3:]}_{index}.wav"
                form = {"rate": 44100, "channels": 2} if index % 10 == 0 else {}
                texts = tuple(describe(scene, rng, 5))
                items.append(Item("clotho", split, ident, f"{split}/{name}", f"fs:{ident}", scene, texts, **form))
        return items

    def wavcaps(self, planted: list[Item]) -> list[Item]:
        """One caption; the planted clips come in addition, one clip of the BBC part is longer than a minute."""
        items = list(planted)
        for part, full in WAVCAPS.items():
            number = self.count(full)
            idents = {
                "AudioSet_SL": lambda n: self.youtube_ids("wavcaps", n),
                "BBC_Sound_Effects": lambda n: [
                    f"{7000000 + 37 * i:08d}" if i % 2 else f"NHU{i:08d}" for i in range(n)
                ],
                "FreeSound": lambda n: self.freesound_ids("wavcaps", n),
                "SoundBible": lambda n: [str(1000 + 3 * i) for i in range(n)],
            }[part](number)
            for index, ident in enumerate(idents):
                rng = self.rng("wavcaps", part, ident)
                scene = self.free_scene(rng, "train")
                if part == "BBC_Sound_Effects" and index == 0:
                    scene = replace(scene, seconds=LONG_SECONDS)
                items.append(self.wavcaps_item(part, ident, f"wavcaps/{part}/{ident}", scene, rng))
        return items

    def wavcaps_item(self, part: str, ident: str, key: str, scene: Scene, rng: np.random.Generator) -> Item:
        """One clip of one part; AudioSet's have a Y before the id."""
        name = f"Y{ident}" if part == "AudioSet_SL" else ident
        start = int(rng.integers(0, 30)) * 10
        texts = tuple(describe(scene, rng, 1))
        return Item("wavcaps", part, name, f"audio/{part}/{name}.flac", key, scene, texts, tuple(scene.tags), start)

    def planted(self, *corpora: list[Item]) -> list[Item]:
        """Clips of other corpora that WavCaps holds too, with captions of its own."""
        audiocaps, audioset, clotho, fsd50k = (_by_split(items) for items in corpora)
        choices = (
            (audiocaps["train"][: self.count(DUPLICATES["audiocaps"], 30)], "AudioSet_SL", "duplicate", 0),
            (clotho["development"][1 : 1 + DUPLICATES["clotho"]], "FreeSound", "duplicate", 0),
            (audiocaps["test"][:4], "AudioSet_SL", "leak", 0),
            (audiocaps["test"][4:5], "AudioSet_SL", "leak", 4),  # AudioSet's segment starts 4 s later
            (audioset["eval"][:2], "AudioSet_SL", "leak", 0),
            (clotho["evaluation"][:2], "FreeSound", "leak", 0),
            (fsd50k["test"][:3], "FreeSound", "leak", 0),
        )
        items = []
        for originals, part, salt, later in choices:
            for item in originals:
                rng = self.rng("planted", item.corpus, item.ident)
                planted = self.wavcaps_item(part, item.ident, item.key, item.scene, rng)
                items.append(replace(planted, salt=salt, start=item.start + later))
        return items

    def paraspeechcaps(self, voxceleb2: list[Item]) -> list[Item]:
        """Speaking style of synthetic voices, as VoxCeleb and EARS files, and some utterances of VoxCeleb2."""
        items = []
        for split, full in PARASPEECHCAPS.items():
            side = "train" if split.startswith("train") else "heldout"
            for index in range(self.count(full)):
                rng = self.rng("paraspeechcaps", split, index)
                items.append(self.style_item(split, index, side, rng))
        synthetic = [item for item in voxceleb2 if "pitch" in item.details][:: UTTERANCES // 2 + 1][:24]
        for item in synthetic:
            rng = self.rng("planted", item.ident)
            path = f"voxceleb/voxceleb2/{item.path.removesuffix('.wav')}_voicefixer.wav"
            texts = (describe_style(item.details, item.scene, rng),)
            items.append(
                replace(item, corpus="paraspeechcaps", split="train_base", path=path, captions=texts, salt="leak")
            )
        return items

    def style_item(self, split: str, index: int, side: str, rng: np.random.Generator) -> Item:
        """One utterance with one caption, in the longer list sometimes two."""
        sex = ("male", "female")[index % 2]
        variants = VARIANTS[sex, side]
        speaker = int(rng.integers(3 * len(variants)))
        language = list(LANGUAGES)[(5 * speaker + index % 2) % len(LANGUAGES)]
        rate, pitch = int(pick(rng, (115, 165, 235))), (30, 50, 70)[speaker // len(variants)]
        utterance = Utterance(language, variants[speaker % len(variants)], number_text(rng, side), rate, pitch)
        scene = record(rng, (utterance_sound(utterance, sex),), "single", noisy=0.4)
        number = f"{2 * speaker + index % 2:03d}"
        if index % 3 == 2:
            path = f"ears/p{number}/{split}_{index:04d}_regular.wav"
        else:
            path = f"voxceleb/voxceleb2/dev/aac/id09{number}/{speaker:02d}{split:_<9.9}/{index:05d}_voicefixer.wav"
        tags = style_tags(utterance, sex, scene)
        texts = tuple(dict.fromkeys(describe_style(tags, scene, rng) for _ in range(1 + (split == "train_scaled"))))
        details = {**tags, "text": utterance.text, "speaker": f"{side}{number}"}
        return Item("paraspeechcaps", split, path, path, f"psc:{path}", scene, texts, details=details)

    # ---- benchmarks -------------------------------------------------------------------------------------------------

    def audioset(self) -> list[Item]:
        """Tagging, with AudioSet's display names."""
        tags, items = self.tags(("", *TAGS)), []
        for split, full in AUDIOSET.items():
            side = "train" if split == "balanced_train" else "heldout"
            for index, ident in enumerate(self.youtube_ids(f"audioset/{split}", self.count(full, len(tags)))):
                rng = self.rng("audioset", ident)
                scene, start = self.tagged_scene(rng, side, tags, index), int(rng.integers(0, 30)) * 10
                path = f"audio/{split}_segments/Y{ident}.wav"
                key = f"yt:{ident}:{start}"
                items.append(Item("audioset", split, ident, path, key, scene, (), tuple(scene.tags), start))
        return items

    def fsd50k(self) -> list[Item]:
        """Tagging, with FSD50K's labels."""
        tags, items = self.tags(FSD50K_TAGS), []
        sizes = {split: self.count(full, len(tags)) for split, full in FSD50K.items()}
        numbers = iter(self.freesound_ids("fsd50k", sum(sizes.values())))
        for split, size in sizes.items():
            part = "eval" if split == "test" else "dev"
            for index in range(size):
                ident = next(numbers)
                rng = self.rng("fsd50k", ident)
                scene = self.tagged_scene(rng, "train" if split == "train" else "heldout", tags, index)
                path = f"FSD50K.{part}_audio/{ident}.wav"
                items.append(Item("fsd50k", split, ident, path, f"fs:{ident}", scene, (), tuple(scene.tags)))
        return items

    def voxceleb2(self) -> list[Item]:
        """Speakers: the volunteers of the spoken recordings, then synthetic voices; no text is said twice."""
        real = [language for language in REAL_SPEAKERS if self.speech.get((language, "speaker"))]
        number, each = self.count(SPEAKERS, 12), self.count(UTTERANCES, 3)
        items = []
        for speaker in range(number):
            name = f"id{12 + 7 * speaker:05d}"
            for video, title in enumerate(self.youtube_ids(f"voxceleb2/{name}", VIDEOS)):
                for index in range(each):
                    rng = self.rng("voxceleb2", name, video, index)
                    if speaker < len(real):
                        sound, details = self.real_utterance(real[speaker], video * each + index)
                    else:
                        sound, details = _synthetic_utterance(speaker - len(real), rng)
                    scene = record(rng, (sound,), "single", noisy=0.3)
                    if "pitch" in details:
                        details |= {"speaker": name}
                        details |= style_tags(sound.layers[0].part, details["gender"], scene)
                    path = f"dev/aac/{name}/{title}/{index + 1:05d}.wav"
                    items.append(Item("voxceleb2", "dev", path, path, f"vox:{path}", scene, details=details))
        return items

    def real_utterance(self, language: str, index: int) -> tuple[Sound, dict[str, str]]:
        """Several short recordings of one volunteer, no recording in two utterances."""
        pool = self.speech[language, "speaker"]
        keys = [pool[(2 * index + step) % len(pool)] for step in range(2)]
        layers = (Layer(keys[0]), Layer(keys[1], (1.4,)))
        return Sound(speaker_event(REAL_SPEAKERS[language]), layers), {"gender": REAL_SPEAKERS[language]}


def _by_split(items: list[Item]) -> dict[str, list[Item]]:
    splits: dict[str, list[Item]] = {}
    for item in items:
        splits.setdefault(item.split, []).append(item)
    return splits


def _has_tag(event: Event, tag: str) -> bool:
    return event.tag == tag and (event.domain == "sound" or tag != "")


def speaker_event(sex: str) -> Event:
    """Somebody who speaks."""
    return Event(f"{sex} speaker", "speech", (sex,), (("speaks", "speaking"),), "voice", ())


def utterance_sound(utterance: Utterance, sex: str) -> Sound:
    """An utterance as it is heard."""
    return Sound(speaker_event(sex), (Layer(utterance),))


def _synthetic_utterance(speaker: int, rng: np.random.Generator) -> tuple[Sound, dict[str, str]]:
    sex = ("male", "female")[speaker % 2]
    variants = VARIANTS[sex, "speaker"]
    variant = variants[speaker // 2 % len(variants)]
    language = list(LANGUAGES)[(5 * speaker) % len(LANGUAGES)]
    pitch = 50 if speaker // 2 < len(variants) else 70
    utterance = Utterance(language, variant, number_text(rng, "speaker"), int(rng.integers(140, 195)), pitch)
    return utterance_sound(utterance, sex), {"gender": sex, "pitch": "", "text": utterance.text}
