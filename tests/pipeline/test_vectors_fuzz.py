"""Any file: a table that accounts for what was read, a typed error that names the file, or a named warning.

Small files of every format are changed in their bytes, their headers and their columns. 100 inputs of each test in the
ordinary run, 2,000 with ``HYPOTHESIS_PROFILE=long``.
"""

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import geopandas as gpd
import osmium
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from osmium.osm import mutable

from pipeline.vectors import VectorError, read_features

UTM = "EPSG:32649"
AREA = (734000.0, 2555000.0, 736000.0, 2557000.0)
COUNT = 6
NAMES = ("b.gpkg", "b.shp", "b.geojson", "b.fgb", "b.parquet", "b.osm", "b.osm.pbf", "b.gml", "b.osm.gz")
LOST = (
    *("outside", "null_geometry", "empty_geometry", "not_finite", "invalid_collapsed", "zero_length_lines"),
    *("zero_area_polygons", "duplicates", "in_an_earlier_file", "multipolygons_not_closed", "ways_without_nodes"),
    *("outlines_of_relations", "pieces_joined"),
)


def houses():
    geometry = [shapely.box(734700 + 20 * k, 2556000, 734710 + 20 * k, 2556010) for k in range(COUNT)]
    return gpd.GeoDataFrame(
        {"building": ["yes"] * COUNT, "name": ["城中村"] * COUNT, "levels": range(COUNT)}, geometry=geometry, crs=UTM
    )


def write_osm(path):
    with osmium.SimpleWriter(str(path)) as out:
        corners = houses().to_crs(4326).geometry
        for k, house in enumerate(corners):
            for j, (x, y) in enumerate(house.exterior.coords[:-1]):
                out.add_node(mutable.Node(id=10 * k + j + 1, location=(x, y), version=1))
        for k in range(COUNT):
            refs = [10 * k + j + 1 for j in range(4)]
            tags = {"building": "yes", "name": "城中村"} if k else {}
            out.add_way(mutable.Way(id=k + 1, nodes=[*refs, refs[0]], tags=tags, version=1))
        members = [("w", 1, "outer")]
        out.add_relation(
            mutable.Relation(id=1, members=members, tags={"type": "multipolygon", "building": "yes"}, version=1)
        )


@cache
def originals():
    """A folder with a small file of each format."""
    folder = Path(tempfile.mkdtemp(prefix="uvmap-fuzz-"))
    for name in NAMES:
        if ".osm" in name:
            write_osm(folder / name)
        elif name.endswith("parquet"):
            houses().to_parquet(folder / name, write_covering_bbox=True)
        else:
            table = houses().to_crs(4326) if name.endswith("json") else houses()
            table.to_file(folder / name)
    return folder


def outcome(path, **options):
    """Read a file; whatever happens must be said."""
    try:
        features = read_features(path, crs=UTM, bounds_m=options.pop("bounds_m", AREA), **options)
    except VectorError as error:
        text = str(error)
        assert path.name.split(".")[0] in text
        assert "\n" not in text
        assert len(text) < 1500
        return None
    counts = features.counts
    whole = features.table.groupby("source_id", dropna=False).ngroups if ".osm" in path.name else len(features.table)
    assert counts["read"] <= whole + sum(counts.get(name, 0) for name in LOST), counts
    assert counts["read"] or features.warnings
    assert shapely.is_valid(features.table.geometry.to_numpy()).all()
    assert all(json.loads(t) is not None for t in features.table["tags"])
    lost = sum(counts.get(name, 0) for name in LOST[1:7])
    assert lost <= 0.2 * (counts["read"] - counts.get("outside", 0)) or features.warnings
    return features


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bounds_m", [AREA, None])
def test_the_originals_are_whole(name, bounds_m):
    features = outcome(originals() / name, bounds_m=bounds_m)
    assert len(features.table) == COUNT
    assert features.warnings == ()


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "flip", "cut", "drop", "repeat", "insert"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
        st.integers(1, 64),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


def changed(data, changes):
    """Bytes with changes, half of them within the first 200."""
    data = bytearray(data)
    for kind, share, value, length, in_header in changes:
        if not data:
            break
        at = int(share * (min(len(data), 200) if in_header else len(data)))
        if kind == "set":
            data[at] = value
        elif kind == "flip":
            data[at] ^= 1 << value % 8
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + length]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        else:
            data[at:at] = bytes([value]) * length
    return bytes(data)


@given(st.sampled_from(NAMES), st.sampled_from([".shp", ".dbf", ".shx", ".prj", ".cpg"]), CHANGES, st.booleans())
def test_changed_bytes(name, companion, changes, everywhere):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        for file in originals().glob("b.*"):
            if file.name == name or (name == "b.shp" and file.suffix in {".dbf", ".shx", ".prj", ".cpg"}):
                shutil.copyfile(file, Path(folder) / file.name)
        target = path.with_suffix(companion) if name == "b.shp" else path
        target.write_bytes(changed(target.read_bytes(), changes))
        features = outcome(path, bounds_m=None if everywhere else AREA)
        assert features is None or features.counts["read"] >= COUNT or features.warnings, "lost in silence"


VALUES = st.one_of(
    st.none(),
    st.text(max_size=8),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(),
    st.booleans(),
    st.sampled_from(["类型", "ÀàÐÍ", '"a"=>"b"', '{"a":', "a:1;b", "\x00", "\ud7ff", "nan", "0"]),
)
COLUMN_NAMES = st.one_of(
    st.sampled_from(
        [
            "building",
            "Id",
            "id",
            "osm_id",
            "FID",
            "OBJECTID",
            "Shape_Area",
            "tags",
            "other_tags",
            "label",
            "type",
            "names",
        ]
    ),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12),
)
SHAPES = st.one_of(
    st.none(),
    st.just(shapely.Polygon()),
    st.tuples(st.floats(), st.floats()).map(shapely.Point),
    st.tuples(st.floats(734000, 736000), st.floats(2555000, 2557000)).map(lambda p: shapely.Point(p).buffer(9, 2)),
    st.lists(st.tuples(st.integers(734700, 734704), st.integers(2556000, 2556004)), min_size=3, max_size=6).map(
        shapely.Polygon
    ),
)


@st.composite
def tables(draw):
    count = draw(st.integers(0, 6))
    names = draw(st.lists(COLUMN_NAMES, max_size=4, unique_by=str.lower))
    names = [n for n in names if n.lower() not in {"geometry", "fid", "ogc_fid"} and n.strip()]
    columns = {n: draw(st.lists(VALUES, min_size=count, max_size=count)) for n in names}
    kinds = draw(st.sampled_from([str, object]))
    columns = (
        {n: [None if v is None else str(v) for v in values] for n, values in columns.items()}
        if kinds is str
        else columns
    )
    geometry = draw(st.lists(SHAPES, min_size=count, max_size=count))
    crs = draw(st.sampled_from([UTM, UTM, "EPSG:4326", "EPSG:4490", "EPSG:2381", "EPSG:4978", None]))
    return gpd.GeoDataFrame(columns, geometry=geometry, crs=crs)


@given(
    tables(),
    st.sampled_from(["t.gpkg", "t.shp", "t.geojson", "t.fgb", "t.parquet"]),
    st.sampled_from([None, {"building": "yes"}]),
    st.sampled_from([None, "gbk", "utf-8"]),
    st.sampled_from([None, "Id"]),
)
def test_any_columns_and_shapes(table, name, default_tags, encoding, id_column):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        try:
            table.to_parquet(path) if name.endswith("parquet") else table.to_file(path, engine="pyogrio")
        except Exception:  # noqa: BLE001 - what cannot be written is no input
            return
        features = outcome(path, default_tags=default_tags, encoding=encoding, id_column=id_column)
        if features is not None and default_tags is not None:
            assert all("building" in json.loads(t) or "highway" in t or t != "{}" for t in features.table["tags"])
