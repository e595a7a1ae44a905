"""Points given out between cities: the least variance by brute force, sums and floors whatever is asked."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.errors import DrawError
from accuracy.survey.point_spread import share_out, spread_over_cities, spread_points

MEAN = {"mapped": 13, "candidate": 19, "rest": 73}


def test_no_other_whole_numbers_have_a_smaller_variance():
    """Three cities, the rest stratum: sum of a^2 / (pi^2 n) over every allocation of 30 points."""
    mapped, ground, pi = np.array([4.0, 1.0, 9.0]), np.array([100.0, 400.0, 150.0]), np.array([0.5, 0.3, 0.8])
    got = spread_points(mapped, ground, pi, {"rest": 10}, least=1)["rest"]
    need = np.sqrt(mapped * ground) / pi

    def variance(n):
        return (np.square(need) / n).sum()

    best = min(
        ((a, b, 30 - a - b) for a, b in itertools.product(range(1, 29), repeat=2) if a + b < 30),
        key=lambda n: variance(np.array(n)),
    )
    assert variance(got) <= 1.002 * variance(np.array(best)) and np.abs(got - best).max() <= 1
    assert variance(got) < 0.97 * variance(np.array([10, 10, 10]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12), st.integers(0, 5), st.integers(0, 200))
def test_sums_floors_and_order(need, least, more):
    need = np.array(need)
    total = least * len(need) + more
    got = share_out(need, total, least=least)
    assert got.sum() == total and got.min() >= least
    order = np.argsort(need, kind="stable")
    assert (np.diff(got[order]) >= -1).all()  # who needs more gets no less, but for a rounding
    free = got > least + 1
    if free.sum() > 1:
        assert np.ptp(np.log(got[free] / need[free])) < np.log(1 + 1 / (got[free].min() - 1)) * 2


def test_all_points_are_given_out_and_small_cities_keep_some():
    rng = np.random.default_rng(0)
    ground, mapped = rng.lognormal(5, 0.6, 56), rng.lognormal(1, 1.3, 56)
    size = mapped + 0.5 * mapped.sum() / ground.sum() * ground  # cities drawn by size
    pi = np.minimum(size / size.sum() * 30, 1)
    got = spread_points(mapped, ground, pi, MEAN)
    assert {name: n.sum() for name, n in got.items()} == {name: 56 * n for name, n in MEAN.items()}
    assert min(n.min() for n in got.values()) == 4
    alike = spread_points(np.ones(5), np.ones(5), np.full(5, 0.2), MEAN)
    assert all((n == MEAN[name]).all() for name, n in alike.items())
    assert spread_points(np.array([0.0, 5.0]), np.ones(2), np.ones(2), {"rest": 6})["rest"].tolist() == [4, 8]


def test_tables_that_do_not_fit_are_named():
    cities = pd.DataFrame({"adcode": ["1", "2"], "mapped_m2": [1.0, 2.0], "unmapped_m2": [9.0, 8.0]})
    got = spread_over_cities(cities, {"2": 0.5, "1": 0.5}, {"mapped": 5, "rest": 20})
    assert list(got) == ["2", "1"] and sum(c["rest"] for c in got.values()) == 40
    with pytest.raises(DrawError, match=r"s\.csv: drawn city '3' is not there"):
        spread_over_cities(cities, {"3": 0.5}, MEAN, source="s.csv")
    with pytest.raises(DrawError, match="no column 'mapped_m2'"):
        spread_over_cities(cities.drop(columns="mapped_m2"), {"1": 0.5}, MEAN)
    with pytest.raises(DrawError, match="mapped ground of the drawn cities must be"):
        spread_over_cities(cities.assign(mapped_m2=0), {"1": 0.5}, MEAN)
    with pytest.raises(DrawError, match="probability of 0"):
        spread_over_cities(cities, {"1": 0.0}, MEAN)
    with pytest.raises(DrawError, match="2 points are fewer than 4 for each of 3"):
        share_out(np.ones(3), 2, least=4)
