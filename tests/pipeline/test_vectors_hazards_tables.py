"""Hazard: columns and folders of tables that mean something else than they seem to."""

import json
import re
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from pipeline.formats import VECTOR_FORMATS
from pipeline.vectors import VectorError, read_features
from pipeline.vectors.identity import keeps_books

UTM = "EPSG:32649"
ROOT = Path(__file__).resolve().parents[2]
ROW = [shapely.box(734700 + 10 * k, 2556000, 734710 + 10 * k, 2556010) for k in range(12)]
"""Houses of a row: each touches the next."""


def table(**columns):
    return gpd.GeoDataFrame(columns, geometry=ROW, crs=UTM)


def read(path, **options):
    features = read_features(path, crs=UTM, bounds_m=None, **options)
    return features, [json.loads(t) for t in features.table["tags"]]


BUILDING = {"building": "yes"}


class TestDefaultTags:
    @pytest.mark.parametrize(
        "column",
        [
            *("FID", "fid", "OBJECTID", "OBJECTID_1", "OID_", "gid", "ogc_fid", "GlobalID", "Shape_Area", "Shape_Leng"),
            *(
                "Shape_Length",
                "SHAPE__Are",
                "Shape_Le_1",
                "shape_area_1",
                "st_area_sh",
                "Id",
                "last_edite",
                "created_us",
            ),
        ],
    )
    @pytest.mark.parametrize("suffix", [".shp", ".geojson", ".parquet"])
    def test_columns_that_only_keep_books(self, tmp_path, column, suffix):
        path = tmp_path / f"b{suffix}"
        frame = table(**{column: range(1, 13)})
        frame.to_parquet(path) if suffix == ".parquet" else frame.to_crs(4326).to_file(path)
        features, tags = read(path, default_tags=BUILDING)
        assert features.counts["default_tags_given"] == 12
        assert {t["building"] for t in tags} == {"yes"}
        if not column.startswith(("last", "created")):  # cut after ten characters
            assert tags == [BUILDING] * 12
        assert features.warnings == ()

    @pytest.mark.parametrize("column", ["Floor", "height", "name", "类型", "area"])
    def test_columns_that_say_something_of_a_feature_but_not_what_it_is(self, tmp_path, column):
        path = tmp_path / "b.gpkg"
        table(**{column: ["5"] * 12}).to_file(path)
        _, tags = read(path, default_tags=BUILDING)
        assert tags == [{column: "5", "building": "yes"}] * 12

    def test_features_that_say_what_they_are_keep_it(self, tmp_path):
        path = tmp_path / "b.gpkg"
        table(highway=["residential"] * 5 + [None] * 7, building=[None] * 11 + ["shed"]).to_file(path)
        features, tags = read(path, default_tags=BUILDING)
        assert features.counts["default_tags_given"] == 6
        kinds = [tuple(t.items()) for t in tags]
        assert kinds.count((("highway", "residential"),)) == 5
        assert kinds.count((("building", "yes"),)) == 6
        assert kinds.count((("building", "shed"),)) == 1

    def test_a_default_tag_that_no_feature_takes_is_warned_of(self, tmp_path):
        path = tmp_path / "b.gpkg"
        table(highway=["residential"] * 12).to_file(path)
        features, _ = read(path, default_tags=BUILDING)
        assert features.warnings[0].startswith("--default-tag building=yes was given to 0 of 12 features")

    def test_keys_of_openstreetmap_in_capitals(self, tmp_path):
        path = tmp_path / "b.shp"
        table(BUILDING=["house"] * 12, Landuse=["residential"] * 12).to_file(path)
        _, tags = read(path)
        assert tags[0] == {"building": "house", "landuse": "residential"}

    @pytest.mark.parametrize("column", ["building", "building:levels", "name", "ref", "shape", "surface", "object"])
    def test_columns_that_are_no_books(self, column):
        assert keeps_books(column) is (column == "shape")


class TestIdentity:
    @pytest.mark.parametrize("column", ["Id", "id", "ID"])
    @pytest.mark.parametrize("ids", [[0] * 12, [k % 3 for k in range(12)], [k // 2 for k in range(12)]])
    def test_a_column_called_id_does_not_join_features(self, tmp_path, column, ids):
        path = tmp_path / "b.gpkg"
        table(**{column: ids, "building": ["yes"] * 12}).to_file(path)
        features, _ = read(path)
        assert len(features.table) == 12
        assert features.table["source_id"].isna().all()
        assert features.counts["ids_that_identify_nothing"] == 12

    def test_equal_ids_of_two_layers_or_parts_do_not_join_their_features(self, tmp_path):
        path = tmp_path / "b.gpkg"
        frame = table(id=range(12), building=["yes"] * 12)
        frame.iloc[::2].assign(id=range(6)).to_file(path, layer="a")
        frame.iloc[1::2].assign(id=range(6)).to_file(path, layer="b")
        features, _ = read(path)
        assert len(features.table) == 12

    def test_a_column_of_different_ids_names_its_features(self, tmp_path):
        path = tmp_path / "b.gpkg"
        table(id=range(100, 112)).to_file(path)
        features, _ = read(path)
        assert sorted(features.table["source_id"]) == [str(k) for k in range(100, 112)]

    def test_zero_as_id_of_openstreetmap_is_no_id(self, tmp_path):
        path = tmp_path / "b.gpkg"
        table(osm_id=[0] * 12, building=["yes"] * 12).to_file(path)
        features, _ = read(path)
        assert len(features.table) == 12

    def test_declared_ids_join_pieces(self, tmp_path):
        path = tmp_path / "b.gpkg"
        table(parcel=["a"] * 4 + ["b"] * 8).to_file(path)
        features, _ = read(path, id_column="parcel")
        assert sorted(features.table["source_id"]) == ["a", "b"]
        assert len(read(path)[0].table) == 12
        with pytest.raises(
            VectorError, match=r"b\.gpkg: layer b has no column 'other' that --vectors-id names.*parcel"
        ):
            read(path, id_column="other")

    def test_ids_that_may_be_of_pieces_are_warned_of(self, tmp_path):
        path = tmp_path / "b.gpkg"
        table(id=[0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]).to_file(path)
        features, _ = read(path)
        assert "--vectors-id id" in features.warnings[0]


class TestFolders:
    def write(self, folder, keys, rows, **columns):
        path = folder.joinpath(*keys)
        path.mkdir(parents=True, exist_ok=True)
        frame = table(**columns) if columns else gpd.GeoDataFrame(geometry=ROW, crs=UTM)
        frame.iloc[rows].to_parquet(path / f"part-{rows.start}.parquet")

    def test_all_parts_of_a_folder_are_read_and_hidden_ones_are_not(self, tmp_path):
        self.write(tmp_path / "f", (), slice(0, 5), building=["yes"] * 12)
        self.write(tmp_path / "f", (), slice(5, 12), building=["yes"] * 12)
        for name in ("._part-0.parquet", "_metadata.parquet", "_SUCCESS", ".crc"):
            (tmp_path / "f" / name).write_bytes(b"\x00\x05\x16\x07")
        features, tags = read(tmp_path / "f")
        assert tags == [{"building": "yes"}] * 12
        assert features.counts["read"] == 12

    def test_keys_of_folders_are_tags(self, tmp_path):
        self.write(tmp_path / "f", ("country=CN", "building=yes"), slice(0, 4))
        self.write(tmp_path / "f", ("country=CN", "building=%E4%BD%8F%E5%AE%85"), slice(4, 8))
        self.write(tmp_path / "f", ("country=CN", "building=__HIVE_DEFAULT_PARTITION__"), slice(8, 12))
        _, tags = read(tmp_path / "f")
        assert {t.get("building") for t in tags} == {"yes", "住宅", None}
        assert {t["country"] for t in tags} == {"CN"}
        _, tags = read(tmp_path / "f" / "country=CN" / "building=yes")
        assert tags == [{"building": "yes"}] * 4

    def test_overture_folders(self, tmp_path):
        self.write(tmp_path / "f", ("theme=buildings", "type=building"), slice(0, 12), subtype=["residential"] * 12)
        _, tags = read(tmp_path / "f")
        assert tags == [{"building": "residential"}] * 12

    def test_a_folder_without_data_is_refused(self, tmp_path):
        (tmp_path / "f").mkdir()
        with pytest.raises(VectorError, match=r"/f: "):
            read(tmp_path / "f")

    def test_a_damaged_part_is_named(self, tmp_path):
        self.write(tmp_path / "f", (), slice(0, 12))
        (tmp_path / "f" / "part-9.parquet").write_bytes(b"PAR1 and no more")
        with pytest.raises(VectorError, match=r"part-9\.parquet"):
            read(tmp_path / "f")


class TestShapefileSets:
    @pytest.fixture
    def path(self, tmp_path):
        table(building=["yes"] * 12).to_file(tmp_path / "b.shp")
        return tmp_path / "b.shp"

    def test_without_dbf_the_lack_of_attributes_is_said(self, path):
        path.with_suffix(".dbf").unlink()
        features, tags = read(path)
        assert tags == [{}] * 12
        assert "b.shp: its .dbf is missing" in features.warnings[0]

    def test_columns_of_one_name_are_warned_of(self, path):
        dbf = path.with_suffix(".dbf")
        table(building=["yes"] * 12, b2=["no"] * 12).to_file(path)
        dbf.write_bytes(dbf.read_bytes().replace(b"b2\0\0\0\0\0\0", b"building", 1))
        features, tags = read(path)
        assert tags == [{"building": "no"}] * 12
        assert "several columns are called building" in features.warnings[0]

    def test_without_shx(self, path):
        path.with_suffix(".shx").unlink()
        with pytest.raises(VectorError, match=r"b\.shp: its \.shx is missing"):
            read(path)

    @pytest.mark.parametrize("suffix", [".shp", ".dbf", ".shx"])
    def test_cut_files_are_called_truncated(self, path, suffix):
        file = path.with_suffix(suffix)
        file.write_bytes(file.read_bytes()[:-60])
        with pytest.raises(VectorError, match=rf"b\{suffix}: .*truncated"):
            read(path)

    def test_files_that_do_not_belong_together(self, path, tmp_path):
        other = tmp_path / "other" / "b.shp"
        other.parent.mkdir()
        table(building=["yes"] * 12).iloc[:5].to_file(other)
        path.with_suffix(".dbf").write_bytes(other.with_suffix(".dbf").read_bytes())
        with pytest.raises(VectorError, match="12 shapes, but 5 records"):
            read(path)


@pytest.mark.parametrize("name", ["b.gml", "b.fgb", "b.gpkg", "b.kml", "b.geojsonl", "b.gdb"])
def test_formats_that_gdal_writes_are_read(tmp_path, name):
    path = tmp_path / name
    drivers = {".gml": "GML", ".kml": "KML", ".geojsonl": "GeoJSONSeq", ".gdb": "OpenFileGDB"}
    options = {"driver": drivers[path.suffix]} if path.suffix in drivers else {}
    table(building=["yes"] * 12).to_crs(4326).to_file(path, **options)
    features, tags = read(path)
    assert len(features.table) == 12
    assert all(t["building"] == "yes" for t in tags)


class TestGeoJsonThatGdalReadsInPart:
    @pytest.fixture
    def path(self, tmp_path):
        table(building=["yes"] * 12).to_crs(4326).to_file(tmp_path / "b.geojson")
        return tmp_path / "b.geojson"

    @pytest.mark.parametrize(
        ("old", "new"),
        [(b'"type": "Feature", ', b'"type": "Featu0e", '), (b'"properties"', b'"properties'), (b"}, {", b"} {")],
    )
    def test_what_it_passes_over_is_refused(self, path, old, new):
        text = path.read_bytes()
        at = text.index(old, len(text) // 2) if old in text[len(text) // 2 :] else None
        if at is None:
            at, old, new = text.rindex(b"},\n{"), b"},\n{", b"}\n{"
        path.write_bytes(text[:at] + new + text[at + len(old) :])
        with pytest.raises(VectorError, match=r"b\.geojson: "):
            read(path)

    @pytest.mark.parametrize("limit", [10, 1 << 26])
    def test_whole_files_are_read_also_large_ones(self, path, limit, monkeypatch):
        monkeypatch.setattr("pipeline.vectors.geojson.WHOLE_BYTES", limit)
        assert len(read(path)[0].table) == 12

    def test_a_large_file_is_counted_by_its_marks(self, path, monkeypatch):
        monkeypatch.setattr("pipeline.vectors.geojson.WHOLE_BYTES", 10)
        text = path.read_bytes()
        at = text.rindex(b'"geometry"')
        path.write_bytes(text[:at] + b'"geometry' + text[at + 10 :])
        with pytest.raises(VectorError, match=r"b\.geojson: "):
            read(path)

    def test_a_broken_line_of_a_sequence_is_refused(self, tmp_path):
        path = tmp_path / "b.geojsonl"
        table(building=["yes"] * 12).to_crs(4326).to_file(path, driver="GeoJSONSeq")
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:5], lines[5].replace(b"{", b"[", 1), *lines[6:]]))
        with pytest.raises(VectorError, match="holds 12 features, of which 11 can be read"):
            read(path)

    @pytest.mark.parametrize("kind", ["feature", "geometry"])
    def test_a_single_feature_or_geometry(self, tmp_path, kind):
        path = tmp_path / "b.geojson"
        geometry = {"type": "Point", "coordinates": [113.0, 23.0]}
        path.write_text(
            json.dumps(geometry if kind == "geometry" else {"type": "Feature", "properties": {}, "geometry": geometry})
        )
        assert len(read(path)[0].table) == 1


class TestMessages:
    @pytest.mark.parametrize("suffix", [s for f in VECTOR_FORMATS for s in f.suffixes if s != ".gdb"])
    @pytest.mark.parametrize(
        "content", [b"", b"hello, this is no map", b"\x00" * 200, b"<html><body>404</body></html>"]
    )
    def test_foreign_content_is_a_named_error_and_only_an_empty_file_is_called_truncated(
        self, tmp_path, suffix, content
    ):
        path = tmp_path / f"b{suffix}"
        path.write_bytes(content)
        with pytest.raises(VectorError) as caught:
            read(path)
        text = str(caught.value)
        assert str(path) in text
        assert "\n" not in text
        if content and suffix != ".shp":
            assert "truncated" not in text

    def test_unknown_kinds_of_files_list_the_known_ones(self, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("hello")
        with pytest.raises(VectorError, match=r"notes\.txt: cannot be read as a vector table \(known are \.osm\.pbf"):
            read(path)


def test_documented_formats_are_the_accepted_ones():
    text = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
    section = text.split("### Formats of vectors")[1].split("\n### ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "---" not in line][1:]
    documented = {row.split("|")[1].strip(): tuple(re.findall(r"`(\.[\w.]+)`", row.split("|")[2])) for row in rows}
    assert documented == {item.name: item.suffixes for item in VECTOR_FORMATS}


@pytest.mark.shared
class TestCases:
    @pytest.mark.parametrize("name", ["footprints", "bare"])
    def test_default_tag(self, shared, name):
        features, tags = read(shared / f"cases/05-default-tag/{name}.shp", default_tags={"building": "yes"})
        assert len(tags) == 20
        assert {t["building"] for t in tags} == {"yes"}
        assert features.counts["default_tags_given"] == 20

    @pytest.mark.parametrize(("name", "count"), [("id0.shp", 8), ("idclass.gpkg", 40)])
    def test_id_column(self, shared, name, count):
        features, _ = read(shared / "cases/06-id-column" / name)
        assert len(features.table) == count

    @pytest.mark.parametrize("name", ["folder", "hive"])
    def test_folder_of_geoparquet(self, shared, name):
        _, tags = read(shared / "cases/08-folder-of-geoparquet" / name)
        assert tags == [{"building": "yes"}] * 20

    def test_data_root_names(self, shared):
        from pipeline.city.sources import find_sources

        found = find_sources(shared / "cases/09-data-root-names/data/990001", "990001")
        assert [p.name for p in found.vectors] == ["b.geoparquet", "city.osm.gz"]
        features, _ = read(found.vectors)
        assert features.counts["read"] == 42

    @pytest.mark.parametrize(("name", "value"), [("v1", "shed"), ("v2", "yes")])
    def test_shapefile_sidecars(self, shared, name, value):
        _, tags = read(shared / f"cases/11-shapefile-sidecars/{name}.shp")
        assert tags == [{"building": value}] * 20


def test_pandas_tables_of_several_sources_keep_their_names(tmp_path):
    paths = [tmp_path / k / "b.gpkg" for k in "xy"]
    for k, path in enumerate(paths):
        path.parent.mkdir()
        table(building=["yes"] * 12).iloc[6 * k : 6 * k + 6].to_file(path)
    features, _ = read(paths)
    assert pd.Series(features.table["source"]).value_counts().to_dict() == {"x/b.gpkg": 6, "y/b.gpkg": 6}
