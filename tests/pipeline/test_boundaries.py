"""Boundaries with their traps, built-up land, and the area of interest of every city."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import osmium
import pytest
import rasterio
import shapely
from osmium.osm import mutable
from rasterio.transform import from_origin
from scipy import ndimage

from pipeline.boundaries.area import AreaRule, area_of_interest
from pipeline.boundaries.built import CELL_M, BuiltRaster, BuiltRule, cells_of
from pipeline.boundaries.choice import open_built
from pipeline.boundaries.errors import BoundaryError
from pipeline.boundaries.matching import match, short_name
from pipeline.boundaries.reading import read_boundaries
from pipeline.boundaries.table import boxes_of, make_areas, read_areas, write_areas
from regions.datum import from_wgs84
from regions.registry import find_city, national_set
from tests.support.command_line import json_of

BOWTIE = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
UTM = "EPSG:32650"


def around(code: str, half_deg: float = 0.2) -> shapely.Polygon:
    city = find_city(code)
    lon, lat = city.seat_lon, city.seat_lat
    return shapely.box(lon - half_deg, lat - half_deg, lon + half_deg, lat + half_deg)


def write_table(path: Path, rows: list[tuple[object, str, shapely.Geometry]], code: str = "adcode") -> Path:
    table = gpd.GeoDataFrame(
        {code: [r[0] for r in rows], "name": [r[1] for r in rows]}, geometry=[r[2] for r in rows], crs="EPSG:4326"
    )
    table.to_file(path)
    return path


def test_shifted_datum_invalid_rings_and_repeated_units(tmp_path: Path):
    true = around("440300")
    moved = shapely.transform(true, lambda xy: np.stack(from_wgs84(xy[:, 0], xy[:, 1], "gcj02"), axis=1))
    far = shapely.transform(BOWTIE, lambda xy: xy * 0.3 + (100, 30))
    rows = [(440300, "深圳市", moved), (440100, "广州市", far), (440100, "广州市", shapely.box(101, 30, 101.1, 30.1))]
    boundaries = read_boundaries(write_table(tmp_path / "b.geojson", rows), datum="gcj02")
    assert boundaries.counts["read"] == 3
    assert boundaries.counts["invalid_mended"] == 1
    assert boundaries.counts["joined"] == 1
    table = boundaries.table.set_index("code")
    assert table.geometry.is_valid.all()
    assert table.geometry["440300"].hausdorff_distance(true) < 1e-7
    assert table.geometry["440100"].area > 0.04, "both halves of the bow tie, and the second row"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("440300", "440300"),
        (440300.0, "440300"),
        ("156440300", "440300"),
        ("440300000000", "440300"),
        ("CN044150", None),
    ],
)
def test_codes_as_files_have_them(tmp_path: Path, given: object, code: str | None):
    file = write_table(tmp_path / "b.gpkg", [(given, "深圳市", around("440300"))], code="GB")
    assert read_boundaries(file).table["code"].iloc[0] == code


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("石河子市[1]", "石河子"), ("济源市〔1〕", "济源"), ("巴音郭楞蒙古自治州", "巴音郭楞"),
        ("大兴安岭地区", "大兴安岭"), ("黔西南布依族苗族自治州", "黔西南"), ("锡林郭勒盟", "锡林郭勒"),
        ("神农架林区", "神农架"), ("朝阳", "朝阳"),
    ],
)  # fmt: skip
def test_short_names(name: str, short: str):
    assert short_name(name) == short


def test_matched_by_code_name_and_place_and_what_is_left(tmp_path: Path):
    cities = [find_city(c) for c in ("440300", "430200", "652800", "110000", "320500")]
    elsewhere = shapely.box(80, 40, 80.1, 40.1)
    rows = [
        ("440300", "whatever", around("440300")),
        (None, "巴音郭楞蒙古自治州[2]", around("652800")),
        (None, "株州市", around("430200")),  # misspelt: found by its seat
        (None, "苏州市", elsewhere),  # named like a city, but lies elsewhere
        (None, "香港", shapely.box(114, 22.2, 114.2, 22.4)),
    ]
    found = match(read_boundaries(write_table(tmp_path / "b.geojson", rows)).table, cities)
    assert dict(zip(found.table["adcode"], found.table["by"], strict=True)) == {
        "430200": "place", "440300": "code", "652800": "name",
    }  # fmt: skip
    assert [m["adcode"] for m in found.missing] == ["110000", "320500"]
    assert [u["name"] for u in found.unused] == ["苏州市", "香港"]


def test_shared_files(shared: Path):
    shifted = read_boundaries(shared / "data/boundaries/china_prefectures_adcode_gcj02.geojson", datum="gcj02")
    assert shifted.counts["invalid_mended"] == 77
    assert shifted.table.geometry.is_valid.all()
    by_code = match(shifted.table, national_set())
    assert (len(by_code.table), by_code.missing) == (342, ())
    named = read_boundaries(shared / "data/boundaries/chn_admin_level2.shp")
    by_name = match(named.table, national_set())
    assert len(by_name.table) + len(by_name.missing) == 342
    assert len(by_name.missing) <= 1
    # two files of different makers agree on the ground, if the datum is taken off one of them
    both = by_code.table.set_index("adcode").to_crs("EPSG:3857"), by_name.table.set_index("adcode").to_crs("EPSG:3857")
    shared_codes = both[0].index.intersection(both[1].index)
    a, b = both[0].geometry[shared_codes], both[1].geometry[shared_codes]
    overlap = a.intersection(b).area / a.union(b).area
    assert overlap.median() > 0.85, "both are drawn coarsely"
    raw = read_boundaries(shared / "data/boundaries/china_prefectures_adcode_gcj02.geojson")
    apart = raw.table.set_index("code").to_crs("EPSG:3857").geometry[shared_codes].centroid.x - a.centroid.x
    assert 100 < apart.median() < 900


def built_raster(path: Path, pixels: np.ndarray, place: tuple[float, float, float], crs: str, **how: object) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", dtype=pixels.dtype, count=1, height=pixels.shape[0], width=pixels.shape[1],
        crs=crs, transform=from_origin(*place, place[2]), **how,
    ) as file:  # fmt: skip
        file.write(pixels, 1)
    return path


def test_area_is_built_up_land_and_fringe_in_the_boundary(tmp_path: Path):
    left, top = 500_000, 2_500_000
    pixels = np.zeros((200, 200), np.uint16)  # 100 m pixels of GHS-BUILT-S: square metres
    pixels[50:70, 50:70] = 4000  # 4 km2
    pixels[120, 120] = 9000  # a hamlet
    pixels[50:70, 150:170] = 900  # under a tenth of the ground
    file = built_raster(tmp_path / "ghs.tif", pixels, (left, top, 100), UTM, nodata=65535)
    outline_m = shapely.box(left + 4000, top - 19_000, left + 19_000, top - 6000)  # cuts the town at its north
    outline = gpd.GeoSeries([outline_m], crs=UTM).to_crs("EPSG:4326").iloc[0]
    found = area_of_interest(outline, UTM, BuiltRaster(file, "ghs-built-s"), AreaRule(fringe_m=500, least_km2=0.5))
    area_m = gpd.GeoSeries([found.area], crs="EPSG:4326").to_crs(UTM).iloc[0]
    town = shapely.box(left + 5000, top - 7000, left + 7000, top - 6000)
    expected = town.buffer(500).intersection(outline_m)
    assert found.built_km2 == pytest.approx(2.01, abs=0.02)
    assert area_m.symmetric_difference(expected).area < 0.15 * expected.area
    assert area_m.difference(outline_m.buffer(1)).is_empty
    assert area_m.buffer(60).contains(town.buffer(500 - CELL_M).intersection(outline_m))


def test_fringe_equals_a_distance_over_all(tmp_path: Path):
    random = np.random.default_rng(2)
    pixels = (ndimage.gaussian_filter(random.random((150, 170)), 4) > 0.515).astype(np.uint8)
    file = built_raster(tmp_path / "b.tif", pixels, (500_000, 2_500_000, 100), UTM)
    outline_m = shapely.box(500_000, 2_485_000, 517_000, 2_500_000)
    outline = gpd.GeoSeries([outline_m], crs=UTM).to_crs("EPSG:4326").iloc[0]
    built = BuiltRaster(file, BuiltRule(values=(1,)))
    found = area_of_interest(outline, UTM, built, AreaRule(fringe_m=700, least_km2=0))
    expected = ndimage.distance_transform_edt(pixels == 0) * CELL_M <= 700
    assert found.area_km2 == pytest.approx(expected.sum() * CELL_M**2 / 1e6, rel=0.02)


def test_classes_of_fine_pixels(tmp_path: Path):
    pixels = np.full((600, 600), 30, np.uint8)
    pixels[100:200, 100:300] = 50
    pixels[400:600, :] = 255
    file = built_raster(tmp_path / "wc.tif", pixels, (114.0, 22.8, 1 / 12_000), "EPSG:4326", nodata=255)
    box = gpd.GeoSeries([shapely.box(114.0, 22.75, 114.05, 22.8)], crs="EPSG:4326").to_crs(UTM).iloc[0]
    cells = cells_of(box, UTM, 0)
    share = BuiltRaster(file, "worldcover").share(cells)
    assert share is not None
    expected_km2 = gpd.GeoSeries(
        [shapely.box(114 + 100 / 12_000, 22.8 - 200 / 12_000, 114 + 300 / 12_000, 22.8 - 100 / 12_000)], crs="EPSG:4326"
    ).to_crs(UTM).area.iloc[0] / 1e6  # fmt: skip
    assert share.sum() * CELL_M**2 / 1e6 == pytest.approx(expected_km2, rel=0.02)
    assert BuiltRaster(file, "worldcover").share(cells_of(shapely.box(0, 0, 1000, 1000), UTM, 0)) is None


def test_every_city_gets_one_or_is_named(tmp_path: Path):
    cities = [find_city(c) for c in ("440300", "441900", "110000", "430200")]
    rows = [(c, find_city(c).name_zh, around(c)) for c in ("440300", "441900", "430200")]
    boundaries = read_boundaries(write_table(tmp_path / "b.geojson", rows))
    town = shapely.Point(find_city("440300").seat_lon, find_city("440300").seat_lat).buffer(0.03)
    built = tmp_path / "gub.gpkg"
    gpd.GeoDataFrame(geometry=[town, shapely.box(*around("441900").bounds).buffer(-0.19)], crs="EPSG:4326").to_file(
        built
    )
    areas = make_areas(cities, boundaries, open_built(built), AreaRule())
    assert sorted([*areas.table["adcode"], *(m["adcode"] for m in areas.missing)]) == sorted(c.adcode for c in cities)
    why = {m["adcode"]: m["why"] for m in areas.missing}
    assert "does not reach" in why["430200"]
    assert "boundary file" in why["110000"]
    assert areas.table.geometry.iloc[0].contains(town)
    for folder in ("one", "two"):
        write_areas(areas, tmp_path / folder)
    assert (tmp_path / "one/areas.parquet").read_bytes() == (tmp_path / "two/areas.parquet").read_bytes()
    assert (tmp_path / "one/areas.png").stat().st_size > 10_000
    again = read_areas(tmp_path / "one")
    west, south, east, north = boxes_of(again)["440300"]
    box = shapely.box(*again.geometry.iloc[0].bounds)
    assert shapely.box(west, south, east, north).contains(box.buffer(0.008))


def test_refusals(tmp_path: Path):
    with pytest.raises(BoundaryError, match="no such file"):
        read_boundaries(tmp_path / "none.geojson")
    file = tmp_path / "b.geojson"
    gpd.GeoDataFrame({"x": [1]}, geometry=[around("440300")], crs="EPSG:4326").to_file(file)
    with pytest.raises(BoundaryError, match="no column of codes or names"):
        read_boundaries(file)
    with pytest.raises(BoundaryError, match="has no column y"):
        read_boundaries(file, code="y")
    with pytest.raises(BoundaryError, match="one way"):
        open_built(tmp_path / "b.tif")
    with pytest.raises(BoundaryError, match="cannot be read"):
        open_built(tmp_path / "b.tif", values=[50])
    with pytest.raises(BoundaryError, match="has no column adcode"):
        read_areas(file)
    gpd.GeoDataFrame({"adcode": ["440300"]}, geometry=[shapely.box(0, 0, 1, 1)]).to_file(tmp_path / "bare.gpkg")
    with pytest.raises(BoundaryError, match="has no CRS"):
        read_areas(tmp_path / "bare.gpkg")


def test_commands(tmp_path: Path):
    rows = [("440300", "深圳市", around("440300")), (None, "香港", shapely.box(114, 22.2, 114.2, 22.4))]
    write_table(tmp_path / "b.geojson", rows)
    two = ("--city", "440300", "--city", "110000")
    record = json_of("areas", tmp_path / "b.geojson", *two, "--out", tmp_path / "areas", "--json")
    assert (record["with_area"], [m["adcode"] for m in record["missing"]]) == (1, ["110000"])
    assert record["units_not_used"] == [{"code": None, "name": "香港"}]
    lon, lat = find_city("440300").seat_lon, find_city("440300").seat_lat
    with osmium.SimpleWriter(str(tmp_path / "nation.osm.pbf")) as writer:
        writer.add_node(mutable.Node(id=1, location=(lon, lat), tags={"shop": "yes"}))
        writer.add_node(mutable.Node(id=2, location=(lon + 5, lat), tags={"shop": "yes"}))
    cut = json_of(
        "extracts", tmp_path / "nation.osm.pbf", "--areas", tmp_path / "areas", "--out", tmp_path / "cut", "--json"
    )
    assert [(e["name"], e["nodes"]) for e in cut["extracts"]] == [("440300", 1)]
    assert (tmp_path / "cut/440300.osm.pbf").stat().st_size == cut["size_bytes"]
