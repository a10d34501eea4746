# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import sentencepiece
import tokenizers
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from icefall_alp.models.tokenizer import load_tokenizer, train_sentencepiece
from icefall_alp.utils.errors import UserError


@pytest.fixture(params=["sentencepiece_path", "bert_tokenizer_folder", "bart_tokenizer_folder"])
def path(request):
    return request.getfixturevalue(request.param)


def test_special_pieces_have_their_agreed_ids(sentencepiece_path):
    tokenizer = load_tokenizer(sentencepiece_path)
    ids = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id)
    assert ids == (0, 1, 2)
    assert tokenizer.mask_id == 4 < tokenizer.vocab_size


def test_bert_and_bart_special_tokens_are_found(bert_tokenizer_folder, bart_tokenizer_folder):
    bert, bart = load_tokenizer(bert_tokenizer_folder), load_tokenizer(bart_tokenizer_folder)
    assert (bert.pad_id, bert.bos_id, bert.eos_id, bert.mask_id) == (0, 2, 3, 4)
    assert (bart.bos_id, bart.pad_id, bart.eos_id, bart.mask_id) == (0, 1, 2, 4)


def test_rows_begin_and_end_and_are_padded(path, captions):
    tokenizer = load_tokenizer(path)
    ids, lens, num_cut = tokenizer.encode(captions, 64)
    assert ids.dtype == lens.dtype == torch.int64 and num_cut == 0
    assert ids.shape == (len(captions), lens.max())
    for row, length in zip(ids, lens, strict=True):
        assert row[0] == tokenizer.bos_id and row[length - 1] == tokenizer.eos_id
        assert (row[length:] == tokenizer.pad_id).all() and (row[:length] != tokenizer.pad_id).all()


def test_what_is_decoded_is_what_was_encoded(path, captions):
    tokenizer = load_tokenizer(path)
    ids, _, _ = tokenizer.encode([*captions, ""], 64)
    assert tokenizer.decode(ids) == [*captions, ""]
    assert tokenizer.decode([[*row[1:], tokenizer.mask_id] for row in ids.tolist()]) == [*captions, ""]


def test_long_captions_are_cut_and_counted(path, captions):
    tokenizer = load_tokenizer(path)
    whole, _, _ = tokenizer.encode(captions, 64)
    ids, lens, num_cut = tokenizer.encode([captions[0], "a dog"], 5)
    assert num_cut == 1 and ids.shape[1] == 5
    assert ids[0, :4].equal(whole[0, :4]) and ids[0, 4] == tokenizer.eos_id
    assert tokenizer.encode([captions[0]], int(lens.max()) + 60)[2] == 0


def test_a_saved_tokenizer_is_the_same(path, captions, tmp_path):
    tokenizer = load_tokenizer(path)
    again = load_tokenizer(tmp_path / tokenizer.save(tmp_path))
    assert again.encode(captions, 32)[0].equal(tokenizer.encode(captions, 32)[0])
    assert (again.vocab_size, again.mask_id) == (tokenizer.vocab_size, tokenizer.mask_id)


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer at '.*absent.model'; give"):
        load_tokenizer(tmp_path / "absent.model")


@pytest.mark.parametrize("content", [b"", b"not a model at all"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "x.model").write_bytes(content)
    with pytest.raises(UserError, match=r"x.model: not a SentencePiece model"):
        load_tokenizer(tmp_path / "x.model")


def test_a_model_without_our_pieces_is_refused(tmp_path, captions):
    with (tmp_path / "x.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(captions), model_writer=file, vocab_size=60, hard_vocab_limit=False, minloglevel=2
        )
    with pytest.raises(UserError, match="lacks one of <pad>, <s>, </s>, <unk>, <mask>"):
        load_tokenizer(tmp_path / "x.model")


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match="no Hugging Face tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_mask_is_refused(hugging_face_folder):
    folder = hugging_face_folder(bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    with pytest.raises(UserError, match="has no mask token"):
        load_tokenizer(folder)


def test_letters_keep_their_case_and_form(tmp_path):
    texts = ["A Dog barks at NASA", "caf\u00e9 \ufb01ddle \u00bd \uff21"]
    train_sentencepiece(texts * 9, tmp_path / "bpe.model", 80)
    tokenizer = load_tokenizer(tmp_path / "bpe.model")
    ids, _, _ = tokenizer.encode(texts, 64)
    assert tokenizer.decode(ids) == texts


def test_lengths_count_what_would_be_cut(path, captions):
    tokenizer = load_tokenizer(path)
    _, lens, _ = tokenizer.encode(captions, 64)
    assert tokenizer.lengths(captions) == lens.tolist()
    assert tokenizer.lengths(["a dog " * 90])[0] > 128


SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}


@pytest.fixture
def byte_level_folder(tmp_path):
    """A tokenizer as RoBERTa and BART have it: bytes, two merges, and what they make."""
    merges = [("o", "g"), ("D", "og")]
    pieces = [*SPECIAL.values(), *sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), "og", "Dog"]
    model = tokenizers.Tokenizer(tokenizers.models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=model, **SPECIAL).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_ids_are_the_same_in_every_version_of_transformers(byte_level_folder):
    tokenizer = load_tokenizer(byte_level_folder)
    assert (tokenizer.bos_id, tokenizer.pad_id, tokenizer.eos_id, tokenizer.mask_id) == (0, 1, 2, 4)
    ids, _, _ = tokenizer.encode(["Dog dog D", "\u00e9"], 16)
    # the printable bytes from "!" on have the ids from 5 on; a space is the byte written as \u0120
    space = 5 + sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()).index("\u0120")
    letter = {c: 5 + ord(c) - ord("!") for c in "Dd"}
    assert ids[0].tolist() == [0, 262, space, letter["d"], 261, space, letter["D"], 2]
    assert ids[1, :4].tolist() == [0, 5 + 94 + 0xC3 - 0xA1 - 1, 5 + 94 + 0xA9 - 0xA1, 2]
    assert tokenizer.decode(ids) == ["Dog dog D", "\u00e9"]


def test_a_saved_tokenizer_names_a_class_that_versions_4_and_5_know(byte_level_folder, tmp_path):
    tokenizer = load_tokenizer(byte_level_folder)
    saved = tmp_path / "tower" / tokenizer.save(tmp_path / "tower")
    config = json.loads((saved / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast" and config["mask_token"] == "<mask>"
    assert load_tokenizer(saved).encode(["Dog dog D"], 16)[0].equal(tokenizer.encode(["Dog dog D"], 16)[0])


def test_a_tokenizer_of_an_unknown_class_says_how_it_can_be_read(byte_level_folder, monkeypatch):
    def refuse(path, **options):
        raise ValueError("Tokenizer class TokenizersBackend does not exist")  # as version 4 does

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(UserError, match=r"does not exist\); .* set tokenizer_class .* to PreTrainedTokenizerFast"):
        load_tokenizer(byte_level_folder)


def test_a_tokenizer_that_lower_cases_says_so(byte_level_folder, caplog):
    load_tokenizer(byte_level_folder)
    assert not caplog.records
    path = byte_level_folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "normalizer": {"type": "Lowercase"}}), encoding="utf-8")
    load_tokenizer(byte_level_folder)
    assert "lower-cases what it reads" in caplog.text
