# SPDX-License-Identifier: Apache-2.0
"""Notices that a process of a run has died or hangs, says which, and ends this one: nobody waits for ever.

Two threads in every process: one passes signs of life to the others through a store of its own, which lives in the
first process; the other judges what has arrived (`lost_ranks`). They are two because a call to the store of a frozen
process never returns.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch.distributed as dist

from icefall_alp.utils import distributed
from icefall_alp.utils.lost_ranks import Judge, Sign

TICK, SILENCE = 1.0, 30.0  # seconds between signs of life; without one for how long a process is lost


class Watchdog:
    """Watches the processes of a run; does nothing where there is only one.

    Args:
        hang_seconds: how long no process may finish a batch or come to a collective.
        silence: seconds without a sign of life until a process is lost.
        leave: called with the message when one is lost; ends this process.
    """

    def __init__(
        self, hang_seconds: float, silence: float = SILENCE, leave: Callable[[str], None] | None = None
    ) -> None:
        self._hang_seconds, self._silence = hang_seconds, silence
        self._leave = leave or _leave
        self._done = threading.Event()
        self._batches = self._patience = 0
        self._rank, self._verdict = 0, ""
        self._signs: dict[int, Sign] | None = None  # that arrived since the last look

    def beat(self) -> None:
        """A batch is finished. The first one starts the watch for hanging: what comes before may take its time."""
        self._batches += 1

    @contextmanager
    def patient(self) -> Iterator[None]:
        """What the body does, such as waiting for a slow disk, may take long: meanwhile nobody counts as hanging."""
        self._patience += 1
        try:
            yield
        finally:
            self._patience -= 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the body runs; a failure in it that another process caused is told as such."""
        if distributed.world_size() == 1:
            yield
            return
        self._rank, store = distributed.rank(), _own_store()
        threads = [
            threading.Thread(target=function, args=arguments, name="watchdog", daemon=True)
            for function, arguments in ((self._exchange, (store,)), (self._watch, ()))
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        except RuntimeError as error:
            if "gloo" in str(error) or "NCCL" in str(error):
                # A collective that lost its other end: give the judge the time to find out who it was.
                threads[1].join(self._silence + 15 * TICK)
            raise
        finally:
            self._done.set()
            for thread in threads:
                thread.join(3 * TICK)

    def _exchange(self, store: dist.TCPStore) -> None:
        world_size, tick = dist.get_world_size(), 0
        while not self._done.wait(TICK):
            tick += 1
            sign = Sign(tick, distributed.num_collectives(), self._batches, self._patience > 0, self._verdict)
            with suppress(RuntimeError):  # the first process is gone: what does not arrive is noticed
                store.set(f"alive/{self._rank}", json.dumps(sign))
                self._signs = {other: _sign(store, other) for other in range(world_size)}

    def _watch(self) -> None:
        judge = Judge(round(self._silence / TICK), round(self._hang_seconds / TICK))
        while not self._done.wait(TICK):
            signs, self._signs = self._signs, None
            self._verdict = judge.look(signs) or ""
            if self._verdict:
                break
        # Once the first process is gone nobody learns who was lost: it waits longest.
        if not self._done.wait((5 if self._rank == 0 else 3) * TICK):
            self._leave(
                f"rank {self._rank}: {self._verdict}; this process leaves too. "
                "Start again: training goes on from its last checkpoint"
            )


def _own_store() -> dist.TCPStore:
    """A store of the watchdog alone: the one of the process group would block while others use it."""
    address = os.environ.get("MASTER_ADDR", "127.0.0.1")
    patience = timedelta(seconds=SILENCE)
    if distributed.rank() == 0:
        store = dist.TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=patience)
        distributed.gather_json(store.port)
        return store
    port = distributed.gather_json(None)[0]
    return dist.TCPStore(address, port, is_master=False, timeout=patience)


def _sign(store: dist.TCPStore, rank: int) -> Sign:
    key = f"alive/{rank}"
    return Sign(*json.loads(store.get(key))) if store.check([key]) else Sign()


def _leave(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(1)
