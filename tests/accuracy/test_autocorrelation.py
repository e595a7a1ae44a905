"""Intra-city correlation and join counts: against brute force, known correlation, and R survey's design effects."""

from itertools import permutations, product

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.errors import DesignError
from accuracy.estimation.autocorrelation import (
    count_joins,
    find_neighbour_pairs,
    intra_city_correlation,
    measure_autocorrelation,
)
from accuracy.estimation.options import EstimateOptions
from accuracy.survey.design import SamplingDesign
from accuracy.survey.sample import ReferenceSample

approx = pytest.approx


def table_of(chance, *, cities=40, points=50, seed=0):
    """Two regions; ``chance`` (rng, city, places) gives the probability of an error at each place."""
    rng = np.random.default_rng(seed)
    parts = []
    for c in range(cities):
        places = rng.uniform(0, 0.1, (points, 2))
        wrong = rng.random(points) < chance(rng, c, places)
        parts.append(
            pd.DataFrame(
                {
                    "city": f"c{c}",
                    "region": "NS"[c % 2],
                    "map_stratum": "mapped",
                    "map": 1,
                    "ref": 1 - wrong,
                    "N_city": 5 * cities,
                    "n_city": cities // 2,
                    "M_pix": 10_000,
                    "m_pts": points,
                    "lon": 100 + c + places[:, 0],
                    "lat": 30 + places[:, 1],
                }
            )
        )
    table = pd.concat(parts, ignore_index=True).assign(point_id=lambda t: range(len(t)))
    return gpd.GeoDataFrame(table, geometry=shapely.points(table["lon"], table["lat"]), crs="EPSG:4326")


def sample_of(table, **design):
    return ReferenceSample(table=table, design=SamplingDesign(**{"psu_selection": "probability", **design}))


def report(table, **options):
    return measure_autocorrelation(
        sample_of(table), EstimateOptions(measures=("UA", "OA")), permutations=199, **options
    )


def test_correlation_of_cities_is_found_and_is_the_design_effect():
    # beta(a, b) rates: rho = 1 / (a + b + 1)
    table = table_of(lambda rng, _c, _p: rng.beta(1.8, 7.2), cities=200, points=40, seed=1)
    got = report(table)
    row = got.strata.set_index("stratum").loc["mapped"]
    assert row["rho"] == approx(0.1, abs=0.025)
    assert row["deff"] == approx(1 + 39 * row["rho"])
    # equal weights and sizes: the variance of cities against that of as many points says the same
    both = got.measures.set_index("measure")
    assert both.loc["OA", "deff"] == approx(0.9 * row["deff"], rel=0.15)  # 20 of 100 cities in a region, less 1 - f
    assert both.loc["OA", "deff_cities"] > 3
    # rates of cities are not likeness in space
    assert row["p_value"] > 0.05
    assert row["both_wrong"] == approx(row["both_wrong_expected"], rel=0.05)


def test_patches_of_errors_are_found_and_independent_errors_are_not():
    patchy = report(table_of(lambda _r, _c, p: np.where(p[:, 0] < 0.02, 0.9, 0.02))).strata.set_index("stratum")
    assert patchy.loc["mapped", "p_value"] == approx(1 / 200)
    assert patchy.loc["mapped", "both_wrong"] > 2 * patchy.loc["mapped", "both_wrong_expected"]
    assert abs(patchy.loc["mapped", "rho"]) < 0.03  # every city has the same rate
    plain = report(table_of(lambda _r, _c, _p: 0.2)).strata.set_index("stratum")
    assert plain.loc["mapped", "p_value"] > 0.05
    assert abs(plain.loc["mapped", "rho"]) < 0.03
    assert np.isnan(plain.loc["all", "rho"])
    # regions may differ: cities are compared within theirs
    regions = report(table_of(lambda _r, c, _p: (0.05, 0.6)[c % 2])).strata.set_index("stratum")
    assert abs(regions.loc["mapped", "rho"]) < 0.03


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_anova_is_that_of_the_textbook(seed):
    """One region, the formulas written with loops; and its value at the two ends."""
    rng = np.random.default_rng(seed)
    table = table_of(lambda r, _c, _p: r.uniform(0.1, 0.9), cities=6, points=12, seed=seed)
    table = table[rng.random(len(table)) < 0.7].assign(region="one", n_city=6, N_city=9)
    table["m_pts"] = table.groupby("city")["city"].transform("size")
    sample = sample_of(table)
    wrong = sample.mapped != sample.reference
    groups = [wrong[(table["city"] == c).to_numpy()].astype(float) for c in table["city"].unique()]
    n, k = len(wrong), len(groups)
    msb = sum(len(g) * (g.mean() - wrong.mean()) ** 2 for g in groups) / (k - 1)
    msw = sum(((g - g.mean()) ** 2).sum() for g in groups) / (n - k)
    m0 = (n - sum(len(g) ** 2 for g in groups) / n) / (k - 1)
    rho, deff = intra_city_correlation(sample.arrays, wrong, np.ones(n, dtype=bool))
    assert rho == approx((msb - msw) / (msb + (m0 - 1) * msw), rel=1e-9, abs=1e-12)
    assert deff == approx(1 + (n / k - 1) * rho)
    by_city = np.isin(sample.arrays.psu, (0, 1))
    assert intra_city_correlation(sample.arrays, by_city, np.ones(n, dtype=bool))[0] == approx(1)
    assert np.isnan(intra_city_correlation(sample.arrays, wrong & False, np.ones(n, dtype=bool))[0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 5))
def test_pairs_and_expectation_equal_brute_force(seed, k):
    rng = np.random.default_rng(seed)
    places, groups = rng.random((14, 2)), rng.integers(0, 3, 14)
    pairs = find_neighbour_pairs(places, groups, k)
    want = set()
    for i in range(14):
        others = [j for j in range(14) if j != i and groups[j] == groups[i]]
        near = sorted(others, key=lambda j: np.hypot(*(places[i] - places[j])))[:k]
        want |= {(min(i, j), max(i, j)) for j in near}
    assert {tuple(p) for p in pairs.tolist()} == want
    # expectation over every layout within two cells of four
    wrong, cell = rng.random(8) < 0.5, np.repeat([0, 1], 4)
    pairs = find_neighbour_pairs(places[:8], np.zeros(8, dtype=np.int64), k)
    layouts = [
        np.concatenate([wrong[:4][list(a)], wrong[4:][list(b)]])
        for a, b in product(permutations(range(4)), permutations(range(4)))
    ]
    mean = np.mean([(laid[pairs[:, 0]] & laid[pairs[:, 1]]).sum() for laid in layouts])
    got = count_joins(wrong, cell, pairs, permutations=9, rng=rng)
    assert got["both_wrong_expected"] == approx(mean)
    assert got["both_wrong"] == (wrong[pairs[:, 0]] & wrong[pairs[:, 1]]).sum()


def test_points_at_one_place_have_no_join_with_themselves():
    pairs = find_neighbour_pairs(np.zeros((7, 2)), np.zeros(7, dtype=np.int64), 2)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(find_neighbour_pairs(np.zeros((3, 2)), np.arange(3), 2)) == 0


@pytest.mark.shared
def test_28_cities_with_the_design_effect_of_r_survey(points, survey):
    survey = survey.set_index(["case", "quantity"])
    got = measure_autocorrelation(sample_of(points))
    oa = got.measures.set_index("measure").loc["OA"]
    assert oa["deff"] == approx(float(survey.loc[("uv28_2stage", "deff OA"), "estimate"]), rel=1e-8)
    se = [float(survey.loc[(case, "OA"), "se"]) for case in ("uv28_2stage", "uv28_cities_fixed")]
    assert oa["deff_cities"] == approx((se[0] / se[1]) ** 2, rel=1e-8)
    assert np.isnan(got.measures.set_index("measure").loc["area_map", "deff_cities"])
    assert list(got.strata["stratum"]) == ["near", "other", "uv", "all"]
    assert "joins" not in got.strata
    assert "no join counts" in got.notes[0]


def test_joins_do_not_see_the_coordinate_system():
    table = table_of(lambda _r, _c, _p: 0.3, cities=4, points=30)
    pd.testing.assert_frame_equal(report(table).strata, report(table.to_crs("EPSG:32647")).strata)


def test_same_seed_same_report_and_wrong_questions_are_refused():
    table = table_of(lambda _r, _c, _p: 0.2, cities=6, points=10)
    pd.testing.assert_frame_equal(report(table, seed=4).strata, report(table, seed=4).strata)
    purposive = measure_autocorrelation(
        sample_of(table, psu_selection="purposive"), EstimateOptions(measures=("OA",)), permutations=9
    )
    assert purposive.measures["deff_cities"].isna().all()
    with pytest.raises(DesignError, match="single-stage sample has no cities"):
        measure_autocorrelation(sample_of(table, psu=None, stratum=None))
    with pytest.raises(DesignError, match="neighbours 0"):
        report(table, neighbours=0)
