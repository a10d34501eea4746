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
| CREMA-D, RAVDESS, IEMOCAP, Common Voice | `crema:<stem>`, `ravdess:<stem>`, `iemocap:<stem>`, `cv:<stem>` | one file |
| MELD | `meld:<split>/dia<number>_utt<number>` | one utterance |
| NSynth, MUSAN | `nsynth:<note>`, `musan:<stem>` | one file |
| MagnaTagATune, MusicQA | `mtat:<clip number>`, `musicqa:<stem>` | one clip |
| AIR-Bench | `airbench:<part>/<path>` | one file |

YouTube ids hold `-` and `_` anywhere, also first, so they are cut out by position and never by splitting.
Functions here raise ValueError, naming the id, where it cannot be one of its namespace. `SCHEMES` has the readers by
name, for lists and cutsets whose ids are told to be of one kind; `recognise` is for those that nobody told about.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from icefall_alp.data.times import seconds, stretch

YOUTUBE_CLIP_MS = 10_000  # every corpus in the YouTube namespace cuts ten seconds
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]")  # controls, line ends, halves of surrogate pairs
MAX_ID_CHARACTERS = 255  # as many as a file name has
_TIMED = ("fs", "jam")  # namespaces besides YouTube's whose keys may end in times
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_YOUTUBE_STEM = re.compile(r"([A-Za-z0-9_-]{11})(?:_([0-9]+(?:\.[0-9]+)?)(?:_[0-9]+(?:\.[0-9]+)?)?)?")
_YOUTUBE_KEY = re.compile(r"yt:([A-Za-z0-9_-]{11}):([0-9]+|as)")
_OTHER_KEY = re.compile(r"([a-z]+):(.+)")
_TIMES = re.compile(r"(.+):([0-9]+)-([0-9]+)")
_SPEAKER = re.compile(r"id[0-9]{5}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_CROP = re.compile(r"\[\s*([0-9]{1,18})\s*,\s*([0-9]{1,18})\s*\]")
_UTTERANCE = re.compile(r"(id[0-9]{5})-([A-Za-z0-9_-]{11})-([^/]+)")  # as Lhotse names VoxCeleb's recordings
_URBANSOUND = re.compile(r"([0-9]+)-[0-9]-[0-9]+-[0-9]+")
_ESC50 = re.compile(r"[1-5]-([0-9]+)-([A-Z])-[0-9]+")
_MELD = re.compile(r"dia[0-9]+_utt[0-9]+")
_SECONDS = r"([0-9]+(?:\.[0-9]+)?)"
_YOUTUBE_FORMS = {
    form: re.compile(
        form.replace("<id>", "(?P<id>[A-Za-z0-9_-]{11})").replace("<ms>", "(?P<ms>[0-9]+)")
        .replace("<start>", f"(?P<start>{_SECONDS})").replace("<end>", f"(?P<end>{_SECONDS})")
        .replace("<seconds>", f"(?P<seconds>{_SECONDS})")
    )
    for form in ("<id>", "Y<id>", "<id>_<start>", "<id>_<start>_<end>", "<id>_<start>_<seconds>", "<id>_<ms>")
}  # fmt: skip


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
        namespace, name = match.groups()
        if namespace not in _TIMED:  # a file name may well end in what looks like times
            return cls(namespace, key)
        timed = _TIMES.fullmatch(name)
        name = (timed[1] if timed else name).partition("/")[0]
        if timed is None:
            return cls(namespace, f"{namespace}:{name}")
        return cls(namespace, f"{namespace}:{name}", int(timed[2]), int(timed[3]))

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
    return f"yt:{video}:{round(seconds(start_seconds, 'start') * 1000)}"


def check_youtube_times(start_seconds: object, end_seconds: object) -> None:
    """Refuse a clip that ends before it begins or is longer than its key stands for. Raises ValueError."""
    stretch(start_seconds, end_seconds, longest=YOUTUBE_CLIP_MS / 1000)


def youtube_id(stem: str) -> str:
    """The video that `youtube_file` finds."""
    return youtube_file(stem)[0]


def youtube_file(stem: str) -> tuple[str, str | None]:
    """Video and start in seconds (None without one) of a file name without extension.

    It is `<id>` or `Y<id>`, either with `_<start>` or `_<start>_<end>`; ValueError where it is something else.
    No name fits both with and without the leading Y: after eleven characters one has a digit where the other
    needs an underscore or the end.
    """
    match = _YOUTUBE_STEM.fullmatch(stem) or (stem[:1] == "Y" and _YOUTUBE_STEM.fullmatch(stem[1:]))
    if not match:
        raise ValueError(f"{stem!r} holds no YouTube id; expected <id>, Y<id>, <id>_<start> or <id>_<start>_<end>")
    return match[1], match[2]


def youtube_clip(name: str, form: str) -> tuple[str, str | None]:
    """Video and start in seconds (None without one) of an id that has to be of one published form.

    Stricter than `youtube_id`: a list that promises `Y<id>` has no clip `Yabcdefghij`, which has lost a character.

    Args:
        name: the id, without extension.
        form: `<id>`, `Y<id>`, `<id>_<start>`, `<id>_<start>_<end>` or `<id>_<start>_<seconds>` with times in seconds,
            or `<id>_<ms>` with the start in milliseconds.
    """
    match = _YOUTUBE_FORMS[form].fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not of the form {form} with an <id> of 11 characters")
    times = {unit: float(text) for unit, text in match.groupdict().items() if unit != "id"}
    start = times.get("start", times["ms"] / 1000 if "ms" in times else None)
    seconds = times.get("seconds", times["end"] - start if start is not None and "end" in times else 1.0)
    if not 0 < seconds * 1000 <= YOUTUBE_CLIP_MS:
        raise ValueError(f"{name!r} is {seconds:g} s long, and its key would stand for at most ten seconds")
    return match["id"], None if start is None else f"{start:.3f}"


def freesound(sound: str, start_end_samples: str = "", sampling_rate: int = 44100) -> str:
    """Key of a Freesound sound; `[1024, 845524]` (samples, as in Clotho's metadata) makes it a crop."""
    key = f"fs:{_number(sound, 'Freesound')}"
    if not start_end_samples.strip():
        return key
    crop = _CROP.fullmatch(start_end_samples.strip())
    if crop is None:
        raise ValueError(f"{start_end_samples[:40]!r} are no first and last sample")
    start, end = stretch(*(int(sample) / sampling_rate for sample in crop.groups()))
    return f"{key}:{round(start * 1000)}-{round(end * 1000)}"


def urbansound8k(name: str) -> str:
    """Key of the sound that a slice `100032-3-0-0` is from; where in it, only the list knows."""
    if not (match := _URBANSOUND.fullmatch(_stem(name))):
        raise ValueError(f"{name!r} is no UrbanSound8K name (100032-3-0-0.wav)")
    return freesound(match[1])


def esc50(sound: str, take: str) -> str:
    """Key of one of several takes, from places that are not known, of a Freesound sound."""
    return f"fs:{_number(sound, 'Freesound')}/{_word(take)}"


def esc50_file(name: str) -> str:
    """Key of the take in a file name `1-100032-A-0.wav`."""
    if not (match := _ESC50.fullmatch(_stem(name))):
        raise ValueError(f"{name!r} is no ESC-50 name (1-100032-A-0.wav)")
    return esc50(match[1], match[2])


def musicqa(path: str) -> str:
    """Key of a MusicQA clip: the file stem, a counter that says nothing about where the music comes from."""
    return f"musicqa:{_word(_stem(path))}"


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
    """Key of an utterance from `.../<speaker>/<YouTube id>/<utterance>[_voicefixer].<extension>`, or joined by `-`."""
    if match := _UTTERANCE.fullmatch(path):
        path = "/".join(match.groups())
    parts = PurePosixPath(path).parts
    if len(parts) < 3 or not _SPEAKER.fullmatch(parts[-3]) or not _YOUTUBE_ID.fullmatch(parts[-2]):
        raise ValueError(f"{path!r} is no VoxCeleb path (id00012/<YouTube id>/00001.<extension>)")
    return f"vox:{parts[-3]}/{parts[-2]}/{_word(_stem(path)).removesuffix('_voicefixer')}"


def expresso(path: str) -> str:
    """Key of an Expresso segment: the file stem, which holds channel and seconds."""
    return f"expresso:{_word(_stem(path))}"


def emilia(path: str) -> str:
    """Key of an Emilia utterance: the file stem."""
    return f"emilia:{_word(_stem(path))}"


def ears(path: str) -> str:
    """Key of an EARS recording from `.../p001/<stem>.wav`: stems repeat from speaker to speaker."""
    parts = PurePosixPath(path).parts
    if len(parts) < 2:
        raise ValueError(f"{path!r} is no EARS path (p001/<name>.wav)")
    return f"ears:{_word(parts[-2])}/{_word(_stem(path))}"


_STYLE_PATHS: tuple[tuple[str, Callable[[str], str]], ...] = (
    (r"id[0-9]{5}/", voxceleb), (r"\bp[0-9]{3}/", ears), (r"\bex[0-9]{2}", expresso), (r"\.mp3$", emilia),
)  # fmt: skip


def paraspeechcaps(path: str) -> str:
    """Key of an audio path of ParaSpeechCaps where its source is not told, by what the path looks like."""
    for pattern, key_of in _STYLE_PATHS:
        if re.search(pattern, path):
            return key_of(path)
    raise ValueError(f"{path[:40]!r} is no audio path of VoxCeleb, EARS, Expresso or Emilia")


def jamendo(track: str, start_seconds: float | None = None, end_seconds: float | None = None) -> str:
    """Key of a Jamendo track, `1176956` or `track_0000214`, or of the part from start to end."""
    key = f"jam:{_number(track.removeprefix('track_'), 'Jamendo')}"
    if start_seconds is None or end_seconds is None:
        return key
    start, end = stretch(start_seconds, end_seconds)
    return f"{key}:{round(start * 1000)}-{round(end * 1000)}"


def crema(path: str) -> str:
    """Key of a CREMA-D utterance: the file stem (`1001_DFA_ANG_XX`)."""
    return f"crema:{_word(_stem(path))}"


def ravdess(path: str) -> str:
    """Key of a RAVDESS recording: the file stem (`03-01-01-01-01-01-01`)."""
    return f"ravdess:{_word(_stem(path))}"


def iemocap(path: str) -> str:
    """Key of an IEMOCAP utterance: the file stem (`Ses01F_impro04_F000`)."""
    return f"iemocap:{_word(_stem(path))}"


def commonvoice(path: str) -> str:
    """Key of a Common Voice clip: the file stem (`common_voice_en_1`)."""
    return f"cv:{_word(_stem(path))}"


def meld(split: str, path: str) -> str:
    """Key of a MELD utterance: dialogues are numbered from 0 in each of train, dev and test."""
    if not _MELD.fullmatch(_stem(path)):
        raise ValueError(f"{path!r} is no MELD name (dia9_utt9.wav)")
    return f"meld:{_word(split)}/{_stem(path)}"


def airbench(part: str, path: str) -> str:
    """Key of an AIR-Bench clip: part of the benchmark and path below its folder."""
    return f"airbench:{_word(part)}/{_word(path)}"


def nsynth(note: str) -> str:
    """Key of an NSynth note: its `note_str`."""
    return f"nsynth:{_word(note)}"


def musan(path: str) -> str:
    """Key of a MUSAN recording: the file stem (`noise-free-sound-0001`)."""
    return f"musan:{_word(_stem(path))}"


def magnatagatune(clip: str) -> str:
    """Key of a MagnaTagATune clip: its number."""
    return f"mtat:{_number(clip, 'MagnaTagATune')}"


def parsed(key: str) -> str:
    """A text that is a key already."""
    if AudioKey.parse(key).namespace not in NAMESPACES:
        raise ValueError(f"{key!r} is of no namespace known here")
    return key


def _youtube_form(form: str) -> Callable[[str], str]:
    return lambda name: youtube(*youtube_clip(_stem(name), form))


# Every way in which a corpus names its audio, by the name that commands take. Names may have folders and extension.
SCHEMES: dict[str, Callable[[str], str]] = {
    "key": parsed,
    "youtube": lambda name: youtube(youtube_id(_stem(name)), None),  # all forms; the times are not trusted
    "youtube_start": _youtube_form("<id>_<start>"),
    "youtube_start_end": _youtube_form("<id>_<start>_<end>"),
    "youtube_start_seconds": _youtube_form("<id>_<start>_<seconds>"),
    "youtube_ms": _youtube_form("<id>_<ms>"),
    "freesound": lambda name: freesound(_stem(name)),
    "urbansound8k": urbansound8k,
    "esc50": esc50_file,
    "bbc": lambda name: bbc(_stem(name)),
    "soundbible": lambda name: soundbible(_stem(name)),
    "jamendo": lambda name: jamendo(_stem(name)),
    "voxceleb": voxceleb,
    "expresso": expresso,
    "emilia": emilia,
    "ears": ears,
    "crema": crema,
    "ravdess": ravdess,
    "iemocap": iemocap,
    "commonvoice": commonvoice,
    "nsynth": lambda name: nsynth(_stem(name)),
    "magnatagatune": lambda name: magnatagatune(_stem(name)),
}
NAMESPACES = ("yt", "fs", "clotho", "bbc", "sb", "vox", "expresso", "emilia", "ears", "jam", "crema", "ravdess",
              "iemocap", "cv", "meld", "nsynth", "musan", "mtat", "musicqa", "airbench")  # fmt: skip
_TELLING = ("key", "voxceleb", "urbansound8k", "esc50", "youtube")  # whose ids look like no other's, in this order


def recognise(name: str) -> str:
    """Key of an id, file name or path that is of no declared scheme. Raises ValueError where it fits none or many.

    Plain numbers fit Freesound, SoundBible, Jamendo and MagnaTagATune, so they are refused; name the scheme for these.
    """
    for scheme in _TELLING:
        try:
            return SCHEMES[scheme](name)
        except ValueError:
            continue
    raise ValueError(f"{name!r} tells no namespace")


_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")


def _stem(path: str) -> str:
    """The file name without its extension; a dot that begins none (`segment_50.0_59.58`) stays."""
    name = PurePosixPath(path).name
    extension = PurePosixPath(name).suffix
    return name.removesuffix(extension) if _EXTENSION.fullmatch(extension) else name


def _number(text: str, archive: str) -> int:
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is no {archive} id (a number)")
    return int(text)


def _word(text: str) -> str:
    if not text.strip():
        raise ValueError("empty id")
    if len(text) > MAX_ID_CHARACTERS:
        raise ValueError(f"an id of {len(text):,} characters (at most {MAX_ID_CHARACTERS})")
    if UNWRITABLE.search(text):
        raise ValueError(f"{text!r} holds a control character or half a surrogate pair")
    return text
