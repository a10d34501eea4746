#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Search recordings by text.

  tools/retrieve.py --encoder exp/contrastive_scratch --audio FOLDER --text "a dog barks in the rain"

Any file that libsndfile reads (wav, flac, ogg, opus, mp3), any rate, mono or stereo; long files are searched window by
window. Printed are similarity, stretch and file, best first. The index is kept, so that a second search embeds only
files that are new or changed. What cannot be used is named on stderr with its cause, and the rest goes on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from icefall_alp.data.recordings import clock, list_files, shown
from icefall_alp.evaluation.search import Embedder, Index, run_folder
from icefall_alp.utils.digests import sha256_text
from icefall_alp.utils.errors import UserError, clean_exit


@clean_exit
def main() -> None:
    """Read the command line, bring the index up to date, search."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--encoder", type=Path, required=True, help="exp/<run> of a contrastive run, or its encoder/")
    parser.add_argument("--audio", type=Path, nargs="+", required=True, help="folders and files")
    parser.add_argument("--text", nargs="+", required=True, help="what to look for, each text by itself")
    parser.add_argument("--top", type=int, default=10, help="results per text (default: %(default)s)")
    parser.add_argument("--window", type=float, default=30.0, help="seconds (default: %(default)s)")
    parser.add_argument("--index", type=Path, help="folder of the index (default: one in the run's folder index/)")
    options = parser.parse_args()
    if options.top < 1 or not 1.0 <= options.window <= 600.0:
        raise UserError("--top must be at least 1 and --window between 1 and 600 seconds")
    run = run_folder(options.encoder, "text_tower")
    # absolute, as the index has them; not resolved, so that a broken link is named and not its target
    files = [Path(os.path.abspath(path)) for path in list_files(options.audio)]  # noqa: PTH100
    if not files:
        raise UserError(f"no file in {', '.join(map(str, options.audio))}")
    places = "\n".join(str(path.resolve()) for path in options.audio)
    folder = options.index or run / "index" / sha256_text(places)[:16]
    embedder = Embedder(run)
    index = Index.build(folder, files, embedder, options.window)
    for text, query in zip(options.text, embedder.embed_text(options.text), strict=True):
        print(f"# {shown(text)}")
        for score, entry in index.search(query, options.top):
            print(f"{score:.3f}\t{clock(entry.start)}-{clock(entry.end)}\t{shown(entry.file)}")


if __name__ == "__main__":
    main()
