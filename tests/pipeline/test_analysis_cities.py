"""What is read of one city: form, ground, people."""

import itertools
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
from scipy import stats

from pipeline.analysis.adjustment import Assessed, make_adjustment, read_assessed
from pipeline.analysis.built_up import BuiltUp, measure_built_up
from pipeline.analysis.city_tables import CityTask, read_city_tables
from pipeline.analysis.errors import AnalysisError
from pipeline.analysis.form import measure_city_form, rarefied_entropy
from pipeline.analysis.ground_pixels import read_ground_pixels
from pipeline.analysis.options import AnalysisOptions
from pipeline.analysis.sdg import count_people
from pipeline.analysis.shares import tabulate_shares
from pipeline.analysis.sizes import describe_sizes, rank_sizes, tabulate_sizes
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


def test_orientation_entropy_does_not_depend_on_how_many_buildings_a_unit_has():
    """Directions without any order, in a village of 900 houses and in cells of 5 to 12: the plug-in entropy differs."""
    rng = np.random.default_rng(4)
    inside = houses(X, Y, rows=30, columns=30, step_m=14, side_m=8, turn=rng.uniform(0, 90, 900))
    outside = houses(X + 500, Y, rows=24, columns=24, step_m=32, side_m=8, turn=rng.uniform(0, 90, 576))
    village = gpd.GeoSeries([shapely.box(X - 5, Y - 5, X + 420, Y + 420)], crs=CRS)
    row = measure_city_form(
        village, fabric_of(inside, outside), area=shapely.box(X - 500, Y - 500, X + 2000, Y + 2000), surroundings_m=1500
    )
    assert row["orientation_entropy_in"] == pytest.approx(1.0, abs=0.05)
    assert row["orientation_entropy_out"] == pytest.approx(1.0, abs=0.05)


def test_rarefied_entropy_is_the_mean_over_all_choices():
    counts = np.array([[4.0, 2.0, 0.0, 1.0], [3.0, 3.0, 1.0, 0.0]])
    for row, got in zip(counts, rarefied_entropy(counts, 5), strict=True):
        items = np.repeat(np.arange(4), row.astype(int))
        each = [stats.entropy(np.bincount(c, minlength=4)) for c in itertools.combinations(items, 5)]
        assert got == pytest.approx(np.mean(each))


def test_large_buildings_are_not_made_small_by_cells_and_those_drawn_twice_count_once():
    inside = houses(X, Y, rows=5, columns=5, step_m=14, side_m=10, height=6.0)
    halls = houses(X + 317, Y + 33, rows=3, columns=3, step_m=150, side_m=120, height=9.0)
    twice = tuple(np.concatenate([np.asarray(p)] * 5) for p in houses(X + 317, Y - 200, rows=1, columns=4, step_m=60,
                                                                      side_m=20, height=9.0))  # fmt: skip
    village = gpd.GeoSeries([shapely.box(X - 5, Y - 5, X + 70, Y + 70)], crs=CRS)
    area = shapely.box(X - 500, Y - 500, X + 1500, Y + 1500)
    row = measure_city_form(village, fabric_of(inside, halls), area=area, surroundings_m=1000)
    assert row["footprint_mean_m2_out"] == pytest.approx(120.0**2)
    again = measure_city_form(village, fabric_of(inside, halls, twice), area=area, surroundings_m=1000)
    assert np.isfinite(again["spacing_m_in"])
    assert again["spacing_m_in"] == pytest.approx(row["spacing_m_in"])


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
        make_adjustment(cities, Assessed(areas))
    with pytest.raises(AnalysisError, match="says nothing of"):
        make_adjustment(cities, Assessed(areas.iloc[:1]))
    with pytest.raises(AnalysisError, match="occurs twice"):
        tabulate_shares(pd.concat([cities, cities.iloc[:1]]), AnalysisOptions())
    (tmp_path / "report.json").write_text('{"areas": null}', encoding="utf-8")
    with pytest.raises(AnalysisError, match="estimates no areas"):
        read_assessed(tmp_path)


def test_provinces_and_cities_have_an_interval_only_where_a_model_gives_them_one():
    cities = planted_cities(Planted(), 2)
    regions = cities.groupby("region")["uv_m2"].sum() / 1e6
    known = {"mapped_km2": [regions.sum(), *regions], "basis": "share of the known area"}
    areas = pd.DataFrame({"value": ["all", *regions.index], **known})
    areas = areas.assign(**{c: areas["mapped_km2"] * f for c, f in
                            (("estimated_km2", 1.25), ("low_km2", 1.0), ("high_km2", 1.6))})  # fmt: skip
    plain = tabulate_shares(cities, AnalysisOptions(), make_adjustment(cities, Assessed(areas)))
    part = plain[plain["level"].isin(["province", "city"])]
    assert part["adjusted_low"].isna().all()
    assert part["adjusted_share"].to_numpy() == pytest.approx(1.25 * part["share_area"].to_numpy())
    nation = plain.iloc[0]
    assert (nation["adjusted_low"], nation["adjusted_high"]) == pytest.approx(
        (nation["share_area"], 1.6 * nation["share_area"])
    )
    # the mean of shares: regions err independently, so its interval is as wide as the root of their squares
    part_of = pd.Series(cities["uv_m2"] / cities["ground_m2"] / len(cities)).groupby(cities["region"]).sum()
    assert nation["adjusted_mean"] - nation["adjusted_mean_low"] == pytest.approx(
        0.25 * np.sqrt(np.square(part_of).sum())
    )
    ground = pd.DataFrame(
        {"city": cities["adcode"], "km2": 2.0, "ci_low": 1.0, "ci_high": 4.0, "rmse": 0.8, "basis": "model"}
    )
    modelled = make_adjustment(cities, Assessed(areas, ground))
    table = tabulate_shares(cities, AnalysisOptions(), modelled).set_index(["level", "name"])
    province = cities["province"].iloc[0]
    mine = cities[cities["province"] == province]
    row = table.loc[("province", province)]
    assert row["adjusted_km2"] == pytest.approx(2.0 * len(mine))
    assert row["adjusted_high"] == pytest.approx(4.0 * len(mine) / (mine["ground_m2"].sum() / 1e6))
    with pytest.raises(AnalysisError, match=f"none of {cities['adcode'].iloc[0]}"):
        make_adjustment(cities, Assessed(areas, ground.iloc[1:]))


def test_an_assessment_of_more_cities_gives_its_factor_not_its_area():
    cities = planted_cities(Planted(), 2)
    regions = cities.groupby("region")["uv_m2"].sum() / 1e6
    areas = pd.DataFrame(
        {
            "value": ["all", *regions.index],
            "mapped_km2": [2 * regions.sum(), *(2 * regions)],
            "basis": "share of the known area",
        }
    )
    areas = areas.assign(estimated_km2=areas["mapped_km2"], low_km2=areas["mapped_km2"], high_km2=areas["mapped_km2"])
    got = make_adjustment(cities, Assessed(areas))
    assert all(v == pytest.approx(1.0) for v in got.factors.values())
    assert len(got.notes) == len(areas)
    assert "km² of mapped villages" in got.notes[0]


def test_spread_of_sizes_comes_back_from_drawn_ones():
    """A Pareto tail of index 1.5, a log-normal of factor 2; Gini of the log-normal is 2 Phi(s / sqrt 2) - 1."""
    rng = np.random.default_rng(3)
    sizes = {
        "East": 1e4 * (1 - rng.random(4000)) ** (-1 / 1.5),
        "North": 2e4 * np.exp(np.log(2) * rng.normal(size=4000)),
    }
    table = pd.DataFrame({"region": np.repeat(list(sizes), 4000), "area_m2": np.concatenate(list(sizes.values()))})
    got = describe_sizes(table).set_index("name")
    assert got.loc["East", "tail_low"] <= 1.5 <= got.loc["East", "tail_high"]
    assert got.loc["North", "geometric_sd"] == pytest.approx(2.0, rel=0.03)
    assert got.loc["North", "lognormal_distance"] < 0.02 < got.loc["East", "lognormal_distance"]
    assert got.loc["North", "gini"] == pytest.approx(2 * stats.norm.cdf(np.log(2) / np.sqrt(2)) - 1, abs=0.02)
    curve = rank_sizes(table)
    mine = curve[curve["name"] == "East"]
    at = mine.iloc[len(mine) // 2]
    assert at["share_at_least"] == pytest.approx((sizes["East"] / 1e4 >= at["area_ha"]).mean())


@given(st.lists(st.floats(min_value=1.0, max_value=1e7), min_size=1, max_size=50))
def test_classes_of_size_hold_every_village_once(areas):
    table = tabulate_sizes(pd.DataFrame({"area_m2": areas}))
    assert table["villages"].sum() == len(areas)
    assert table["area_km2"].sum() * 1e6 == pytest.approx(sum(areas))
