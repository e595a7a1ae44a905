"""Several maps on the same points: against a census of all pixels, and how pairs must behave."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from accuracy.comparison.confusion import Confusion
from accuracy.comparison.maps_on_points import MEASURES, compare_on_points, lie_inside
from accuracy.errors import ComparisonError
from accuracy.estimation.options import EstimateOptions
from accuracy.survey.design import SamplingDesign
from accuracy.survey.sample import ReferenceSample

approx = pytest.approx


def population(seed=0, side=40):
    """Truth and three maps of one city, pixel by pixel, in strata of the first map."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((side, side), bool)
    truth[5:20, 8:25] = True
    maps = {
        "own": np.roll(truth, 2, axis=0),
        "newer": truth ^ (rng.random(truth.shape) < 0.03),
        "theirs": np.roll(truth, (6, -4), axis=(0, 1)),
    }
    flat = {name: m.ravel().astype(int) for name, m in maps.items()}
    table = pd.DataFrame({"ref": truth.ravel().astype(int), **flat})
    table["map_stratum"] = np.where(table["own"] == 1, "mapped", "rest")
    table["M_pix"] = table.groupby("map_stratum")["own"].transform("size")
    return table.assign(point_id=range(len(table)), region="R", city="C", N_city=1, n_city=1)


def sample_of(table, selection="census"):
    design = SamplingDesign(psu_selection=selection, unit_area=None, ssu_sampled=None)
    return ReferenceSample(table=table, design=design, map_column="own")


OPTIONS = EstimateOptions(lonely_psu="certainty")


def test_all_pixels_as_a_sample_give_the_census():
    table = population()
    got = compare_on_points(sample_of(table), OPTIONS, ["own", "newer", "theirs"])
    exact = {}
    for name in got.names:
        m, r = table[name] == 1, table["ref"] == 1
        exact[name] = Confusion(tp=(m & r).sum(), fp=(m & ~r).sum(), fn=(~m & r).sum(), tn=(~m & ~r).sum())
    maps = got.maps.set_index(["map", "measure"])["estimate"]
    for name, c in exact.items():
        found = [maps[name, m] for m in ("UA", "PA", "F1", "IoU")]
        assert found == approx([c.precision, c.recall, c.f1, c.iou])
    rows = got.differences.set_index(["map", "less", "measure"])
    assert len(rows) == 3 * len(MEASURES)
    assert rows.loc[("own", "theirs", "F1"), "difference"] == approx(exact["own"].f1 - exact["theirs"].f1)
    assert rows["se"].to_numpy() == approx(0, abs=1e-12)
    shares = got.agreement.set_index(["map", "less"])
    assert shares.sum(axis=1).to_numpy() == approx(1)
    assert shares.loc[("own", "newer"), "only_first"] == approx(((table["own"] == 1) & (table["newer"] == 0)).mean())


def drawn(seed, points=(120, 240)):
    table = population()
    rng = np.random.default_rng(seed)
    parts = [
        table[table["map_stratum"] == name].sample(n, random_state=rng.integers(1 << 30))
        for name, n in zip(("mapped", "rest"), points, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def test_paired_intervals_cover_the_true_differences():
    truth = compare_on_points(sample_of(population()), OPTIONS, ["own", "newer", "theirs"]).differences
    hits, joint = [], []
    for seed in range(25):
        got = compare_on_points(sample_of(drawn(seed)), OPTIONS, ["own", "newer", "theirs"]).differences
        true = truth["difference"]
        hits.append(((got["ci_low"] <= true) & (true <= got["ci_high"])).to_numpy())
        joint.append(((got["joint_low"] <= true) & (true <= got["joint_high"])).all())
        assert (got["joint_low"] <= got["ci_low"]).all() and (got["ci_high"] <= got["joint_high"]).all()
    assert 0.88 < np.mean(hits) <= 1 and np.mean(joint) > 0.85


def test_ground_that_a_map_does_not_cover_is_named_filled_or_left_out():
    table = drawn(1)
    table.loc[table.index % 10 == 0, "theirs"] = np.nan
    n = int(table["theirs"].isna().sum())
    names = ["own", "theirs"]
    with pytest.raises(ComparisonError, match=f"{n} of 360 points lie where map 'theirs' says nothing"):
        compare_on_points(sample_of(table), OPTIONS, names)
    filled = compare_on_points(sample_of(table), OPTIONS, names, uncovered="not_village")
    by_hand = compare_on_points(sample_of(table.assign(theirs=table["theirs"].fillna(0))), OPTIONS, names)
    pd.testing.assert_frame_equal(filled.differences, by_hand.differences)
    common = compare_on_points(sample_of(table), OPTIONS, names, uncovered="leave_out")
    kept = table.assign(ref=table["ref"].astype(object).where(table["theirs"].notna(), None), theirs=by_hand_of(table))
    pd.testing.assert_frame_equal(common.maps, compare_on_points(sample_of(kept), OPTIONS, names).maps)
    assert common.left_out == n and filled.left_out == 0
    with pytest.raises(ComparisonError, match="cannot be compared"):
        compare_on_points(sample_of(table), OPTIONS, ["own"])


def by_hand_of(table):
    return table["theirs"].fillna(0)


def test_points_in_polygons_by_brute_force():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1000, (2, 300))
    points = gpd.GeoSeries(shapely.points(500_000 + x, 2_500_000 + y), crs="EPSG:32649")
    shapes = [shapely.box(500_000 + a, 2_500_000 + b, 500_000 + a + 150, 2_500_000 + b + 90)
              for a, b in rng.uniform(0, 800, (9, 2))]  # fmt: skip
    polygons = gpd.GeoDataFrame(geometry=[*shapes, None, shapely.Polygon()], crs="EPSG:32649")
    expected = [any(s.contains(p) for s in shapes) for p in points]
    assert lie_inside(points, polygons).tolist() == expected and 0 < sum(expected) < 300
    assert (lie_inside(points.to_crs(4326), polygons) == expected).mean() > 0.99
    with pytest.raises(ComparisonError, match="no CRS"):
        lie_inside(points, polygons.set_crs(None, allow_override=True))


def test_interpreters_enter_differences_by_what_they_change_in_both_maps():
    """All pixels read by two, the first decides: no sampling error, V = D^2 / 2, D the gap of the two differences."""
    table = population()
    rng = np.random.default_rng(1)
    second = (table["ref"] == 1) ^ ((rng.random(len(table)) < 0.1) & (table["own"] == 1))
    readings = [f"a={int(x)}; b={int(y)}" for x, y in zip(table["ref"], second, strict=True)]
    table = table.assign(readings=readings)
    got = compare_on_points(sample_of(table), OPTIONS, ["own", "theirs"])
    own, theirs = table["own"] == 1, table["theirs"] == 1
    gap = [label[own].mean() - label[theirs].mean() for label in (table["ref"], second)]
    row = got.differences.set_index("measure").loc["UA"]
    assert row["se_interpreters"] == approx(abs(gap[0] - gap[1]) / np.sqrt(2))
    assert row["se"] == approx(row["se_interpreters"])
    assert got.differences.set_index("measure").loc["area_map", "se_interpreters"] == approx(0)
