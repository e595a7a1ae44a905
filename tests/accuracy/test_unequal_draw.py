"""Unequal draws against every sample of a small population, and cities drawn by size beside certainties."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.errors import DrawError
from accuracy.survey.unequal_draw import (
    CityDraw,
    draw_rejective,
    draw_unequal_cities,
    make_probabilities,
    rejective_odds,
    rejective_probabilities,
    size_of_cities,
)

approx = pytest.approx


def enumerate_rejective(odds, n):
    """Every sample of n with its probability, and the inclusion probabilities, by plain enumeration."""
    subsets = list(itertools.combinations(range(len(odds)), n))
    p = np.array([np.prod(odds[list(s)]) for s in subsets])
    p /= p.sum()
    pi = np.array([sum(q for s, q in zip(subsets, p, strict=True) if i in s) for i in range(len(odds))])
    return subsets, p, pi


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 6))
def test_probabilities_of_odds_equal_the_enumeration(seed, n):
    odds = np.random.default_rng(seed).lognormal(0, 1, 8)
    assert rejective_probabilities(odds, n) == approx(enumerate_rejective(odds, n)[2], rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 30), N=st.integers(40, 342))
def test_odds_are_found_for_any_probabilities(seed, n, N):
    pi = make_probabilities(np.random.default_rng(seed).lognormal(0, 1.5, N), n)
    inside = pi[(pi > 0) & (pi < 1)]
    assert pi.sum() == approx(n) and (pi <= 1).all()
    if len(inside):
        got = rejective_probabilities(rejective_odds(inside), round(inside.sum()))
        assert got == approx(inside, abs=1e-8)


def test_samples_are_drawn_as_often_as_their_probability_says():
    pi = np.array([0.15, 0.6, 0.35, 0.5, 0.4, 1.0])
    subsets, p, _ = enumerate_rejective(rejective_odds(pi[:5]), 2)
    rng, repeats = np.random.default_rng(1), 3000
    counts = dict.fromkeys(subsets, 0)
    for _ in range(repeats):
        picked = draw_rejective(pi, rng)
        assert picked[-1] == 5 and len(picked) == 3
        counts[tuple(int(v) for v in picked[:2])] += 1
    expected = repeats * p
    chi2 = float(((np.array(list(counts.values())) - expected) ** 2 / expected).sum())
    assert chi2 < 21.7  # 9 degrees of freedom, 1 %


def test_certainties_are_found_again_and_again():
    assert make_probabilities(np.array([100.0, 40.0, 3.0, 2.0, 1.0]), 3) == approx([1, 1, 0.5, 1 / 3, 1 / 6])
    with pytest.raises(DrawError, match="4 units asked of 3 with a size above 0"):
        make_probabilities(np.array([1.0, 2, 3, 0]), 4)


def frame(seed=0, regions=(("North", 20), ("South", 30))):
    rng = np.random.default_rng(seed)
    rows = [(f"{r[:1]}{k:02d}", r, float(rng.lognormal(0, 1.2))) for r, n in regions for k in range(n)]
    return pd.DataFrame(rows, columns=["adcode", "region", "x"])


def test_cities_by_size_beside_certainties():
    cities = frame()
    size = dict(zip(cities["adcode"], cities["x"], strict=True))
    chosen = ["N03", "N04", "S00"]
    drawn = draw_unequal_cities(cities, CityDraw(seed=5, per_region=4, certainty=chosen, size=size))
    assert drawn.groupby("region").size().to_dict() == {"North": 6, "South": 5}
    assert set(chosen) <= set(drawn["adcode"])
    got = drawn.set_index("adcode")
    assert (got.loc[chosen, "pi_city"] == 1).all()
    rest = cities[~cities["adcode"].isin(chosen) & (cities["region"] == "North")]
    expected = dict(zip(rest["adcode"], make_probabilities(rest["x"].to_numpy(), 4), strict=True))
    for adcode, row in got[got["region"] == "North"].iterrows():
        assert row["pi_city"] == approx(expected.get(adcode, 1.0))
    again = draw_unequal_cities(
        cities.sample(frac=1, random_state=2), CityDraw(seed=5, per_region=4, certainty=chosen, size=size)
    )
    assert list(again["adcode"]) == list(drawn["adcode"])


def test_equal_probabilities_beside_certainties_grow():
    draws = [draw_unequal_cities(frame(), CityDraw(seed=5, per_region=n, certainty=["N03"])) for n in (3, 6)]
    assert set(draws[0]["adcode"]) < set(draws[1]["adcode"])
    north = draws[0][(draws[0]["region"] == "North") & (draws[0]["adcode"] != "N03")]
    assert north["pi_city"].tolist() == approx([3 / 19] * 3)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (CityDraw(seed=1, per_region=2, certainty=["X"]), "certainty 'X' is no city of the frame"),
        (CityDraw(seed=1, per_region={"East": 2}), "region 'East' is not in the frame"),
        (CityDraw(seed=1, per_region={"North": 2}), "'South' has 30 cities .* gets no random"),
        (CityDraw(seed=1, per_region=2, size={"N00": 1.0}), "city 'N01' has no size"),
        (CityDraw(seed=1, per_region=2, size=dict.fromkeys(frame()["adcode"], 0.0)), "a size of 0 .* never be drawn"),
    ],
)  # fmt: skip
def test_draws_that_leave_ground_out_are_refused(draw, message):
    with pytest.raises(DrawError, match=message):
        draw_unequal_cities(frame(), draw)


def test_size_of_a_city_without_mapped_ground_is_not_zero():
    cities = pd.DataFrame({"adcode": ["1", "2"], "mapped_m2": [0, 10.0], "unmapped_m2": [100.0, 90.0]})
    assert size_of_cities(cities, floor=0.5) == approx({"1": 2.5, "2": 12.5})
    with pytest.raises(DrawError, match="--size-floor 0 must be above 0"):
        size_of_cities(cities, floor=0)
    with pytest.raises(DrawError, match=r"no column 'unmapped_m2'"):
        size_of_cities(cities.drop(columns="unmapped_m2"), floor=0.5)
    with pytest.raises(DrawError, match=r"row 1 .* has no ground"):
        size_of_cities(cities.assign(unmapped_m2=0), floor=0.5)
