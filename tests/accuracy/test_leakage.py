"""Leakage: one shared point, one touching tile, one shared city, one shared label source are each found."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from accuracy.errors import LeakageInputError
from accuracy.survey.leakage import check_leakage


def sample(n=8):
    x = 500_000 + 2000 * np.arange(n)
    return gpd.GeoDataFrame(
        {
            "point_id": [f"p{k}" for k in range(n)],
            "city": ["A", "A", "B", "B", "C", "C", "D", "D"][:n],
            "label_source": "interpreters 2025",
        },
        geometry=shapely.points(x, np.full(n, 2_500_000.0)),
        crs="EPSG:32649",
    )


def tiles(boxes, **columns):
    return gpd.GeoDataFrame(columns, geometry=[shapely.box(*b) for b in boxes], crs="EPSG:32649")


FAR = (900_000, 2_800_000, 900_200, 2_800_200)


def test_nothing_shared_is_clean():
    got = check_leakage(sample(), tiles([FAR], id=["t1"], city=["Z"], label_source=["survey"]), min_distance_m=500)
    assert got.is_clean and got.clean.all() and set(got.seen) == {"unseen"}
    assert got.statement().startswith("No leakage was found: 0 of 8")
    assert got.points["distance_m"].min() > 100_000


def test_each_way_is_found():
    one_id = check_leakage(sample(), tiles([FAR], id=["p3"], city=["Z"]), min_distance_m=10)
    assert one_id.points.loc[one_id.points["same_id"], "point_id"].tolist() == ["p3"] and not one_id.is_clean
    touching = check_leakage(sample(), tiles([(501_900, 2_499_900, 502_000, 2_500_100)]), min_distance_m=0)
    assert touching.points.loc[touching.points["in_tile"], "point_id"].tolist() == ["p1"]
    near = check_leakage(sample(), tiles([(503_700, 2_499_900, 503_850, 2_500_100)]), min_distance_m=200)
    assert near.points.loc[near.points["too_near"], "point_id"].tolist() == ["p2"]
    assert near.points["distance_m"][2] == pytest.approx(150, rel=1e-3)
    assert not near.points["in_tile"].any()
    city = check_leakage(sample(), tiles([FAR], id=["t"], city=["B"]), min_distance_m=10)
    assert city.seen.tolist() == ["unseen"] * 2 + ["seen"] * 2 + ["unseen"] * 4 and city.is_clean
    assert "2 lie in 1 cities that were trained on" in city.statement()
    source = check_leakage(sample(), tiles([FAR], label_source=["interpreters 2025"]), min_distance_m=10)
    assert source.shared_sources == ("interpreters 2025",) and not source.clean.any()


def test_other_crs_many_zones_and_brute_force():
    rng = np.random.default_rng(1)
    here = gpd.GeoDataFrame(
        {"point_id": range(60)}, geometry=shapely.points(rng.uniform(108, 127, 60), rng.uniform(20, 40, 60)), crs=4326
    )
    there = gpd.GeoDataFrame(geometry=shapely.points(rng.uniform(108, 127, 80), rng.uniform(20, 40, 80)), crs=4326)
    got = check_leakage(here, there.to_crs(3857), min_distance_m=1000)
    from pyproj import Geod

    geod = Geod(ellps="WGS84")
    for point, metres in zip(here.geometry, got.points["distance_m"], strict=True):
        best = min(geod.inv(point.x, point.y, q.x, q.y)[2] for q in there.geometry)
        assert metres == pytest.approx(best, rel=0.01)


def test_missing_columns_are_said_not_passed_over():
    got = check_leakage(pd.DataFrame(sample().drop(columns="geometry")), pd.DataFrame({"id": ["x"]}), min_distance_m=5)
    assert len(got.without_check) == 3 and "Not checked: cities" in got.statement()


def test_bad_input():
    with pytest.raises(LeakageInputError, match="no column 'point_id'"):
        check_leakage(sample().drop(columns="point_id"), tiles([FAR]), min_distance_m=5)
    with pytest.raises(LeakageInputError, match="negative"):
        check_leakage(sample(), tiles([FAR]), min_distance_m=-5)
    with pytest.raises(LeakageInputError, match="sample has no CRS"):
        check_leakage(sample().set_crs(None, allow_override=True), tiles([FAR]), min_distance_m=5)
