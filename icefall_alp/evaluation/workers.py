# SPDX-License-Identifier: Apache-2.0
"""Processes that share the work of an evaluation command, on the CPU's threads or the GPUs in turn."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import torch

from icefall_alp.utils import distributed


def for_each(function: Callable[..., None], jobs: Sequence[tuple[Any, ...]], num_jobs: int, fills_gpu: bool) -> None:
    """Call a function once for each job; what it returns is dropped.

    One job, or one process, runs here; several run in processes of their own, which on GPUs are started anew: function
    and arguments must then be what pickling finds by name, and plain data.

    Args:
        function: is called with the arguments of each job.
        jobs: arguments.
        num_jobs: processes, at most.
        fills_gpu: two jobs at a time would not fit into a GPU's memory; at most as many run as there are GPUs.

    Raises:
        Exception: the first that a job raised.
    """
    on_cpu = distributed.device().type == "cpu"
    num_jobs = min(num_jobs, torch.accelerator.device_count()) if fills_gpu and not on_cpu else num_jobs
    if num_jobs == 1 or len(jobs) == 1:
        for job in jobs:
            function(*job)
        return
    threads = max(1, torch.get_num_threads() // num_jobs)
    # nothing has been computed here yet, so a forked process may use threads; a GPU does not survive a fork
    context = multiprocessing.get_context("fork" if on_cpu else "spawn")
    with ProcessPoolExecutor(num_jobs, context, _begin, (context.Value("i", 0), threads)) as pool:
        for done in [pool.submit(function, *job) for job in jobs]:
            done.result()


def _begin(num_begun: Synchronized[int], threads: int) -> None:
    """A share of the CPU's threads, and the GPUs in turn."""
    torch.set_num_threads(threads)
    if distributed.device().type == "cpu":
        return
    with num_begun.get_lock():
        number, num_begun.value = num_begun.value, num_begun.value + 1
    os.environ["LOCAL_RANK"] = str(number % torch.accelerator.device_count())
    torch.accelerator.set_device_index(distributed.device())  # Triton's kernels run on the current one
