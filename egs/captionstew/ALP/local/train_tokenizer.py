#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stage 3: train a SentencePiece BPE model on the training captions.

The number of pieces follows the text: at most the paper's 50k, and few enough that each is seen. The same captions
give the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from icefall_alp.data.captions import captions_of, read_jsonl
from icefall_alp.data.statistics import words_of
from icefall_alp.models.tokenizer import load_tokenizer, train_sentencepiece
from icefall_alp.utils.errors import UserError, clean_exit

MAX_CAPTIONS = 1_000_000  # more do not change the pieces but the time
MIN_VOCABULARY = 256


def training_captions(cuts: Path) -> Iterator[str]:
    """Every caption, or every k-th so that at most a million remain."""
    num_captions = sum(len(captions_of(cut)) for cut in read_jsonl(cuts))
    stride = -(-num_captions // MAX_CAPTIONS) or 1
    texts = (caption["text"] for cut in read_jsonl(cuts) for caption in captions_of(cut))
    return (text for number, text in enumerate(texts) if number % stride == 0)


@clean_exit
def main() -> None:
    """Read the command line, train, write the model."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--cuts", type=Path, default=Path("data/captionstew/captionstew_train_cuts.jsonl.gz"))
    parser.add_argument("--output", type=Path, default=Path("data/tokenizer/bpe.model"))
    parser.add_argument("--vocab-size", type=int, default=50_000, help="pieces at most (the paper: 50k)")
    parser.add_argument("--words-per-piece", type=int, default=20, help="fewer pieces where the text is short")
    args = parser.parse_args()

    captions = list(training_captions(args.cuts))
    num_words = sum(len(words_of(caption)) for caption in captions)
    if not num_words:
        raise UserError(f"{args.cuts}: no captions to train a tokenizer on; run stages 0 and 1")
    vocab_size = min(args.vocab_size, max(MIN_VOCABULARY, num_words // args.words_per_piece))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.output.with_suffix(".tmp")
    train_sentencepiece(captions, temporary, vocab_size)
    temporary.replace(args.output)
    pieces = load_tokenizer(args.output).vocab_size
    print(f"{args.output}: {pieces:,} pieces from {len(captions):,} captions, {num_words:,} words")


if __name__ == "__main__":
    main()
