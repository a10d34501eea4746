#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Linear probes on a frozen encoder (paper, Tables 3a and 9).

  evaluate_linear_probe.py --exp-dir exp/contrastive_scratch --task conf/mini/tasks/linear_probe/fsd50k.yaml

Several runs and several tasks may be named at once. One JSON file per number goes to `<exp-dir>/results/linear_probe`;
numbers that exist for the same encoder and task are left alone. `exp/log_mel` is the baseline without an encoder.
"""

from __future__ import annotations

from icefall_alp.evaluation.linear_probe import PROTOCOL
from icefall_alp.evaluation.tasks import main

if __name__ == "__main__":
    main(PROTOCOL, __doc__)
