"""Cities drawn with unequal probabilities: every sample of a tiny nation, with and without replacement."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.errors import DesignError
from accuracy.estimation.estimation import estimate, estimate_arrays
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.table_estimates import estimate_table, primary_variance
from accuracy.estimation.variance import design_variance
from accuracy.survey.design import SamplingDesign
from accuracy.survey.design_arrays import build_arrays
from accuracy.survey.sample import ReferenceSample
from accuracy.survey.unequal_draw import make_probabilities, rejective_odds
from tests.accuracy.test_unequal_draw import enumerate_rejective

approx = pytest.approx


def nation_table(cities, pi, *, seed=0, m=(6, 8), region="R", certain=(), weight=False):
    """Points of the drawn cities, with the probability of each."""
    rng = np.random.default_rng(seed)
    rows = []
    for city in cities:
        for stratum, mapped, k in (("mapped", 1, m[0]), ("rest", 0, m[1])):
            size = int(100 * (city + 1) * (1 if mapped else 30))
            rows += [
                {
                    "region": region, "city": f"c{city}", "map_stratum": stratum, "map": mapped,
                    "ref": int(rng.random() < (0.8 if mapped else 0.2)), "M_pix": size, "m_pts": k,
                    "pi_city": 1.0 if city in certain else float(pi[city]),
                }
                for _ in range(k)
            ]  # fmt: skip
    table = pd.DataFrame(rows).assign(point_id=lambda t: range(len(t)))
    return table.assign(w=table["M_pix"] / table["m_pts"] / table["pi_city"]) if weight else table


def sample_of(table, **design):
    options = {"psu_selection": "pps", "psu_probability": "pi_city", **design}
    return ReferenceSample(table=table, design=SamplingDesign(**options))


def textbook(table, *, centre="brewer"):
    """Two stages by plain loops: Brewer's or Hájek's first stage, simple random points in cells."""
    z = (table["M_pix"] / table["m_pts"] / table["pi_city"] * table["value"]).rename("z")
    frame = table.assign(z=z)
    total = 0.0
    for _, region in frame.groupby("region"):
        cities = region.groupby("city").agg(z=("z", "sum"), pi=("pi_city", "first"))
        free = cities[cities["pi"] < 1]
        n = len(free)
        if n > 1:
            c = 1 - free["pi"]
            middle = free["z"].mean() if centre == "brewer" else (c * free["z"]).sum() / c.sum()
            total += n / (n - 1) * (c * (free["z"] - middle) ** 2).sum()
        for (city, _), cell in region.groupby(["city", "map_stratum"]):
            m, size = len(cell), cell["M_pix"].iloc[0]
            total += cities.loc[city, "pi"] * (1 - m / size) * m * cell["z"].var(ddof=1)
    return total


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), centre=st.sampled_from(["brewer", "hajek"]), certain=st.sampled_from([(), (0, 3)]))
def test_variance_without_replacement_equals_plain_loops(seed, centre, certain):
    rng = np.random.default_rng(seed)
    table = nation_table(range(5), rng.uniform(0.1, 0.9, 5), seed=seed, certain=certain)
    table = table.sample(frac=1, random_state=seed).assign(value=rng.normal(size=len(table)))
    sample = sample_of(table)
    z = sample.arrays.weight * table["value"].to_numpy()
    got = design_variance(z[:, None], sample.arrays, kind="two_stage", pps=centre)[0]
    assert got == approx(textbook(table, centre=centre), rel=1e-10)
    given_weights = sample_of(table.assign(w=table["M_pix"] / table["m_pts"] / table["pi_city"]), weight="w")
    assert given_weights.arrays.weight == approx(sample.arrays.weight, rel=1e-12)


def test_it_is_the_two_stage_variance_where_probabilities_are_equal():
    table = nation_table(range(4), np.full(4, 4 / 9))
    equal = ReferenceSample(
        table=table.assign(N_city=9, n_city=4), design=SamplingDesign(psu_selection="probability")
    )  # fmt: skip
    for pps in ("brewer", "hajek"):
        a, b = (estimate(s, EstimateOptions(pps=pps)).frame for s in (sample_of(table), equal))
        for column in ("estimate", "se", "ci_low", "ci_high", "df"):
            np.testing.assert_allclose(a[column].astype(float), b[column].astype(float), rtol=1e-9, atol=1e-12)


def test_expectation_of_the_variance_over_every_sample_of_a_nation():
    """The variance between cities, by enumeration of all samples: Brewer and Hájek come within a tenth."""
    rng = np.random.default_rng(1)
    size = rng.lognormal(0, 0.6, 9)
    y = size * rng.normal(1, 0.25, 9)
    subsets, p, pi = enumerate_rejective(rejective_odds(make_probabilities(size, 4)), 4)
    totals = np.array([(y[list(s)] / pi[list(s)]).sum() for s in subsets])
    assert p @ totals == approx(y.sum(), rel=1e-12)
    true = p @ (totals - y.sum()) ** 2
    mean = dict.fromkeys(("brewer", "hajek", "with replacement"), 0.0)
    for s, q in zip(subsets, p, strict=True):
        # one complete point per city: no variance within
        table = pd.DataFrame(
            {
                "region": "R", "city": [f"c{i}" for i in s], "map_stratum": "all", "M_pix": 1, "m_pts": 1,
                "pi_city": pi[list(s)], "point_id": range(4), "map": 1, "ref": 1,
            }
        )  # fmt: skip
        arrays = sample_of(table).arrays
        z = (arrays.weight * y[list(s)])[:, None]
        for pps in ("brewer", "hajek"):
            mean[pps] += q * design_variance(z, arrays, kind="two_stage", pps=pps)[0]
        mean["with replacement"] += q * design_variance(z, arrays, kind="with_replacement")[0]
    assert mean["brewer"] == approx(true, rel=0.1)
    assert mean["hajek"] == approx(true, rel=0.1)
    assert mean["with replacement"] > 1.3 * true  # what treating the draw as one with replacement claims


def test_a_city_drawn_twice_is_two_draws_by_enumeration():
    """With replacement, every ordered sample of 3 draws from 4 cities: the estimated variance is unbiased."""
    y, p = np.array([3.0, 10.0, 4.0, 9.0]), np.array([0.1, 0.4, 0.2, 0.3])
    estimates, variances, merged, weight = [], [], [], []
    for s in itertools.product(range(4), repeat=3):
        cities, times = np.unique(s, return_counts=True)
        table = pd.DataFrame(
            {
                "region": "R", "city": [f"c{i}" for i in cities], "map_stratum": "all", "M_pix": 1, "m_pts": 1,
                "w": np.maximum(times / (3 * p[cities]), 1.0), "times_drawn": times, "n_city": 3,
                "point_id": range(len(cities)),
            }
        )  # fmt: skip
        design = SamplingDesign(psu_selection="pps", weight="w")
        w = times / (3 * p[cities])
        arrays = build_arrays(design, table)
        z = (w * y[cities])[:, None]
        estimates.append(z.sum())
        if len(cities) == 1:
            variances.append(0.0)  # the same city three times: no spread, and that is right
            assert design_variance(z, arrays, kind="with_replacement")[0] == approx(0, abs=1e-12)
        else:
            variances.append(design_variance(z, arrays, kind="with_replacement")[0])
        weight.append(np.prod(p[list(s)]))
        merged.append(len(cities) < 3)
    estimates, variances, weight = (np.array(v) for v in (estimates, variances, weight))
    assert weight @ estimates == approx(y.sum(), rel=1e-12)
    assert weight @ variances == approx(weight @ (estimates - y.sum()) ** 2, rel=1e-10)
    assert any(merged)


@pytest.mark.parametrize(
    ("change", "design", "message"),
    [
        ({"w": 0.02}, {"weight": "w", "psu_probability": None}, r"'w' holds 0\.02 .* look like the probabilities"),
        ({"pi_city": 3.0}, {}, r"'pi_city' holds 3 .* these look like weights"),
        ({"w": 55.0}, {"weight": "w"}, r"has the weight 55, its sizes and probability give"),
        ({"times_drawn": 2}, {}, r"without replacement, 'times_drawn' that one was drawn more than once"),
        ({"w": 9.0, "n_city": 6}, {"weight": "w", "psu_probability": None}, "says 6 draws, .* holds 5 cities"),
        ({"N": 1}, {"psu_probability": "chance"}, r"without a weight column, and 'chance' is not in the table"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(change, design, message):
    table = nation_table(range(5), np.full(5, 0.4)).assign(**change)
    with pytest.raises(DesignError, match=message):
        estimate(sample_of(table, **design), EstimateOptions(variance="with_replacement"))


def test_two_values_of_one_city_are_refused():
    table = nation_table(range(5), np.full(5, 0.4))
    table.loc[3, "pi_city"] = 0.3
    with pytest.raises(DesignError, match=r"city 'R/c0' has both 0.3 and 0.4 in 'pi_city'"):
        estimate(sample_of(table))


def test_the_headline_follows_what_the_table_states():
    table = nation_table(range(5), np.array([0.9, 0.8, 0.7, 0.8, 0.9]), weight=True)
    without, with_ = sample_of(table), sample_of(table, weight="w", psu_probability=None)
    assert (primary_variance(without), primary_variance(with_)) == ("two_stage", "with_replacement")
    a, b = estimate_table(without), estimate_table(with_)
    assert a.nested()["two_stage"]["all"]["F1"]["se"] < b.nested()["with_replacement"]["all"]["F1"]["se"]
    assert any("they count as drawn with replacement" in n for n in b.notes) and not a.notes


def test_certainties_alone_have_the_variance_of_fixed_cities():
    table = nation_table(range(3), np.full(3, 0.5), certain=(0, 1, 2))
    got = estimate(sample_of(table), EstimateOptions(variance="two_stage"))
    fixed = estimate(sample_of(table), EstimateOptions(variance="cities_fixed", fpc_in_cells=True))
    np.testing.assert_allclose(got.frame["se"], fixed.frame["se"], rtol=1e-12)
    assert (got.frame["df"] == len(table) - 6).all()


def test_certainties_do_not_lend_degrees_of_freedom_to_the_drawn():
    both = pd.concat(
        [
            nation_table(range(4), np.full(4, 0.4), certain=(0,)),
            nation_table(range(4, 6), np.full(6, 0.4), region="S", certain=(4, 5)),
        ],
        ignore_index=True,
    ).assign(point_id=lambda t: range(len(t)))
    got = estimate_arrays(sample_of(both).arrays, np.eye(4)[np.arange(len(both)) % 4])
    assert (got.frame["df"] == 3 - 1).all()


def test_cities_drawn_by_size_are_not_estimated_as_drawn_alike():
    table = nation_table(range(4), np.array([0.9, 0.5, 0.4, 0.4])).assign(N_city=9, n_city=4)
    alike = ReferenceSample(table=table, design=SamplingDesign(psu_selection="probability"))
    with pytest.raises(DesignError, match=r"'R/c0' was drawn with the probability 0\.9 .* not 4 of 9.*selection pps"):
        estimate(alike)
    assert np.isfinite(estimate(sample_of(table)).get("F1")["se"])
