#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Captioning with a frozen encoder and a decoder whose cross-attention is tuned to it (paper, Table 3b).

  evaluate_captioning.py --exp-dir exp/contrastive_scratch --task conf/mini/tasks/captioning/audiocaps.yaml

Several runs and several tasks may be named at once. One JSON file per number goes to `<exp-dir>/results/captioning`,
and what was written, for reading, to recogs- and errs- files beside them; numbers that exist for the same encoder and
task are left alone. `exp/log_mel` is the baseline without an encoder.
"""

from __future__ import annotations

from icefall_alp.evaluation.captioning import PROTOCOL
from icefall_alp.evaluation.tasks import main

if __name__ == "__main__":
    main(PROTOCOL, __doc__)
