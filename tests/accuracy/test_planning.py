"""Sample sizes and allocations against published and independently computed figures."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.errors import PlanningError
from accuracy.survey.planning import (
    ExpectedStratum,
    allocate,
    allocate_real,
    best_points_per_city,
    design_effect,
    expected_measure,
    plan_cities,
    planned_se,
    ratio_sd,
    sample_size,
    two_stage_size,
)

approx = pytest.approx
W, UA = [0.02, 0.015, 0.32, 0.645], [0.7, 0.6, 0.9, 0.95]
S = [float(np.sqrt(u * (1 - u))) for u in UA]


@pytest.mark.shared
def test_olofsson_2014_size_and_allocations(shared):
    case = json.loads((shared / "reference" / "accuracy" / "d_sample_size.json").read_text())["computed"]
    assert sample_size(W, S, 0.01) == approx(case["n_real"], rel=1e-10)
    assert sample_size(W, S, 0.01, population=10e6) == approx(case["n_with_N_correction"], rel=1e-6)
    n = case["n_ceil"]
    assert allocate_real(n, W, method="proportional") == approx(case["proportional_real"])
    assert allocate(n, W, method="proportional") == [13, 10, 205, 413]
    assert allocate_real(n, W, S, method="neyman") == approx(case["neyman_real"], rel=1e-9)
    assert list(np.floor(allocate_real(n, W, method="equal"))) == [160] * 4
    for minimum, want in case["rule_remainder_proportional"].items():
        assert allocate(n, W, method="fixed_minimum", minimum=int(minimum)) == want
    for name, points in {"equal": [160.25] * 4, "alloc2": [75, 75, 165, 325], "alloc1": [100, 100, 149, 292]}.items():
        assert planned_se(W, S, points) == approx(case["planning"][name]["se_OA"], rel=2e-3)


@pytest.mark.shared
def test_rare_class_needs_a_candidate_stratum(shared):
    case = json.loads((shared / "reference" / "accuracy" / "m_rare_class_planning.json").read_text())
    omission = 0.99 * 0.004
    for name, strata in {
        "2 strata: UV .01 (q .85), rest .99 (q .004)": [
            ExpectedStratum(name="uv", share=0.01, mapped=True, true_share=0.85),
            ExpectedStratum(name="rest", share=0.99, mapped=False, true_share=0.004),
        ],
        **{
            key: [
                ExpectedStratum(name="uv", share=0.01, mapped=True, true_share=0.85),
                ExpectedStratum(name="near", share=0.05, mapped=False, true_share=caught * omission / 0.05),
                ExpectedStratum(name="rest", share=0.94, mapped=False, true_share=(1 - caught) * omission / 0.94),
            ]
            for key, caught in (
                ("3 strata: UV .01, candidate .05 holding 80% of omissions, rest .94", 0.8),
                ("3 strata, candidate holds 95%", 0.95),
            )
        },
    }.items():
        shares, sd = [s.share for s in strata], ratio_sd(strata, "PA")
        n = sample_size(shares, sd, 0.05)
        assert expected_measure(strata, "PA") == approx(case[name]["PA"], rel=1e-10)
        assert n == approx(case[name]["n_neyman"], rel=1e-9)
        assert allocate_real(n, shares, sd, method="neyman") == approx(case[name]["alloc"], abs=0.06)
        assert np.square(np.array(shares) * sd) == approx(case[name]["var_contrib_per_1_over_n"], rel=1e-9)


@pytest.mark.shared
def test_design_effects_and_the_best_number_of_points_per_city(shared):
    case = json.loads((shared / "reference" / "accuracy" / "m_planning_clusters_power.json").read_text())
    for key, want in case["deff"].items():
        m, rho = (float(part.split("=")[1]) for part in key.split(","))
        assert design_effect(m, rho) == approx(want)
    for key, want in case["opt_m"].items():
        ratio, rho = (float(part.split("=")[1]) for part in key.split(","))
        assert best_points_per_city(ratio, rho) == approx(want)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(20, 3000),
    weights=st.lists(st.floats(0.001, 1), min_size=2, max_size=8),
    method=st.sampled_from(["proportional", "equal", "neyman"]),
)
def test_whole_allocations_sum_and_keep_limits(n, weights, method):
    shares = np.array(weights) / sum(weights)
    sizes = [n] * len(weights)
    sizes[0] = 3
    got = allocate(n, shares, np.ones(len(weights)), method=method, sizes=sizes)
    assert sum(got) == n and got[0] <= 3 and min(got) >= 2


def test_cost_neyman_beats_others_and_two_stages_have_a_floor():
    shares, sd = [0.1, 0.9], [0.5, 0.05]
    best = planned_se(shares, sd, allocate_real(500, shares, sd, method="neyman"))
    assert best <= planned_se(shares, sd, allocate_real(500, shares, sd, method="proportional"))
    cheap = allocate_real(500, shares, sd, method="cost", cost=[1, 4])
    assert cheap[0] > allocate_real(500, shares, sd, method="neyman")[0]
    plan = two_stage_size(973, target_se=0.05, rho=0.02, points_per_city=100, cities_in_frame=342)
    assert (plan.cities, plan.points) == (29, 2900) and plan.floor_se < 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_size(W, S, 0), "must be above 0"),
        (lambda: allocate(4, W, method="proportional"), "at least 2"),
        (lambda: allocate(100, W, method="neyman"), "needs the strata's spread"),
        (lambda: allocate(100, W, method="fixed_minimum", minimum=50), "exceed 100"),
        (lambda: allocate(50, [0.5, 0.5], method="equal", sizes=[3, 4]), "50 points of 7"),
        (lambda: two_stage_size(9000, target_se=0.01, rho=0.1, points_per_city=10, cities_in_frame=342), "has 342"),
        (lambda: ratio_sd([ExpectedStratum(name="a", share=0.5, mapped=True, true_share=1)], "PA"), "sum to 0.5"),
        (lambda: ratio_sd([ExpectedStratum(name="a", share=1, mapped=False, true_share=0)], "UA"), "denominator"),
        (lambda: planned_se([1.0], [0.5], [0]), "gets no point"),
    ],
)
def test_impossible_plans_say_so(call, message):
    with pytest.raises(PlanningError, match=message):
        call()


PLANNED = [
    ExpectedStratum(name="mapped", share=0.0116, mapped=True, true_share=0.828),
    ExpectedStratum(name="candidate", share=0.05, mapped=False, true_share=0.0657),
    ExpectedStratum(name="rest", share=0.9384, mapped=False, true_share=0.00014),
]


def test_cities_planned_are_those_that_the_coverage_study_reaches():
    """28 cities of 30 / 60 / 120 points have a standard error of F1 of 0.017 to 0.018 in docs/accuracy.md."""
    plan = plan_cities(PLANNED, "F1", target_se=0.0175, points=(30, 60, 120), error_cv=0.37, city_cv=0.43)
    assert 20 <= plan.cities <= 36
    assert plan.se <= 0.0175 and plan.floor_se < plan.se


def test_planned_error_is_that_of_simulated_surveys():
    rng = np.random.default_rng(0)
    W = np.array([s.share for s in PLANNED])
    m, n, cv = np.array([20, 40, 100]), 30, 0.4
    plan = plan_cities(PLANNED, "F1", target_se=0.001, points=tuple(m), error_cv=cv, city_cv=0.5)
    found = []
    for _ in range(3000):
        q = np.array([1 - 0.828, 0.0657, 0.00014])
        shape = (1 - q * (1 + cv**2)) / cv**2  # beta of mean q and coefficient of variation cv
        rate = rng.beta(shape, shape * (1 - q) / q, size=(n, 3))
        size = rng.gamma(4, 0.25, n)  # coefficient of variation 0.5
        wrong = rng.binomial(m, rate) / m
        fp, missed = size @ wrong[:, 0] * W[0], size @ wrong[:, 1:] @ W[1:]
        tp = size.sum() * W[0] - fp
        found.append(2 * tp / (2 * tp + fp + missed))
    assert np.std(found) == approx(plan.se * np.sqrt(plan.cities / n), rel=0.08)


def test_a_plan_needs_points_and_a_target():
    with pytest.raises(PlanningError, match="gets no point"):
        plan_cities(PLANNED, "F1", target_se=0.02, points=(30, 0, 10))
    with pytest.raises(PlanningError, match="--target-se 0 must be above 0"):
        plan_cities(PLANNED, "F1", target_se=0, points=(30, 10, 10))
