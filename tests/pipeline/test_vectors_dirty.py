"""Dirty input: everything is mended, split, joined or dropped, nothing silently."""

import json

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.vectors import read_features
from pipeline.vectors.clean import joined, usable, without_duplicates
from pipeline.vectors.raw import RawFeatures
from pipeline.vectors.tags import canonical, clean

UTM = "EPSG:32650"
NAN = float("nan")


def raw_of(*geometry, ids=None, tags=None):
    n = len(geometry)
    made = np.empty(n, object)
    made[:] = geometry
    return RawFeatures(made, np.array(tags or ['{"a":"b"}'] * n, object), np.array(ids or [None] * n, object))


def cleaned(*geometry, bounds=None):
    from collections import Counter

    counts = Counter()
    return usable(raw_of(*geometry), bounds_m=bounds, counts=counts), {k: v for k, v in counts.items() if v}


BOW_TIE = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
SQUARE = shapely.box(0, 0, 1, 1)


@pytest.mark.parametrize(
    ("name", "geometry", "kept", "counts"),
    [
        ("null", None, 0, {"null_geometry": 1}),
        ("empty", shapely.Polygon(), 0, {"empty_geometry": 1}),
        ("nan", shapely.LineString([(0, 0), (NAN, 1)]), 0, {"not_finite": 1}),
        ("infinite", shapely.Point(float("inf"), 0), 0, {"not_finite": 1}),
        ("self_intersection", BOW_TIE, 2, {"invalid_mended": 1, "multi_parts_split": 1}),
        ("spike_only", shapely.Polygon([(0, 0), (1, 1), (2, 2)]), 0, {"invalid_collapsed": 1}),
        ("zero_length_line", shapely.LineString([(1, 1), (1, 1)]), 0, {"zero_length_lines": 1}),
        ("multi", shapely.MultiPolygon([SQUARE, shapely.box(5, 5, 6, 6)]), 2, {"multi_parts_split": 1}),
        (
            "collection_in_collection",
            shapely.GeometryCollection([SQUARE, shapely.GeometryCollection([shapely.Point(3, 3), shapely.Point()])]),
            2,
            {"collections_split": 1},
        ),
        ("ring", shapely.LinearRing([(0, 0), (1, 0), (1, 1)]), 1, {}),
    ],
)
def test_each_hazard_is_handled_and_counted(name, geometry, kept, counts):
    result, got = cleaned(geometry)
    assert len(result) == kept
    assert got == counts
    assert shapely.is_valid(result.geometry).all()
    assert set(shapely.get_type_id(result.geometry)) <= {0, 1, 3}
    assert not shapely.has_z(result.geometry).any()


def test_far_outside_is_left_out_and_counted():
    result, counts = cleaned(SQUARE, shapely.Point(1e7, 1e7), bounds=(0, 0, 10, 10))
    assert len(result) == 1
    assert counts == {"outside": 1}


GEOMETRY = st.one_of(
    st.none(),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=7).map(shapely.Polygon),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=5).map(shapely.LineString),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=4).map(shapely.MultiPoint),
    st.tuples(st.integers(0, 4), st.integers(0, 4)).map(
        lambda p: shapely.GeometryCollection([shapely.Point(p), BOW_TIE])
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(GEOMETRY, max_size=8))
def test_whatever_comes_in_is_either_usable_or_counted(geometry):
    dropped = (
        "null_geometry",
        "empty_geometry",
        "not_finite",
        "invalid_collapsed",
        "zero_length_lines",
        "zero_area_polygons",
    )
    for one in geometry:
        result, counts = cleaned(one)
        assert shapely.is_valid(result.geometry).all()
        assert set(shapely.get_type_id(result.geometry)) <= {0, 1, 3}
        assert len(result) or sum(counts.get(k, 0) for k in dropped)
    together, _ = cleaned(*geometry)
    assert len(together) == sum(len(cleaned(one)[0]) for one in geometry)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 20).map(lambda k: k / 10), st.booleans())
def test_features_cut_at_tile_edges_are_whole_again(columns, rows, shift, is_line):
    """Any shape cut into a lattice of tiles, each piece under the same id, comes back as it was."""
    from collections import Counter

    shape = (
        shapely.LineString([(shift, 0.3), (3.7, 2.1), (3.9, 3.8)])
        if is_line
        else shapely.Point(2, 2).buffer(1.5 + shift / 10).difference(shapely.Point(2, 2).buffer(0.7))
    )
    tiles = [
        shapely.box(4 * i / columns, 4 * j / rows, 4 * (i + 1) / columns, 4 * (j + 1) / rows)
        for i in range(columns)
        for j in range(rows)
    ]
    pieces = [
        p
        for t in tiles
        for p in shapely.get_parts(shape.intersection(t))
        if p.geom_type == shape.geom_type and not p.is_empty
    ]
    other = shapely.box(1, 1, 3, 3)
    whole = shape if is_line else shape.intersection(shapely.box(0, 0, 4, 4))
    raw = raw_of(*pieces, other, ids=["7"] * len(pieces) + ["8"], tags=['{"k":"v"}'] * (len(pieces) + 1))
    counts = Counter()
    result = joined(raw, counts)
    mine = result.geometry[[i == "7" for i in result.source_id]]
    assert len(mine) == 1
    assert mine[0].symmetric_difference(whole).area < 1e-9
    assert mine[0].length == pytest.approx(whole.length, rel=1e-6)
    assert len(result) == 2
    assert counts["pieces_joined"] == (len(pieces) if len(pieces) > 1 else 0)


def test_touching_features_are_not_joined_by_a_constant_called_id():
    from collections import Counter

    counts = Counter()
    row = [shapely.box(k, 0, k + 1, 1) for k in range(30)]
    assert len(joined(raw_of(*row, ids=["0"] * 30), counts)) == 30
    assert counts["ids_that_identify_nothing"] == 30


def test_parts_of_one_id_that_do_not_touch_stay_apart():
    from collections import Counter

    raw = raw_of(SQUARE, shapely.box(9, 9, 10, 10), ids=["1", "1"])
    assert len(joined(raw, Counter())) == 2


def test_equal_features_are_kept_once_whatever_their_first_vertex():
    from collections import Counter

    turned = shapely.Polygon([(1, 1), (0, 1), (0, 0), (1, 0)])
    counts = Counter()
    keep = without_duplicates(raw_of(SQUARE, turned, SQUARE, tags=["{}", "{}", '{"a":"b"}']), counts)
    assert keep.tolist() == [True, False, True]
    assert counts["duplicates"] == 1


@given(st.dictionaries(st.text(max_size=300), st.text(max_size=300), max_size=5))
def test_any_tags_become_canonical_json(tags):
    from collections import Counter

    counts = Counter()
    kept = clean(tags, counts)
    text = canonical(kept)
    assert json.loads(text) == kept
    assert text.encode()  # no lone surrogates
    assert list(kept) == [k for k in kept if k.strip()]
    assert max(map(len, [*kept, *kept.values()]), default=0) <= 255


@pytest.mark.shared
class TestRealData:
    def test_tiles_with_repeated_ids(self, shared):
        path = shared / "data/osm/shanghai_bund_lujiazui_nextzen_tiles.geojson"
        features = read_features(path, crs="EPSG:32651", bounds_m=None, id_column="id")
        counts = features.counts
        assert counts["read"] == 4804
        assert counts["pieces_joined"] > 1500
        polygons = features.table[features.table.geom_type == "Polygon"]
        repeated = polygons[polygons.duplicated("source_id", keep=False)]
        # what still shares an id does not touch: real multi-parts
        for _, group in repeated.groupby("source_id"):
            assert not any(
                a.intersection(b).area > 1e-6 for k, a in enumerate(group.geometry) for b in group.geometry[k + 1 :]
            )

    def test_multipolygons_that_break_a_naive_reader(self, shared):
        features = read_features(shared / "data/osm/Helsinki.osm.pbf", crs="EPSG:32635", bounds_m=None)
        counts = features.counts
        assert shapely.is_valid(features.table.geometry.to_numpy()).all()
        assert counts["multipolygons_not_closed"] == 26
        dropped = counts["multipolygons_not_closed"] + counts["ways_without_nodes"]
        dropped += counts["outlines_of_relations"]  # drawn by the relation, with its holes
        whole = features.table.drop_duplicates("source_id")
        assert counts["read"] == len(whole) + dropped

    def test_layers_of_dissolved_geopackage(self, shared):
        path = shared / "data/osm/shanghai_bund_lujiazui_osm_dissolved.gpkg"
        features = read_features(path, crs="EPSG:32651", bounds_m=None)
        assert set(features.table.geom_type) == {"Point", "LineString", "Polygon"}
        assert features.counts["read"] == 3234
        assert any(json.loads(t).get("height") for t in features.table["tags"])

    def test_bare_footprints_of_kampala(self, shared):
        features = read_features(shared / "data/kampala/labels.geojson", crs="EPSG:32636", bounds_m=None)
        assert len(features.table) == 206
        assert features.counts["untagged"] == 206

    def test_same_digest_again(self, shared):
        path = shared / "data/osm/shenzhen_longgang.osm.pbf"
        a, b = (read_features(path, crs=UTM, bounds_m=None) for _ in range(2))
        assert a.digest == b.digest
        assert isinstance(a.table, gpd.GeoDataFrame)
