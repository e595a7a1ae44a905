"""Accuracy of attributes: estimates against scikit-learn and SciPy, errors against jackknife and repeated draws."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from accuracy.comparison.matched_villages import match_villages
from accuracy.errors import ComparisonError, LonelyUnitError, SampleTableError
from accuracy.estimation.attributes import AttributeRules, Field, assess_attributes, guess_kind

approx = pytest.approx
HEIGHT = Field(name="height", product="p", reference="r", kind="number", unit="m")
CLASS = Field(name="class", product="pc", reference="rc", kind="category")


def villages(seed=0, cities=12, each=8):
    """Villages of cities in two strata, heights alike within a city, some of them rounded so that ranks tie."""
    rng = np.random.default_rng(seed)
    city = np.repeat(np.arange(cities), each)
    r = np.round(rng.gamma(8, 1.5, len(city)) + rng.normal(0, 2, cities)[city], 0)
    p = np.round(0.8 * r + 2 + rng.normal(0, 1, cities)[city] + rng.normal(0, 2, len(city)), 0)
    rc = rng.choice(list("abc"), len(city), p=[0.5, 0.3, 0.2])
    return pd.DataFrame(
        {"city": city.astype(str), "region": np.where(city % 2, "N", "S"), "w": rng.uniform(1, 9, len(city)),
         "p": p, "r": r, "rc": rc, "pc": np.where(rng.random(len(city)) < 0.7, rc, rng.choice(list("abc"), len(city)))}
    )  # fmt: skip


def indexed(table, rules=None, fields=(HEIGHT, CLASS)):
    return assess_attributes(table, fields, rules).set_index(["field", "value", "measure"])


def test_estimates_are_those_of_scikit_learn_and_scipy():
    t = villages()
    got = indexed(t, AttributeRules(weight="w"))["estimate"]
    h = got["height", "all"]
    assert h["bias"] == approx(np.average(t["p"] - t["r"], weights=t["w"]))
    assert h["relative_bias"] == approx((t["w"] * (t["p"] - t["r"])).sum() / (t["w"] * t["r"]).sum())
    assert h["MAE"] == approx(metrics.mean_absolute_error(t["r"], t["p"], sample_weight=t["w"]))
    assert h["RMSE"] == approx(metrics.root_mean_squared_error(t["r"], t["p"], sample_weight=t["w"]))
    assert h["R2"] == approx(metrics.r2_score(t["r"], t["p"], sample_weight=t["w"]))
    assert h["pearson"] == approx(np.cov(t["p"], t["r"], aweights=t["w"])[0, 1] / np.sqrt(
        np.cov(t["p"], aweights=t["w"]) * np.cov(t["r"], aweights=t["w"])))  # fmt: skip
    alike = indexed(t)["estimate"]
    assert alike["height", "all", "spearman"] == approx(stats.spearmanr(t["p"], t["r"]).statistic)
    c = got["class", "all"]
    assert c["agreement"] == approx(metrics.accuracy_score(t["rc"], t["pc"], sample_weight=t["w"]))
    assert c["kappa"] == approx(metrics.cohen_kappa_score(t["rc"], t["pc"], sample_weight=t["w"]))
    counted = t.loc[t.index.repeat(np.arange(len(t)) % 3 + 1)]  # whole weights are repeated villages
    ranks = indexed(t.assign(w=np.arange(len(t)) % 3 + 1), AttributeRules(weight="w"))["estimate"]
    assert ranks["height", "all", "spearman"] == approx(stats.spearmanr(counted["p"], counted["r"]).statistic)


def test_errors_are_those_of_a_jackknife_of_cities():
    """Delete one city at a time within strata (JKn), nothing linearised."""
    t = villages(1, cities=40)
    rules = AttributeRules(weight="w", stratum="region", psu="city")
    got = indexed(t, rules)
    whole = AttributeRules(weight="w")
    parts = []
    for city in t["city"].unique():
        rest = t[t["city"] != city]
        region = t.loc[t["city"] == city, "region"].iloc[0]
        n = t.loc[t["region"] == region, "city"].nunique()
        rest = rest.assign(w=rest["w"] * np.where(rest["region"] == region, n / (n - 1), 1.0))
        parts.append((n, indexed(rest, whole)["estimate"]))
    v = sum((n - 1) / n * np.square(e - got["estimate"]) for n, e in parts)
    for measure in ("bias", "relative_bias", "MAE", "RMSE", "R2", "pearson", "spearman"):
        row = got.loc[("height", "all", measure)]
        assert row["se"] == approx(np.sqrt(v["height", "all", measure]), rel=0.08), measure
        assert row["ci_low"] < row["estimate"] < row["ci_high"] and row["df"] == 38
    for measure in ("agreement", "kappa"):
        assert got.loc[("class", "all", measure), "se"] == approx(np.sqrt(v["class", "all", measure]), rel=0.05)


def test_intervals_cover_the_truth_of_the_villages_drawn_from():
    """Villages drawn with unequal chances; unweighted figures would be wrong."""
    rng = np.random.default_rng(2)
    frame = villages(3, cities=300, each=6)
    frame["pc"] = np.where(frame["r"] > 14, "z", frame["pc"])
    chance = np.clip((frame["r"] - frame["r"].min() + 1) / 60, 0.02, 1)
    true = indexed(frame)["estimate"]
    names = [("height", "all", m) for m in ("bias", "MAE", "RMSE", "R2", "spearman")] + [("class", "all", "kappa")]
    inside, plain = [], []
    for _ in range(50):
        drawn = frame[rng.random(len(frame)) < chance].assign(w=lambda d: 1 / chance[d.index])
        got = indexed(drawn, AttributeRules(weight="w"))
        inside.append([(got.loc[n, "ci_low"] <= true[n] <= got.loc[n, "ci_high"]) for n in names])
        plain.append(indexed(drawn).loc[("class", "all", "kappa"), "estimate"])
    assert (np.mean(inside, axis=0) > 0.88).all(), np.mean(inside, axis=0)
    assert abs(np.mean(plain) - true["class", "all", "kappa"]) > 0.05


def test_dates_missing_values_and_groups():
    t = pd.DataFrame(
        {"p": ["2024-01-11", "2024-02-01/2024-02-29", None, "2024-05-01"],
         "r": ["2024-01-01", "2024-02-15", "2024-03-01", None], "g": ["x", "x", "y", "y"]}
    )  # fmt: skip
    field = Field(name="image_date", product="p", reference="r", kind="date", unit="days")
    got = indexed(t, AttributeRules(by=("g",)), [field])["estimate"]
    assert got["image_date", "all", "bias"] == approx(5) and got["image_date", "all", "has_value"] == approx(2 / 3)
    assert got["image_date", "x", "MAE"] == approx(5) and np.isnan(got["image_date", "y", "bias"])
    assert ("image_date", "all", "relative_bias") not in got.index
    assert [guess_kind(pd.Series(v)) for v in (["1", "2.5", None], ["a", "1"], ["2024-01-02"], [None])] == [
        "number", "category", "date", "category",
    ]  # fmt: skip


def test_what_is_wrong_is_named():
    t = villages()
    with pytest.raises(SampleTableError, match="'high' in row 3, which is no number"):
        indexed(t.assign(p=["1", "2", "high", *["3"] * (len(t) - 3)]), None, [HEIGHT])
    with pytest.raises(SampleTableError, match="weight 0 of row 1"):
        indexed(t.assign(w=0), AttributeRules(weight="w"))
    with pytest.raises(SampleTableError, match="column 'nothing' is not in the table"):
        indexed(t, AttributeRules(stratum="nothing"))
    with pytest.raises(LonelyUnitError):
        indexed(t[t["city"].isin(["0", "1", "3"])], AttributeRules(stratum="region", psu="city"))
    with pytest.raises(SampleTableError, match="nothing to compare"):
        indexed(t.iloc[:0])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 4)), min_size=3, max_size=12))
def test_no_unit_and_no_order_matters(rows):
    t = pd.DataFrame(rows, columns=["p", "r", "w"]).astype(float)
    rules = AttributeRules(weight="w")
    one = indexed(t, rules, [HEIGHT])
    other = indexed(t.iloc[::-1].assign(p=3 * t["p"], r=3 * t["r"], w=7 * t["w"]), rules, [HEIGHT])
    for column in ("estimate", "se"):
        for measure in ("R2", "pearson", "spearman", "relative_bias"):
            a, b = (x.loc[("height", "all", measure), column] for x in (one, other))
            assert a == approx(b, rel=1e-6, abs=1e-7, nan_ok=True)
        for measure in ("bias", "MAE", "RMSE"):
            a, b = (x.loc[("height", "all", measure), column] for x in (one, other))
            assert 3 * a == approx(b, rel=1e-6, abs=1e-7, nan_ok=True)


def squares(places, side=100.0, **columns):
    shapes = [shapely.box(x, y, x + side, y + side) for x, y in places]
    return gpd.GeoDataFrame(columns, geometry=shapes, crs=32649)


def test_rows_find_their_village_by_id_point_and_outline():
    own = squares([(500000, 2500000), (500300, 2500000), (500600, 2500000)], uv_id=["a", "b", "c"], height=[1.0, 2, 3])
    by_id = match_villages(pd.DataFrame({"uv_id": ["c", "x", "a"], "h": [9, 8, 7]}), own)
    assert by_id.table["map:height"].tolist() == [3, 1] and by_id.unmatched == 1 and by_id.how == "uv_id"
    points = gpd.GeoDataFrame(
        {"h": [1, 2]}, geometry=[shapely.Point(500350, 2500050), shapely.Point(500250, 2500050)], crs=32649
    )
    by_point = match_villages(points.to_crs(4326), own)
    assert by_point.table["map:uv_id"].tolist() == ["b"] and by_point.unmatched == 1
    outlines = squares([(500320, 2500000), (500060, 2500000), (500605, 2500003)], h=[1, 2, 3])
    by_outline = match_villages(outlines, own)  # IoU 80 / 120, 40 / 160 and nearly 1
    assert by_outline.table["map:uv_id"].tolist() == ["b", "c"] and by_outline.table["h"].tolist() == [1, 3]
    assert match_villages(outlines, own, least_iou=0.2).unmatched == 0
    with pytest.raises(ComparisonError, match="rows 1, 2 of the reference speak of one village"):
        match_villages(pd.DataFrame({"uv_id": ["a", "a"]}), own)
    with pytest.raises(ComparisonError, match="neither a column 'uv_id' nor places"):
        match_villages(pd.DataFrame({"h": [1]}), own)
