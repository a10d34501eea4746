# SPDX-License-Identifier: Apache-2.0
"""Keys are one per piece of audio, survive being written and read, and ids are cut out by position."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icefall_alp.data import audio_keys
from icefall_alp.data.audio_keys import AudioKey

ID_CHARACTERS = string.ascii_letters + string.digits + "-_"
videos = st.text(ID_CHARACTERS, min_size=11, max_size=11)
AWKWARD = [
    "-0Gj8-vB1q4",
    "__p-iA312kg",
    "_-_-_-_-_-_",
    "Y0000000000",
    "YYYYYYYYYYY",
    "Y_________1",
    "-----------",
    "___________",
]


@pytest.mark.parametrize("video", AWKWARD)
@pytest.mark.parametrize("shape", ["{}", "Y{}", "{}_30", "{}_000030", "Y{}_30_40", "{}_30.000_40.000", "{}_0_10"])
def test_ids_that_begin_with_dash_underscore_or_y_come_out_whole(video, shape):
    assert audio_keys.youtube_id(shape.format(video)) == video


@given(videos, st.sampled_from(["", "Y"]), st.lists(st.integers(0, 99999), max_size=2))
def test_file_names_give_back_the_video_and_its_start(video, prefix, times):
    stem = prefix + video + "".join(f"_{time}" for time in times)
    assert audio_keys.youtube_file(stem) == (video, str(times[0]) if times else None)


@given(st.text(ID_CHARACTERS + ". ", max_size=40))
def test_any_other_stem_is_refused_or_gives_eleven_characters(stem):
    try:
        video = audio_keys.youtube_id(stem)
    except ValueError:
        return
    assert len(video) == 11 and video in stem


@given(videos, st.integers(0, 10**6), st.sampled_from(["{}", "{}.0", "{}.000"]))
def test_a_start_has_one_spelling(video, seconds, spelling):
    assert audio_keys.youtube(video, spelling.format(seconds)) == f"yt:{video}:{seconds * 1000}"


@given(videos, st.one_of(st.none(), st.integers(0, 10**6)))
def test_youtube_keys_can_be_read_back(video, seconds):
    key = AudioKey.parse(audio_keys.youtube(video, seconds))
    assert key.source == f"yt:{video}" and key.origin == key.source
    assert (key.start, key.end) == ((None, None) if seconds is None else (seconds * 1000, seconds * 1000 + 10_000))


@given(st.integers(0, 10**8), st.integers(0, 10**7), st.integers(45, 10**7))
def test_freesound_keys_can_be_read_back(sound, start, length):
    key = AudioKey.parse(audio_keys.freesound(str(sound), f"[{start}, {start + length}]"))
    assert key.source == f"fs:{sound}" and key.start < key.end


@given(videos, st.integers(0, 99999), st.integers(1, 99999))
def test_every_spelling_of_an_utterance_is_one_key(video, speaker, utterance):
    place = f"id{speaker:05d}/{video}/{utterance:05d}"
    spellings = [f"dev/aac/{place}.m4a", f"{place}.wav", f"voxceleb2/dev/aac/{place}_voicefixer.wav"]
    assert {audio_keys.voxceleb(spelling) for spelling in spellings} == {f"vox:{place}"}
    key = AudioKey.parse(f"vox:{place}")
    assert key.source == f"vox:{place}" and key.origin == f"yt:{video}"


def test_equal_audio_has_equal_keys_across_corpora():
    starts = {"__p-iA312kg": "70.000"}
    video = audio_keys.youtube_id("Y__p-iA312kg")
    assert audio_keys.youtube("__p-iA312kg", "70") == audio_keys.youtube(video, starts[video]) == "yt:__p-iA312kg:70000"
    assert audio_keys.freesound("180913") == audio_keys.freesound(" 180913 ") == "fs:180913"


def test_other_namespaces():
    assert audio_keys.bbc("07066104") == "bbc:07066104"
    assert audio_keys.soundbible("2219") == "sb:2219"
    assert audio_keys.clotho("test", "Radio Garble.wav") == "clotho:test/Radio Garble.wav"
    assert audio_keys.freesound("80399", "[1024, 845524]") == "fs:80399:23-19173"  # 1024 / 44.1 and 845524 / 44.1 ms
    assert audio_keys.ears("p001/emo_adoration_sentences.wav") == "ears:p001/emo_adoration_sentences"
    assert audio_keys.emilia("EN/EN_B00030/mp3/EN_B00030_S01984_W000037.mp3") == "emilia:EN_B00030_S01984_W000037"
    segment = "ex04-ex02_disgusted_012_channel1_segment_50.0_59.58"
    assert audio_keys.expresso(f"audio_48khz/ex04-ex02/disgusted/{segment}.wav") == f"expresso:{segment}"
    assert AudioKey.parse(f"expresso:{segment}").source == f"expresso:{segment}"


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (audio_keys.soundbible, "2219a"),
        (audio_keys.freesound, "Not found"),
        (audio_keys.freesound, ""),
        (audio_keys.bbc, " "),
        (audio_keys.voxceleb, "00001.wav"),
        (audio_keys.voxceleb, "dev/aac/id00012/tooshort/00001.m4a"),
        (audio_keys.voxceleb, "dev/aac/speaker/21Uxsk56VDQ/00001.m4a"),
        (audio_keys.ears, "alone.wav"),
        (lambda end: audio_keys.jamendo("1176956", 30.0, end), 30.0),
        (lambda end: audio_keys.jamendo("1176956", 30.0, end), float("nan")),
        (lambda end: audio_keys.jamendo("1176956", 30.0, end), 1e306),
        (lambda crop: audio_keys.freesound("80399", crop), "[10, 5]"),
        (lambda crop: audio_keys.freesound("80399", crop), "[0, 99999999999999999]"),
        (lambda crop: audio_keys.freesound("80399", crop), "1024"),
        (lambda name: audio_keys.meld("test", name), "dia9.wav"),
        (audio_keys.youtube_id, "short"),
        (lambda start: audio_keys.youtube("__p-iA312kg", start), "nan"),
        (lambda start: audio_keys.youtube("__p-iA312kg", start), "inf"),
        (lambda start: audio_keys.youtube("__p-iA312kg", start), "-1"),
        (lambda start: audio_keys.youtube("__p-iA312kg", start), "soon"),
        (lambda video: audio_keys.youtube(video, "0"), "__p-iA312k"),
        (lambda video: audio_keys.youtube(video, "0"), "__p-iA312kgg"),
        (lambda video: audio_keys.youtube(video, "0"), "__p iA312kg"),
        (AudioKey.parse, "yt:short:0"),
        (AudioKey.parse, "no colon"),
    ],
)
def test_what_is_no_id_is_refused(make, argument):
    with pytest.raises(ValueError):
        make(argument)


@given(videos, st.integers(0, 10**6), st.integers(0, 10**6))
def test_clips_of_a_video_overlap_when_they_are_less_than_ten_seconds_apart(video, first, second):
    a, b = AudioKey.parse(f"yt:{video}:{first}"), AudioKey.parse(f"yt:{video}:{second}")
    assert a.overlaps(b) == b.overlaps(a) == (abs(first - second) < 10_000)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("yt:__p-iA312kg:as", "yt:__p-iA312kg:70000", True),
        ("yt:__p-iA312kg:70000", "yt:__p-iA312kG:70000", False),
        ("fs:1:0-1000", "fs:1:5000-9000", True),
        ("fs:1", "fs:1:5000-9000", True),
        ("fs:1", "fs:11", False),
        ("fs:2219", "sb:2219", False),
        ("vox:id00012/21Uxsk56VDQ/00001", "vox:id00012/21Uxsk56VDQ/00002", False),
        ("vox:id00012/21Uxsk56VDQ/00001", "vox:id00012/21Uxsk56VDQ/00001", True),
    ],
)
def test_overlap_across_spellings(a, b, expected):
    assert AudioKey.parse(a).overlaps(AudioKey.parse(b)) is expected


@given(st.integers(0, 10**7), st.integers(0, 10**4), st.integers(1, 600))
def test_jamendo_segments_overlap_in_time_only(track, start, length):
    first = AudioKey.parse(audio_keys.jamendo(f"track_{track:07d}", start, start + length))
    after = AudioKey.parse(audio_keys.jamendo(str(track), start + length, start + 2 * length))
    whole = AudioKey.parse(audio_keys.jamendo(str(track)))
    assert first.source == after.source == f"jam:{track}" and not first.overlaps(after)
    assert whole.overlaps(first) and whole.overlaps(after)


def test_corpora_whose_file_names_are_their_ids():
    assert audio_keys.crema("AudioWAV/1001_DFA_ANG_XX.wav") == "crema:1001_DFA_ANG_XX"
    assert audio_keys.nsynth("guitar_acoustic_001-082-050") == "nsynth:guitar_acoustic_001-082-050"
    assert audio_keys.musan("noise/free-sound/noise-free-sound-0001.wav") == "musan:noise-free-sound-0001"
    assert audio_keys.magnatagatune("2") == "mtat:2"
    for wrong in (
        lambda: audio_keys.magnatagatune("a"),
        lambda: audio_keys.jamendo("track_x"),
        lambda: audio_keys.nsynth(" "),
    ):
        with pytest.raises(ValueError):
            wrong()


# ---- every namespace ------------------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="/"), min_size=1)
words = names.filter(lambda name: name.strip().strip(".") and len(name) < 200)
numbers = st.integers(0, 10**12)
MAKERS = {  # key maker, strategy of its arguments
    "yt": (audio_keys.youtube, st.tuples(videos, st.one_of(st.none(), st.floats(0, 10**6)))),
    "fs": (lambda n, a, b: audio_keys.freesound(str(n), f"[{a}, {a + b}]"),
           st.tuples(numbers, st.integers(0, 10**9), st.integers(45, 10**9))),
    "fs take": (lambda n, take: audio_keys.esc50(str(n), take), st.tuples(numbers, st.sampled_from("ABCDEFGH"))),
    "clotho": (audio_keys.clotho, st.tuples(st.sampled_from(["train", "aqa"]), words)),
    "bbc": (audio_keys.bbc, st.tuples(words)),
    "sb": (audio_keys.soundbible, st.tuples(numbers.map(str))),
    "vox": (lambda s, v, u: audio_keys.voxceleb(f"id{s:05d}/{v}/{u:05d}.m4a"),
            st.tuples(st.integers(0, 99999), videos, st.integers(0, 99999))),
    "expresso": (lambda w: audio_keys.expresso(f"audio_48khz/{w}.wav"), st.tuples(words)),
    "emilia": (lambda w: audio_keys.emilia(f"EN/mp3/{w}.mp3"), st.tuples(words)),
    "ears": (lambda n, w: audio_keys.ears(f"p{n:03d}/{w}.wav"), st.tuples(st.integers(1, 107), words)),
    "jam": (lambda n, a, b: audio_keys.jamendo(f"track_{n:07d}", a, a + b),
            st.tuples(numbers, st.integers(0, 10**5), st.integers(1, 600))),
    "crema": (lambda w: audio_keys.crema(f"AudioWAV/{w}.wav"), st.tuples(words)),
    "ravdess": (lambda w: audio_keys.ravdess(f"Actor_01/{w}.wav"), st.tuples(words)),
    "iemocap": (lambda w: audio_keys.iemocap(f"Session1/{w}.wav"), st.tuples(words)),
    "cv": (lambda w: audio_keys.commonvoice(f"clips/{w}.mp3"), st.tuples(words)),
    "meld": (lambda d, u: audio_keys.meld("test", f"dia{d}_utt{u}.mp4"), st.tuples(numbers, numbers)),
    "nsynth": (audio_keys.nsynth, st.tuples(words)),
    "musan": (lambda w: audio_keys.musan(f"noise/free-sound/{w}.wav"), st.tuples(words)),
    "mtat": (audio_keys.magnatagatune, st.tuples(numbers.map(str))),
    "musicqa": (lambda w: audio_keys.musicqa(f"audios/{w}.wav"), st.tuples(words)),
}  # fmt: skip


@pytest.mark.parametrize("maker", MAKERS)
@given(st.data())
def test_keys_of_every_namespace_are_read_back_and_differ_when_the_audio_does(maker, data):
    make, arguments = MAKERS[maker]
    first, second = data.draw(arguments), data.draw(arguments)
    key, other = make(*first), make(*second)
    parsed = AudioKey.parse(key)
    assert parsed.namespace == maker.split()[0] and parsed.namespace in audio_keys.NAMESPACES
    assert parsed.source.startswith(f"{parsed.namespace}:") and parsed.overlaps(parsed)
    assert audio_keys.parsed(key) == key and audio_keys.recognise(key) == key
    key.encode()
    if parsed.start is None and maker not in (
        "yt",
        "fs",
    ):  # nothing of the name is lost
        assert (key == other) == (first == second)
    assert parsed.overlaps(AudioKey.parse(other)) == AudioKey.parse(other).overlaps(parsed)


@given(videos, st.integers(0, 99999), st.integers(1, 10))
def test_a_promised_form_of_youtube_ids_is_kept_to(video, start, seconds):
    clip = audio_keys.youtube_clip
    assert clip(f"Y{video}", "Y<id>") == (video, None) and clip(video, "<id>") == (video, None)
    assert clip(f"{video}_{start:06d}", "<id>_<start>") == (video, f"{start}.000")
    assert clip(f"{video}_{start}_{seconds}", "<id>_<start>_<seconds>") == (video, f"{start}.000")
    assert clip(f"{video}_{start}.5_{start + 10}.5", "<id>_<start>_<end>") == (video, f"{start}.500")
    assert clip(f"{video}_{start * 1000}", "<id>_<ms>") == (video, f"{start}.000")
    for wrong, form in (
        (f"Y{video[1:]}", "Y<id>"), (video[1:], "<id>"), (f"{video}x_30", "<id>_<start>"), (video, "<id>_<start>"),
        (f"{video}_{start}_{start + 11}", "<id>_<start>_<end>"), (f"{video}_{start}_{start}", "<id>_<start>_<end>"),
        (f"{video}_{start}_11", "<id>_<start>_<seconds>"),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            clip(wrong, form)


def test_what_tells_no_namespace_is_not_guessed():
    assert audio_keys.recognise("100032-3-0-0.wav") == "fs:100032"
    assert audio_keys.recognise("audio/1-100038-A-14.wav") == "fs:100038/A"
    assert audio_keys.recognise("id00012-21Uxsk56VDQ-00001") == "vox:id00012/21Uxsk56VDQ/00001"
    assert audio_keys.recognise("Chat/music_QA_musiccaps/-BHPu-dPmWQ.wav") == "yt:-BHPu-dPmWQ:as"
    for name in ("180913", "180913.flac", "track_0000214", "some recording.wav", ""):
        with pytest.raises(ValueError, match="tells no namespace"):
            audio_keys.recognise(name)


@pytest.mark.parametrize("name", ["x" * 256, "a\nb", "a\0b", "\ud83d", " "])
def test_an_id_that_cannot_be_a_file_name_is_refused(name):
    with pytest.raises(ValueError):
        audio_keys.bbc(name)
