# SPDX-License-Identifier: Apache-2.0
"""How far apart the captions of different sources lie (paper, Figure 3): embeddings, cluster purity, t-SNE.

The paper shows a t-SNE of sentence-BERT embeddings and states no number; here the clusters are measured as well, in the
space of the embeddings, which a projection to the plane distorts. The paper names neither its model, its sample nor the
perplexity. Embeddings come from a Hugging Face folder (mean over the tokens of the last layer, as sentence-BERT does)
or, without one, from TF-IDF over words and pairs of words, reduced by a truncated SVD (latent semantic analysis).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import NearestNeighbors

from icefall_alp.data.statistics import words_of
from icefall_alp.utils.errors import UserError

NUM_NEIGHBOURS = 10
_PERPLEXITY = 30.0
_DIMENSIONS = 64  # of the reduced TF-IDF
_BATCH = 64  # captions


class CaptionSample:
    """Equally many captions of every source, drawn while the captions pass by."""

    def __init__(self, per_source: int, seed: int) -> None:
        self._per_source = per_source
        self._seed = seed
        self._generators: dict[str, random.Random] = {}
        self._kept: dict[str, list[str]] = {}
        self._seen: dict[str, int] = {}

    def add(self, source: str, caption: str) -> None:
        """Offer a caption: each has the same chance to stay (reservoir sampling)."""
        kept, seen = self._kept.setdefault(source, []), self._seen.get(source, 0)
        self._seen[source] = seen + 1
        if len(kept) < self._per_source:
            kept.append(caption)
            return
        generator = self._generators.setdefault(source, random.Random(f"{self._seed} {source}"))
        place = generator.randrange(seen + 1)
        if place < self._per_source:
            kept[place] = caption

    def drawn(self) -> tuple[list[str], list[str]]:
        """Captions and their sources; of all sources as many as the smallest has, if that is at least two."""
        kept = {source: captions for source, captions in sorted(self._kept.items()) if len(captions) > 1}
        size = min(map(len, kept.values()), default=0)
        drawn = [(text, source) for source, captions in kept.items() for text in captions[:size]]
        return [text for text, _ in drawn], [source for _, source in drawn]


@dataclass(frozen=True)
class Purity:
    """How well sources are told apart by the embeddings of their captions.

    Attributes:
        silhouette: mean silhouette coefficient: -1 to 1, about 0 where sources are mixed.
        neighbours: share of a caption's nearest neighbours that are of its source, mean over captions.
        chance: that share if neighbours were drawn at random.
        by_source: (silhouette, neighbours) of each source.
    """

    silhouette: float
    neighbours: float
    chance: float
    by_source: dict[str, tuple[float, float]]


def measure_purity(embeddings: np.ndarray, sources: list[str], metric: str = "cosine") -> Purity:
    """Purity of embeddings (N, D) of captions of at least two sources, each with at least two captions.

    Args:
        embeddings: or places in the plane.
        sources: N names.
        metric: distance, as scikit-learn names it.
    """
    labels = np.array(sources)
    num_neighbours = min(NUM_NEIGHBOURS, len(labels) - 1)
    search = NearestNeighbors(n_neighbors=num_neighbours, metric=metric).fit(embeddings)
    same = labels[search.kneighbors(return_distance=False)] == labels[:, None]  # a point is not its own neighbour
    silhouettes = silhouette_samples(embeddings, labels, metric=metric)
    names, counts = np.unique(labels, return_counts=True)
    return Purity(
        silhouette=float(silhouettes.mean()),
        neighbours=float(same.mean()),
        chance=float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1))),
        by_source={
            str(name): (float(silhouettes[labels == name].mean()), float(same[labels == name].mean())) for name in names
        },
    )


def project(embeddings: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE of embeddings (N, D) in the plane, (N, 2); cosine distance."""
    perplexity = min(_PERPLEXITY, (len(embeddings) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=seed)
    plane: np.ndarray = tsne.fit_transform(embeddings)
    return plane


def embed(captions: list[str], encoder: Path | None, seed: int) -> tuple[np.ndarray, str]:
    """Embeddings (N, D) of unit length, and how they were made.

    Args:
        captions: N texts.
        encoder: Hugging Face folder of a sentence encoder; None for TF-IDF.
        seed: of the SVD.

    Raises:
        UserError: the folder holds no model that can be read.
    """
    if encoder is None:
        embeddings, how = _latent_semantic(captions, seed), "TF-IDF of words and word pairs, reduced by SVD"
    else:
        embeddings, how = _sentence_encoder(captions, encoder), f"mean over the tokens of {encoder.name}"
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.maximum(norms, 1e-12), f"{how}; {embeddings.shape[1]} dimensions"


def _latent_semantic(captions: list[str], seed: int) -> np.ndarray:
    vectorizer = TfidfVectorizer(tokenizer=words_of, lowercase=False, token_pattern=None, ngram_range=(1, 2))
    weights = vectorizer.fit_transform(captions)
    dimensions = max(1, min(_DIMENSIONS, min(weights.shape) - 1))
    reduced: np.ndarray = TruncatedSVD(dimensions, random_state=seed).fit_transform(weights)
    return reduced


def _sentence_encoder(captions: list[str], folder: Path) -> np.ndarray:
    from transformers import AutoModel, AutoTokenizer  # not needed without a folder

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no sentence encoder that transformers can read ({error})") from error
    longest = min(512, tokenizer.model_max_length)
    means = []
    with torch.inference_mode():
        for first in range(0, len(captions), _BATCH):
            texts = captions[first : first + _BATCH]
            batch = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
            hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            means.append((hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0))
    return torch.cat(means).numpy()
