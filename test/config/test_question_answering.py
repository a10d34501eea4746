# SPDX-License-Identifier: Apache-2.0
"""Settings that no protocol, adaptor or judge has are refused by name."""

import pytest

from icefall_alp.config import QuestionAnsweringConfig
from icefall_alp.config.loader import config_from_dict
from icefall_alp.utils.errors import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "essay"}, "'essay' is none of choice, chat"),
        ({"answers": "best"}, "'best' is none of majority, unanimous"),
        ({"adaptor": {"stack": 0}}, "adaptor.stack: 0 frames cannot be stacked"),
        ({"judge": {"kind": "crowd"}}, "judge.kind: 'crowd' is none of none, local, endpoint"),
        ({"judge": {"kind": "local", "model": "folder", "revision": "1234567"}}, "at least 8 digits of its digest"),
        ({"judge": {"kind": "endpoint", "model": "m"}}, "needs both"),
        ({"judge": {"repeats": 0}}, "begin at 1"),
        ({"judge": {"api_key": "k"}}, "judge.api_key: unknown key"),
        ({"parts": [{"tasks": "a"}]}, r"parts\[0\].tasks: unknown key"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        config_from_dict(QuestionAnsweringConfig, settings)
