#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Say in words what recordings hold.

  tools/caption.py --model exp/captioning_scratch file.wav folder ...

Any file that libsndfile reads (wav, flac, ogg, opus, mp3), any rate, mono or stereo; long files get one caption per
window. Printed are file, stretch and caption. What cannot be used is named on stderr with its cause, and the rest goes
on; the exit status is 1 where nothing could be used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from icefall_alp.data.fbank import Fbank
from icefall_alp.data.recordings import Window, clock, list_files, shown
from icefall_alp.evaluation.search import run_folder
from icefall_alp.evaluation.windows import batch_features, encoded_windows, say
from icefall_alp.models import AudioEncoder
from icefall_alp.models.beam_search import generate
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError, clean_exit


@clean_exit
@torch.no_grad()
def main() -> None:
    """Read the command line, caption every window of every file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, help="exp/<run> of a captioning run, or its encoder/")
    parser.add_argument("audio", type=Path, nargs="+", help="files and folders")
    parser.add_argument("--window", type=float, default=30.0, help="seconds (default: %(default)s)")
    parser.add_argument("--beam-size", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=60, help="of a caption (default: %(default)s)")
    parser.add_argument("--length-penalty", type=float, default=1.0, help="exponent (default: %(default)s)")
    options = parser.parse_args()
    if not 1.0 <= options.window <= 600.0 or options.beam_size < 1 or options.max_tokens < 1:
        raise UserError("--window must be 1 to 600 seconds, --beam-size and --max-tokens at least 1")
    run, place = run_folder(options.model, "text_decoder"), distributed.device()
    encoder = AudioEncoder.load(run / "encoder", mask_padding=True).to(place).eval()
    decoder, fbank = TextDecoder.load(run / "text_decoder").to(place).eval(), Fbank().to(place)
    files = list_files(options.audio)
    num_captions = num_stopped = 0

    def encode(windows: list[Window]) -> tuple[torch.Tensor, ...]:
        return encoder(*batch_features(fbank, windows))

    for batch, memory in encoded_windows(files, options.window, encode):
        ids = generate(decoder, *memory, options.beam_size, options.max_tokens, options.length_penalty)
        for window, caption in zip(batch, decoder.tokenizer.decode(ids), strict=True):
            row = shown(window.path), f"{clock(window.start)}-{clock(window.end)}", " ".join(caption.split())
            print("\t".join(row), flush=True)
        num_captions += len(batch)
        num_stopped += sum(len(tokens) == options.max_tokens for tokens in ids)
    if num_captions == 0:
        raise UserError(f"none of the {len(files)} files could be captioned")
    if num_stopped:
        say(f"note: {num_stopped} of {num_captions} captions were stopped at {options.max_tokens} tokens, unended")


if __name__ == "__main__":
    main()
