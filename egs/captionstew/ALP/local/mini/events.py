# SPDX-License-Identifier: Apache-2.0
"""What can be heard in the embedded corpora: names, wordings, class labels, and the material of each event.

Footsteps, knocking, typing and the like are rhythms played on wood and drum hits (as film sound is made), alarms,
sirens and telephones are tunes on the same few synthetic tones: such classes differ in time, not in spectrum.
Each event keeps its material in two sides, "train" and "heldout", that share no recording; General MIDI renders are
split by the recorded samples of the soundfont (`soundfont.py`), and an event with one sample is for training only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .soundfont import DRUM_BANK, Press, allot_samples, general_midi
from .sources import Recordings
from .speech import LANGUAGES

SIDES = ("train", "heldout")
Voices = tuple[tuple[Press, ...], ...]


@dataclass(frozen=True)
class Event:
    """One kind of sound.

    Attributes:
        name: unique.
        domain: sound, music or speech.
        subjects: who or what sounds, several wordings.
        verbs: (finite verb, -ing form), several wordings.
        maker: how it is performed: recording, note, figure, drum, groove, hits, tone or voice (see `scenes.py`).
        material: what the maker needs; for recordings and drums keys of recordings.
        tag: class in FSD50K's spelling, empty for none.
        voices: General MIDI keys, by instrument.
        alone: whether the material is on the training side only.
        sides: side -> the keys of `voices` that this side may play.
    """

    name: str
    domain: str
    subjects: tuple[str, ...]
    verbs: tuple[tuple[str, str], ...]
    maker: str
    material: tuple
    tag: str = ""
    voices: Voices = ()
    alone: bool = False
    sides: dict[str, Voices] = field(default_factory=dict)

    @property
    def variety(self) -> int:
        """How many recordings or keys there are to learn the event from, up to MOST_VARIETY; voices have many."""
        if self.maker == "voice":
            return MOST_VARIETY
        recordings = side_of(self.material, "train") if self.maker in ("recording", "drum") else ()
        return min(len(recordings) + sum(map(len, self.sides["train"])), MOST_VARIETY)


MOST_VARIETY = 6


def side_of(keys: tuple[str, ...], side: str) -> tuple[str, ...]:
    """The recordings of a side: of three the second is held out."""
    return tuple(key for index, key in enumerate(keys) if (index % 3 == 1) == (side == "heldout"))


def _event(
    name: str, domain: str, words: str, maker: str, material: tuple, tag: str = "", voices: Voices = ()
) -> Event:
    """`words` are `subject|subject; verb/verbing|verb/verbing`."""
    subjects, verbs = words.split("; ")
    forms = tuple((verb.split("/")[0], verb.split("/")[1]) for verb in verbs.split("|"))
    return Event(name, domain, tuple(subjects.split("|")), forms, maker, material, tag, voices)


# tag: (words, recordings). T tuxpaint, S scratch, P sonicpi; every second of three is held out.
_RECORDED = """
dog|Bark|a dog|one dog; barks/barking|woofs/woofing|
  T:animals/mammals/dogs/dog.ogg S:Animal/Dog2.wav S:Animal/Dog1.wav
cat|Meow|a cat|a house cat; meows/meowing|mews/mewing|
  S:Animal/Kitten.wav S:Animal/Meow.wav S:Animal/Cat.mp3 T:seasonal/halloween/blackcat.ogg
songbird|Bird|a bird|a small bird; sings/singing|chirps/chirping|
  T:animals/birds/blackbird.ogg T:animals/birds/lark.ogg S:Animal/Bird.wav T:animals/birds/quetzal.ogg
rooster|Bird|a rooster|a cock; crows/crowing|S:Animal/Rooster.wav T:animals/birds/rooster.ogg
duck|Bird|a duck; quacks/quacking|T:animals/birds/duck.ogg S:Animal/Duck.wav T:animals/birds/drake.ogg
goose|Bird|a goose; honks/honking|T:animals/birds/gander.ogg S:Animal/Goose.wav
owl|Bird|an owl; hoots/hooting|T:animals/birds/owl.ogg S:Animal/Owl.wav
crow|Bird|a crow; caws/cawing|T:animals/birds/crow.ogg P:misc_crow.flac
seabird|Bird|a large bird|a wild bird; screeches/screeching|calls/calling|
  T:animals/birds/seagull.ogg T:animals/birds/vulture.ogg T:animals/birds/tucan.ogg
  T:animals/birds/penguin.ogg
cricket|Insect|a cricket; chirps/chirping|
  S:Animal/Crickets.wav T:animals/insects/grasshopper.ogg S:Animal/Cricket.wav
bee|Insect|an insect|a flying insect; buzzes/buzzing|
  T:animals/insects/bee.ogg T:animals/insects/hornet.ogg T:animals/insects/mosquito.ogg
sheep||a sheep; bleats/bleating|
  T:animals/mammals/bovines/sheep.ogg T:animals/mammals/bovines/sheep_lamb.ogg
  T:animals/mammals/bovines/goat.ogg
cow||a cow; moos/mooing|
  T:animals/mammals/bovines/cow.ogg T:animals/mammals/bovines/cow_white.ogg T:animals/mammals/bovines/bull.ogg
pig||a pig; grunts/grunting|oinks/oinking|
  T:animals/mammals/pig.ogg T:animals/mammals/pig_golden.ogg T:animals/mammals/pig_golden2.ogg
big cat||a big cat|a wild beast; roars/roaring|growls/growling|
  T:animals/mammals/cats/tiger.ogg T:animals/mammals/cats/lion.ogg T:animals/mammals/bears/bear.ogg
whale||a whale; sings/singing|calls/calling|
  T:animals/mammals/aquatic/whale.ogg T:animals/mammals/aquatic/orca.ogg T:animals/mammals/aquatic/dolphin.ogg
laugh|Laughter|a person|someone; laughs/laughing|
  S:Human/Laugh-male2.wav S:Human/Laugh-male1.wav S:Human/Laugh-female.wav S:Human/Laugh-male3.mp3
scream||a person|someone; screams/screaming|
  S:Human/Scream-male1.wav S:Human/Scream-female.wav S:Human/Scream-male2.mp3
singer|Singing|a singer|a person; sings/singing|
  S:Vocals/Singer1.wav S:Vocals/Singer2.wav S:Vocals/Oooo-badada.mp3 S:Vocals/Doy-doy-doy.mp3
  S:Vocals/Sing-me-a-song.mp3
bell||a bell; rings/ringing|tolls/tolling|S:Effects/BellToll.wav P:perc_bell.flac P:perc_bell2.flac
water||water; bubbles/bubbling|splashes/splashing|
  S:Effects/Bubbles.wav S:Effects/WaterRunning.mp3 S:Effects/Ripples.wav
laser||a laser|a toy laser; zaps/zapping|S:Electronic/Zoop.wav S:Electronic/Laser1.wav S:Electronic/Laser2.wav
beeps||a computer|a machine; beeps/beeping|
  S:Electronic/ComputerBeeps1.wav S:Electronic/ComputerBeeps2.wav P:elec_blip.flac P:elec_ping.flac
robot||a robot; chatters/chattering|warbles/warbling|
  P:mehackit_robot1.flac P:mehackit_robot2.flac P:mehackit_robot3.flac P:mehackit_robot4.flac
  P:mehackit_robot5.flac P:mehackit_robot6.flac P:glitch_robot1.flac
record||a vinyl record|a turntable; is scratched/being scratched|
  P:vinyl_backspin.flac P:vinyl_scratch.flac P:vinyl_rewind.flac
whoosh||something|an object; whooshes by/whooshing by|swishes past/swishing past|
  P:ambi_swoosh.flac P:perc_swoosh.flac P:ambi_dark_woosh.flac
"""

# General MIDI programs that play figures: programs, lowest and highest key, tag, subject
_INSTRUMENTS = """
0 40 84 Piano a piano
10 60 92 - a music box
12 48 84 Marimba_and_xylophone a marimba
13 65 96 Marimba_and_xylophone a xylophone
16+17 44 88 Organ an electric organ
19 44 84 Organ a church organ
21 50 84 - an accordion
22 60 88 - a harmonica
24 42 78 Acoustic_guitar a nylon-string guitar
25 42 78 Acoustic_guitar a steel-string guitar
30 42 72 - a distorted electric guitar
36 30 54 - a slap bass
40 56 92 Bowed_string_instrument a violin
42 38 72 Bowed_string_instrument a cello
46 44 92 Harp a harp
48 44 88 Bowed_string_instrument a string orchestra
52 48 76 Singing a choir
53 48 76 Singing a voice
56 56 84 Trumpet a trumpet
59 56 84 Trumpet a muted trumpet
73 62 96 - a flute
80 48 84 - a square-wave synthesizer
104 46 78 - a sitar
109 58 80 - bagpipes
"""

# effects that are one note of a program
_NOTES = """
waves||122|the sea|the ocean; washes ashore/washing ashore|rolls in/rolling in
birdsong|Bird|123|birds|a flock of birds; tweet/tweeting|twitter/twittering
telephone||124|a telephone|an old telephone; rings/ringing
helicopter|Aircraft|125|a helicopter; flies overhead/flying overhead|hovers/hovering
applause|Applause|126|an audience|a crowd; applauds/applauding
gunshot|Gunshot_and_gunfire|127|a gun; fires/firing|shoots/shooting
"""

# drums: kit and key of each hit, tag, subject; recordings of sonic-pi that are the same drum
_DRUMS = """
0:36,25:36 Bass_drum a bass drum|
  P:bd_haus.flac P:bd_klub.flac P:bd_pure.flac P:bd_808.flac P:bd_tek.flac P:bd_fat.flac P:bd_gas.flac
0:38,25:38,0:40 Snare_drum a snare drum|
  P:sn_dub.flac P:sn_generic.flac P:sn_dolf.flac P:elec_snare.flac P:drum_snare_hard.flac P:elec_hi_snare.flac
0:42,0:44,25:42,0:46 Hi-hat a hi-hat|P:drum_cymbal_closed.flac P:drum_cymbal_pedal.flac
0:45,25:45 - a tom-tom|P:drum_tom_lo_hard.flac P:drum_tom_mid_hard.flac P:drum_tom_hi_hard.flac
0:49,0:52 - a crash cymbal|P:drum_cymbal_hard.flac P:drum_splash_hard.flac S:Percussion/CymbalCrash.wav
0:54 - a tambourine|
0:56 - a cowbell|P:drum_cowbell.flac
0:63,0:61,0:64,0:60,0:62 Tabla a hand drum|
  P:tabla_ghe2.flac P:tabla_ghe4.flac P:tabla_na.flac P:tabla_tun1.flac P:tabla_tas1.flac P:tabla_dhec.flac
0:70,0:69 - a shaker|
0:81,0:80 - a triangle|P:elec_triangle.flac
"""

NOTE_KEYS = (44, 70)
# what rhythms are played on: (program, keys) of wood block, taiko, tom and synthetic drum, hits of a drum kit
WOOD_AND_DRUMS = ((115, 50, 84), (116, 50, 70), (117, 45, 66), (118, 50, 70))
STICKS, CLAPS = "0:31,0:37,0:75,0:85,0:65,0:76", "0:39,0:28"
TONES, TONE_KEYS = (80, 81, 79, 17), (54, 86)

# rhythms on wood and drum hits, and tunes on synthetic tones: rhythm, tag, words
_HITS = """
knock|Knock|someone|a hand; knocks on a door/knocking on a door|raps on a door/rapping on a door
clock|Tick-tock|a clock; ticks/ticking|goes tick-tock/going tick-tock
typing|Typing|someone|a person; types on a keyboard/typing on a keyboard
walk|Walk_and_footsteps|a person|someone; walks/walking|takes slow steps/taking slow steps
run|Run|a person|someone; runs/running|hurries along/hurrying along
clap|Clapping|someone|a person; claps/clapping|claps hands/clapping hands
"""
_TONES = """
alarm|Alarm|an alarm|an alarm clock; beeps/beeping
siren|Siren|a siren; wails/wailing|rises and falls/rising and falling
ringtone|Ringtone|a phone|an electronic telephone; rings/ringing
"""

# tag -> (AudioSet display names, parents in FSD50K); the second list keeps only parents of several tags
TAGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Male_speech_and_man_speaking": (("Male speech, man speaking", "Speech"), ("Speech", "Human_voice")),
    "Female_speech_and_woman_speaking": (("Female speech, woman speaking", "Speech"), ("Speech", "Human_voice")),
    "Singing": (("Singing",), ("Human_voice",)),
    "Laughter": (("Laughter",), ("Human_voice",)),
    "Bark": (("Bark", "Animal"), ("Domestic_animals_and_pets", "Animal")),
    "Meow": (("Meow", "Animal"), ("Domestic_animals_and_pets", "Animal")),
    "Bird": (("Bird", "Animal"), ("Wild_animals", "Animal")),
    "Insect": (("Insect", "Animal"), ("Wild_animals", "Animal")),
    "Alarm": (("Alarm",), ()),
    "Siren": (("Siren",), ("Alarm",)),
    "Ringtone": (("Ringtone",), ("Alarm",)),
    "Knock": (("Knock",), ()),
    "Tick-tock": (("Tick-tock",), ()),
    "Typing": (("Typing",), ()),
    "Walk_and_footsteps": (("Walk, footsteps",), ()),
    "Run": (("Run",), ()),
    "Clapping": (("Clapping",), ()),
    "Piano": (("Piano", "Music"), ("Musical_instrument", "Music")),
    "Acoustic_guitar": (("Acoustic guitar", "Music"), ("Musical_instrument", "Music")),
    "Trumpet": (("Trumpet", "Music"), ("Musical_instrument", "Music")),
    "Bowed_string_instrument": (("Bowed string instrument", "Music"), ("Musical_instrument", "Music")),
    "Marimba_and_xylophone": (("Marimba, xylophone", "Music"), ("Musical_instrument", "Music")),
    "Organ": (("Organ", "Music"), ()),
    "Harp": (("Harp", "Music"), ()),
    "Snare_drum": (("Snare drum", "Music"), ()),
    "Bass_drum": (("Bass drum", "Music"), ()),
    "Hi-hat": (("Hi-hat", "Music"), ()),
    "Tabla": (("Tabla", "Music"), ()),
    "Aircraft": (("Helicopter",), ()),
    "Applause": (("Applause",), ()),
    "Gunshot_and_gunfire": (("Gunshot, gunfire",), ()),
}
# the tags that FSD50K's miniature is asked for; the others are AudioSet's only
FSD50K_TAGS = tuple(TAGS)[:22]
MIDS = {
    "Male speech, man speaking": "/m/05zppz", "Female speech, woman speaking": "/m/02zsn", "Speech": "/m/09x0r",
    "Singing": "/m/015lz1", "Laughter": "/m/01j3sz", "Bark": "/m/05tny_", "Meow": "/m/07qrkrw", "Bird": "/m/015p6",
    "Insect": "/m/03vt0", "Animal": "/m/0jbk", "Alarm": "/m/07pp_mv", "Siren": "/m/03kmc9", "Ringtone": "/m/01hnzm",
    "Knock": "/m/07r4wb8", "Tick-tock": "/m/07qjznl", "Typing": "/m/0316dw", "Walk, footsteps": "/m/07pbtc8",
    "Run": "/m/06h7j", "Clapping": "/m/0l15bq", "Piano": "/m/05r5c", "Acoustic guitar": "/m/042v_gx",
    "Trumpet": "/m/07gql", "Bowed string instrument": "/m/0l14_3", "Marimba, xylophone": "/m/0dwsp",
    "Organ": "/m/013y1f", "Harp": "/m/03m5k", "Snare drum": "/m/06rvn", "Bass drum": "/m/0bm02", "Hi-hat": "/m/03qtq",
    "Tabla": "/m/01p970", "Helicopter": "/m/09ct_", "Applause": "/m/028ght", "Gunshot, gunfire": "/m/032s66",
    "Music": "/m/04rlf", "Sound effect": "/m/0c1dj", "Human_voice": "/m/09l8g", "Musical_instrument": "/m/04szw",
    "Wild_animals": "/m/01280g", "Domestic_animals_and_pets": "/m/068hy", "Human sounds": "/m/0dgw9r",
}  # fmt: skip
_PREFIX = {"T": "tuxpaint", "S": "scratch", "P": "sonicpi"}


def mid_of(name: str) -> str:
    """MID of an AudioSet display name or FSD50K class."""
    return MIDS.get(name) or MIDS[TAGS[name][0][0]]


def _lines(table: str) -> list[str]:
    """Rows of a table; an indented line continues the one before."""
    return table.replace("\n  ", " ").strip().splitlines()


def _keys(text: str, recordings: Recordings) -> tuple[str, ...]:
    pairs = (key.split(":", 1) for key in text.split())
    return tuple(key for key in (f"{_PREFIX[p]}:{name}" for p, name in pairs) if recordings.has(key))


def build_catalogue(recordings: Recordings) -> list[Event]:
    """All events that the material at hand can make.

    Args:
        recordings: real ones; without them the engines' events remain.

    Returns:
        Events in a fixed order. `alone` is set where nothing is held out.
    """
    events = []
    for line in _lines(_RECORDED):
        name, tag, rest = line.split("|", 2)
        words, _, files = rest.rpartition("|")
        if keys := _keys(files, recordings):
            events.append(_event(name, "sound", words, "recording", keys, tag))
    events += [*_instruments(), *_notes_and_drums(recordings), *_rhythms_and_tunes()]
    for language in LANGUAGES:
        for sex, who in (("male", "man"), ("female", "woman")):
            words = f"a {who}|a {sex} voice; speaks/speaking|talks/talking"
            tag = f"{sex.title()}_speech_and_{who}_speaking"
            events.append(_event(f"{sex} {language}", "speech", words, "voice", (language, sex), tag))
    return _with_sides(events)


def _instruments() -> Iterator[Event]:
    for line in _lines(_INSTRUMENTS):
        programs, low, high, tag, subject = line.split(maxsplit=4)
        verb = "sings/singing" if tag == "Singing" else "plays/playing"
        if subject.endswith("s") and not subject.startswith("a "):
            verb = "play/playing"
        voices = tuple(_keyboard(int(program), int(low), int(high)) for program in programs.split("+"))
        yield _event(subject, "music", f"{subject}; {verb}", "figure", (), tag.strip("-"), voices)


def _notes_and_drums(recordings: Recordings) -> Iterator[Event]:
    for line in _lines(_NOTES):
        name, tag, program, words = line.split("|", 3)
        yield _event(name, "sound", words, "note", (), tag, (_keyboard(int(program), *NOTE_KEYS),))
    kit = []
    for line in _lines(_DRUMS):
        head, _, files = line.partition("|")
        hits, tag, subject = head.split(maxsplit=2)
        kit.append(_hits(hits))
        words = f"{subject}; is played/being played|beats/beating"
        yield _event(subject, "music", words, "drum", _keys(files, recordings), tag.strip("-"), (kit[-1],))
    words = "a drum kit|a drummer; plays a beat/playing a beat"
    yield _event("drum kit", "music", words, "groove", (), "", tuple(kit[:3]))


def _rhythms_and_tunes() -> Iterator[Event]:
    wood = (*(_keyboard(*keys) for keys in WOOD_AND_DRUMS), *((hit,) for hit in _hits(STICKS)))
    tones = tuple(_keyboard(program, *TONE_KEYS) for program in TONES)
    for line in _lines(_HITS):
        name, tag, words = line.split("|", 2)
        voices = tuple((hit,) for hit in _hits(CLAPS)) if name == "clap" else wood
        yield _event(name, "sound", words, "hits", (name,), tag, voices)
    for line in _lines(_TONES):
        name, tag, words = line.split("|", 2)
        yield _event(name, "sound", words, "tone", (name,), tag, tones)


def _keyboard(program: int, low: int, high: int) -> tuple[Press, ...]:
    return tuple((0, program, key) for key in range(low, high + 1))


def _hits(text: str) -> tuple[Press, ...]:
    """`kit:key,kit:key` of drum kits."""
    return tuple((DRUM_BANK, *map(int, hit.split(":"))) for hit in text.split(","))


def _with_sides(events: list[Event]) -> list[Event]:
    """Split the keys of every event by the samples they play, and note which events have nothing held out."""
    font = general_midi()
    allotted = allot_samples(font, [[press for voice in event.voices for press in voice] for event in events])
    done = []

    def own(voice: tuple[Press, ...], side: str) -> tuple[Press, ...]:
        return tuple(press for press in voice if allotted[min(font.samples(press))] == side)

    for event in events:
        sides = {side: tuple(filter(None, (own(voice, side) for voice in event.voices))) for side in SIDES}
        recorded = event.maker in ("recording", "drum") and side_of(event.material, "heldout")
        alone = event.maker != "voice" and not (recorded or sides["heldout"])
        done.append(replace(event, sides=sides, alone=alone))
    return done
