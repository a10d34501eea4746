#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Zero-shot classification: classes found by their names, with the text tower of pretraining; nothing is trained.

  evaluate_zero_shot.py --exp-dir exp/contrastive_scratch --task conf/mini/tasks/zero_shot/fsd50k.yaml

Several runs and several tasks may be named at once; runs without exp/<run>/text_tower are passed over. One JSON file
per number goes to `<exp-dir>/results/zero_shot`; numbers that exist for the same encoder and task are left alone.
"""

from __future__ import annotations

from icefall_alp.evaluation.tasks import main
from icefall_alp.evaluation.zero_shot import PROTOCOL

if __name__ == "__main__":
    main(PROTOCOL, __doc__)
