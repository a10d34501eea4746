# SPDX-License-Identifier: Apache-2.0
"""Notices that a process of a run has died or hangs, says which, and ends this one: nobody waits for ever.

A thread in every process tells the others, through a store of its own, that the process lives, how many collectives it
has come to and how many batches it has finished. Who is silent for a while is lost. Where nobody moves for longer than
a step may take, who has come to the fewest collectives hangs: the others wait for it there.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from icefall_alp.utils import distributed

TICK, SILENCE = 1.0, 30.0  # seconds between signs of life; without one for how long a process is lost


class Watchdog:
    """Watches the processes of a run; does nothing where there is only one.

    Args:
        hang_seconds: how long no process may finish a batch or come to a collective.
        leave: called with the message when one is lost; ends this process.
    """

    def __init__(self, hang_seconds: float, leave: Callable[[str], None] | None = None) -> None:
        self._hang_seconds = hang_seconds
        self._leave = leave or _leave
        self._done = threading.Event()
        self._beats = 0
        self._seen: dict[int, tuple[list[int], float]] = {}
        self._progress = time.monotonic()

    def beat(self) -> None:
        """A batch is finished. The first one starts the watch for hanging: what comes before may take its time."""
        self._beats += 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the body runs; a failure in it that another process caused is told as such."""
        if distributed.world_size() == 1:
            yield
            return
        store = _own_store()
        thread = threading.Thread(target=self._watch, args=(store,), name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        except RuntimeError:
            # Mostly a collective that lost its other end: give the thread the time to find out who it was.
            thread.join(SILENCE + 3 * TICK)
            raise
        finally:
            self._done.set()
            thread.join(3 * TICK)

    def _watch(self, store: dist.TCPStore) -> None:
        rank, world_size, tick, failures = distributed.rank(), distributed.world_size(), 0, 0
        while not self._done.wait(TICK):
            tick, lost = tick + 1, None
            try:
                store.set(f"alive/{rank}", json.dumps([tick, distributed.num_collectives(), self._beats]))
                lost, failures = self._judge({r: _sign(store, r) for r in range(world_size)}, time.monotonic()), 0
            except RuntimeError:
                failures += 1
                lost = "rank 0 is lost: its store does not answer" if failures * TICK >= SILENCE / 2 else None
            if lost is not None and not self._done.is_set():
                self._leave(f"{lost}; this process leaves too. Start again: training goes on from its last checkpoint")
                return

    def _judge(self, signs: dict[int, list[int]], now: float) -> str | None:
        """Who is lost, if anyone; `signs` are [tick, collectives, batches] of each rank."""
        for rank, sign in signs.items():
            before, since = self._seen.get(rank, ([-1, -1, -1], now))
            if before[1:] != sign[1:]:
                self._progress = now
            if before[0] != sign[0]:
                self._seen[rank] = (sign, now)
            elif now - since > SILENCE:
                return f"rank {rank} is lost: no sign of life for {SILENCE:.0f} s"
        if not all(sign[2] for sign in signs.values()) or now - self._progress <= self._hang_seconds:
            return None
        fewest = min(sign[1] for sign in signs.values())
        slowest = [str(rank) for rank, sign in signs.items() if sign[1] == fewest]
        who = "every rank" if len(slowest) == len(signs) else f"rank {' and '.join(slowest)}"
        return f"{who} hangs: nothing has moved for {self._hang_seconds:.0f} s"


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


def _sign(store: dist.TCPStore, rank: int) -> list[int]:
    key = f"alive/{rank}"
    return json.loads(store.get(key)) if store.check([key]) else [0, 0, 0]


def _leave(message: str) -> None:
    print(f"error: rank {distributed.rank()}: {message}", file=sys.stderr, flush=True)
    os._exit(1)
