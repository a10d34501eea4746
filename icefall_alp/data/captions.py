# SPDX-License-Identifier: Apache-2.0
"""The shape of a captioned cut, stated once: build it, write it, read it, check it.

One cut is one piece of audio: a Lhotse MonoCut (channel 0) whose id is the audio key and whose one supervision
carries `captions` (`[{text, source corpus}]`), `labels` (names), `questions` (`[{text, answers, source corpus}]` and
what else a `Question` has) or `attributes` (of the speaker), and `domain` (sound, music or speech). Where it is known
when each label sounds, `events` (`[{label, onset, offset}]`, seconds from the start of the cut) say so beside `labels`.
The cut's `corpus` names the folder that the recording's path is relative to.
Manifests are gzipped JSON lines sorted by id, written under a temporary name and renamed, byte-identical whenever their
content is.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from icefall_alp.data.audio_keys import UNWRITABLE, YOUTUBE_CLIP_MS
from icefall_alp.utils.errors import UserError

DOMAINS = ("sound", "music", "speech")
SPLITS = ("train", "valid", "test")  # from what is trained on to what is held out most
MAX_CAPTION_CHARACTERS = 10_000  # some ten times the longest that the sources have
MOST_CHOICES = 4
_SLACK_MS = 1000  # that codecs may add to a clip of ten seconds
CutDict = dict[str, Any]
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class AudioItem:
    """A clip as a corpus lists it: what `local/prepare_*.py` yield.

    ValueError, which makes the row a bad one, where the path leads out of the corpus root or the times bound nothing.

    Attributes:
        key: see `audio_keys`.
        path: audio file relative to the corpus root; None where the listed audio is not on disk.
        split: train, valid or test.
        start: seconds into the file at which the clip begins.
        duration: seconds of the clip; None for the rest of the file.
        attributes: what is known about the speaker, by name: emotion, gender, age.
    """

    key: str
    path: str | None
    split: str
    start: float = field(default=0.0, kw_only=True)
    duration: float | None = field(default=None, kw_only=True)
    attributes: dict[str, str] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what no row may say."""
        if self.path is not None:
            path = PurePosixPath(self.path)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"the path {self.path[:80]!r} leaves the corpus folder")
            if UNWRITABLE.search(self.path):
                raise ValueError(f"the path {self.path[:80]!r} holds a control character or half a surrogate pair")
        if not 0.0 <= self.start < math.inf or (self.duration is not None and not 0.0 < self.duration < math.inf):
            raise ValueError(f"a start of {self.start} s and a duration of {self.duration} s bound no clip")

    def seconds_in(self, header: AudioHeader) -> float:
        """Seconds of the clip in its file, which may end first. Raises ValueError when it ends before the clip."""
        left = header.num_samples / header.sampling_rate - self.start
        if left <= 0.0:
            raise ValueError(f"the clip begins at {self.start:g} s, the audio ends at {self.start + left:g} s")
        return left if self.duration is None else min(self.duration, left)


@dataclass(frozen=True)
class CaptionedAudio(AudioItem):
    """A clip with captions; a corpus with one caption per row yields the clip once per row.

    Attributes:
        captions: of the row.
        row: what tells the rows of one clip apart, as far as the publishers promise it: their number, the list, or
            nothing ("") where a clip has one row. Two rows of one name are the same twice or contradict each other.
            None where a clip may have any number of rows.
    """

    captions: tuple[str, ...]
    row: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class LabelledAudio(AudioItem):
    """A clip with labels: names, not indices."""

    labels: tuple[str, ...]


@dataclass(frozen=True)
class SoundEvent:
    """One sound from onset to offset, seconds from the start of the clip. Raises ValueError when they bound nothing."""

    label: str
    onset: float
    offset: float

    def __post_init__(self) -> None:
        """Refuse times that no sound can have; NaN is none either."""
        if not 0.0 <= self.onset < self.offset < math.inf:
            raise ValueError(f"{self.label} from {self.onset:g} s to {self.offset:g} s bounds no event")


@dataclass(frozen=True)
class EventAudio(AudioItem):
    """A clip with all of its events, in order of time; yielded once, not once per event."""

    events: tuple[SoundEvent, ...]


@dataclass(frozen=True)
class Question:
    """A question about a clip, with every answer that was given to it: several people may have answered.

    Attributes:
        text: the question alone.
        answers: of people or the publishers; with `choices`, one of these.
        choices: what may be chosen from, in the order in which it is offered; empty where the answer is free.
        task: part of the benchmark that the question belongs to.
        id: the publishers' own.
        reference: a description of the clip for whoever judges a free answer.
    """

    text: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    task: str = ""
    id: str = ""
    reference: str = ""


@dataclass(frozen=True)
class QuestionedAudio(AudioItem):
    """A clip with all of its questions; yielded once, not once per question."""

    questions: tuple[Question, ...]


@dataclass(frozen=True)
class AudioHeader:
    """What a file says about itself."""

    sampling_rate: int
    num_channels: int
    num_samples: int  # per channel


def clean_caption(text: str) -> str:
    """The caption on one line with single spaces. Raises ValueError when nothing is left, or more than a caption."""
    caption = " ".join(text.split())
    if not caption:
        raise ValueError("empty caption")
    if len(caption) > MAX_CAPTION_CHARACTERS:
        raise ValueError(f"a caption of {len(caption):,} characters (at most {MAX_CAPTION_CHARACTERS:,})")
    if found := UNWRITABLE.search(caption):
        raise ValueError(f"the caption holds {found[0]!r}, a control character or half a surrogate pair")
    return caption


def group_questions(pairs: Iterable[tuple[str, str]]) -> tuple[Question, ...]:
    """Join the answers of equal questions; questions and answers stay in their order, equal answers stay apart."""
    answers: dict[str, list[str]] = {}
    for question, answer in pairs:
        answers.setdefault(question, []).append(answer)
    return tuple(Question(question, tuple(given)) for question, given in answers.items())


def question_dict(question: Question, source: str) -> dict[str, Any]:
    """A question as a cut carries it; what is empty is left out."""
    custom: dict[str, Any] = {"text": question.text, "answers": list(question.answers), "source": source}
    optional = {"choices": list(question.choices), "task": question.task, "id": question.id}
    optional["reference"] = question.reference
    return custom | {name: value for name, value in optional.items() if value}


def check_choices(where: str, choices: Sequence[str], answer: str) -> None:
    """Refuse a multiple-choice question that cannot be asked or scored.

    Raises:
        ValueError: not two to four choices, one that is empty or there twice, or an answer that is none of them.
    """
    if not 2 <= len(choices) <= MOST_CHOICES:
        raise ValueError(f"{where}: {len(choices)} choices instead of two to four")
    if any(not choice.strip() for choice in choices) or len(set(choices)) < len(choices):
        raise ValueError(f"{where}: a choice is empty or there twice: {', '.join(map(repr, choices))}")
    if answer not in choices:
        raise ValueError(f"{where}: the answer {answer!r} is none of the choices {', '.join(map(repr, choices))}")


def make_cut(item: AudioItem, header: AudioHeader, corpus: str, domain: str) -> CutDict:
    """The captioned cut of a file or of a stretch of it, in Lhotse's own serialisation."""
    if item.path is None:
        raise ValueError(f"{item.key}: a cut needs an audio file")
    custom: dict[str, Any] = {"domain": domain, **({"attributes": item.attributes} if item.attributes else {})}
    if isinstance(item, CaptionedAudio):
        custom["captions"] = [{"text": text, "source": corpus} for text in item.captions]
    elif isinstance(item, LabelledAudio):
        custom["labels"] = list(item.labels)
    elif isinstance(item, EventAudio):
        custom["labels"] = list(dict.fromkeys(event.label for event in item.events))
        custom["events"] = [asdict(event) for event in item.events]
    elif isinstance(item, QuestionedAudio):
        custom["questions"] = [question_dict(question, corpus) for question in item.questions]
    duration = item.seconds_in(header)
    channels = list(range(header.num_channels))
    # What MonoCut.to_dict() gives, without the objects: there are ten million.
    return {
        "id": item.key,
        "start": item.start,
        "duration": duration,
        "channel": 0,
        "supervisions": [
            {
                "id": item.key,
                "recording_id": item.key,
                "start": 0.0,
                "duration": duration,
                "channel": 0,
                "custom": custom,
            }
        ],
        "recording": {
            "id": item.key,
            "sources": [{"type": "file", "channels": channels, "source": item.path}],
            "sampling_rate": header.sampling_rate,
            "num_samples": header.num_samples,
            "duration": header.num_samples / header.sampling_rate,
            "channel_ids": channels,
        },
        "custom": {"corpus": corpus},
        "type": "MonoCut",
    }


def heard_key(key: str, seconds: float) -> str:
    """The key by which audio of so many seconds is compared with other audio.

    A YouTube key stands for ten seconds. A longer file is more of the video, or all of it, and nobody knows where it
    begins: its time is unknown.
    """
    if not key.startswith("yt:") or seconds * 1000 <= YOUTUBE_CLIP_MS + _SLACK_MS:
        return key
    return f"{key.rpartition(':')[0]}:as"


def check_cut(cut: CutDict) -> str:
    """What is wrong with the shape of a cut, in a few words; empty when nothing is."""
    supervisions = cut.get("supervisions", [])
    if len(supervisions) != 1:
        return f"{len(supervisions)} supervisions instead of one"
    custom = supervisions[0].get("custom", {})
    if supervisions[0].get("id") != cut.get("id"):
        return "the supervision's id is not the cut's"
    if custom.get("domain") not in DOMAINS:
        return f"domain {custom.get('domain')!r} is none of {', '.join(DOMAINS)}"
    captions = custom.get("captions", [])
    questions = custom.get("questions", [])
    if not captions and not custom.get("labels") and not questions and not custom.get("attributes"):
        return "neither captions nor labels nor questions nor attributes"
    if not all(caption.get("text", "").strip() and caption.get("source") for caption in captions):
        return "a caption without text or source"
    if not all(question.get("text", "").strip() and question.get("answers") for question in questions):
        return "a question without text or answers"
    events = custom.get("events", [])
    if not all(event["label"] in custom.get("labels", []) and event["onset"] < event["offset"] for event in events):
        return "an event without label or length"
    if not cut.get("custom", {}).get("corpus"):
        return "no corpus"
    return "" if cut.get("duration", 0.0) > 0.0 else "no duration"


def captions_of(cut: CutDict) -> list[dict[str, str]]:
    """The list of `{text, source}` of a cut; changing it changes the cut."""
    captions: list[dict[str, str]] = cut["supervisions"][0]["custom"]["captions"]
    return captions


@contextmanager
def jsonl_writer(path: Path) -> Iterator[Callable[[Any], None]]:
    """Open a `.jsonl.gz` for streaming; the file appears under its name when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as raw:
            # neither name nor time in the gzip header: equal content, equal bytes
            zipped = gzip.GzipFile(filename="", mode="wb", compresslevel=2, fileobj=raw, mtime=0)
            with io.BufferedWriter(zipped, 1 << 20) as stream:  # type: ignore[type-var]

                def write(row: Any) -> None:
                    stream.write(_encoded(row) + b"\n")

                yield write
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _encoded(row: Any) -> bytes:
    try:
        return _encode(row).encode()
    except UnicodeEncodeError:  # a file's name that is not UTF-8
        return json.dumps(row, separators=(",", ":")).encode()


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Stream the rows of a `.jsonl.gz` that this project wrote.

    Raises:
        UserError: the file is missing or damaged; names file and line.
    """
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)
                number += 1
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such manifest; run the stage that writes it") from error
    except (EOFError, OSError, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: damaged at line {number + 1}; delete it and run its stage again") from error
