#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Retrieval with a frozen encoder and a text encoder tuned to it (paper, Table 3b), or untuned (Table 10).

  evaluate_retrieval.py --exp-dir exp/contrastive_scratch --task conf/mini/tasks/retrieval/audiocaps.yaml

Several runs and several tasks may be named at once. One JSON file per number goes to `<exp-dir>/results/retrieval`;
numbers that exist for the same encoder and task are left alone. `exp/log_mel` is the baseline without an encoder.
Runs with exp/<run>/text_tower are also scored without tuning; those numbers go to `results/untuned_retrieval`.
"""

from __future__ import annotations

from icefall_alp.evaluation.retrieval import PROTOCOL, UNTUNED
from icefall_alp.evaluation.tasks import main

if __name__ == "__main__":
    main(PROTOCOL, __doc__, UNTUNED)
