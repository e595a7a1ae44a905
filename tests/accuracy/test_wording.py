"""How estimates read: sums of floats that differ in the last digit do not change the words."""

import numpy as np
import pytest

from accuracy.intervals import logit_t, wald_t
from accuracy.reporting.wording import write_estimate

third = 0.1 + 0.2  # 0.30000000000000004


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ({"estimate": 0.3, "ci_low": 0.3, "ci_high": third}, "0.300 (known)"),
        ({"estimate": 0.3, "ci_low": 0.1, "ci_high": third, "flags": ("zero_count",)}, ">= 0.100"),
        ({"estimate": third, "ci_low": 0.3, "ci_high": 0.8, "flags": ["zero_count"]}, "<= 0.800"),
        ({"estimate": 0.3, "ci_low": 0.1, "ci_high": third}, "0.300 [0.100, 0.300]"),
        ({"estimate": 0.0123, "ci_low": 0.01, "ci_high": 0.02}, "0.0123 [0.0100, 0.0200]"),
        ({"estimate": 0.5, "ci_low": None, "ci_high": None}, "0.500 (no interval)"),
        ({"estimate": None}, "not estimable"),
    ],
)
def test_words(cell, text):
    assert write_estimate(cell) == text


def test_a_standard_error_of_rounding_is_none():
    weights = np.full(7, 1 / 7)
    se = float(np.sqrt(abs(weights.sum() - weights[::-1].cumsum()[-1]) + 1e-32))
    assert 0 < se < 1e-12
    for function in (wald_t, logit_t):
        low, high = function(0.25, se, 0)  # without degrees of freedom any error at all would give no interval
        assert float(low) == pytest.approx(0.25) and float(high) == pytest.approx(0.25)
        low, high = function(0.25, 1e-6, 0)
        assert float(high) - float(low) >= 1
