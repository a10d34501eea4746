# SPDX-License-Identifier: Apache-2.0
"""A signal is remembered, not obeyed at once; outside the block the earlier handler is back."""

import os
import signal

import pytest

from icefall_alp.utils.signals import STOPPED, StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_remembered(number):
    stop, before = StopRequest(), signal.getsignal(number)
    with stop.listening():
        assert not stop.received
        os.kill(os.getpid(), number)
        assert stop.received
    assert signal.getsignal(number) == before
    assert STOPPED == 75
