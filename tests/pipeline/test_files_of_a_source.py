"""All files of a source shape its digest: a corrected companion is a changed source, a copy elsewhere is the same."""

import shutil

import geopandas as gpd
import pytest
import shapely

from pipeline.files import distinct_names, sha256_of, source_digest, source_files, source_record
from pipeline.formats import is_vector_source

TABLE = gpd.GeoDataFrame({"building": ["yes"]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32650")


def test_companions_of_a_shapefile_whatever_their_case(tmp_path):
    path = tmp_path / "b.shp"
    TABLE.to_file(path)
    path.with_suffix(".prj").rename(tmp_path / "b.PRJ")
    (tmp_path / "b.txt").write_text("not of it")
    (tmp_path / "b2.dbf").write_text("not of it")
    assert [p.name for p in source_files(path)] == ["b.shp", "b.PRJ", "b.cpg", "b.dbf", "b.shx"]
    record = source_record(path)
    assert record["files"][0] == "b.shp"
    assert record["bytes"] == sum(p.stat().st_size for p in source_files(path))


@pytest.mark.parametrize("ending", [".dbf", ".prj", ".cpg", ".shx"])
def test_a_corrected_companion_changes_the_digest_and_a_copy_does_not(tmp_path, ending):
    path = tmp_path / "a" / "b.shp"
    path.parent.mkdir()
    TABLE.to_file(path)
    copy = tmp_path / "other"
    shutil.copytree(path.parent, copy)
    assert source_digest(path) == source_digest(copy / "b.shp")
    companion = path.with_suffix(ending)
    companion.write_bytes(companion.read_bytes() + b" ")
    assert source_digest(path) != source_digest(copy / "b.shp")


def test_a_companion_that_is_added_changes_the_digest(tmp_path):
    path = tmp_path / "b.shp"
    TABLE.to_file(path)
    path.with_suffix(".cpg").unlink()
    before = source_digest(path)
    path.with_suffix(".cpg").write_text("GBK")
    assert source_digest(path) != before


def test_a_single_file_has_the_digest_of_its_bytes(tmp_path):
    path = tmp_path / "b.gpkg"
    TABLE.to_file(path)
    assert source_digest(path) == sha256_of(path)
    assert "files" not in source_record(path)


def test_a_vrt_has_the_files_it_names_and_what_they_name(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "b.tif").write_bytes(b"pixels")
    (tmp_path / "part" / "b.tfw").write_bytes(b"place")
    (tmp_path / "inner.vrt").write_text(
        '<VRTDataset><SourceFilename relativeToVRT="1">part/b.tif</SourceFilename></VRTDataset>'
    )
    outer = tmp_path / "outer.vrt"
    outer.write_text(f'<V><SourceFilename relativeToVRT="0">{tmp_path}/inner.vrt</SourceFilename></V>')
    assert [p.name for p in source_files(outer)] == ["outer.vrt", "inner.vrt", "b.tfw", "b.tif"]
    before = source_digest(outer)
    (tmp_path / "part" / "b.tif").write_bytes(b"others")
    assert source_digest(outer) != before


def test_a_vrt_that_names_itself_ends(tmp_path):
    loop = tmp_path / "loop.vrt"
    loop.write_text('<V><SourceFilename relativeToVRT="1">loop.vrt</SourceFilename></V>')
    assert source_files(loop) == (loop,)


def test_a_folder_has_its_files_with_their_place_in_it(tmp_path):
    folder = tmp_path / "f"
    (folder / "building=yes").mkdir(parents=True)
    (folder / "building=yes" / "0.parquet").write_bytes(b"a")
    (folder / ".hidden").write_bytes(b"b")
    assert [p.name for p in source_files(folder)] == ["0.parquet"]
    before = source_digest(folder)
    (folder / "building=yes").rename(folder / "building=no")
    assert source_digest(folder) != before


def test_sources_of_equal_name_keep_both_entries(tmp_path):
    paths = [tmp_path / a / b / "c.gpkg" for a in "xy" for b in "pq"]
    names = distinct_names([*paths, tmp_path / "z" / "other.gpkg", paths[0]])
    assert list(names) == ["x/p/c.gpkg", "x/q/c.gpkg", "y/p/c.gpkg", "y/q/c.gpkg", "other.gpkg"]
    assert list(names.values())[:4] == paths


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        *((n, True) for n in ("a.osm.gz", "A.OSM.PBF", "b.geoparquet", "x.gml")),
        *((n, False) for n in ("._b.shp", "b.dbf", "r.tif")),
    ],
)
def test_what_is_a_vector_source_by_its_name(tmp_path, name, taken):
    (tmp_path / name).write_bytes(b"")
    assert is_vector_source(tmp_path / name) is taken


def test_a_folder_is_a_source_where_parquet_lies_in_it(tmp_path):
    (tmp_path / "a" / "k=v").mkdir(parents=True)
    assert not is_vector_source(tmp_path / "a")
    (tmp_path / "a" / "k=v" / "0.parquet").write_bytes(b"")
    assert is_vector_source(tmp_path / "a")
    (tmp_path / "b.gdb").mkdir()
    assert is_vector_source(tmp_path / "b.gdb")


@pytest.mark.shared
def test_case_shapefile_sidecars(shared):
    folder = shared / "cases/11-shapefile-sidecars"
    assert sha256_of(folder / "v1.shp") == sha256_of(folder / "v2.shp")
    assert source_digest(folder / "v1.shp") != source_digest(folder / "v2.shp")
