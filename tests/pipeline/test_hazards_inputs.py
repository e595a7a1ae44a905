"""Hazard: an input is not read, or read wrongly, and the run ends well all the same. One check names it first."""

import shutil

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.enums import ColorInterp

from flows.commands import options as opt
from pipeline.city.check import InputError, check_city
from pipeline.city.ground import CityGround
from pipeline.city.place import WrongPlaceError
from pipeline.city.sources import CitySources, MissingSourcesError, find_sources
from pipeline.errors import PipelineError
from pipeline.imagery.errors import BandCountError, MissingCrsError, UnusableCrsError
from pipeline.reference.errors import AreaError
from regions.registry import UNREGISTERED
from regions.settings import GridConfig

CRS = "EPSG:32649"
SIDE = 48
HERE = Affine(1, 0, 734720, 0, -1, 2556336)
BOX = shapely.box(734720, 2556336 - SIDE, 734720 + SIDE, 2556336)


def scene(path, *, pixels=None, transform=HERE, crs=CRS, tag=None, colors=None, driver="GTiff", **profile):
    pixels = np.full((3, SIDE, SIDE), 90, np.uint8) if pixels is None else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver=driver, count=len(pixels), height=SIDE, width=SIDE, dtype=pixels.dtype, crs=crs,
        transform=transform, **profile,
    ) as sink:  # fmt: skip
        if colors:
            sink.colorinterp = colors
        sink.write(pixels)
        if tag:
            sink.update_tags(TIFFTAG_DATETIME=tag)
    return path


def city(tmp_path, adcode="990001", **files):
    """A city's folder with one scene and more files, by their path in it."""
    folder = tmp_path / adcode
    scene(folder / "imagery" / "a.tif")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.to_file(path)
    return folder


def ground(sources, tmp_path, **grid):
    return opt.ground_from(sources, work=tmp_path / "work", grid=GridConfig(**grid))


def checked(folder, tmp_path):
    return check_city(ground(find_sources(folder, folder.name), tmp_path)).warnings


def named(tmp_path, *, city=None, imagery, **options):
    sources = opt.sources_from(city, data_root=tmp_path, imagery=imagery, vectors=None, **options)
    return check_city(ground(sources, tmp_path, resolution_m=1.0)).warnings


def outline(geometry=BOX, crs=CRS):
    return gpd.GeoDataFrame(geometry=[geometry], crs=crs)


# ---- the folder of a city


def test_what_nobody_reads_is_named(tmp_path):
    folder = city(
        tmp_path,
        **{
            "README.md": b"x",
            "vectors/roads.dwg": b"x",
            "imagery/old/a.tif": b"x",
            "labels/notes.docx": b"x",
            "heights/h.xyzw": b"x",
            "aoi.geojson": outline(),
            "aoi.json": b"{}",
            "scratch/x": b"x",
        },
    )
    first, *more = checked(folder, tmp_path)
    assert not more
    for name in ("README.md", "roads.dwg", "imagery/old", "labels/notes.docx", "heights/h.xyzw", "aoi.json", "scratch"):
        assert name in first
    assert "aoi.geojson" not in first


def test_what_systems_and_programs_leave_is_neither_read_nor_named(tmp_path):
    folder = city(
        tmp_path,
        **{
            "imagery/._a.tif": b"\0\5\26\7Mac OS X",
            "imagery/.DS_Store": b"x",
            "imagery/Thumbs.db": b"x",
            "imagery/a.tif.aux.xml": b"<PAMDataset/>",
            "imagery/a.tfw": b"1\n0\n0\n-1\n734720.5\n2556335.5\n",
            "vectors/._b.osm.pbf": b"\0\5\26\7",
            "labels/._uv.gpkg": b"\0\5\26\7",
            "._aoi.geojson": b"\0\5\26\7",
            "labels/uv.shp": outline(),
        },
    )
    sources = find_sources(folder, "990001")
    assert [p.name for p in sources.imagery] == ["a.tif"]
    assert sources.vectors == ()
    assert sources.aoi is None
    assert sources.passed_over == ()
    assert checked(folder, tmp_path) == ()


@pytest.mark.parametrize(
    "suffix", [".json", ".geojson", ".GeoJSON", ".gpkg", ".shp", ".fgb", ".parquet", ".geoparquet"]
)
def test_an_area_of_any_documented_ending_is_read(tmp_path, suffix):
    folder = city(tmp_path)
    inner = outline(BOX.buffer(-10))
    path = folder / f"aoi{suffix}"
    if "parquet" in suffix:
        inner.to_parquet(path)
    else:
        driver = {".json": "GeoJSON", ".geojson": "GeoJSON"}.get(suffix.lower())
        (inner.to_crs(4326) if driver else inner).to_file(path, driver=driver)
    check = check_city(ground(find_sources(folder, "990001"), tmp_path))
    assert check.extent.aoi.area == pytest.approx(BOX.buffer(-10).area, rel=0.01)
    assert check.warnings == ()


@pytest.mark.parametrize(("name", "driver"), [("b.jp2", "JP2OpenJPEG"), ("b.img", "HFA"), ("b.bil", "ENVI")])
def test_scenes_of_other_formats_are_read(tmp_path, name, driver):
    folder = tmp_path / "990001"
    pixels = np.full((3, SIDE, SIDE), 90, np.uint8)
    options = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    scene(folder / "imagery" / name, pixels=pixels, driver=driver, **options)
    sources = find_sources(folder, "990001")
    assert [p.name for p in sources.imagery] == [name]
    assert sources.passed_over == ()
    assert check_city(ground(sources, tmp_path)).extent.grid.height_px == SIDE


def test_a_folder_without_readable_scenes_says_what_is_there(tmp_path):
    folder = tmp_path / "990001"
    (folder / "imagery").mkdir(parents=True)
    (folder / "imagery" / "a.ecw").write_bytes(b"x")
    with pytest.raises(MissingSourcesError, match=r"a\.ecw is there"):
        find_sources(folder, "990001")


# ---- what the check names and refuses


def test_a_clean_city_has_no_warnings_and_the_check_is_kept(tmp_path):
    folder = city(tmp_path, **{"labels/uv.gpkg": outline(BOX.buffer(-9)), "sources.yaml": b"image_date: 2023-04\n"})
    assert checked(folder, tmp_path) == ()
    (done,) = (tmp_path / "work" / "990001").glob("inputs-*")
    before = (done / "stage.json").stat().st_mtime_ns
    assert checked(folder, tmp_path) == ()
    assert (done / "stage.json").stat().st_mtime_ns == before
    scene(folder / "imagery" / "a.tif", tag="Sat Oct 28 2023")  # notes win over a tag that is no date
    assert checked(folder, tmp_path) == ()
    (folder / "sources.yaml").unlink()
    assert "its date tag" in checked(folder, tmp_path)[0]


def test_all_that_is_doubtful_of_a_scene_is_named_at_once(tmp_path):
    pixels = np.full((3, SIDE, SIDE), 90, np.uint8)
    pixels[:, :12] = 0
    bgr = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    path = scene(tmp_path / "in" / "s.tif", pixels=pixels, tag="03/04/2023", colors=bgr)
    text = "\n".join(named(tmp_path, imagery=[path]))
    for part in ("s.tif: bands are declared red, green and blue in the order 3, 2, 1", "25% of its pixels", "date tag"):
        assert part in text
    assert str(tmp_path) not in text


def test_a_datum_without_a_known_shift_is_named(tmp_path):
    path = scene(tmp_path / "x.tif", crs="EPSG:2383", transform=Affine(1, 0, 434720, 0, -1, 2556336))  # Xian 1980
    assert any("ballpark" in text for text in named(tmp_path, imagery=[path]))


@pytest.mark.parametrize("what", ["reference", "districts"])
def test_labels_elsewhere_are_found_before_the_model_runs(tmp_path, what):
    far = outline(shapely.transform(BOX, lambda xy: np.add(xy, [50_000, 0])))
    name = "labels/uv.gpkg" if what == "reference" else "labels/districts.gpkg"
    folder = city(tmp_path, **{name: far})
    if what == "reference":
        with pytest.raises(AreaError, match="50 km apart"):
            checked(folder, tmp_path)
    else:
        assert "1 of its 1 areas do not meet the map" in checked(folder, tmp_path)[0]


@pytest.mark.parametrize("turned", [False, True])
def test_heights_elsewhere_are_refused_and_south_up_ones_are_not(tmp_path, turned):
    folder = city(tmp_path)
    t = Affine(1, 0, HERE.c, 0, 1, HERE.f - SIDE) if turned else HERE
    pixels = np.full((1, SIDE, SIDE), 9, np.float32)
    scene(folder / "heights" / "h.tif", pixels=pixels, transform=t)
    assert checked(folder, tmp_path) == ()
    scene(folder / "heights" / "h.tif", pixels=pixels, transform=Affine.translation(90_000, 0) @ t)
    with pytest.raises(InputError, match=r"h\.tif.*does not meet the map"):
        checked(folder, tmp_path)


def test_another_city_is_refused_and_none_is_nobody(tmp_path):
    path = scene(tmp_path / "s.tif")
    with pytest.raises(WrongPlaceError, match="440100"):
        named(tmp_path, city="110000", imagery=[path])
    sources = opt.sources_from(None, data_root=tmp_path, imagery=[path], vectors=None)
    assert ground(sources, tmp_path).city is None


# ---- the stored cases


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("01-gcp-only/scene.tif", "ground control points"),
        ("14-bands/bgr_declared.tif", "taken by colour"),
        ("14-bands/rgbn_4th_band_is_alpha.tif", "taken for data"),
        ("14-bands/rgbn_half_pixel_off.tif", "taken for data"),
        ("16-dates/blank.tif", "date tag"),
        ("16-dates/zero.tif", "date tag"),
        ("16-dates/ctime.tif", "date tag"),
        ("16-dates/dmy.tif", "date tag"),
        ("00-base/base.tif", None),
    ],
)
def test_case_of_a_scene_is_named_before_the_model_runs(shared, tmp_path, file, said):
    warnings = named(tmp_path, imagery=[shared / "cases" / file])
    assert any(said in text for text in warnings) if said else warnings == ()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "options", "error"),
    [
        ("13-engineering-crs/local.tif", {}, UnusableCrsError),
        ("14-bands/palette.tif", {}, BandCountError),
        ("00-base/base.tif", {"city": "110000"}, WrongPlaceError),
        ("02-reference-mask/no_worldfile.png", {"imagery_crs": "EPSG:99999"}, MissingCrsError),
        ("00-base/base.tif", {"reference": "02-reference-mask/classes12.tif"}, AreaError),
        ("00-base/base.tif", {"reference": "04-vectors-that-miss/reference_far.gpkg"}, AreaError),
    ],
)
def test_case_is_refused_before_the_model_runs(shared, tmp_path, file, options, error):
    if "reference" in options:
        options = {**options, "reference": [shared / "cases" / options["reference"]]}
    with pytest.raises(error) as caught:
        named(tmp_path, imagery=[shared / "cases" / file], **options)
    assert isinstance(caught.value, PipelineError)


@pytest.mark.shared
def test_case_unknown_code_with_a_world_file(shared, tmp_path):
    shutil.copy(shared / "cases/02-reference-mask/no_worldfile.png", tmp_path / "s.png")
    (tmp_path / "s.pgw").write_text("1\n0\n0\n-1\n734720.5\n2556335.5\n", encoding="utf-8")
    with pytest.raises(UnusableCrsError, match="EPSG:99999"):
        named(tmp_path, imagery=[tmp_path / "s.png"], imagery_crs="EPSG:99999")


@pytest.mark.shared
def test_case_names_under_the_data_root(shared, tmp_path):
    cases = shared / "cases/09-data-root-names"
    sources = find_sources(cases / "data" / "990001", "990001")
    assert {p.name for p in sources.vectors} >= {"city.osm.gz", "b.geoparquet"}
    assert sources.aoi is not None
    assert sources.aoi.name == "aoi.json"
    assert check_city(ground(sources, tmp_path)).extent.area_m2 == pytest.approx(10_000, rel=0.02)
    apple = find_sources(cases / "data_appledouble" / "990001", "990001")
    assert [p.name for p in apple.imagery] == ["base.tif"]
    assert apple.passed_over == ()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["data_north_up", "data_south_up"])
def test_case_heights(shared, tmp_path, name):
    sources = find_sources(shared / "cases/19-southup-heights" / name / "990001", "990001")
    assert check_city(ground(sources, tmp_path)).warnings == ()


@pytest.mark.shared
def test_what_is_doubtful_of_a_map_is_said_to_those_who_train_on_it(shared, tmp_path, caplog):
    cases = shared / "cases"
    sources = CitySources(
        adcode=UNREGISTERED, imagery=(cases / "00-base/houses.tif",), vectors=(cases / "07-encodings/gbk_noldid.shp",),
        aoi=None, reference=(), districts=None, heights=(),
    )  # fmt: skip
    with CityGround(sources=sources, crs="EPSG:32649", work=tmp_path).open() as city:
        assert city.city_map is not None
    assert "gbk" in caplog.text.lower()
