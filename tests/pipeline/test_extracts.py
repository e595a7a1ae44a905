"""The national file cut into extracts: by brute force, beside osmium's own engine, and what is refused."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from osmium.osm import mutable

from pipeline.extracts import Box, cut_extracts
from pipeline.extracts.groups import Boxes, Groups
from pipeline.vectors import VectorError, read_features

Members = list[tuple[str, int, str]]


def write(
    path: Path,
    nodes: dict[int, tuple[int, int]],
    ways: dict[int, list[int]],
    relations: dict[int, tuple[dict[str, str], Members]],
) -> Path:
    """A PBF of nodes at whole parts of a degree (10 to the minus 7), ways and relations."""
    with osmium.SimpleWriter(str(path), overwrite=True) as writer:
        for k, (x, y) in sorted(nodes.items()):
            writer.add_node(mutable.Node(id=k, location=(x / 1e7, y / 1e7), tags={"n": str(k)} if k % 3 == 0 else {}))
        for k, refs in sorted(ways.items()):
            writer.add_way(mutable.Way(id=k, nodes=refs, tags={"highway": "path"}))
        for k, (tags, members) in sorted(relations.items()):
            writer.add_relation(mutable.Relation(id=k, members=members, tags=tags))
    return path


def ids_in(path: Path) -> dict[str, dict[int, Any]]:
    found: dict[str, dict[int, Any]] = {"n": {}, "w": {}, "r": {}}
    for obj in osmium.FileProcessor(str(path)):
        tags = {t.k: t.v for t in obj.tags}
        if obj.is_node():
            found["n"][obj.id] = (obj.location.x, obj.location.y, tags)
        elif obj.is_way():
            found["w"][obj.id] = ([n.ref for n in obj.nodes], tags)
        else:
            found["r"][obj.id] = ([(m.type, m.ref, m.role) for m in obj.members], tags)
    return found


def by_brute_force(
    box: tuple[int, int, int, int],
    nodes: dict[int, tuple[int, int]],
    ways: dict[int, list[int]],
    relations: dict[int, tuple[dict[str, str], Members]],
) -> tuple[set[int], set[int], set[int]]:
    west, south, east, north = box
    inside = {k for k, (x, y) in nodes.items() if west <= x <= east and south <= y <= north}
    through = {k for k, refs in ways.items() if inside & set(refs)}
    direct = {
        k
        for k, (_, members) in relations.items()
        if any((t == "n" and r in inside) or (t == "w" and r in through) for t, r, _ in members)
    }
    kept_n, kept_w, kept_r = set(inside), set(through), set(direct)
    for k in direct:
        tags, members = relations[k]
        if tags.get("type") == "multipolygon":
            kept_n |= {r for t, r, _ in members if t == "n" and r in nodes}
            kept_w |= {r for t, r, _ in members if t == "w" and r in ways}
    for k in kept_w:
        kept_n |= set(ways[k]) & set(nodes)
    while True:
        parents = {k for k, (_, members) in relations.items() if any(t == "r" and r in kept_r for t, r, _ in members)}
        if parents <= kept_r:
            return kept_n, kept_w, kept_r
        kept_r |= parents


@st.composite
def nations(draw: st.DrawFn) -> Any:
    small = st.integers(0, 12)
    node_ids = draw(st.lists(st.integers(1, 40), unique=True, max_size=25))
    nodes = {k: (draw(small), draw(small)) for k in node_ids}
    some_node = st.integers(1, 41)  # may be missing
    ways = {
        k: draw(st.lists(some_node, min_size=1, max_size=6))
        for k in draw(st.lists(st.integers(1, 20), unique=True, max_size=8))
    }
    member = st.tuples(st.sampled_from("nwr"), st.integers(1, 22), st.sampled_from(["outer", "inner", ""]))
    kinds = st.sampled_from(["multipolygon", "route", "boundary"])
    relations = {
        k: ({"type": draw(kinds)}, draw(st.lists(member, max_size=5)))
        for k in draw(st.lists(st.integers(1, 22), unique=True, max_size=6))
    }
    edge = st.tuples(small, small, st.integers(1, 8), st.integers(1, 8))
    boxes = [(x, y, x + w, y + h) for x, y, w, h in draw(st.lists(edge, min_size=1, max_size=5))]
    return nodes, ways, relations, boxes


@settings(max_examples=40, deadline=None)
@given(nation=nations())
def test_equals_brute_force(nation, tmp_path_factory):
    nodes, ways, relations, boxes = nation
    folder = tmp_path_factory.mktemp("cut")
    source = write(folder / "nation.osm.pbf", nodes, ways, relations)
    named: dict[str, Box] = {f"{k}": tuple(v / 1e7 for v in box) for k, box in enumerate(boxes)}  # type: ignore[misc]
    extracts = cut_extracts(source, named, folder / "out")
    whole = ids_in(source)
    for extract, box in zip(extracts, boxes, strict=True):
        found = ids_in(folder / "out" / extract.file)
        expected = by_brute_force(box, nodes, ways, relations)
        assert tuple(set(found[kind]) for kind in "nwr") == expected
        assert (extract.nodes, extract.ways, extract.relations) == tuple(map(len, expected))
        for kind in "nwr":
            assert all(whole[kind][k] == value for k, value in found[kind].items()), "objects are not changed"
            assert list(found[kind]) == sorted(found[kind])
    shutil.rmtree(folder)


@given(
    boxes=st.lists(st.tuples(*[st.integers(-9, 9)] * 2, *[st.integers(1, 9)] * 2), min_size=1, max_size=7),
    points=st.lists(st.tuples(st.integers(-10, 19), st.integers(-10, 19)), min_size=1, max_size=20),
)
def test_boxes_of_points(boxes, points):
    groups = Groups()
    edges = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    index = Boxes([tuple(v / 1e7 for v in e) for e in edges], groups)  # type: ignore[misc]
    xs, ys = (np.array(v, np.int32) for v in zip(*points, strict=True))
    for number, (x, y) in zip(index.of_points(xs, ys).tolist(), points, strict=True):
        assert groups.sets[number] == tuple(k for k, (w, s, e, n) in enumerate(edges) if w <= x <= e and s <= y <= n)


@given(pairs=st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 3), max_size=3, unique=True)), max_size=12))
def test_unions(pairs):
    groups = Groups()
    rows = np.array([row for row, _ in pairs], np.int64)
    numbers = np.array([groups.number(tuple(sorted(members))) for _, members in pairs], np.uint32)
    owners, united = groups.unions(rows, numbers)
    expected: dict[int, set[int]] = {}
    for row, members in pairs:
        expected[row] = expected.get(row, set()) | set(members)
    found = {int(r): set(groups.sets[n]) for r, n in zip(owners, united, strict=True)}
    assert found == {r: m for r, m in expected.items() if m}


HELSINKI: dict[str, Box] = {
    "centre": (24.930, 60.160, 24.950, 60.172),
    "beside it": (24.945, 60.165, 24.970, 60.180),
    "nowhere": (10.0, 10.0, 11.0, 11.0),
}


@pytest.mark.skipif(shutil.which("osmium") is None, reason="osmium-tool is not installed")
def test_equals_osmium_extract_on_a_real_city(tmp_path: Path, shared: Path):
    source = shared / "data/osm/Helsinki.osm.pbf"
    extracts = cut_extracts(source, HELSINKI, tmp_path / "ours")
    for extract in extracts:
        theirs = tmp_path / f"{extract.name}.osm.pbf"
        box = ",".join(map(str, extract.box))
        subprocess.run(["osmium", "extract", "-b", box, "-s", "smart", source, "-o", theirs], check=True)
        assert ids_in(tmp_path / "ours" / extract.file) == ids_in(theirs)
    assert [e.is_empty for e in extracts] == [False, False, True]
    assert read_features(tmp_path / "ours/centre.osm.pbf", crs="EPSG:32635", bounds_m=None).counts["kept"] > 500


def test_same_bytes_and_nothing_done_twice(tmp_path: Path):
    source = write(tmp_path / "n.osm.pbf", {1: (0, 0), 2: (5, 5)}, {1: [1, 2]}, {})
    boxes: dict[str, Box] = {"a": (0, 0, 3e-7, 3e-7), "b": (4e-7, 4e-7, 9e-7, 9e-7)}
    first = cut_extracts(source, boxes, tmp_path / "one")
    second = cut_extracts(source, boxes, tmp_path / "two")
    assert [e.sha256 for e in first] == [e.sha256 for e in second]
    stamp = (tmp_path / "one/a.osm.pbf").stat().st_mtime_ns
    steps: list[str] = []
    assert cut_extracts(source, boxes, tmp_path / "one", progress=lambda what, _: steps.append(what)) == first
    assert not steps
    assert (tmp_path / "one/a.osm.pbf").stat().st_mtime_ns == stamp
    (tmp_path / "one/a.osm.pbf").write_bytes(b"torn")  # found by its checksum, made anew
    assert cut_extracts(source, boxes, tmp_path / "one") == first
    assert not list(tmp_path.glob(".uvmap-cut-*"))


def test_refusals(tmp_path: Path):
    box: dict[str, Box] = {"a": (0.0, 0.0, 1.0, 1.0)}
    out = tmp_path / "out"
    with pytest.raises(VectorError, match="no such file"):
        cut_extracts(tmp_path / "none.osm.pbf", box, out)
    source = write(tmp_path / "n.osm.pbf", {1: (0, 0)}, {}, {})
    with pytest.raises(VectorError, match="no boxes"):
        cut_extracts(source, {}, out)
    with pytest.raises(VectorError, match="is no box"):
        cut_extracts(source, {"a": (1.0, 0.0, 0.0, 1.0)}, out)
    torn = tmp_path / "torn.osm.pbf"
    torn.write_bytes(source.read_bytes()[:-9])
    with pytest.raises(VectorError, match="fetch it again"):
        cut_extracts(torn, box, out)
    disorder = tmp_path / "disorder.osm.pbf"
    with osmium.SimpleWriter(str(disorder)) as writer:
        for k in (2, 1):
            writer.add_node(mutable.Node(id=k, location=(0, 0)))
    with pytest.raises(VectorError, match="osmium sort"):
        cut_extracts(disorder, box, out)
    below = tmp_path / "below.osm.pbf"
    with osmium.SimpleWriter(str(below)) as writer:
        writer.add_node(mutable.Node(id=-5, location=(0, 0)))
    with pytest.raises(VectorError):
        cut_extracts(below, box, out)
    assert not out.exists()
    out.mkdir()
    (out / "diary.txt").write_text("mine")
    with pytest.raises(VectorError, match="other things"):
        cut_extracts(source, box, out)
    assert (out / "diary.txt").exists()
