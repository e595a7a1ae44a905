"""Dates that say nothing or two things, imagery of another city, rasters that run south to north."""

from datetime import date

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from pipeline.attributes.buildings import read_fabric
from pipeline.city.extent import city_extent
from pipeline.city.place import WrongPlaceError, check_place, distance_km
from pipeline.city.sources import CitySources, SourceNotes, SourceNotesError, find_sources
from pipeline.dates import SourceDateError, parse_date, tiff_date
from pipeline.imagery.acquired import date_of_scenes
from pipeline.product.files import write_stac_item
from regions.raster.grid import Grid
from regions.registry import UNREGISTERED, city_of, find_city

HERE = Affine(1, 0, 734720.0, 0, -1, 2556336.0)
GRID = Grid("EPSG:32649", 1.0, 734720, -2556336, 40, 40)


def write_scene(path, tag=None, transform=HERE, crs="EPSG:32649"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=40, width=40, dtype="uint8", crs=crs, transform=transform
    ) as sink:
        sink.write(np.full((3, 40, 40), 9, np.uint8))
        if tag is not None:
            sink.update_tags(TIFFTAG_DATETIME=tag)
    return path


# ---- dates


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("2023-04-03", "2023-04-03"),
        ("2023-04-03T10:30:00Z", "2023-04-03"),
        ("2023-04", "2023-04-01/2023-04-30"),
        ("2024-02", "2024-02-01/2024-02-29"),
        ("2023", "2023-01-01/2023-12-31"),
        ("2023-04/2023-09", "2023-04-01/2023-09-30"),
        (" 2023-04-03 / 2023-04-03 ", "2023-04-03"),
    ],
)
def test_iso_days_and_periods_are_read(text, meaning):
    assert str(parse_date(text, "image_date")) == meaning
    assert parse_date(meaning, "image_date") == parse_date(text, "image_date")


@pytest.mark.parametrize(
    "text",
    ["03/04/2023", "3.4.2023", "20230403", "Sat Oct 28 10:00:00 2023", "2023-13", "2023-02-30", "2023-09/2023-04",
     "0000-00-00", "", "spring 2023", "2023-04-03/2023-05/2023-06", "23-04-03"],
)  # fmt: skip
def test_dates_that_could_be_read_two_ways_are_refused(text):
    with pytest.raises(SourceDateError, match="image_date"):
        parse_date(text, "image_date")


@given(st.dates(min_value=date(1900, 1, 1)))
def test_every_day_of_the_tag_comes_back(day):
    found = tiff_date(f"{day:%Y:%m:%d} 12:00:00" if day.year > 999 else "")
    assert found is not None
    assert (found.first, found.is_day) == (day, True)


@pytest.mark.parametrize(
    "tag", ["    :  :     :  :  ", "0000:00:00 00:00:00", "Sat Oct 28 10:00:00 2023", "03/04/2023",
            "2023-04-03", "2023:02:30 00:00:00"]
)  # fmt: skip
def test_a_tag_of_another_form_is_null_with_a_warning(tmp_path, tag):
    found, warnings = date_of_scenes([write_scene(tmp_path / "a.tif", tag)])
    assert found is None
    assert "image_date" in warnings[0]
    assert warnings[0].startswith("a.tif: ")


def test_the_youngest_scene_dates_the_imagery_and_an_undated_one_leaves_it_open(tmp_path):
    old = write_scene(tmp_path / "old.tif", "2022:05:01 10:00:00")
    young = write_scene(tmp_path / "young.tif", "2023:05:01 10:00:00")
    assert str(date_of_scenes([young, old])[0]) == "2023-05-01"
    assert date_of_scenes([young, write_scene(tmp_path / "none.tif")]) == (None, ())


def test_a_period_becomes_start_and_end_of_the_stac_item(tmp_path):
    import json

    def item(when):
        path = write_stac_item(tmp_path, adcode="440300", name="x", grid=GRID, image_date=when, properties={})
        return json.loads(path.read_text())["properties"]

    period = item("2023-04-01/2023-09-30")
    assert period["datetime"] is None
    assert period["start_datetime"] == "2023-04-01T00:00:00Z"
    assert period["end_datetime"] == "2023-09-30T23:59:59Z"
    assert item("2023-04-03")["datetime"] == "2023-04-03T00:00:00Z"
    assert item(None)["datetime"] is None


def notes(tmp_path, data):
    write_scene(tmp_path / "990001" / "imagery" / "a.tif")
    (tmp_path / "990001" / "sources.yaml").write_bytes(data)
    return find_sources(tmp_path / "990001", "990001").notes


def test_notes_keep_periods_and_a_byte_order_mark_does_not_matter(tmp_path):
    assert notes(tmp_path, b"\xef\xbb\xbfimage_date: 2023-04/2023-09\n").image_date == "2023-04-01/2023-09-30"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("image_source: 高分二号\n".encode("gbk"), "GBK"),
        (b"image_date: 03/04/2023\n", "ISO 8601"),
        (b"image_date: [a\n", "no YAML"),
        (b"- one\n- two\n", "list"),
        (b"picture_date: 2023\n", "picture_date"),
    ],
)
def test_notes_that_cannot_be_read_name_file_and_field(tmp_path, data, said):
    with pytest.raises(SourceNotesError, match=rf"sources\.yaml.*{said}"):
        notes(tmp_path, data)


# ---- places


def test_imagery_of_another_city_is_refused_with_the_distance_and_the_city_that_fits(tmp_path):
    sources = CitySources(
        adcode="110000", imagery=(write_scene(tmp_path / "a.tif"),), vectors=(), aoi=None, reference=(),
        districts=None, heights=(), notes=SourceNotes(),
    )  # fmt: skip
    with pytest.raises(WrongPlaceError, match=r"km from 110000 北京.*440100 广州"):
        city_extent(sources, crs="EPSG:32650", resolution_m=1.0)


@pytest.mark.parametrize("adcode", ["440300", "110000", "150700", "659001", "460300"])
def test_the_seat_and_the_centroid_of_a_city_are_its_own_place(adcode):
    city = find_city(adcode)
    assert check_place(adcode, city.seat_lon, city.seat_lat, source="x") == ()
    assert check_place(adcode, city.centroid_lon, city.centroid_lat, source="x") == ()
    assert distance_km(city, city.seat_lon, city.seat_lat) == 0


def test_a_neighbours_ground_is_doubtful():
    guangzhou = find_city("440100")
    (text,) = check_place("440300", guangzhou.seat_lon, guangzhou.seat_lat, source="scene.tif")
    assert "440100" in text


def test_ground_without_a_city_has_no_names():
    assert city_of(UNREGISTERED) is None
    assert check_place(UNREGISTERED, 32.6, 0.3, source="kampala.tif") == ()


# ---- height rasters


@pytest.mark.parametrize("turn", [0.0, 30.0])
def test_height_rasters_in_any_orientation_give_the_same_heights(tmp_path, turn):
    values = np.zeros((60, 60), np.uint16)
    houses = [shapely.box(734730 + 12 * k, 2556310, 734738 + 12 * k, 2556320) for k in range(3)]
    vectors = gpd.GeoDataFrame(
        {"tags": ['{"building":"yes"}'] * 3, "source_id": list("abc"), "source": "x", "source_date": None},
        geometry=houses, crs="EPSG:32649",
    )  # fmt: skip
    north_up = Affine(1, 0, 734715, 0, -1, 2556345)
    centre = (734745.0, 2556315.0)
    turned = Affine.rotation(turn, centre) @ north_up
    for k, house in enumerate(houses):
        inside = rasterio.features.rasterize([house.buffer(1.5)], out_shape=values.shape, transform=turned)
        values[inside > 0] = 10 * (k + 1)
    south_up = turned @ Affine(1, 0, 0, 0, -1, 60)
    found = []
    for name, pixels, transform in (("a", values, turned), ("b", values[::-1], south_up)):
        path = tmp_path / f"{name}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=1, height=60, width=60, dtype="uint16", crs="EPSG:32649",
            transform=transform, nodata=65535,
        ) as sink:  # fmt: skip
            sink.write(pixels, 1)
        found.append(read_fabric(vectors, height_rasters=[path]).buildings["height_m"].to_numpy(float, na_value=np.nan))
    assert np.array_equal(found[0], found[1])
    assert np.allclose(found[0], [10, 20, 30], atol=0.01)


@pytest.mark.shared
def test_stored_height_rasters_south_up_and_north_up_agree(shared):
    houses = gpd.read_file(shared / "cases/00-base/houses.osm", layer="multipolygons").to_crs("EPSG:32649")
    vectors = gpd.GeoDataFrame(
        {"tags": '{"building":"yes"}', "source_id": [str(k) for k in houses.index], "source": "x", "source_date": None},
        geometry=houses.geometry,
    )
    cases = shared / "cases/19-southup-heights"
    heights = [
        read_fabric(vectors, height_rasters=sorted((cases / name / "990001" / "heights").glob("*.tif")))
        .buildings["height_m"]
        .to_numpy(float, na_value=np.nan)
        for name in ("data_north_up", "data_south_up")
    ]
    assert np.isfinite(heights[0]).any()
    assert np.array_equal(heights[0], heights[1], equal_nan=True)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["blank", "zero", "ctime", "dmy"])
def test_stored_scenes_with_odd_dates_have_none(shared, name):
    found, warnings = date_of_scenes([shared / f"cases/16-dates/{name}.tif"])
    assert found is None
    assert len(warnings) == 1


@pytest.mark.shared
def test_stored_notes_period_read_and_gbk_named(shared):
    cases = shared / "cases/16-dates"
    period = find_sources(cases / "data_period" / "990001", "990001").notes.image_date
    assert len(period.split("/")) == 2
    with pytest.raises(SourceNotesError, match="GBK"):
        find_sources(cases / "data_gbk" / "990001", "990001")
