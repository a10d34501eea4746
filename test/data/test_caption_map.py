# SPDX-License-Identifier: Apache-2.0
"""Purity against loops over pairs; embeddings of a padded batch against each caption alone; sampling against chance."""

import numpy as np
import pytest
import torch

from icefall_alp.data import caption_map
from icefall_alp.data.caption_map import CaptionSample, embed, measure_purity, project
from icefall_alp.utils.errors import UserError

CAPTIONS = ["a dog barks", "rain falls on a tin roof and a dog barks", "dog", "a slow tune on a harp"]


def test_purity_is_that_of_a_loop_over_pairs(monkeypatch):
    monkeypatch.setattr(caption_map, "NUM_NEIGHBOURS", 3)
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(12, 5)) + np.repeat([[2.0], [0.0], [-1.0]], [4, 5, 3], axis=0)
    sources = ["a"] * 4 + ["b"] * 5 + ["c"] * 3
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    widths, shares = [], []
    for i, source in enumerate(sources):
        others = [j for j in range(12) if j != i]
        nearest = sorted(others, key=lambda j, i=i: distance[i, j])[:3]
        shares.append(np.mean([sources[j] == source for j in nearest]))
        mean = {s: np.mean([distance[i, j] for j in others if sources[j] == s]) for s in "abc"}
        own, other = mean[source], min(mean[s] for s in "abc" if s != source)
        widths.append((other - own) / max(own, other))
    purity = measure_purity(embeddings, sources)
    assert purity.silhouette == pytest.approx(np.mean(widths)) and purity.neighbours == pytest.approx(np.mean(shares))
    assert purity.chance == pytest.approx((4 * 3 + 5 * 4 + 3 * 2) / (12 * 11))
    assert purity.by_source["b"] == (pytest.approx(np.mean(widths[4:9])), pytest.approx(np.mean(shares[4:9])))


def test_sources_with_their_own_words_are_apart_and_shuffled_ones_are_not():
    generator = np.random.default_rng(1)
    words = {"sound": ["dog", "rain", "engine", "door", "bird"], "music": ["harp", "drum", "tune", "chord", "choir"]}
    captions = [" ".join(generator.choice(words[s], 4)) for s in words for _ in range(30)]
    sources = ["sound"] * 30 + ["music"] * 30
    embeddings, how = embed(captions, None, seed=0)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(60), abs=1e-5) and "TF-IDF" in how
    apart = measure_purity(embeddings, sources)
    mixed = measure_purity(embeddings, [sources[i] for i in generator.permutation(60)])
    assert apart.neighbours > 0.9 and apart.silhouette > 0.1
    assert abs(mixed.neighbours - mixed.chance) < 0.12 and abs(mixed.silhouette) < 0.05
    plane = project(embeddings, seed=0)
    assert plane.shape == (60, 2) and np.array_equal(plane, project(embeddings, seed=0))
    assert measure_purity(plane, sources, "euclidean").neighbours > 0.9


@pytest.fixture
def encoder_folder(tmp_path):
    """A tiny BERT with random weights and a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    pieces = ["[PAD]", "[UNK]", *sorted({word for caption in CAPTIONS for word in caption.split()})]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(pieces), max_position_embeddings=20, **sizes)
    BertModel(config).save_pretrained(tmp_path)
    return tmp_path


def test_a_sentence_encoder_gives_the_mean_over_the_tokens(encoder_folder):
    from transformers import AutoTokenizer, BertModel

    embeddings, how = embed(CAPTIONS, encoder_folder, seed=0)
    model, tokenizer = BertModel.from_pretrained(encoder_folder).eval(), AutoTokenizer.from_pretrained(encoder_folder)
    for caption, embedding in zip(CAPTIONS, embeddings, strict=True):
        with torch.no_grad():
            mean = model(torch.tensor([tokenizer(caption)["input_ids"]])).last_hidden_state[0].mean(dim=0)
        assert embedding == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    assert encoder_folder.name in how and "16 dimensions" in how


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no sentence encoder"):
        embed(CAPTIONS, tmp_path / "absent", seed=0)


def test_every_caption_has_the_same_chance_and_sources_are_equally_large():
    drawn = np.zeros(40)
    for seed in range(400):
        sample = CaptionSample(10, seed)
        for number in range(40):
            sample.add("many", str(number))
        for number in range(7):
            sample.add("few", f"few {number}")
        sample.add("one", "alone")
        texts, sources = sample.drawn()
        assert sources == ["few"] * 7 + ["many"] * 7 and texts[:7] == [f"few {number}" for number in range(7)]
        drawn[[int(text) for text in sample._kept["many"]]] += 1
    assert drawn.sum() == 4000 and drawn.min() > 60 and drawn.max() < 140  # 100 each; deviation 8.7
