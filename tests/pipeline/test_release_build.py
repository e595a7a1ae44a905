"""A release from products: the same bytes however it is built, nothing lost on the way, texts that tell the truth."""

import csv
import hashlib
import json
import re
import sqlite3
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pmtiles.reader import MmapSource, Reader

from pipeline.national.products import NationalProductsError, find_products
from pipeline.release import build as building
from pipeline.release import layout, plan, steps
from pipeline.release.check import check_release
from pipeline.release.errors import ReleaseError, ReleaseTooLargeError
from pipeline.release.grid import NOT_MAPPED
from pipeline.release.merging import merged, partitions, write_partition
from pipeline.release.plan import plan_release, work_folder
from pipeline.release.record import read_record
from pipeline.release.seal import seal_release
from pipeline.release.tables import KEY, KEYS_END, MAP_COLUMNS, read_rows, write_city_part
from tests.support.products import write_product, write_products
from tests.support.releases import build, make_campaign

CODES = ("440300", "441900", "310000")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    write_products(root / "products", CODES[:2], villages=12)
    write_product(root / "products", CODES[2], villages=0)
    return root


@pytest.fixture(scope="module")
def campaign(root):
    return make_campaign(root, (*CODES, "110000"))


@pytest.fixture(scope="module")
def release(root, campaign):
    return build(campaign, root / "first")


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in layout.record_files(folder)}


def backwards(function, items):
    """A cluster whose last piece is done first."""
    items = list(items)
    done = {k: function(items[k]) for k in reversed(range(len(items)))}
    return [done[k] for k in range(len(items))]


def test_same_bytes_whatever_is_first_and_wherever_it_is_written(root, campaign, release, tmp_path):
    other = tmp_path / "elsewhere" / "second"
    request = building.ReleaseRequest(campaign=campaign, version="1.0.0", out=other)
    building.build_release(request, spread=backwards)
    assert digests(other) == digests(release)
    assert not work_folder(other).exists()


def test_a_killed_build_goes_on_and_ends_the_same(campaign, release, tmp_path, monkeypatch):
    out = tmp_path / "release"
    request = building.ReleaseRequest(campaign=campaign, version="1.0.0", out=out)

    def killed(*_args, **_how):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(building, "write_tiles", killed)
        with pytest.raises(KeyboardInterrupt):
            building.build_release(request)
    assert not out.exists()
    written = []
    made = {steps: ["write_city_part", "write_archive"], building: ["write_villages", "write_package", "write_tiles"]}
    for module, names in made.items():
        for name in names:
            monkeypatch.setattr(module, name, _noting(getattr(module, name), name, written))
    building.build_release(request)
    assert written == ["write_tiles", "write_archive", "write_archive"]
    assert digests(out) == digests(release)


def _noting(function, name, written):
    def noted(*args, **how):
        written.append(name)
        return function(*args, **how)

    return noted


def test_every_village_is_there_with_what_its_product_says(campaign, release):
    villages = gpd.read_parquet(release / layout.VILLAGES)
    products = find_products(campaign.out_root)
    before = pd.concat([gpd.read_parquet(p.polygons).to_crs("EPSG:4326") for p in products if p.villages])
    assert villages["uv_id"].is_unique and set(villages["uv_id"]) == set(before["uv_id"])
    before = before.set_index("uv_id").loc[villages["uv_id"]]
    assert not set(MAP_COLUMNS) & set(villages.columns)
    for column in villages.columns.drop(["uv_id", "geometry", "bbox"], errors="ignore"):
        assert villages[column].astype("string").tolist() == before[column].astype("string").tolist(), column
    assert gpd.GeoSeries(villages.geometry.values).geom_equals(gpd.GeoSeries(before.geometry.values)).all()
    mapped = pd.read_parquet(release / layout.MAP_ATTRIBUTES).set_index("uv_id")
    assert mapped["building_count"].astype("Int64").tolist() == before["building_count"].tolist()
    package = gpd.read_file(release / layout.PACKAGE)
    assert package["uv_id"].tolist() == villages["uv_id"].tolist()
    inside = gpd.read_parquet(release / layout.VILLAGES, bbox=tuple(villages.total_bounds))
    assert len(inside) == len(villages)


def test_archives_hold_tables_and_masks(campaign, release):
    record = read_record(release)
    guangdong = layout.province_archive("44", "Guangdong")
    with zipfile.ZipFile(release / guangdong) as archive:
        names = {Path(n).name for n in archive.namelist()}
        assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}
        mask = archive.read("province_44_guangdong/440300_uv_mask.tif")
    assert names == {"README.txt", layout.VILLAGES, layout.PACKAGE, layout.MAP_ATTRIBUTES,
                     "440300_uv_mask.tif", "441900_uv_mask.tif"}  # fmt: skip
    city = next(c for c in record.cities if c.adcode == "440300")
    assert hashlib.sha256(mask).hexdigest() == city.mask_sha256
    rows = list(csv.DictReader((release / layout.CITIES).open(encoding="utf-8")))
    assert [r["adcode"] for r in rows] == sorted(CODES) and rows[0]["name_zh"] == "上海市"
    assert float(rows[1]["not_predicted_share"]) == pytest.approx(city.not_predicted_share, abs=1e-6)


def test_raster_and_table_of_the_grid_agree(release):
    cells = gpd.read_parquet(release / layout.GRID)
    with rasterio.open(release / layout.GRID_RASTER) as raster:
        middles = cells.geometry.centroid
        values = np.array([v[0] for v in raster.sample(zip(middles.x, middles.y, strict=True))])
        whole = raster.read(1)
    assert values.tolist() == np.rint(cells["uv_area_m2"]).astype(int).tolist()
    there = whole[whole != NOT_MAPPED]
    assert np.sum(there, dtype=float) == pytest.approx(cells["uv_area_m2"].sum(), abs=len(cells))
    assert (there == 0).sum() > len(cells)  # ground without village is 0, ground without prediction is not


def test_missing_cities_and_the_missing_assessment_are_said(release):
    record = read_record(release)
    assert list(record.missing) == ["110000"]
    readme = (release / layout.README).read_text(encoding="utf-8")
    assert "110000: no product" in readme and "is not known" in readme
    assert check_release(release).blocking == ("coverage", "accuracy", "leakage")


def test_a_reserved_doi_stands_in_every_text(release, tmp_path):
    import shutil

    folder = shutil.copytree(release, tmp_path / "release")
    record = read_record(folder).model_copy(update={"doi": "10.5072/zenodo.7", "concept_doi": "10.5072/zenodo.6"})
    seal_release(folder, record)
    assert "10.5072/zenodo.7" in (folder / layout.README).read_text(encoding="utf-8")
    assert yaml.safe_load((folder / layout.CITATION).read_text(encoding="utf-8"))["doi"] == "10.5072/zenodo.7"
    assert json.loads((folder / layout.COLLECTION).read_text())["sci:doi"] == "10.5072/zenodo.7"
    assert "10.5072/zenodo.7" in (folder / layout.CRATE).read_text()
    assert check_release(folder).blocking == ("coverage", "accuracy", "leakage")
    seal_release(folder, read_record(folder).model_copy(update={"doi": None, "concept_doi": None}))
    assert digests(folder) == digests(release)


def test_next_release_says_what_changed(root, release, tmp_path):
    for code in CODES[:2]:
        write_product(root / "later", code, seed=5, previous=root / "products" / code, release="1.1.0")
    later = make_campaign(root, CODES[:2], products="later", version="1.1.0")
    for version in ("1.0.0", "0.10.0"):
        with pytest.raises(ReleaseError, match=rf"is version 1\.0\.0, and this shall be {version}; give a higher one"):
            build(later, tmp_path / "same", version=version, previous=release)
    folder = build(later, tmp_path / "next", version="1.1.0", previous=release)
    changes = {c.adcode: c for c in read_record(folder).changes}
    assert [(changes[a].kept, changes[a].new, changes[a].gone) for a in CODES[:2]] == [(11, 1, 1)] * 2
    log = (folder / layout.CHANGELOG).read_text(encoding="utf-8")
    assert "22 villages keep their id, 2 are new, 2 are gone" in log and "## 1.0.0" in log
    assert "- cities: gone: 310000" in log and "settings that decide what is a village are those of the last" in log
    assert check_release(folder, previous=release).blocking == ("accuracy", "leakage")


def test_every_column_of_every_table_is_in_the_dictionary(release):
    with (release / layout.DICTIONARY).open(encoding="utf-8") as file:
        said = {(row["file"], row["name"]) for row in csv.DictReader(file)}
    tables = {n: pq.read_schema(release / n).names for n in (layout.VILLAGES, layout.MAP_ATTRIBUTES, layout.GRID)}
    for name in (layout.CITIES, layout.PROVINCES):
        tables[name] = (release / name).read_text(encoding="utf-8").splitlines()[0].split(",")
    there = {(name, column) for name, columns in tables.items() for column in columns}
    assert said - {(layout.GRID_RASTER, "band 1")} == there


def test_package_and_tiles_say_nothing_of_the_machine(release):
    """And the package is as GeoPackage 1.4 asks: one declared type, times with milliseconds (requirement 15)."""
    with (release / layout.TILES).open("rb") as file:
        about = Reader(MmapSource(file)).metadata()
    assert about["name"] == "Urban villages" and about["generator_options"].startswith("tippecanoe --quiet")
    assert "/" not in about["generator_options"]
    with sqlite3.connect(f"file:{release / layout.PACKAGE}?mode=ro", uri=True) as base:
        [(changed,)] = base.execute("SELECT last_change FROM gpkg_contents")
        kinds = base.execute("SELECT geometry_type_name, z, m FROM gpkg_geometry_columns").fetchall()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", changed)
    assert kinds == [("MULTIPOLYGON", 0, 0)]
    package, master = (
        gpd.read_file(release / layout.PACKAGE), gpd.read_parquet(release / layout.VILLAGES)
    )  # fmt: skip
    assert set(package.geom_type) == {"MultiPolygon"} and package.geometry.geom_equals(master.geometry).all()


def test_licences_follow_what_shaped_the_outlines(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    write_product(tmp_path / "plain", "440300", villages=3, with_map=False, barriers=False)
    folder = build(make_campaign(tmp_path, ["440300"], products="plain", checkpoint=checkpoint), tmp_path / "a")
    record = read_record(folder)
    assert record.outlines_licence == "CC-BY-4.0" and record.map_licence == "ODbL-1.0"
    assert record.data[layout.MAP_ATTRIBUTES].licence == "ODbL-1.0"
    assert "No map feature shaped an outline" in (folder / layout.LICENSE).read_text(encoding="utf-8")
    assert "licences" not in check_release(folder).blocking


def test_limits_are_checked_before_anything_is_written(campaign, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "MAX_FILES", 20)
    with pytest.raises(ReleaseTooLargeError, match=r"would have \d+ files, a record takes 20"):
        build(campaign, tmp_path / "many")
    monkeypatch.setattr(plan, "MAX_FILES", 100)
    monkeypatch.setattr(plan, "MAX_BYTES", 1000)
    with pytest.raises(ReleaseTooLargeError, match="leave the score rasters out"):
        plan_release(campaign, with_scores=True)
    assert list(tmp_path.iterdir()) == []


def test_a_release_takes_no_more_than_its_plan_says(campaign, tmp_path):
    folder = build(campaign, tmp_path / "whole", with_accuracy=True)
    judged = (tmp_path / "whole-assessment", tmp_path / "whole-assessment" / "sample")
    said = plan_release(campaign, assessment=judged)
    taken = layout.record_files(folder)
    assert sum(p.stat().st_size for p in taken) <= said.bytes and {p.name for p in taken} == set(said.files)
    (judged[0] / "report.html").write_bytes(bytes(10**6))
    assert plan_release(campaign, assessment=judged).bytes >= said.bytes + 10**6


def test_the_nation_fits_a_record(tmp_path):
    """342 cities in 31 provinces: 100 files at most, whatever they hold."""
    from regions.registry import national_set

    codes = {c.adcode[:2] for c in national_set()}
    fixed = len(layout.NATIONAL_DATA) + len(layout.ACCURACY_FILES) + len(layout.TEXTS) + 3
    assert len(codes) == 31 and 2 * len(codes) + fixed <= layout.MAX_FILES


def test_an_assessment_that_is_none_is_said_before_anything_is_written(campaign, tmp_path):
    (tmp_path / "assessment").mkdir()
    with pytest.raises(ReleaseError, match=r"has no report\.json and report\.html"):
        build(campaign, tmp_path / "out", accuracy=tmp_path / "assessment", sample=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["assessment"]


def test_nothing_else_is_replaced(campaign, release, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ReleaseError, match="is no release: it is not replaced"):
        build(campaign, tmp_path)
    with pytest.raises(ReleaseError, match=r"holds release 1\.0\.0: it is not replaced"):
        build(campaign, release, version="1.0.1")
    assert (tmp_path / "notes.txt").exists()


def test_a_product_that_is_not_whole_stops_the_build(tmp_path):
    write_products(tmp_path / "products", CODES[:2], villages=3)
    (tmp_path / "products" / CODES[0] / f"{CODES[0]}_scores.tif").unlink()
    with pytest.raises(NationalProductsError, match=r"440300: 440300_scores.tif is missing"):
        build(make_campaign(tmp_path, CODES), tmp_path / "out")


@settings(max_examples=12)
@given(rows=st.integers(1, 30), order=st.permutations(range(3)))
def test_stretches_hold_every_row_once_in_order(parts, rows, order):
    """Cut anywhere, from cities in any order, the rows are those of one sort of all."""
    shuffled = [parts[k] for k in order]
    folder = parts[0].path.parent / "cut"
    folder.mkdir(exist_ok=True)
    tables = [pq.read_table(write_partition(p)) for p in partitions(shuffled, folder, rows=rows)]
    got = [(k, i) for t in tables for k, i in zip(t[KEY].to_pylist(), t["uv_id"].to_pylist(), strict=True)]
    every = merged(read_rows(p, 0, KEYS_END) for p in parts)
    assert got == list(zip(every[KEY].to_pylist(), every["uv_id"].to_pylist(), strict=True))
    assert got == sorted(got) and len(got) == sum(p.rows for p in parts)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    write_products(root / "products", ["440300", "441900", "440100"], villages=15)
    return [write_city_part(p, root / f"{p.adcode}.parquet") for p in find_products(root / "products")]
