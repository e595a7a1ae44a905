"""Form: low-rise and high-density measures of villages and of the land outside, by hand and on real heights."""

import json

import geopandas as gpd
import numpy as np
import pytest
import shapely

from pipeline.attributes import measure_form, read_fabric

CRS = "EPSG:32650"


def houses(left, bottom, side, pitch, count, **tags):
    """A count x count block of square houses."""
    return [
        (shapely.box(x, y, x + side, y + side), {"building": "yes", **tags})
        for x in left + pitch * np.arange(count)
        for y in bottom + pitch * np.arange(count)
    ]


def fabric(*rows, rasters=()):
    table = gpd.GeoDataFrame(
        {"tags": [json.dumps(tags) for _, tags in rows]}, geometry=[shape for shape, _ in rows], crs=CRS
    )
    return read_fabric(table, height_rasters=rasters)


def test_a_village_and_towers_by_hand():
    low = houses(500_000, 3_000_000, 9, 12, 8, height="7")  # 100 m x 100 m: 64 houses of 81 m2
    towers = houses(500_200, 3_000_000, 30, 50, 2, height="60")  # four towers on the next built-up cell
    shed = [(shapely.box(500_500, 3_000_000, 500_510, 3_000_010), {"building": "yes"})]  # 1 % of its cell
    village = gpd.GeoSeries([shapely.box(500_000, 3_000_000, 500_100, 3_000_100)], crs=CRS)
    area = shapely.box(500_000, 3_000_000, 500_600, 3_000_100)
    form = measure_form(village, fabric(*low, *towers, *shed), area=area)
    row = form.villages.iloc[0]
    assert row["coverage"] == pytest.approx(64 * 81 / 1e4)
    assert row["buildings_per_ha"] == pytest.approx(64)
    assert row["footprint_mean_m2"] == pytest.approx(81)
    assert bool(row["low_rise"]) and bool(row["high_density"]) and row["low_rise_share"] == 1
    assert len(form.cells) == 1  # the shed's cell is not built up, the village's is not outside
    assert form.cells.geometry[0].bounds == (500_200, 3_000_000, 500_300, 3_000_100)
    inside, outside = form.summary.loc["villages"], form.summary.loc["outside"]
    assert inside["low_rise_high_density_share"] == 1 and outside["low_rise_high_density_share"] == 0
    assert outside["height_mean_m"] == 60 and outside["coverage"] == pytest.approx(4 * 900 / 1e4)
    assert outside["low_rise_share"] == 0


def test_unknown_heights_are_null_and_a_cell_beside_a_village_loses_its_part():
    bare = houses(500_000, 3_000_000, 9, 12, 16)  # 200 m x 200 m without heights
    village = gpd.GeoSeries([shapely.box(500_000, 3_000_000, 500_150, 3_000_192)], crs=CRS)
    area = shapely.box(500_000, 3_000_000, 500_200, 3_000_200)
    form = measure_form(village, fabric(*bare), area=area)
    assert form.villages["low_rise"].isna().all() and form.villages["high_density"].all()
    assert np.isnan(form.summary.loc["villages", "height_mean_m"])
    total = shapely.area(form.cells.geometry.to_numpy()).sum() + shapely.area(village[0])
    assert total == pytest.approx(200 * 200, abs=1_700)  # slivers under 1,000 m2 are left out
    assert shapely.area(shapely.intersection(form.cells.geometry.to_numpy(), village[0])).sum() == pytest.approx(0)


def test_a_city_without_buildings():
    empty = fabric((shapely.LineString([(0, 0), (1, 1)]), {"highway": "residential"}))
    village = gpd.GeoSeries([shapely.box(0, 0, 100, 100)], crs=CRS)
    form = measure_form(village, empty, area=village[0])
    assert len(form.cells) == 0 and form.villages["coverage"][0] == 0
    assert np.isnan(form.summary.loc["outside", "coverage"])


@pytest.mark.shared
def test_real_heights_of_a_raster(shared):
    folder = shared / "data" / "shanghai-height"
    buildings = gpd.read_file(folder / "buildings_from_height.geojson")
    raster = folder / "height_3_6.tif"
    import rasterio

    with rasterio.open(raster) as data:
        box = gpd.GeoSeries([shapely.box(*data.bounds)], crs=data.crs).to_crs("EPSG:32651")
        values = data.read(1)
    local = buildings.to_crs("EPSG:32651")
    local = local[local.intersects(box[0])].explode(ignore_index=True)
    local["tags"] = json.dumps({"building": "yes"})
    found = read_fabric(local[["tags", "geometry"]], height_rasters=[raster]).buildings
    known = found["height_m"].notna()
    assert known.mean() > 0.9 and set(found.loc[known, "height_source"]) == {"raster"}
    weight = found.geometry.area[known]
    mean = float((found.loc[known, "height_m"].astype(float) * weight).sum() / weight.sum())
    assert mean == pytest.approx(values[(values > 0) & (values < 65535)].mean(), rel=0.1)
