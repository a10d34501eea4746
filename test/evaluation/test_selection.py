# SPDX-License-Identifier: Apache-2.0
"""The rate with the best mean, and intervals as the tables of Student's t have them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student_t

from icefall_alp.evaluation.selection import account, choose_rate, half_interval
from icefall_alp.utils.errors import UserError

RATES = (0.1, 0.2, 0.3)


def test_best_mean_wins_and_diverged_rates_do_not():
    scores = np.array([[1.0, 3.0], [9.0, np.nan], [2.5, 2.5]])
    assert choose_rate(scores, RATES) == 2
    assert account(scores, RATES, 2) == {"learning_rate": 0.3, "valid_scores": {"0.1": 2.0, "0.2": None, "0.3": 2.5}}
    with pytest.raises(UserError, match="every learning rate diverged"):
        choose_rate(np.full((3, 2), np.nan), RATES)


def test_half_interval_by_hand_and_by_scipy():
    # deviation 1, n = 3: t quantile 4.303 / sqrt(3)
    assert half_interval([1.0, 2.0, 3.0]) == pytest.approx(4.303 / np.sqrt(3), abs=1e-3)
    values = [0.3, 0.5, 0.45, 0.41, 0.6]
    low, high = student_t.interval(0.95, 4, np.mean(values), np.std(values, ddof=1) / np.sqrt(5))
    assert half_interval(values) == pytest.approx((high - low) / 2)
    assert half_interval([1.0]) is None
