#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Question answering with a frozen encoder, a trained adaptor and a frozen language model (paper, Table 3b).

  evaluate_question_answering.py --exp-dir exp/captioning_scratch --task conf/mini/tasks/question_answering/*.yaml

Several runs and several tasks may be named at once; what tasks share stands in `conf/tasks/question_answering.yaml`.
One JSON file per number goes to `<exp-dir>/results/question_answering`, the answers to `<exp-dir>/answers`; what is
there for the same encoder and task is left alone. A judge behind an endpoint is asked only with
`--set judge.kind=endpoint judge.base_url=https://<host>/v1 judge.model=<name> judge.allow_network=true`; its key comes
from the environment (OPENAI_API_KEY).
"""

from __future__ import annotations

from icefall_alp.evaluation.question_answering import PROTOCOL
from icefall_alp.evaluation.tasks import main

if __name__ == "__main__":
    main(PROTOCOL, __doc__)
