"""What is read of one city: form, ground, people."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin

from pipeline.analysis.built_up import BuiltUp, measure_built_up
from pipeline.analysis.city_tables import CityTask, read_city_tables
from pipeline.analysis.errors import AnalysisError
from pipeline.analysis.form import measure_city_form
from pipeline.analysis.ground_pixels import read_ground_pixels
from pipeline.analysis.options import AnalysisOptions
from pipeline.analysis.run import read_areas
from pipeline.analysis.sdg import count_people
from pipeline.analysis.shares import tabulate_shares
from pipeline.analysis.villages import tabulate_sizes
from pipeline.attributes.buildings import Fabric
from pipeline.national.products import find_products
from regions.demo.planted import Planted, planted_cities
from regions.raster.equal_area import CHINA_ALBERS
from regions.registry import city_of, national_set
from tests.support.products import write_products

CRS = "EPSG:32649"
X, Y = 500_000.0, 2_500_000.0
CODES = [c.adcode for c in national_set()][::120]


def houses(x0, y0, *, rows, columns, step_m, side_m, turn=None, height=None):
    """Squares on a lattice, turned by the degrees given."""
    shapes = []
    for i in range(rows):
        for j in range(columns):
            square = shapely.box(0, 0, side_m, side_m)
            angle = 0.0 if turn is None else float(turn[i * columns + j])
            square = shapely.affinity.rotate(square, angle)
            shapes.append(shapely.affinity.translate(square, x0 + j * step_m, y0 + i * step_m))
    values = np.full(len(shapes), np.nan if height is None else height)
    return shapes, values


def fabric_of(*parts):
    shapes = [s for p in parts for s in p[0]]
    height = np.concatenate([p[1] for p in parts])
    frame = gpd.GeoDataFrame(
        {
            "height_m": pd.array(height, dtype="Float64"),
            "floors": pd.array(np.maximum(height / 3, 1), dtype="Float64"),
            "height_source": pd.array(["tag"] * len(shapes), dtype="string"),
        },
        geometry=shapes,
        crs=CRS,
    )
    return Fabric(frame, gpd.GeoDataFrame(geometry=[], crs=CRS))


def test_form_of_a_village_and_of_its_surroundings_by_hand():
    rng = np.random.default_rng(1)
    inside = houses(X, Y, rows=10, columns=10, step_m=12, side_m=10, height=6.0)
    outside = houses(X + 300, Y, rows=5, columns=5, step_m=40, side_m=20, height=30.0, turn=rng.uniform(0, 90, 25))
    far = houses(X + 5000, Y, rows=5, columns=5, step_m=40, side_m=20, height=90.0)
    village = gpd.GeoSeries([shapely.box(X, Y, X + 120, Y + 120)], crs=CRS)
    area = shapely.box(X - 1000, Y - 1000, X + 8000, Y + 1000)
    row = measure_city_form(village, fabric_of(inside, outside, far), area=area, surroundings_m=1000)
    assert row["coverage_in"] == pytest.approx(100 * 100 / 120**2)
    assert (row["height_mean_m_in"], row["height_mean_m_out"]) == pytest.approx(
        (6.0, 30.0)
    )  # the far ones do not count
    assert row["floor_area_ratio_in"] == pytest.approx(2 * row["coverage_in"])
    assert row["footprint_mean_m2_in"] == pytest.approx(100.0)
    assert row["spacing_m_in"] == pytest.approx(2.0, abs=0.1)  # gaps of 2 m, diagonals at the corners
    assert row["orientation_entropy_in"] == pytest.approx(0.0, abs=1e-9)
    assert row["orientation_entropy_out"] > 0.4
    assert (row["low_rise_share_in"], row["low_rise_share_out"]) == (1.0, 0.0)
    assert (row["villages"], row["villages_mapped"]) == (1, 1)


def test_unknown_heights_and_unmapped_villages_stay_unknown():
    inside = houses(X, Y, rows=4, columns=4, step_m=12, side_m=10)
    villages = gpd.GeoSeries([shapely.box(X, Y, X + 50, Y + 50), shapely.box(X, Y + 400, X + 50, Y + 450)], crs=CRS)
    row = measure_city_form(
        villages, fabric_of(inside), area=shapely.box(X - 500, Y - 500, X + 900, Y + 900), surroundings_m=500
    )
    assert np.isnan(row["height_mean_m_in"])
    assert np.isnan(row["floor_area_ratio_in"])
    assert row["height_known_in"] == 0
    assert row["coverage_in"] == pytest.approx(16 * 100 / 2500)  # the village without buildings is not a zero
    assert (row["villages"], row["villages_mapped"], row["cells"]) == (2, 1, 0)


@pytest.fixture(scope="module")
def nation(tmp_path_factory):
    root = tmp_path_factory.mktemp("nation")
    for k, code in enumerate(CODES):
        write_products(root / "out", [code], villages=[8, 24, 40][k % 3])
    return root


def raster(path, values, transform, crs, nodata=None):
    profile = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1}
    with rasterio.open(path, "w", **profile, dtype=values.dtype, crs=crs, transform=transform, nodata=nodata) as out:
        out.write(values, 1)
    return path


def test_built_up_land_is_counted_with_the_villages_and_on_mapped_ground_only(nation, tmp_path):
    product = find_products(nation / "out")[0]
    ground = read_ground_pixels(product)
    with rasterio.open(product.mask) as mask:
        answers, bounds = mask.read(1), mask.bounds
    uv_m2 = product.uv_area_m2
    middle = (bounds.left + bounds.right) / 2
    half = gpd.GeoDataFrame(geometry=[shapely.box(bounds.left, bounds.bottom, middle, bounds.top)], crs=product.crs)
    path = tmp_path / f"{product.adcode}.gpkg"
    half.to_file(path)
    columns = answers.shape[1] // 2
    other = ((answers == 0) & (np.arange(answers.shape[1]) < columns)).sum() * product.pixel_m2
    got = measure_built_up(product, BuiltUp(tmp_path), ground, uv_m2=uv_m2)
    assert got == pytest.approx(other + uv_m2, rel=0.01)  # equal-area and UTM areas differ a little
    assert ground.predicted_m2 == pytest.approx((answers != 255).sum() * product.pixel_m2, rel=0.01)
    values = np.full((20, 20), 3, dtype=np.uint8)
    transform = from_origin(
        bounds.left, bounds.top, (bounds.right - bounds.left) / 20, (bounds.top - bounds.bottom) / 20
    )
    tif = raster(tmp_path / "classes.tif", values, transform, product.crs)
    assert measure_built_up(product, BuiltUp(tif, (3,)), ground, uv_m2=uv_m2) == pytest.approx(
        (answers == 0).sum() * product.pixel_m2 + uv_m2, rel=0.01
    )
    with pytest.raises(AnalysisError, match="no such file"):
        measure_built_up(product, BuiltUp(tmp_path / "absent.tif"), ground, uv_m2=0.0)
    empty = raster(tmp_path / "none.tif", np.zeros((20, 20), dtype=np.uint8), transform, product.crs)
    with pytest.raises(AnalysisError, match="no built-up land"):
        measure_built_up(product, BuiltUp(empty), ground, uv_m2=0.0)


def test_people_are_shared_out_by_the_pixels_of_the_map(nation, tmp_path):
    product = find_products(nation / "out")[1]
    with rasterio.open(product.mask) as mask:
        answers, bounds, crs = mask.read(1), mask.bounds, mask.crs
    cells = 8
    step = (bounds.right - bounds.left) / cells, (bounds.top - bounds.bottom) / cells
    people = np.full((cells, cells), 100.0, dtype=np.float32)
    people[0, 0] = -99
    path = raster(tmp_path / "people.tif", people, from_origin(bounds.left, bounds.top, *step), crs, nodata=-99)
    inside, ground = count_people(product.mask, path)
    rows, columns = (np.minimum(np.arange(n) * cells // n, cells - 1) for n in answers.shape)
    weight = np.where(people > 0, people, 0)[rows[:, None], columns[None]] / (answers.size / cells**2)
    assert inside == pytest.approx((weight * (answers == 1)).sum(), rel=0.08)  # ten samples a side of a cell
    assert ground == pytest.approx((weight * (answers != 255)).sum(), rel=0.02)


def test_a_city_reads_the_same_whoever_reads_it(nation):
    product = find_products(nation / "out")[2]
    task = CityTask(product, city_of(product.adcode), AnalysisOptions())
    one, two = read_city_tables(task), read_city_tables(task)
    assert json.dumps(one.totals) == json.dumps(two.totals)
    assert one.pattern == two.pattern
    assert one.totals["uv_m2"] == pytest.approx(product.uv_area_m2)
    pd.testing.assert_frame_equal(one.villages, two.villages)
    assert gpd.read_parquet(product.polygons).crs != CHINA_ALBERS


def test_an_assessment_must_speak_of_these_regions(tmp_path):
    cities = planted_cities(Planted(), 1)
    areas = pd.DataFrame({"value": ["all", "Atlantis"], "estimated_km2": 1.0, "low_km2": 0.5, "high_km2": 2.0})
    with pytest.raises(AnalysisError, match="Atlantis"):
        tabulate_shares(cities, AnalysisOptions(), areas)
    with pytest.raises(AnalysisError, match="says nothing of"):
        tabulate_shares(cities, AnalysisOptions(), areas.iloc[:1])
    with pytest.raises(AnalysisError, match="occurs twice"):
        tabulate_shares(pd.concat([cities, cities.iloc[:1]]), AnalysisOptions())
    (tmp_path / "report.json").write_text('{"areas": null}', encoding="utf-8")
    with pytest.raises(AnalysisError, match="estimates no areas"):
        read_areas(tmp_path)


@given(st.lists(st.floats(min_value=1.0, max_value=1e7), min_size=1, max_size=50))
def test_classes_of_size_hold_every_village_once(areas):
    table = tabulate_sizes(pd.DataFrame({"area_m2": areas}))
    assert table["villages"].sum() == len(areas)
    assert table["area_km2"].sum() * 1e6 == pytest.approx(sum(areas))
