# SPDX-License-Identifier: Apache-2.0
"""Every clip of every embedded corpus, in the order in which the lists have them."""

from __future__ import annotations

from .music_corpora import plan_jamendomaxcaps, plan_magnatagatune, plan_musiccaps, plan_musicqa, plan_nsynth
from .planning import Item, Planner
from .questions import plan_clothoaqa
from .small_corpora import plan_esc50, plan_leaks, plan_musan, plan_urbansound8k
from .speech_corpora import plan_cremad, plan_voxceleb1
from .youtube_corpora import plan_audioset_strong, plan_audiosetcaps, plan_fusionaudio, plan_vggsound


def plan_corpora(planner: Planner) -> list[Item]:
    """Plan the sources and benchmarks that everything else is made of, then those that share their audio."""
    items = planner.plan()
    shared = ("audiocaps", "audioset", "clotho")
    audiocaps, audioset, clotho = ([item for item in items if item.corpus == corpus] for corpus in shared)
    musiccaps, vggsound, magnatagatune = plan_musiccaps(planner), plan_vggsound(planner), plan_magnatagatune(planner)
    audiosetcaps = plan_audiosetcaps(planner, audiocaps, audioset, vggsound)
    urbansound8k, esc50 = plan_urbansound8k(planner), plan_esc50(planner)
    return [
        *items,
        *plan_leaks(planner, urbansound8k, esc50),
        *musiccaps,
        *audiosetcaps,
        *plan_fusionaudio(planner, audioset, audiosetcaps, musiccaps),
        *plan_jamendomaxcaps(planner),
        *plan_audioset_strong(planner),
        *vggsound,
        *plan_voxceleb1(planner),
        *plan_cremad(planner),
        *magnatagatune,
        *plan_nsynth(planner),
        *urbansound8k,
        *esc50,
        *plan_musan(planner),
        *plan_clothoaqa(planner, clotho),
        *plan_musicqa(planner, magnatagatune),
    ]
