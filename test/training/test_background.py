# SPDX-License-Identifier: Apache-2.0
import threading
import time

import pytest

from icefall_alp.training.background import Background


def test_the_caller_goes_on_and_the_next_waits_for_the_one_before():
    background, gate, done = Background(), threading.Event(), []
    background.start(lambda: (gate.wait(10), done.append("first")))
    assert done == []
    threading.Timer(0.05, gate.set).start()
    background.start(lambda: done.append("second"))
    background.wait()
    assert done == ["first", "second"]
    background.wait()


def test_a_failure_is_raised_once_where_it_is_waited_for():
    background = Background()

    def fail():
        raise OSError(28, "No space left on device")

    background.start(fail)
    while not background.failed:
        time.sleep(0.01)
    with pytest.raises(OSError, match="No space left"):
        background.start(lambda: None)
    assert not background.failed
    background.start(lambda: None)
    background.wait()
