#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Inject faults into training, many of them, and check that nothing is lost. The tests do the same in small.

tools/inject_faults.py kills --objective captioning --num-processes 2
tools/inject_faults.py corruptions --rounds 1000
"""

from __future__ import annotations

import argparse
import tempfile
from importlib import import_module
from pathlib import Path

from icefall_alp.utils.errors import clean_exit

NAMES = ("corruptions", "elastic", "kills", "lost_rank", "signals", "soak")


@clean_exit
def main() -> None:
    """Parse the command line and run one kind of fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    for name in NAMES:
        fault = import_module(f"faults.{name}")
        command = commands.add_parser(name, help=fault.__doc__, description=fault.__doc__)
        fault.add_arguments(command)
        command.set_defaults(run=fault.run)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults_") as folder:
        print(options.run(options, Path(folder)))


if __name__ == "__main__":
    main()
