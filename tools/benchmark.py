#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure one part against its baseline, in turns within one run.

  tools/benchmark.py optimizer --threads 2
  tools/benchmark.py optimizer --device DEVICE

Every contender is warmed up, then all are timed in turn (A B A B ...). Printed are the median time, and the median and
range over the rounds of its ratio to the first baseline; the machine; and what else the benchmark is about.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.timing import describe_machine
from icefall_alp.utils.errors import clean_exit
from icefall_alp.utils.exact_arithmetic import compute_exactly

NAMES = sorted(path.stem for path in (Path(__file__).parent / "benchmarks").glob("[a-z]*.py") if path.stem != "timing")


@clean_exit
def main() -> None:
    """Parse the command line and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    for name in NAMES:
        benchmark = import_module(f"benchmarks.{name}")
        command = commands.add_parser(name, help=benchmark.__doc__, description=benchmark.__doc__)
        benchmark.add_arguments(command)
        command.add_argument("--rounds", type=int, default=7, help="at least 5 (default: %(default)s)")
        command.add_argument("--threads", type=int, default=1, help="of the CPU (default: %(default)s)")
        command.add_argument("--device", type=torch.device, default="cpu", help="as PyTorch names it")
        command.set_defaults(run=benchmark.run)
    arguments = parser.parse_args()
    if arguments.rounds < 5:
        parser.error("--rounds must be at least 5")
    torch.set_num_threads(arguments.threads)
    compute_exactly()
    if arguments.device.index is not None:
        torch.accelerator.set_device_index(arguments.device)  # Triton's kernels run on the current one
    print(describe_machine(arguments.device), flush=True)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
