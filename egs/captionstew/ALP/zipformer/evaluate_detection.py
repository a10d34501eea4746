#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sound event detection on a frozen encoder's frames (paper, Table 3a).

  evaluate_detection.py --exp-dir exp/contrastive_scratch --task conf/mini/tasks/detection/audioset_strong.yaml

Several runs and several tasks may be named at once. One JSON file per number goes to `<exp-dir>/results/detection`;
numbers that exist for the same encoder and task are left alone. `exp/log_mel` is the baseline without an encoder.
"""

from __future__ import annotations

from icefall_alp.evaluation.detection import PROTOCOL
from icefall_alp.evaluation.tasks import main

if __name__ == "__main__":
    main(PROTOCOL, __doc__)
