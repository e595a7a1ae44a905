"""Vector readers: one feature table from any source, and errors that name the file and what to do."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import osmium
import pandas as pd
import pytest
import shapely
from osmium.osm import mutable

from pipeline.vectors import VectorError, read_features
from pipeline.vectors.osm import is_area

UTM = "EPSG:32650"
CENTER = (117.0, 30.0)


def tags_of(features, source_id):
    rows = features.table[features.table["source_id"] == source_id]
    return [json.loads(t) for t in rows["tags"]]


def kinds_of(features, source_id):
    return features.table[features.table["source_id"] == source_id].geom_type.tolist()


@pytest.fixture
def osm_file(tmp_path: Path) -> Path:
    """Nodes, lines, closed ways of both sorts, a multipolygon with a hole, and broken objects."""
    path = tmp_path / "city.osm.pbf"
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    hole = [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)]
    places = {1: (2, 2), **{10 + k: p for k, p in enumerate(square)}, **{20 + k: p for k, p in enumerate(hole)}}
    header = osmium.io.Header()
    header.set("osmosis_replication_timestamp", "2024-05-06T00:00:00Z")
    ring, inner = [10, 11, 12, 13, 10], [20, 21, 22, 23, 20]
    with osmium.SimpleWriter(str(path), header=header) as out:
        for ref, (x, y) in places.items():
            tags = {"amenity": "cafe", "name": "茶馆;=x"} if ref == 1 else {}
            out.add_node(mutable.Node(id=ref, location=(CENTER[0] + x / 1000, CENTER[1] + y / 1000), tags=tags))
        ways = {
            100: (ring, {"building": "yes", "note": "n" * 900}),
            101: (ring, {"highway": "residential"}),
            102: (ring[:3], {"highway": "service"}),
            103: (ring, {}),
            104: (inner, {}),
            105: ([10, 999, 12, 13], {"highway": "track"}),
            106: ([998, 999], {"highway": "track"}),
            107: ([10, 10], {"highway": "path"}),
            108: (ring, {"highway": "pedestrian", "area": "yes"}),
        }
        for ref, (nodes, tags) in ways.items():
            out.add_way(mutable.Way(id=ref, nodes=nodes, tags=tags))
        members = [("w", 103, "outer"), ("w", 104, "inner")]
        out.add_relation(
            mutable.Relation(id=7, members=members, tags={"type": "multipolygon", "landuse": "residential"})
        )
        out.add_relation(
            mutable.Relation(id=8, members=[("w", 102, "outer")], tags={"type": "multipolygon", "natural": "water"})
        )
        out.add_relation(mutable.Relation(id=9, members=[("w", 102, "")], tags={"type": "route"}))
    return path


def test_osm_objects_become_features_by_osm_rules(osm_file):
    features = read_features(osm_file, crs=UTM, bounds_m=None)
    assert kinds_of(features, "n1") == ["Point"]
    assert tags_of(features, "n1") == [{"amenity": "cafe", "name": "茶馆;=x"}]
    assert kinds_of(features, "w100") == ["Polygon"]
    assert kinds_of(features, "w101") == ["LineString"]
    assert kinds_of(features, "w102") == ["LineString"]
    assert kinds_of(features, "w108") == ["Polygon"]
    assert kinds_of(features, "r7") == ["Polygon"]
    assert tags_of(features, "r7") == [{"landuse": "residential"}]
    assert len(features.table.set_index("source_id").geometry["r7"].interiors) == 1
    assert len(tags_of(features, "w100")[0]["note"]) == 255
    assert set(features.table["source_date"]) == {"2024-05-06"}
    assert features.table.crs == UTM
    assert features.table.columns.tolist() == ["geometry", "tags", "source_id", "source", "source_date"]
    counts = features.counts
    assert counts["ways_with_missing_nodes"] == 2
    assert counts["ways_without_nodes"] == 1
    assert counts["zero_length_lines"] == 1
    assert counts["multipolygons_not_closed"] == 1
    assert counts["relations_without_geometry"] == 1
    assert counts["tags_cut_to_255"] == 1
    assert counts["read"] == counts["kept"] + 3  # w106, w107, r8; of w105 a run of two known nodes is left


def test_osm_xml_and_pbf_give_equal_content(osm_file, tmp_path):
    xml = tmp_path / "xml" / "city.osm.pbf.osm"
    xml.parent.mkdir()
    with osmium.SimpleWriter(str(xml)) as out:
        for obj in osmium.FileProcessor(str(osm_file)):
            out.add(obj)
    a, b = (read_features(f, crs=UTM, bounds_m=None).table for f in (osm_file, xml))
    assert shapely.equals_exact(a.geometry.to_numpy(), b.geometry.to_numpy()).all()
    assert (a["tags"] == b["tags"]).all()
    assert (a["source_id"] == b["source_id"]).all()


def test_bounds_leave_out_and_count_what_is_outside(osm_file):
    whole = read_features(osm_file, crs=UTM, bounds_m=None)
    point = whole.table[whole.table["source_id"] == "n1"].geometry.iloc[0]
    near = (point.x - 10, point.y - 10, point.x + 10, point.y + 10)
    features = read_features(osm_file, crs=UTM, bounds_m=near)
    assert features.table["source_id"].tolist() == ["n1"]
    assert features.counts["outside"] == whole.counts["kept"] - 1


def test_same_osm_object_in_two_files_is_kept_once(osm_file, tmp_path):
    copy = tmp_path / "neighbour.osm.pbf"
    copy.write_bytes(osm_file.read_bytes())
    one = read_features([osm_file], crs=UTM, bounds_m=None)
    both = read_features([osm_file, copy], crs=UTM, bounds_m=None)
    assert len(both.table) == len(one.table)
    assert both.counts["in_an_earlier_file"] == one.counts["kept"]
    assert both.digest == one.digest


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"building": "yes"}, True),
        ({"building": "no"}, False),
        ({"highway": "residential"}, False),
        ({"highway": "services"}, True),
        ({"natural": "water"}, True),
        ({"natural": "coastline"}, False),
        ({"landuse": "farmland", "area": "no"}, False),
        ({"highway": "footway", "area": "yes"}, True),
        ({"barrier": "fence"}, False),
        ({"name": "x"}, False),
    ],
)
def test_closed_ways_are_areas_by_the_wiki_list(tags, expected):
    assert is_area(tags) is expected


TABLE = gpd.GeoDataFrame(
    {
        "osm_id": [1.0, 2.0, None],
        "building": ["yes", "house", None],
        "levels": [3.0, np.nan, 2.5],
        "underground": [True, False, False],
    },
    geometry=[shapely.box(117 + k / 1000, 30, 117 + (k + 0.5) / 1000, 30.001) for k in range(3)],
    crs="EPSG:4326",
)


@pytest.mark.parametrize("name", ["t.gpkg", "t.geojson", "t.shp", "t.fgb", "t.parquet"])
def test_tables_of_all_formats_give_the_same_features(tmp_path, name):
    path = tmp_path / name
    frame = TABLE.drop(columns="underground") if name.endswith("shp") else TABLE
    if name.endswith("parquet"):
        frame.to_parquet(path, write_covering_bbox=True)
    else:
        frame.to_file(path)
    features = read_features(path, crs=UTM, bounds_m=None)
    by_id = {i: json.loads(t) for i, t in zip(features.table["source_id"], features.table["tags"], strict=True)}
    expected = {"building": "yes", "levels": "3"}
    assert {k: v for k, v in by_id["1"].items() if k != "underground"} == expected
    assert by_id[None]["levels"] == "2.5"
    if not name.endswith("shp"):
        assert by_id["1"]["underground"] in {"yes", "1"}
    wanted = TABLE.to_crs(UTM).geometry.to_numpy()
    order = features.table.geometry.centroid.x.argsort()
    assert shapely.hausdorff_distance(features.table.geometry.to_numpy()[order], wanted).max() < 1e-6
    left, bottom, _, top = features.table.total_bounds
    cut = read_features(path, crs=UTM, bounds_m=(left, bottom, left + 60, top))
    assert len(cut.table) == 1
    assert cut.counts["outside"] == 2


def test_all_layers_of_a_geopackage_are_read_and_tables_without_geometry_counted(tmp_path):
    path = tmp_path / "layers.gpkg"
    TABLE.to_file(path, layer="a")
    TABLE.set_geometry(TABLE.centroid).to_file(path, layer="b")
    import pyogrio

    pyogrio.write_dataframe(pd.DataFrame({"x": [1]}), path, layer="plain")
    features = read_features(path, crs=UTM, bounds_m=None)
    assert features.table.geom_type.value_counts().to_dict() == {"Polygon": 3, "Point": 3}
    assert features.counts["layers_without_geometry"] == 1


def test_overture_tables_speak_osm(tmp_path):
    path = tmp_path / "overture.parquet"
    frame = gpd.GeoDataFrame(
        {
            "id": ["08b"],
            "type": ["building"],
            "subtype": ["residential"],
            "class": ["apartments"],
            "height": [12.0],
            "num_floors": [4],
            "names": [{"primary": "楼", "common": None}],
            "sources": [[{"dataset": "OSM"}]],
            "version": [3],
        },
        geometry=[shapely.box(117, 30, 117.001, 30.001)],
        crs="OGC:CRS84",
    )
    frame.to_parquet(path)
    features = read_features(path, crs=UTM, bounds_m=None)
    assert json.loads(features.table["tags"][0]) == {
        "building": "apartments",
        "building:levels": "4",
        "height": "12",
        "name": "楼",
    }
    assert features.table["source_id"][0] == "08b"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tags", '{"a":"1","b":"x"}'),
        ("other_tags", '"a"=>"1","b"=>"x"'),
        ("label", "a:1;b:x"),
    ],
)
def test_columns_of_whole_tag_sets_are_taken_apart(tmp_path, column, value):
    path = tmp_path / "tags.gpkg"
    gpd.GeoDataFrame({column: [value]}, geometry=[shapely.Point(117, 30)], crs=4326).to_file(path)
    features = read_features(path, crs=UTM, bounds_m=None)
    assert features.table["tags"][0] == '{"a":"1","b":"x"}'


def test_bare_footprints_get_the_default_tags(tmp_path):
    path = tmp_path / "bare.geojson"
    TABLE[["geometry"]].to_file(path)
    features = read_features(path, crs=UTM, bounds_m=None, default_tags={"building": "yes"})
    assert set(features.table["tags"]) == {'{"building":"yes"}'}
    assert features.counts["untagged"] == 3


class TestErrors:
    def test_missing_file(self, tmp_path):
        with pytest.raises(VectorError, match=r"gone\.gpkg: no such vector file"):
            read_features(tmp_path / "gone.gpkg", crs=UTM, bounds_m=None)

    def test_no_crs_unless_one_is_assumed(self, tmp_path):
        path = tmp_path / "nocrs.shp"
        TABLE.to_file(path)
        path.with_suffix(".prj").unlink()
        with pytest.raises(VectorError, match=r"nocrs\.shp: layer nocrs has no CRS.*--vectors-crs"):
            read_features(path, crs=UTM, bounds_m=None)
        assert len(read_features(path, crs=UTM, bounds_m=None, assumed_crs="EPSG:4326").table) == 3

    @pytest.mark.parametrize(
        "name", ["cut.gpkg", "cut.geojson", "cut.fgb", "cut.shp", "cut.parquet", "cut.osm.pbf", "cut.osm"]
    )
    def test_truncated_or_foreign_bytes(self, tmp_path, name, osm_file):
        path = tmp_path / name
        if name.endswith("pbf"):
            data = osm_file.read_bytes()
        elif name.endswith("osm"):
            data = b'<?xml version="1.0"?><osm version="0.6"><node id="1" lat="1" lon="1"><tag k="a" v='
        else:
            TABLE.to_parquet(path) if name.endswith("parquet") else TABLE.to_file(path)
            data = path.read_bytes()
        path.write_bytes(
            data[: len(data) - 40] if name.endswith(("pbf", "geojson", "parquet")) else data[: len(data) // 3]
        )
        with pytest.raises(VectorError, match=name.replace(".", r"\.")):
            read_features(path, crs=UTM, bounds_m=None)

    def test_empty_file_of_unknown_format(self, tmp_path):
        path = tmp_path / "empty.gpkg"
        path.write_bytes(b"")
        with pytest.raises(VectorError, match=r"empty\.gpkg"):
            read_features(path, crs=UTM, bounds_m=None)

    def test_unusable_grid_crs(self, tmp_path):
        with pytest.raises(VectorError, match="unusable CRS 'EPSG:0'"):
            read_features([], crs="EPSG:0", bounds_m=None)

    def test_no_sources_give_an_empty_table(self):
        features = read_features([], crs=UTM, bounds_m=None)
        assert len(features.table) == 0
        assert features.counts == {"kept": 0, "read": 0}
