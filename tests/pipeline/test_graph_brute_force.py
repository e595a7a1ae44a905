"""City graphs against a plain pairwise reference: loops over features, `relate` strings and `intersection`."""

import json
import re

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geolink.graph import EDGE_TYPES, GEOMETRY_COLUMNS, NODE_TYPES, RELATIONS
from pipeline.graph import CityGraph
from pipeline.graph.pairs import CANDIDATES, NEAR_M, NEIGHBOURS

KIND = {"Point": "point", "LineString": "line", "Polygon": "polygon"}
COORDINATE = st.integers(0, 12).map(lambda v: v * 25.0)
PLACE = st.tuples(COORDINATE, COORDINATE)


@st.composite
def boxes(draw):
    x, y = draw(PLACE)
    return shapely.box(x, y, x + 25 * draw(st.integers(1, 6)), y + 25 * draw(st.integers(1, 6)))


@st.composite
def rings_with_holes(draw):
    outer = draw(boxes())
    left, bottom, right, top = outer.bounds
    if right - left < 50 or top - bottom < 50:
        return outer
    return outer.difference(shapely.box(left + 10, bottom + 10, right - 10, top - 10))


@st.composite
def triangles(draw):
    corners = draw(st.lists(PLACE, min_size=3, max_size=3, unique=True))
    shape = shapely.Polygon(corners)
    return shape if shape.area > 0 else draw(boxes())


@st.composite
def lines(draw):
    return shapely.LineString(draw(st.lists(PLACE, min_size=2, max_size=4, unique=True)))


POINT = PLACE.map(shapely.Point)
GEOMETRY = st.one_of(boxes(), boxes(), rings_with_holes(), triangles(), lines(), POINT)
LAYERS = st.lists(GEOMETRY, min_size=1, max_size=14)


def table_of(geometry: list[shapely.Geometry], *, building: bool = True) -> gpd.GeoDataFrame:
    tags = [
        {"k": str(i), **({"building": "yes"} if building and g.geom_type == "Polygon" else {})}
        for i, g in enumerate(geometry)
    ]
    return gpd.GeoDataFrame({"tags": [json.dumps(t) for t in tags]}, geometry=geometry, crs="EPSG:32650")


def relation(a: shapely.Geometry, b: shapely.Geometry) -> str | None:
    """The relation column of the edge a -> b, from the DE-9IM text."""
    matrix = a.relate(b)
    kinds = (KIND[a.geom_type], KIND[b.geom_type])

    def fits(pattern: str) -> bool:
        return re.fullmatch(pattern.replace("T", "[012]").replace("*", "."), matrix) is not None

    if matrix.startswith("FF") and matrix[3:5] == "FF":
        return None
    touches = any(fits(p) for p in ("FT*******", "F**T*****", "F***T****"))
    covers = any(fits(p) for p in ("T*****FF*", "*T****FF*", "***T**FF*", "****T*FF*"))
    covered = any(fits(p) for p in ("T*F**F***", "*TF**F***", "**FT*F***", "**F*TF***"))
    if kinds == ("point", "point"):
        return None
    if "point" in kinds:
        return "touches" if touches else "within"
    if kinds[0] != kinds[1]:
        return "touches" if touches else "covers" if (covers if kinds[0] == "polygon" else covered) else "crosses"
    if fits("T*F**FFF*"):
        return "equals"
    for name, holds in (
        ("touches", touches),
        ("covers", covers),
        ("covered_by", covered),
        ("overlaps", fits("T*T***T**")),
    ):
        if holds:
            return name
    return None


def near_by_hand(geometry: list[shapely.Geometry], rank: dict[int, int]) -> set[frozenset[int]]:
    """Nearest-neighbour pairs by their definition; ``rank`` is the order of the graph, which settles equal gaps."""
    found = set()
    for kind, k in (("Polygon", CANDIDATES), ("Point", NEIGHBOURS)):
        members = [i for i, g in enumerate(geometry) if g.geom_type == kind]
        for i in members:
            reach = sorted((geometry[i].centroid.distance(geometry[j].centroid), j) for j in members if j != i)
            reach = [(d, j) for d, j in reach if d <= NEAR_M]
            limit = reach[k][0] if len(reach) > k else np.inf
            coincident = sum(d == 0 for d, _ in reach)
            if coincident > k:
                continue
            chosen = [j for d, j in reach if d < limit]
            if kind == "Polygon":
                gaps = sorted((geometry[i].distance(geometry[j]), rank[j], j) for j in chosen)
                chosen = [j for gap, _, j in gaps if gap > 0][:NEIGHBOURS]
            found.update(frozenset((i, j)) for j in chosen)
    return found


def number_of(graph: CityGraph, semantic_id: np.ndarray) -> list[int]:
    return [int(graph.tag_sets[s]["k"]) for s in semantic_id]


@settings(max_examples=120, deadline=None)
@given(LAYERS)
def test_relations_and_neighbours_equal_pairwise_reference(geometry):
    graph = CityGraph.build(table_of(geometry))
    everything = np.array([-1e3, -1e3, 2e3, 2e3])
    tiles = graph.tile_graphs(everything)
    tiles.validate()
    number = {t: number_of(graph, tiles.semantic_id[t]) for t in NODE_TYPES}
    rank = {k: r for r, k in enumerate(number_of(graph, graph.nodes.tag_set))}
    wanted: dict[tuple[int, int], tuple[str, bool, float]] = {}
    near = near_by_hand(geometry, rank)
    for i, a in enumerate(geometry):
        for j, b in enumerate(geometry):
            column = relation(a, b) if i != j else "self"
            if i == j and RELATIONS[KIND[a.geom_type], KIND[a.geom_type]][0] != "self":
                continue
            is_near = frozenset((i, j)) in near and i != j
            if is_near and a.geom_type == "Point":
                column = "neighbour"
            if column or is_near:
                wanted[i, j] = (column or "", is_near, a.distance(b))
    got = {}
    for pair in EDGE_TYPES:
        index, attr = tiles.edge_index[pair], tiles.edge_attr[pair]
        names = RELATIONS[pair]
        for s, d, row in zip(*index.tolist(), attr, strict=True):
            key = (number[pair[0]][s], number[pair[1]][d])
            assert key not in got
            columns = [n for n, v in zip(names, row, strict=False) if v]
            assert len(columns) <= 1
            got[key] = (columns[0] if columns else "", bool(row[len(names)]), float(row[len(names) + 1]))
            a, b = geometry[key[0]].centroid, geometry[key[1]].centroid
            length = a.distance(b)
            bearing = ((b.x - a.x) / length, (b.y - a.y) / length) if length > 1e-9 else (0, 0)
            np.testing.assert_allclose(row[len(names) + 2 :], bearing, atol=1e-6)
    assert {k: v[:2] for k, v in got.items()} == {k: v[:2] for k, v in wanted.items()}
    for key, value in got.items():
        assert value[2] == pytest.approx(np.log1p(wanted[key][2]) / 10, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=8, max_size=24), st.booleans(), st.data())
def test_neighbours_on_a_lattice_full_of_equal_distances(cells, points, data):
    """Ties everywhere: at the last candidate, at the last neighbour, and between coincident points."""
    if points:
        geometry = [shapely.Point(20 * x, 20 * y) for x, y in cells]
        geometry += [geometry[0]] * data.draw(st.integers(0, 6))
    else:
        side = data.draw(st.sampled_from([8.0, 12.0, 20.0]))
        geometry = [shapely.box(20 * x, 20 * y, 20 * x + side, 20 * y + side) for x, y in cells]
    graph = CityGraph.build(table_of(geometry))
    number = number_of(graph, graph.nodes.tag_set)
    rank = {k: r for r, k in enumerate(number)}
    owner = np.repeat(np.arange(len(number)), np.diff(graph.pairs.start))
    near = graph.pairs.code == 0
    got = {
        frozenset((number[a], number[b])) for a, b in zip(owner[near], graph.pairs.other[near].tolist(), strict=True)
    }
    assert got == near_by_hand(geometry, rank)


@settings(max_examples=120, deadline=None)
@given(LAYERS, st.lists(PLACE, min_size=1, max_size=4))
def test_tiles_see_what_intersects_them(geometry, corners):
    graph = CityGraph.build(table_of(geometry))
    side = 110.0  # not a multiple of the lattice, so borders and features rarely coincide, but corners do
    bounds = np.array([(x, y, x + side, y + side) for x, y in corners])
    tiles = graph.tile_graphs(bounds)
    tiles.validate()
    for t, window in enumerate(bounds):
        box = shapely.box(*window)
        for kind in NODE_TYPES:
            rows = np.flatnonzero(tiles.node_tile[kind] == t)
            wanted = {
                k: g.intersection(box)
                for k, g in enumerate(geometry)
                if KIND[g.geom_type] == kind
                and g.intersects(box)
                and (
                    kind == "point"
                    or (g.intersection(box).length if kind == "line" else g.intersection(box).area) > 1e-6
                )
            }
            got = number_of(graph, tiles.semantic_id[kind][rows])
            assert sorted(got) == sorted(wanted)
            for row, k in zip(rows, got, strict=True):
                check_position(tiles.position[kind][row], wanted[k], window, whole=box.covers(geometry[k]))
                leaves = tiles.geometry[kind][row, GEOMETRY_COLUMNS.index("leaves_tile")]
                assert leaves == (not box.covers(geometry[k]))


def check_position(position: np.ndarray, seen: shapely.Geometry, window: np.ndarray, *, whole: bool) -> None:
    side = window[2] - window[0]

    def placed(x: float, y: float) -> tuple[float, float]:
        return (x - window[0]) / side, 1 - (y - window[1]) / side

    xy = position.reshape(-1, 2)
    if seen.geom_type == "Point":
        np.testing.assert_allclose(xy[0], placed(seen.x, seen.y), atol=1e-6)
    elif "Polygon" in seen.geom_type:
        np.testing.assert_allclose(xy[3], placed(seen.centroid.x, seen.centroid.y), atol=1e-5)
        for x, y in xy[:3]:  # inside what is seen, or beside a centroid that is outside of it
            place = shapely.Point(window[0] + x * side, window[1] + (1 - y) * side)
            near_centroid = place.distance(seen.centroid) < seen.hausdorff_distance(seen.centroid) / 50 + 1e-3
            assert seen.buffer(1e-3).covers(place) or near_centroid
    else:
        np.testing.assert_allclose(xy[0], placed(seen.centroid.x, seen.centroid.y), atol=1e-5)
        if seen.geom_type == "LineString" and whole:
            np.testing.assert_allclose(xy[1:], [placed(*seen.coords[0]), placed(*seen.coords[-1])], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(LAYERS, st.lists(PLACE, min_size=1, max_size=4))
def test_edges_of_a_tile_are_those_of_the_city_among_what_it_sees(geometry, corners):
    graph = CityGraph.build(table_of(geometry))
    city = graph.tile_graphs(np.array([-1e3, -1e3, 2e3, 2e3]))
    side = 110.0
    bounds = np.array([(x, y, x + side, y + side) for x, y in corners])
    tiles = graph.tile_graphs(bounds)
    for t, window in enumerate(bounds):
        box = shapely.box(*window)
        one = tiles.select([t])
        seen = {k for kind in NODE_TYPES for k in number_of(graph, one.semantic_id[kind])}
        for pair in EDGE_TYPES:
            wanted = {
                edge: row
                for edge, row in edges(graph, city, pair).items()
                if set(edge) <= seen and (is_near_only(row, pair) or may_meet(geometry, edge, box))
            }
            assert edges(graph, one, pair) == wanted


def edges(graph, tiles, pair):
    src, dst = (number_of(graph, tiles.semantic_id[t]) for t in pair)
    rows = tiles.edge_attr[pair].round(5).tolist()
    return {(src[s], dst[d]): tuple(row) for s, d, row in zip(*tiles.edge_index[pair].tolist(), rows, strict=True)}


def is_near_only(row, pair) -> bool:
    return row[len(RELATIONS[pair])] == 1


def may_meet(geometry, edge, box) -> bool:
    """Whether the common part of two envelopes reaches into the tile, or one of the two lies in it whole."""
    a, b = geometry[edge[0]], geometry[edge[1]]
    if edge[0] == edge[1] or box.covers(a) or box.covers(b):
        return True
    return a.envelope.intersection(b.envelope).intersects(box)


@settings(max_examples=40, deadline=None)
@given(LAYERS, st.integers(1, 5), st.integers(1, 5), st.randoms(use_true_random=False))
def test_graph_does_not_depend_on_parts_ranges_or_order(geometry, part_size, range_size, random):
    table = table_of(geometry)
    shuffled = table.iloc[random.sample(range(len(table)), len(table))]
    a = CityGraph.build(table)
    b = CityGraph.build(shuffled, part_size=part_size, range_size=range_size)
    assert a.texts == b.texts
    for group in ("nodes", "pairs"):
        for name, value in vars(getattr(a, group)).items():
            other = getattr(getattr(b, group), name)
            assert value.dtype == other.dtype
            np.testing.assert_array_equal(value, other, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(LAYERS, GEOMETRY, st.lists(PLACE, min_size=1, max_size=5))
def test_digest_changes_exactly_where_the_tile_graph_does(geometry, extra, corners):
    before, after = CityGraph.build(table_of(geometry)), CityGraph.build(table_of([*geometry, extra]))
    for x, y in corners:
        window = np.array([x, y, x + 110.0, y + 110.0])
        a, b = before.tile_graphs(window), after.tile_graphs(window)
        same = all(
            np.array_equal(getattr(a, f)[k], getattr(b, f)[k])
            for f in ("position", "geometry", "edge_index", "edge_attr")
            for k in getattr(a, f)
        ) and all(number_of(before, a.semantic_id[t]) == number_of(after, b.semantic_id[t]) for t in NODE_TYPES)
        assert (before.digest(window) == after.digest(window)) == same
