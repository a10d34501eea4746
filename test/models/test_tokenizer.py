# SPDX-License-Identifier: Apache-2.0
import pytest
import sentencepiece
import torch

from icefall_alp.models.tokenizer import load_tokenizer
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
