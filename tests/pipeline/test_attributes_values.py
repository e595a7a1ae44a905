"""Attributes against values worked out by hand, and the dictionary against the columns."""

import json
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.attributes import (
    ATTRIBUTES,
    AttributeDataError,
    Lineage,
    add_attributes,
    describe_columns,
    equal_areas_m2,
    geodesic_lengths_m,
    write_data_dictionary,
)
from pipeline.attributes.score_statistics import count_scores, summarise_scores
from regions.raster.grid import Grid
from tests.support.rasters import write_raster

CITY = SimpleNamespace(adcode="990001", name_zh="示例", name_en="Demo", province="Demo", region="North")
LINEAGE = Lineage(model_version="abc", release="1.0.0", image_date="2023-05-01")
GRID = Grid("EPSG:32650", 1.0, 500_000, -3_000_000, 100, 100)  # x 500000..500100, y 2999900..3000000


def box(left, bottom, right, top):
    return shapely.box(500_000 + left, 2_999_900 + bottom, 500_000 + right, 2_999_900 + top)


def features(*rows):
    return gpd.GeoDataFrame(
        {"tags": [json.dumps(tags) for _, tags in rows], "source_id": [f"w{k}" for k in range(len(rows))]},
        geometry=[shape for shape, _ in rows],
        crs=GRID.crs,
    )


def villages(*shapes):
    ids = pd.array([f"990001-{k}" for k in range(len(shapes))], dtype="string")
    return gpd.GeoDataFrame({"uv_id": ids}, geometry=list(shapes), crs=GRID.crs)


VECTORS = features(
    (box(10, 10, 20, 20), {"building": "yes", "height": "6 m"}),  # 100 m2
    (box(15, 10, 25, 20), {"building": "yes", "building:levels": "4"}),  # overlaps by 50 m2
    (box(45, 45, 65, 55), {"building": "house"}),  # half inside, its inner point on the border's outside
    (shapely.LineString([(500_000, 2_999_930), (500_100, 2_999_930)]), {"highway": "residential"}),
    (box(0, 0, 5, 5), {"building": "no"}),
)


def test_values_by_hand():
    scores = np.full((100, 100), 200, dtype=np.uint8)
    scores[50:, :25] = 100  # the lower left quarter of the village
    table = add_attributes(
        villages(box(0, 0, 50, 50), box(60, 60, 100, 100)), grid=GRID, city=CITY, lineage=LINEAGE, scores=scores,
        vectors=VECTORS,
    )  # fmt: skip
    row = table.iloc[0]
    assert row["building_count"] == 2
    assert row["building_coverage"] == pytest.approx((150 + 25) / 2500)
    assert row["building_height_mean"] == pytest.approx((6 + 12) / 2)  # equal areas, the third unknown
    assert row["height_source"] == "tag 0.50; levels 0.50"
    assert row["floor_area_ratio"] == pytest.approx((2 + 4) / 2 * 175 / 2500)
    assert row["score_mean"] == pytest.approx((0.4 + 0.8) / 2)
    assert row["score_p10"] == pytest.approx(0.4)
    assert pd.isna(row["confidence"]) and pd.isna(row["osm_date"])
    assert row["road_density"] == pytest.approx(1000 * 50 / 2500, rel=2e-3)
    assert row["qc_flag"] == "at_data_edge"
    assert table.iloc[1]["qc_flag"] == "at_data_edge; no_buildings_mapped"
    assert table.iloc[1]["building_count"] == 0 and pd.isna(table.iloc[1]["building_height_mean"])


def test_nothing_known_is_null_not_zero():
    table = add_attributes(villages(box(10, 10, 50, 50)), grid=GRID, city=CITY, lineage=LINEAGE)
    for name in ("building_count", "building_coverage", "road_density", "score_mean", "floor_area_ratio"):
        assert pd.isna(table[name].iloc[0]), name
    assert table["qc_flag"].iloc[0] == "ok"


def test_of_what_the_map_does_not_hold_nothing_is_known():
    place = villages(box(10, 10, 50, 50))
    roads = add_attributes(place, grid=GRID, city=CITY, lineage=LINEAGE, vectors=VECTORS.iloc[3:4])
    assert roads["building_count"].isna().all()
    assert roads["building_coverage"].isna().all()
    assert roads["road_density"].notna().all()
    assert roads["qc_flag"].iloc[0] == "no_buildings_mapped"
    houses = add_attributes(place, grid=GRID, city=CITY, lineage=LINEAGE, vectors=VECTORS.iloc[:3])
    assert houses["road_density"].isna().all()
    assert (houses["building_count"] == 2).all()
    far = add_attributes(
        villages(box(60, 60, 100, 100)), grid=GRID, city=CITY, lineage=LINEAGE, vectors=VECTORS.iloc[:3]
    )
    assert (far["building_count"] == 0).all()


def test_not_predicted_pixels_do_not_count():
    scores = np.full((100, 100), 255, dtype=np.uint8)
    scores[60:70, 10:50] = 250
    table = add_attributes(
        villages(box(10, 10, 50, 50)), grid=GRID, city=CITY, lineage=LINEAGE, scores=scores, calibrate=lambda p: p / 2
    )
    assert table["score_mean"].iloc[0] == 1.0
    assert table["confidence"].iloc[0] == 0.5
    assert table["qc_flag"].iloc[0] == "partly_not_predicted"
    scores[:] = 255
    table = add_attributes(villages(box(10, 10, 50, 50)), grid=GRID, city=CITY, lineage=LINEAGE, scores=scores)
    assert pd.isna(table["score_mean"].iloc[0]) and pd.isna(table["score_p10"].iloc[0])


def test_heights_from_a_raster_in_another_crs(tmp_path):
    path = tmp_path / "heights.tif"
    transform = pyproj.Transformer.from_crs(GRID.crs, "EPSG:3857", always_xy=True)
    x, y = transform.transform(500_000, 3_000_000)
    mercator = Grid.covering((x, y - 150, x + 150, y), crs="EPSG:3857", resolution_m=0.5)
    write_raster(path, mercator, np.full((mercator.height_px, mercator.width_px), 9, np.uint16), nodata=65535)
    bare = features((box(10, 10, 20, 20), {"building": "yes"}))
    table = add_attributes(
        villages(box(0, 0, 50, 50)), grid=GRID, city=CITY, lineage=LINEAGE, vectors=bare, height_rasters=[path]
    )
    assert table["building_height_mean"].iloc[0] == 9
    assert table["height_source"].iloc[0] == "raster 1.00"
    with pytest.raises(AttributeDataError, match=r"none\.tif"):
        add_attributes(
            villages(box(0, 0, 50, 50)), grid=GRID, city=CITY, lineage=LINEAGE, vectors=bare,
            height_rasters=[tmp_path / "none.tif"],
        )  # fmt: skip


@given(seed=st.integers(0, 2**32 - 1), block=st.integers(7, 64))
@settings(max_examples=30, deadline=None)
def test_score_statistics_equal_numpy_whatever_the_blocks(seed, block):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 251, (100, 100), dtype=np.uint8)
    scores[rng.random((100, 100)) < 0.1] = 255
    left, bottom = rng.integers(0, 60, 2)
    shape = box(left, bottom, left + 30, bottom + 25)
    found = count_scores(gpd.GeoSeries([shape], crs=GRID.crs), scores, GRID, block_px=block)
    inside = scores[100 - bottom - 25 : 100 - bottom, left : left + 30].ravel()
    np.testing.assert_array_equal(found[0], np.bincount(inside, minlength=256))
    predicted = inside[inside < 255] / 250
    figures = summarise_scores(found)
    assert figures["score_mean"][0] == pytest.approx(predicted.mean())
    assert figures["score_p10"][0] == pytest.approx(np.quantile(predicted, 0.1, method="inverted_cdf"))


def test_area_and_perimeter_are_those_of_the_ellipsoid():
    shape = shapely.box(500_000, 4_400_000, 501_000, 4_402_000)
    series = gpd.GeoSeries([shape, shape], crs="EPSG:32650")
    degrees = series.to_crs("EPSG:4326").iloc[0]
    area, perimeter = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(degrees)
    assert equal_areas_m2(series) == pytest.approx([area, area], rel=1e-6)
    assert geodesic_lengths_m(series) == pytest.approx([perimeter, perimeter], rel=1e-6)
    web = equal_areas_m2(series.to_crs("EPSG:3857"))  # a grid in web mercator does not change the area
    assert web == pytest.approx([area, area], rel=1e-6)


def test_dictionary_lists_exactly_the_columns(tmp_path):
    table = add_attributes(villages(box(10, 10, 50, 50)), grid=GRID, city=CITY, lineage=LINEAGE)
    assert list(table.columns) == describe_columns()["name"].tolist()
    assert {name: str(dtype) for name, dtype in table.drop(columns="geometry").dtypes.items()} == {
        item.name: item.dtype for item in ATTRIBUTES
    }
    for item in ATTRIBUTES:
        assert item.null_reason != "never" or table[item.name].notna().all()
    write_data_dictionary(tmp_path / "dictionary.csv")
    assert pd.read_csv(tmp_path / "dictionary.csv")["name"].tolist() == list(table.columns)
    table.to_parquet(tmp_path / "uv.parquet")
    assert list(gpd.read_parquet(tmp_path / "uv.parquet").columns) == list(table.columns)
    empty = add_attributes(villages(box(1, 1, 2, 2)).iloc[:0], grid=GRID, city=CITY, lineage=LINEAGE, vectors=VECTORS)
    assert list(empty.columns) == list(table.columns)


def test_missing_id_is_refused():
    bare = gpd.GeoDataFrame(geometry=[box(0, 0, 9, 9)], crs=GRID.crs)
    with pytest.raises(AttributeDataError, match="uv_id is missing for 1 of 1"):
        add_attributes(bare, grid=GRID, city=CITY, lineage=LINEAGE)
