# SPDX-License-Identifier: Apache-2.0
"""Which recorded samples of a SoundFont 2 file sound when a key is pressed.

Reads the preset, instrument and sample tables (RIFF list `pdta`, SoundFont technical specification 2.01, section 7).
Samples that belong together - the two halves of a stereo pair, layers of one note, two headers over the same
samples - form a group: notes of one group share a recording, notes of different groups do not.
"""

from __future__ import annotations

import functools
import importlib.util
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from icefall_alp.utils.digests import sha256_bytes

INSTRUMENT, KEY_RANGE, VELOCITY_RANGE, SAMPLE_ID = 41, 43, 44, 53
EVERYTHING = (0, 127)
