# SPDX-License-Identifier: Apache-2.0
"""One identity for every piece of audio, whatever corpus names it: the only module that parses ids and file names.

A key is `<namespace>:<source id>`, followed by what tells two clips of one source apart:

| namespace | key | clips of one source |
|---|---|---|
| YouTube | `yt:<11 characters>:<start ms>`, `:as` for "the segment that AudioSet has" | 10 s from the start |
| Freesound | `fs:<number>`, a crop `fs:<number>:<start ms>-<end ms>`, a take `fs:<number>/<take>` | all are one sound |
| Clotho without a Freesound id | `clotho:<split>/<file name>` | one file |
| BBC, SoundBible | `bbc:<id>`, `sb:<number>` | one file |
| VoxCeleb | `vox:<speaker>/<YouTube id>/<utterance>` | utterances do not overlap |
| Expresso, Emilia, EARS | `expresso:<stem>`, `emilia:<stem>`, `ears:<speaker>/<stem>` | one file |
| Jamendo | `jam:<number>`, a segment `jam:<number>:<start ms>-<end ms>` | apart in time |
| CREMA-D, NSynth, MUSAN | `crema:<stem>`, `nsynth:<note>`, `musan:<stem>` | one file |
| MagnaTagATune, MusicQA | `mtat:<clip number>`, `musicqa:<stem>` | one clip |

YouTube ids hold `-` and `_` anywhere, also first, so they are cut out by position and never by splitting.
Functions here raise ValueError, naming the id, where it cannot be one of its namespace.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

YOUTUBE_CLIP_MS = 10_000  # every corpus in the YouTube namespace cuts ten seconds
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_YOUTUBE_STEM = re.compile(r"([A-Za-z0-9_-]{11})(?:_[0-9]+(?:\.[0-9]+)?){0,2}")
_YOUTUBE_KEY = re.compile(r"yt:([A-Za-z0-9_-]{11}):([0-9]+|as)")
_OTHER_KEY = re.compile(r"([a-z]+):(.+?)(?::([0-9]+)-([0-9]+))?")
_SPEAKER = re.compile(r"id[0-9]{5}")
_NUMBER = re.compile(r"[0-9]+")
_CROP = re.compile(r"\[\s*([0-9]+)\s*,\s*([0-9]+)\s*\]")


@dataclass(frozen=True)
class AudioKey:
    """A parsed key.

    Attributes:
        namespace: the text before the first colon.
        source: what was cut: a video, a sound, a file, with its namespace (`yt:<id>`, `fs:<number>`).
        start: first millisecond of the clip in its source; None where the whole source or an unknown part is meant.
        end: the millisecond after its last; None likewise.
    """

    namespace: str
    source: str
    start: int | None = None
    end: int | None = None

    @classmethod
    def parse(cls, key: str) -> AudioKey:
        """Take a key apart. Raises ValueError when it is none."""
        if match := _YOUTUBE_KEY.fullmatch(key):
            video, start = match.groups()
            if start == "as":
                return cls("yt", f"yt:{video}")
            return cls("yt", f"yt:{video}", int(start), int(start) + YOUTUBE_CLIP_MS)
        match = _OTHER_KEY.fullmatch(key)
        if match is None or match[1] == "yt":
            raise ValueError(f"{key!r} is no audio key")
        namespace, name, start, end = match.groups()
        name = name.partition("/")[0] if namespace == "fs" else name
        if start is None:
            return cls(namespace, f"{namespace}:{name}")
        return cls(namespace, f"{namespace}:{name}", int(start), int(end))

    @property
    def origin(self) -> str:
        """The widest thing the clip belongs to: the source or, for VoxCeleb, the YouTube video."""
        return f"yt:{self.source.split('/')[1]}" if self.namespace == "vox" else self.source

    def overlaps(self, other: AudioKey) -> bool:
        """Whether both may hold the same audio: same source and common time, or a time that is not known.

        Two crops of one Freesound sound always overlap: corpora trim sounds before they number the samples.
        """
        if self.source != other.source:
            return False
        if self.namespace == "fs" or None in (self.start, self.end, other.start, other.end):
            return True
        return self.start < other.end and other.start < self.end  # type: ignore[operator]


def youtube(video: str, start_seconds: float | str | None) -> str:
    """Key of ten seconds of a video; None as start means "the segment that AudioSet has of it"."""
    if not _YOUTUBE_ID.fullmatch(video):
        raise ValueError(f"{video!r} is no YouTube id (11 characters of A-Z a-z 0-9 _ -)")
    if start_seconds is None:
        return f"yt:{video}:as"
    try:
        start_ms = round(float(start_seconds) * 1000)
    except (ValueError, OverflowError):
        start_ms = -1
    if start_ms < 0:
        raise ValueError(f"{start_seconds!r} is no start time in seconds")
    return f"yt:{video}:{start_ms}"


def youtube_id(stem: str) -> str:
    """The video in a file name without extension: `<id>`, `Y<id>`, either with `_<start>` or `_<start>_<end>`.

    No name fits both with and without the leading Y: after eleven characters one has a digit where the other
    needs an underscore or the end.
    """
    match = _YOUTUBE_STEM.fullmatch(stem) or (stem[:1] == "Y" and _YOUTUBE_STEM.fullmatch(stem[1:]))
    if not match:
        raise ValueError(f"{stem!r} holds no YouTube id; expected <id>, Y<id>, <id>_<start> or <id>_<start>_<end>")
    return match[1]


def freesound(sound: str, start_end_samples: str = "", sampling_rate: int = 44100) -> str:
    """Key of a Freesound sound; `[1024, 845524]` (samples, as in Clotho's metadata) makes it a crop."""
    key = f"fs:{_number(sound, 'Freesound')}"
    crop = _CROP.fullmatch(start_end_samples.strip())
    if crop is None:
        return key
    start, end = (round(int(sample) * 1000 / sampling_rate) for sample in crop.groups())
    return f"{key}:{start}-{end}"


def esc50(sound: str, take: str) -> str:
    """Key of one of several takes, from places that are not known, of a Freesound sound."""
    return f"fs:{_number(sound, 'Freesound')}/{_word(take)}"


def musicqa(path: str) -> str:
    """Key of a MusicQA clip: the file stem, a counter that says nothing about where the music comes from."""
    return f"musicqa:{_word(PurePosixPath(path).stem)}"


def clotho(split: str, file_name: str) -> str:
    """Key of a Clotho clip whose metadata names no Freesound id."""
    return f"clotho:{_word(split)}/{_word(file_name)}"


def bbc(name: str) -> str:
    """Key of a BBC sound effect; leading zeros belong to the id."""
    return f"bbc:{_word(name)}"


def soundbible(number: str) -> str:
    """Key of a SoundBible sound."""
    return f"sb:{_number(number, 'SoundBible')}"


def voxceleb(path: str) -> str:
    """Key of an utterance from `.../<speaker>/<YouTube id>/<utterance>[_voicefixer].<extension>`."""
    parts = PurePosixPath(path).parts
    if len(parts) < 3 or not _SPEAKER.fullmatch(parts[-3]) or not _YOUTUBE_ID.fullmatch(parts[-2]):
        raise ValueError(f"{path!r} is no VoxCeleb path (id00012/<YouTube id>/00001.<extension>)")
    return f"vox:{parts[-3]}/{parts[-2]}/{_word(PurePosixPath(path).stem).removesuffix('_voicefixer')}"


def expresso(path: str) -> str:
    """Key of an Expresso segment: the file stem, which holds channel and seconds."""
    return f"expresso:{_word(PurePosixPath(path).stem)}"


def emilia(path: str) -> str:
    """Key of an Emilia utterance: the file stem."""
    return f"emilia:{_word(PurePosixPath(path).stem)}"


def ears(path: str) -> str:
    """Key of an EARS recording from `.../p001/<stem>.wav`: stems repeat from speaker to speaker."""
    parts = PurePosixPath(path).parts
    if len(parts) < 2:
        raise ValueError(f"{path!r} is no EARS path (p001/<name>.wav)")
    return f"ears:{parts[-2]}/{_word(PurePosixPath(path).stem)}"


def jamendo(track: str, start_seconds: float | None = None, end_seconds: float | None = None) -> str:
    """Key of a Jamendo track, `1176956` or `track_0000214`, or of the part from start to end."""
    key = f"jam:{_number(track.removeprefix('track_'), 'Jamendo')}"
    if start_seconds is None or end_seconds is None:
        return key
    return f"{key}:{round(start_seconds * 1000)}-{round(end_seconds * 1000)}"


def crema(path: str) -> str:
    """Key of a CREMA-D utterance: the file stem (`1001_DFA_ANG_XX`)."""
    return f"crema:{_word(PurePosixPath(path).stem)}"


def nsynth(note: str) -> str:
    """Key of an NSynth note: its `note_str`."""
    return f"nsynth:{_word(note)}"


def musan(path: str) -> str:
    """Key of a MUSAN recording: the file stem (`noise-free-sound-0001`)."""
    return f"musan:{_word(PurePosixPath(path).stem)}"


def magnatagatune(clip: str) -> str:
    """Key of a MagnaTagATune clip: its number."""
    return f"mtat:{_number(clip, 'MagnaTagATune')}"


def _number(text: str, archive: str) -> int:
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is no {archive} id (a number)")
    return int(text)


def _word(text: str) -> str:
    if not text.strip():
        raise ValueError("empty id")
    return text
