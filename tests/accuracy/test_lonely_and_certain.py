"""Strata with one unit, certainties and degrees of freedom: what is said of a domain comes from that domain."""

import numpy as np
import pandas as pd
import pytest

from accuracy.estimation.difference import compare_maps
from accuracy.estimation.estimation import estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.replication import draw_rao_wu_multipliers, replicate
from accuracy.estimation.table_estimates import estimate_replicated, estimate_table
from accuracy.measures import confusion_indicators
from tests.accuracy.test_estimation import make_points, sample_of

approx = pytest.approx


def with_lonely(seed=3):
    """Two regions of three cities and one of a single city of nine."""
    both = make_points(seed)
    alone = make_points(seed + 1, regions=("Z",), cities=1)
    return pd.concat([both, alone], ignore_index=True).assign(point_id=lambda t: range(len(t)))


@pytest.mark.parametrize("kind", ["two_stage", "with_replacement"])
def test_a_lonely_region_elsewhere_says_nothing_of_a_region(kind):
    options = EstimateOptions(variance=kind, lonely_psu="average")
    alone = estimate(sample_of(make_points(3)), options, domain="region").get("F1", "R1")
    beside = estimate(sample_of(with_lonely()), options, domain="region")
    assert beside.get("F1", "R1")["se"] == approx(alone["se"], rel=1e-12)  # was larger by the root of 3/2
    lonely = beside.get("F1", "Z")
    assert np.isnan(lonely["se"]) and "no_variance" in lonely["flags"]
    assert 0 < lonely["estimate"] < 1


def test_average_of_the_whole_is_that_of_r():
    """The mean contribution of the others for the lonely one: 3/2 of what two regions give."""
    table = with_lonely()
    got = estimate(sample_of(table), EstimateOptions(variance="with_replacement", lonely_psu="average")).get("F1")
    none = estimate(sample_of(table), EstimateOptions(variance="with_replacement", lonely_psu="certainty")).get("F1")
    assert got["se"] == approx(none["se"] * np.sqrt(1.5), rel=1e-12)


def certain_city(seed=5, points=(30, 60)):
    return make_points(seed, regions=("R",), cities=1, frame=1, points=points, omission=0.2, commission=0.25)


def test_bootstrap_of_a_certainty_resamples_its_points():
    table = certain_city(points=(150, 300))
    both = pd.concat([table, make_points(1, regions=("S",))], ignore_index=True)
    sample = sample_of(both.assign(point_id=range(len(both))))
    got = estimate_replicated(sample, replicates=2000, seed=2).set_index(["variance", "value", "measure"])
    linear = estimate(sample_of(table), EstimateOptions(variance="two_stage"))
    for measure in ("F1", "UA", "PA", "area"):
        assert got.loc[("bootstrap", "R", measure), "se"] == approx(linear.get(measure)["se"], rel=0.1)
        assert np.isnan(got.loc[("jackknife", "R", measure), "se"])  # it drops no city there


def test_bootstrap_of_points_equals_the_variance_of_fixed_cities_for_totals():
    """For a total the expectation is the linearised variance, with the finite-population correction."""
    table = certain_city(points=(20, 30)).assign(M_pix=lambda t: np.where(t["map"] == 1, 40, 90))
    sample = sample_of(table)
    arrays, onehot = sample.arrays, confusion_indicators(sample.mapped, sample.reference)
    everyone = np.ones((1, len(table)), dtype=bool)
    drawn = draw_rao_wu_multipliers(arrays, replicates=20_000, seed=1)
    got = replicate(
        arrays, onehot, everyone, drawn, measures=("area_total",), within=np.random.default_rng(3)
    )  # fmt: skip
    want = 0.0
    for _, cell in table.groupby("map_stratum"):
        m, size = len(cell), cell["M_pix"].iloc[0]
        want += size**2 * (1 - m / size) / m * cell["ref"].var(ddof=1)
    assert got.se()[0, 0] ** 2 == approx(want, rel=0.04)
    assert got.estimates.mean() == approx(got.full[0, 0], rel=0.01)


def test_degrees_of_freedom_of_a_difference_in_one_city():
    table = certain_city().assign(other=lambda t: np.where(np.arange(len(t)) % 7, t["map"], 1 - t["map"]))
    sample = sample_of(table, psu_selection="purposive")
    got = compare_maps(sample, EstimateOptions(variance="cities_fixed"), map_a="map", map_b="other")
    row = got.set_index("measure").loc["F1"]
    t = 1.98729  # 88 degrees of freedom: 90 points in 2 cells
    assert (row["ci_low"], row["ci_high"]) == approx(
        (row["difference"] - t * row["se"], row["difference"] + t * row["se"]), rel=1e-5
    )


def test_four_cities_in_a_region_are_not_few():
    table = make_points(4, cities=4, frame=49, points=(30, 180))
    frame = estimate_table(sample_of(table)).tables.frame.query("variance == 'two_stage'")
    assert not any("few_psu" in f for f in frame["flags"])
    three = estimate_table(sample_of(make_points(4, cities=3, frame=49))).tables.frame.query("variance == 'two_stage'")
    assert any("few_psu" in f for f in three.query("value == 'R1'")["flags"])
