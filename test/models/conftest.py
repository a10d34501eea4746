# SPDX-License-Identifier: Apache-2.0
"""Small tokenizers and text towers, made on the spot in the formats that are read from disk."""

import pytest
import torch

from icefall_alp.models.tokenizer import train_sentencepiece

CAPTIONS = [
    "a dog barks twice while rain falls",
    "soft music with drums and a bass",
    "a woman speaks calmly in a small room",
    "two birds sing and a door closes",
    "loud thunder then silence",
]


@pytest.fixture(scope="session")
def captions():
    return list(CAPTIONS)


@pytest.fixture(scope="session")
def sentencepiece_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("sentencepiece") / "bpe.model"
    train_sentencepiece(CAPTIONS * 4, path, vocab_size=120)
    return path


@pytest.fixture(scope="session")
def hugging_face_folder(tmp_path_factory):
    """Return a function that writes a word tokenizer with the given special tokens and returns its folder."""
    # not needed by the audio tests beside these, and slow to import
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def write(**special):
        folder = tmp_path_factory.mktemp("tokenizer")
        words = sorted({word for caption in CAPTIONS for word in caption.split()})
        pieces = list(dict.fromkeys([*special.values(), *words]))
        tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token=special["unk_token"]))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def bert_tokenizer_folder(hugging_face_folder):
    return hugging_face_folder(
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]"
    )


@pytest.fixture(scope="session")
def bart_tokenizer_folder(hugging_face_folder):
    return hugging_face_folder(
        bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>", mask_token="<mask>"
    )


@pytest.fixture
def same_random_numbers():
    torch.manual_seed(0)
