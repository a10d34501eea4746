# SPDX-License-Identifier: Apache-2.0
"""ROUGE-L, BLEU and CIDEr-D of captions, all references of a clip used; what chance scores.

Words are those of `rouge-score`: lower-case runs of letters and digits, not stemmed. The usual Java tokenizer differs
in hyphens and abbreviations only. Shapes: N clips, each with one hypothesis and any number of references.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

Texts = Sequence[str]
_TOKENIZER = DefaultTokenizer(use_stemmer=False)
MAX_ORDER = 4
CIDER_SIGMA = 6.0  # words: how fast CIDEr-D falls with a difference in length
CIDER_SCALE = 10.0


def words(text: str) -> list[str]:
    """The words of a caption as all scores here see them."""
    return _TOKENIZER.tokenize(text)


def rouge_l_of_each(hypotheses: Texts, references: Sequence[Texts]) -> np.ndarray:
    """ROUGE-L F1 of each clip (N,) against its best-matching reference, in percent.

    The paper does not say how several references are combined; the best one is what `rouge-score`'s `score_multi` and
    most toolkits take.
    """
    # named, because the scorer would log that it takes it, and with that give every later message a second handler
    scorer = RougeScorer(["rougeL"], tokenizer=_TOKENIZER)
    pairs = zip(hypotheses, references, strict=True)
    return 100.0 * np.array([scorer.score_multi(list(own), text)["rougeL"].fmeasure for text, own in pairs])


def rouge_l(hypotheses: Texts, references: Sequence[Texts]) -> float:
    """Mean ROUGE-L over clips, in percent."""
    return float(rouge_l_of_each(hypotheses, references).mean())


def bleu(hypotheses: Texts, references: Sequence[Texts], order: int = MAX_ORDER) -> float:
    """Corpus BLEU (Papineni et al. 2002) with n-grams up to `order` and the closest reference length, in percent."""
    matched, total = np.zeros(order), np.zeros(order)
    hypothesis_length = reference_length = 0
    for text, own in zip(hypotheses, references, strict=True):
        hypothesis, lists = words(text), [words(reference) for reference in own]
        hypothesis_length += len(hypothesis)
        reference_length += min((abs(len(r) - len(hypothesis)), len(r)) for r in lists)[1]
        for n in range(1, order + 1):
            counts = _ngrams(hypothesis, n)
            allowed = Counter()
            for reference in lists:
                allowed |= _ngrams(reference, n)
            matched[n - 1] += (counts & allowed).total()
            total[n - 1] += counts.total()
    if not matched.all():
        return 0.0
    brevity = min(0.0, 1.0 - reference_length / hypothesis_length)
    return 100.0 * math.exp(brevity + float(np.log(matched / total).mean()))


def cider_d(hypotheses: Texts, references: Sequence[Texts]) -> float:
    """CIDEr-D (Vedantam et al. 2015), 0 to 10: 10 where every hypothesis is its clip's only reference.

    An n-gram weighs the less the more clips have it in a reference, so the score depends on the whole set of clips.
    """
    lists = [[words(reference) for reference in own] for own in references]
    clips_with = Counter()
    for own in lists:
        clips_with.update({gram for text in own for n in range(1, MAX_ORDER + 1) for gram in _ngrams(text, n)})
    weight = {gram: math.log(len(lists) / count) for gram, count in clips_with.items()}
    unseen = math.log(len(lists))

    def vectors(text: list[str]) -> list[dict[tuple[str, ...], float]]:
        grams = [_ngrams(text, n) for n in range(1, MAX_ORDER + 1)]
        return [{gram: count * weight.get(gram, unseen) for gram, count in counts.items()} for counts in grams]

    scores = []
    for text, own in zip(hypotheses, lists, strict=True):
        hypothesis = words(text)
        mine, total = vectors(hypothesis), 0.0
        for reference in own:
            penalty = math.exp(-((len(hypothesis) - len(reference)) ** 2) / (2 * CIDER_SIGMA**2))
            total += penalty * sum(map(_clipped_cosine, mine, vectors(reference)))
        scores.append(CIDER_SCALE * total / (MAX_ORDER * len(own)))
    return float(np.mean(scores))


def _clipped_cosine(hypothesis: dict[tuple[str, ...], float], reference: dict[tuple[str, ...], float]) -> float:
    """Cosine in which a hypothesis gains nothing from saying an n-gram more often than the reference."""
    product = sum(
        min(value, reference[gram]) * reference[gram] for gram, value in hypothesis.items() if gram in reference
    )
    norm = math.sqrt(sum(v * v for v in hypothesis.values()) * sum(v * v for v in reference.values()))
    return product / norm if norm > 0.0 else 0.0


def _ngrams(text: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(text[start : start + n]) for start in range(len(text) - n + 1))


def captions_of_others(references: Sequence[Texts], seed: int) -> list[str]:
    """For each clip the first reference of another one: what chance would say.

    The clips form one random cycle, so that no clip of several is answered with its own caption.
    """
    order = np.random.default_rng(seed).permutation(len(references))
    donor_of = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [references[donor_of[clip]][0] for clip in range(len(references))]
