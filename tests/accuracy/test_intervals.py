"""Intervals of counts against published figures, and how intervals must behave."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.errors import AccuracyError
from accuracy.estimation.describe import DomainFacts, describe
from accuracy.estimation.options import EstimateOptions
from accuracy.intervals import (
    asin,
    clopper_pearson,
    korn_graubard,
    likelihood,
    logit_t,
    t_quantile,
    wald_t,
    wilson,
)
from accuracy.measures import MEASURES

approx = pytest.approx


@pytest.mark.shared
def test_newcombe_1998_and_computed_cases(shared):
    case = json.loads((shared / "reference" / "accuracy" / "i_binomial_intervals.json").read_text())
    for kind, function in (("wilson", wilson), ("clopper_pearson", clopper_pearson)):
        for key, want in case[f"published_{kind}"].items():
            k, n = (int(v) for v in key.split("/"))
            assert [float(v) for v in function(k, n)] == approx(want, abs=5.1e-5)
        for key, want in case["computed"].items():
            k, n = (int(v) for v in key.split("/"))
            assert [float(v) for v in function(k, n)] == approx(want[kind], rel=1e-9, abs=1e-12)


def test_critical_values():
    assert t_quantile([1, 3, 4, 5, 7, 23], 0.95) == approx([12.706, 3.182, 2.776, 2.571, 2.365, 2.069], abs=5e-4)
    assert t_quantile(np.inf, 0.95) == approx(1.959964, abs=1e-6)
    assert t_quantile(0, 0.95) == np.inf


@settings(max_examples=100, deadline=None)
@given(p=st.floats(0.001, 0.999), se=st.floats(1e-6, 0.4), df=st.floats(1, 200), level=st.floats(0.5, 0.999))
def test_logit_intervals_stay_inside_hold_the_estimate_and_mirror(p, se, df, level):
    low, high = logit_t(p, se, df, level)
    assert 0 <= low <= p <= high <= 1
    mirror_low, mirror_high = logit_t(1 - p, se, df, level)
    assert (float(1 - mirror_high), float(1 - mirror_low)) == approx((float(low), float(high)), abs=1e-9)
    wide = wald_t(p, se, df, level)
    assert wide[0] < p < wide[1]


@settings(max_examples=100, deadline=None)
@given(p=st.floats(0.001, 0.999), se=st.floats(1e-6, 0.4), df=st.floats(1, 200), n=st.integers(2, 500))
def test_likelihood_and_asin_stay_inside_hold_the_estimate_and_mirror(p, se, df, n):
    for make in (lambda p: likelihood(p, se, df, n), lambda p: asin(p, se, df)):
        low, high = (float(v) for v in make(p))
        assert 0 <= low <= p * (1 + 1e-12) and p * (1 - 1e-12) <= high <= 1
        mirror_low, mirror_high = (float(v) for v in make(1 - p))
        assert (1 - mirror_high, 1 - mirror_low) == approx((low, high), abs=1e-9)


def test_likelihood_bounds_reach_the_deviance_they_claim():
    p, se, df, n = np.array([0.05, 0.4, 0.9]), np.array([0.02, 0.06, 0.03]), np.array([5, np.inf, 23]), 80
    for bound in likelihood(p, se, df, n):
        deviance = 2 * p * (1 - p) / se**2 * (p * np.log(p / bound) + (1 - p) * np.log((1 - p) / (1 - bound)))
        assert deviance == approx(t_quantile(df, 0.95) ** 2 * n / (n - 1), rel=1e-9)
    # nothing to say: no degrees of freedom, no spread, or an estimate at the end
    low, high = likelihood([0.5, 0.5, 0, 1], [0.1, 0, 0, 0], [0, 5, 5, 5], 9)
    assert (list(low), list(high)) == ([0, 0.5, 0, 1], [1, 0.5, 0, 1])


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 300), data=st.data())
def test_korn_graubard_of_a_simple_sample_is_clopper_pearson(n, data):
    k = data.draw(st.integers(1, n - 1))
    p = k / n
    got = korn_graubard(p, np.sqrt(p * (1 - p) / n), np.inf, n)
    assert [float(v) for v in got] == approx([float(v) for v in clopper_pearson(k, n)], abs=1e-9)


def facts(cells, weights):
    onehot = np.eye(4)[cells]
    w = np.asarray(weights, dtype=float)
    mapped = onehot[:, :2].any(axis=1)

    def kish(v):
        return v.sum() ** 2 / (v**2).sum() if (v**2).sum() else 0.0

    return DomainFacts(
        counts=onehot.sum(axis=0), totals=w @ onehot, kish=np.array([kish(w * onehot[:, k]) for k in range(4)]),
        kish_mapped=kish(w[mapped]), kish_unmapped=kish(w[~mapped]), weights=w, onehot=onehot, n_points=len(w),
        n_psu=8, fewest_psu=4, df=6.0,
    )  # fmt: skip


def row(kind, cells, weights, measure="UA"):
    value = {"UA": 0.8, "F1": 0.7}[measure]
    return describe(
        MEASURES[measure], value=value, variance=0.04**2, srs_variance=0.05**2, facts=facts(cells, weights),
        options=EstimateOptions(interval_kind=kind),
    )  # fmt: skip


def test_count_intervals_only_where_the_measure_is_a_count():
    cells = [0] * 40 + [1] * 10 + [3] * 50
    plain = row("wilson", cells, np.ones(100))
    assert (plain["ci_low"], plain["ci_high"]) == approx(tuple(float(v) for v in wilson(40, 50)))
    weighted = row("wilson", cells, np.arange(1, 101))
    assert "korn_graubard_used" in weighted["flags"]
    ratio = row("clopper_pearson", cells, np.ones(100), "F1")
    assert "korn_graubard_used" in ratio["flags"]


@pytest.mark.parametrize("kind", ["likelihood", "asin"])
def test_estimates_take_the_chosen_interval(kind):
    cells = [0] * 40 + [1] * 10 + [3] * 50
    got = row(kind, cells, np.ones(100))
    want = likelihood(0.8, 0.04, 6, 50) if kind == "likelihood" else asin(0.8, 0.04, 6)
    assert (got["ci_low"], got["ci_high"]) == approx(tuple(float(v) for v in want))


def test_levels_outside_are_refused():
    with pytest.raises(AccuracyError, match=r"level 95 is outside \(0, 1\)"):
        wald_t(0.5, 0.1, 5, 95)
    with pytest.raises(AccuracyError, match="between 0 and n"):
        wilson(5, 4)
