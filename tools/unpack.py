#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Unpack a corpus's archive (zip or tar) after a look at every name in it: unpack.py ARCHIVE FOLDER [--md5 SUM]."""

from __future__ import annotations

import argparse
from pathlib import Path

from icefall_alp.utils.archives import unpack
from icefall_alp.utils.errors import clean_exit


@clean_exit
def main() -> None:
    """Read the command line and unpack."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("archive", type=Path, help="zip or tar; parts (.001, .002) have to be joined first")
    parser.add_argument("folder", type=Path, help="where its content goes")
    parser.add_argument("--md5", default="", help="the check sum that the publishers name")
    args = parser.parse_args()
    print(f"{unpack(args.archive, args.folder, args.md5):,} files unpacked below {args.folder}")


if __name__ == "__main__":
    main()
