# SPDX-License-Identifier: Apache-2.0
"""Which learning rate is kept, and what several seeds say: the statistics that all probes share.

The rate is chosen by the mean score of its seeds on validation clips; test clips are scored once, by that rate alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student_t

from icefall_alp.utils.errors import UserError


def choose_rate(scores: np.ndarray, rates: Sequence[float]) -> int:
    """Place of the rate with the best mean.

    Args:
        scores: (R, S) on validation clips, higher is better; NaN where a head diverged.
        rates: The R learning rates.

    Raises:
        UserError: At every rate a head diverged.
    """
    means = scores.mean(axis=1)
    if np.isnan(means).all():
        raise UserError(f"every learning rate diverged ({', '.join(map(str, rates))}); lower learning_rates")
    return int(np.nanargmax(means))


def half_interval(values: Sequence[float]) -> float | None:
    """Half the width of the 95 % confidence interval of a mean (Student's t); None for fewer than two values."""
    if len(values) < 2:
        return None
    quantile = float(student_t.ppf(0.975, len(values) - 1))
    return quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def account(scores: np.ndarray, rates: Sequence[float], place: int) -> dict[str, object]:
    """What the result's file says about the choice: the rate kept and what each scored on validation clips."""
    means = [None if math.isnan(mean) else round(float(mean), 6) for mean in scores.mean(axis=1)]
    return {"learning_rate": rates[place], "valid_scores": dict(zip(map(str, rates), means, strict=True))}
