"""Hazard: OpenStreetMap files of any origin: the same map, whatever the order, the ids or the place of coordinates."""

import bz2
import gzip
import itertools
import json
import random
import re

import osmium
import pytest
import shapely
from osmium.osm import mutable

from pipeline.vectors import VectorError, read_features

UTM = "EPSG:32650"
SQUARES = {
    1: [(0, 0), (10, 0), (10, 10), (0, 10)],
    2: [(2, 2), (8, 2), (8, 8), (2, 8)],
    3: [(20, 0), (30, 0), (30, 10), (20, 10)],
}


def place(x, y):
    return 117 + x * 1e-5, 30 + y * 1e-5


def elements(*, sign=1, inline=False):
    """Nodes, ways and relations: a house with a yard (relation r1 of w1, w2), a house w3, a road w4, a cafe n99."""
    nodes, ways = [], []
    for way, corners in SQUARES.items():
        refs = []
        for k, (x, y) in enumerate(corners):
            ref, (lon, lat) = sign * (10 * way + k), place(x, y)
            refs.append((ref, lon, lat))
            nodes.append(f'<node id="{ref}" version="1" lat="{lat:.7f}" lon="{lon:.7f}"/>')
        tags = {3: '<tag k="building" v="house"/>'}.get(way, "")
        ways.append((sign * way, [*refs, refs[0]], tags))
    road = [(sign * 10, *place(0, 0)), (sign * 30, *place(20, 0))]
    ways.append((sign * 4, road, '<tag k="highway" v="service"/>'))
    lon, lat = place(5, 5)
    nodes.append(
        f'<node id="{sign * 99}" version="1" lat="{lat:.7f}" lon="{lon:.7f}"><tag k="amenity" v="cafe"/></node>'
    )
    texts = [
        f'<way id="{number}" version="1">'
        + "".join(f'<nd ref="{r}"' + (f' lat="{la:.7f}" lon="{lo:.7f}"' if inline else "") + "/>" for r, lo, la in refs)
        + f"{tags}</way>"
        for number, refs, tags in ways
    ]
    members = "".join(
        f'<member type="way" ref="{number}" role="{role}">'
        + ("".join(f'<nd lat="{la:.7f}" lon="{lo:.7f}"/>' for _, lo, la in refs) if inline else "")
        + "</member>"
        for (number, refs, _), role in zip(ways[:2], ("outer", "inner"), strict=True)
    )
    tags = '<tag k="type" v="multipolygon"/><tag k="building" v="yes"/>'
    relation = f'<relation id="{sign}" version="1">{members}{tags}</relation>'
    return nodes, texts, [relation]


def document(*parts, root="osm"):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} version="0.6">\n'
        + "\n".join(itertools.chain(*parts))
        + f"\n</{root}>"
    )


def written(tmp_path, text, name="map.osm"):
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(
        gzip.compress(data) if name.endswith("gz") else bz2.compress(data) if name.endswith("bz2") else data
    )
    return path


def content(path, **options):
    """Type, tags, area and length of the features, without their ids."""
    features = read_features(path, crs=UTM, bounds_m=None, **options)
    found = [
        (g.geom_type, t, round(g.area, 2), round(g.length, 2), len(getattr(g, "interiors", ())))
        for g, t in zip(features.table.geometry, features.table["tags"], strict=True)
    ]
    return sorted(found), features


@pytest.fixture
def expected(tmp_path):
    found, features = content(written(tmp_path, document(*elements()), "normal.osm"))
    assert [f[0] for f in found] == ["LineString", "Point", "Polygon", "Polygon"]
    assert sum(f[4] for f in found) == 1
    assert "files_put_in_order" not in features.counts
    return found


ORDERS = {
    "overpass": (2, 1, 0),
    "ways_first": (1, 0, 2),
    "relations_first": (2, 0, 1),
    "ways_relations_nodes": (1, 2, 0),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("name", ["map.osm", "map.osm.gz", "map.osm.bz2"])
def test_any_order_of_kinds(tmp_path, expected, order, name):
    parts = elements()
    found, features = content(written(tmp_path, document(*(parts[k] for k in order)), name))
    assert found == expected
    assert "r1" in set(features.table["source_id"])


@pytest.mark.parametrize("seed", range(5))
def test_objects_in_any_order(tmp_path, expected, seed):
    items = [*itertools.chain(*elements())]
    random.Random(seed).shuffle(items)
    assert content(written(tmp_path, document(items)))[0] == expected


@pytest.mark.parametrize("seed", range(3))
def test_unsorted_ids_within_a_kind(tmp_path, expected, seed):
    parts = elements()
    for part in parts:
        random.Random(seed).shuffle(part)
    assert content(written(tmp_path, document(*parts)))[0] == expected


def test_ids_below_zero(tmp_path, expected):
    found, features = content(written(tmp_path, document(*elements(sign=-1))))
    assert found == expected
    assert set(features.table["source_id"]) == {"n-99", "w-3", "w-4", "r-1"}


def test_ids_below_zero_of_two_files_are_different_objects(tmp_path):
    one = written(tmp_path, document(*elements(sign=-1)), "one.osm")
    moved = re.sub(r'lat="30\.', 'lat="31.', document(*elements(sign=-1)))
    features = read_features([one, written(tmp_path, moved, "two.osm")], crs=UTM, bounds_m=None)
    assert len(features.table) == 8


def test_what_josm_marked_as_deleted_is_gone(tmp_path):
    text = document(*elements()).replace('<way id="3"', '<way id="3" action="delete"')
    found, _ = content(written(tmp_path, text))
    assert [f[0] for f in found] == ["LineString", "Point", "Polygon"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_coordinates_inside_the_ways(tmp_path, expected, order):
    parts = elements(inline=True)
    parts = ([n for n in parts[0] if "tag" in n], parts[1], parts[2])
    assert content(written(tmp_path, document(*(parts[k] for k in order))))[0] == expected


def test_coordinates_inside_a_relation_whose_ways_are_not_there(tmp_path, expected):
    _, ways, relations = elements(inline=True)
    found, _ = content(written(tmp_path, document(ways[2:], relations)))
    assert found == [f for f in expected if f[0] != "Point"]


def test_an_object_given_with_its_tags_and_again_without(tmp_path, expected):
    """Overpass with `out body; >; out skel;` repeats objects without their tags."""
    parts = elements()
    bare = [re.sub(r"<tag [^>]*/>", "", item) for item in [*itertools.chain(*parts)]]
    assert content(written(tmp_path, document([*itertools.chain(*parts)], bare)))[0] == expected


def test_two_objects_of_one_id_are_warned_of(tmp_path):
    nodes, ways, relations = elements()
    twice = [w.replace('id="4"', 'id="3"') for w in ways]
    _, features = content(written(tmp_path, document(nodes, twice, relations)))
    assert features.warnings[0].startswith("map.osm: 1 objects stand in it several times")


@pytest.mark.parametrize("name", ["map.osm", "map.osh", "map.osh.gz"])
def test_history_gives_the_newest_version(tmp_path, expected, name):
    nodes, ways, relations = elements()
    old = [w.replace('v="house"', 'v="shed"') for w in ways if 'v="house"' in w]
    gone = [
        (
            '<way id="77" version="1"><nd ref="10"/><nd ref="11"/><nd ref="12"/><nd ref="10"/>'
            '<tag k="building" v="yes"/></way>'
        ),
        '<way id="77" version="2" visible="false"/>',
    ]
    newer = [w.replace('version="1"', 'version="2"') for w in ways if 'v="house"' in w]
    rest = [w for w in ways if 'v="house"' not in w]
    assert content(written(tmp_path, document(nodes, old, newer, rest, gone, relations), name))[0] == expected


def test_history_as_pbf_gives_the_newest_version(tmp_path, expected):
    nodes, ways, relations = elements()
    old = [w.replace('v="house"', 'v="shed"') for w in ways if 'v="house"' in w]
    newer = [w.replace('version="1"', 'version="2"') for w in ways if 'v="house"' in w]
    rest = [w for w in ways if 'v="house"' not in w]
    source = written(tmp_path, document(nodes, old, newer, rest, relations), "h.osh")
    path = tmp_path / "map.osh.pbf"
    with osmium.SimpleWriter(str(path)) as out:
        for obj in osmium.FileProcessor(str(source)):
            out.add(obj)
    assert content(path)[0] == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_pbf_with_ways_before_nodes_or_ids_below_zero(tmp_path, expected, sign):
    source = written(tmp_path, document(*elements(sign=sign)), "source.osm")
    path = tmp_path / "map.osm.pbf"
    objects = {"n": [], "w": [], "r": []}
    for obj in osmium.FileProcessor(str(source)):
        kind = "n" if obj.is_node() else "w" if obj.is_way() else "r"
        copy = {
            "n": lambda o: mutable.Node(o, location=(o.lon, o.lat), tags=dict(o.tags)),
            "w": lambda o: mutable.Way(o, nodes=[n.ref for n in o.nodes], tags=dict(o.tags)),
            "r": lambda o: mutable.Relation(o, members=[(m.type, m.ref, m.role) for m in o.members], tags=dict(o.tags)),
        }[kind](obj)
        copy.id = obj.id
        objects[kind].append(copy)
    with osmium.SimpleWriter(str(path)) as out:
        for kind, add in (("w", out.add_way), ("r", out.add_relation), ("n", out.add_node)):
            for item in objects[kind]:
                add(item)
    assert content(path)[0] == expected


def test_changes_are_no_map(tmp_path):
    path = written(tmp_path, document(["<create>"], *elements(), ["</create>"], root="osmChange"), "c.osm")
    with pytest.raises(VectorError, match=r"c\.osm: holds changes.*osmium apply-changes"):
        read_features(path, crs=UTM, bounds_m=None)


def test_a_file_too_large_to_be_put_in_order_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.vectors.osm_order.LARGEST_BYTES", 10)
    path = written(tmp_path, document(*reversed(elements())))
    with pytest.raises(VectorError, match=r"map\.osm: has ways before nodes.*osmium sort map\.osm"):
        read_features(path, crs=UTM, bounds_m=None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.osm", document(['<way id="1"><center lat="30" lon="117"/><tag k="building" v="yes"/></way>'])),
        ("a.json", '{"version": 0.6, "generator": "Overpass API", "elements": []}'),
    ],
)
def test_answers_of_overpass_without_outlines_name_the_right_question(tmp_path, name, text):
    with pytest.raises(VectorError, match=r"out body; >; out skel qt;"):
        read_features(written(tmp_path, text, name), crs=UTM, bounds_m=None)


def test_ways_whose_nodes_are_nowhere_are_refused_with_the_reason(tmp_path):
    _, ways, _ = elements()
    path = written(tmp_path, document(ways))
    with pytest.raises(VectorError, match="2 features read and none left"):
        read_features(path, crs=UTM, bounds_m=None)


def test_a_large_share_of_ways_without_nodes_is_warned_of(tmp_path):
    nodes, ways, _ = elements()
    _, features = content(written(tmp_path, document(nodes[8:], ways)))
    assert any("ways" in w and "osmium extract" in w for w in features.warnings) or features.warnings == ()
    _, features = content(written(tmp_path, document(nodes[:4] + nodes[-1:], ways)))
    assert any("osmium extract" in w for w in features.warnings)


class TestOneBuildingTwice:
    """A building drawn by a relation, whose outer way is tagged as well."""

    def read(self, tmp_path, way_tags, relation_tags, order=(0, 1, 2)):
        nodes, ways, _ = elements()
        tag = lambda tags: "".join(f'<tag k="{k}" v="{v}"/>' for k, v in tags.items())  # noqa: E731
        outer = ways[0].replace("</way>", f"{tag(way_tags)}</way>")
        relation = (
            '<relation id="1" version="1">'
            '<member type="way" ref="1" role="outer"/><member type="way" ref="2" role="inner"/>'
            f'<tag k="type" v="multipolygon"/>{tag(relation_tags)}</relation>'
        )
        parts = (nodes[:8], [outer, ways[1]], [relation])
        features = read_features(written(tmp_path, document(*(parts[k] for k in order))), crs=UTM, bounds_m=None)
        rows = zip(features.table["source_id"], features.table["tags"], features.table.geometry, strict=True)
        return {i: (json.loads(t), len(g.interiors)) for i, t, g in rows}, features.counts

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
    def test_both_tagged_counts_once_with_its_hole(self, tmp_path, order):
        found, counts = self.read(tmp_path, {"building": "yes"}, {"building": "yes"}, order)
        assert found == {"r1": ({"building": "yes"}, 1)}
        assert counts["read"] == counts["kept"] + counts["outlines_of_relations"]

    def test_tags_of_both_are_kept_and_the_relation_goes_first(self, tmp_path):
        found, _ = self.read(tmp_path, {"building": "yes", "height": "9"}, {"building": "school"})
        assert found == {"r1": ({"building": "school", "height": "9"}, 1)}

    def test_an_untagged_relation_takes_the_tags_of_its_outer_way(self, tmp_path):
        found, counts = self.read(tmp_path, {"building": "yes"}, {})
        assert found == {"r1": ({"building": "yes"}, 1)}
        assert "multipolygons_not_closed" not in counts
        assert counts["read"] == counts["kept"] + counts["outlines_of_relations"]

    def test_an_untagged_relation_of_untagged_ways_is_not_called_unclosed(self, tmp_path):
        nodes, ways, relations = elements()
        bare = [relations[0].replace('<tag k="building" v="yes"/>', "")]
        _, features = content(written(tmp_path, document(nodes, ways, bare)))
        assert "multipolygons_not_closed" not in features.counts
        assert features.counts["relations_untagged"] == 1

    def test_different_things_of_one_outline_are_both_kept(self, tmp_path):
        found, _ = self.read(tmp_path, {"building": "yes"}, {"landuse": "residential"})
        assert found == {"w1": ({"building": "yes"}, 0), "r1": ({"landuse": "residential"}, 1)}

    def test_buildings_in_the_yard_stay(self, tmp_path):
        nodes, ways, relations = elements()
        inner = ways[1].replace("</way>", '<tag k="building" v="yes"/></way>')
        _, features = content(written(tmp_path, document(nodes, [ways[0], inner, *ways[2:]], relations)))
        assert {"w2", "r1", "w3"} <= set(features.table["source_id"])


@pytest.mark.shared
class TestCases:
    @pytest.mark.parametrize("name", ["normal", "overpass_order", "josm_negative", "out_geom"])
    def test_osm_order(self, shared, name):
        features = read_features(shared / f"cases/03-osm-order/{name}.osm", crs="EPSG:32649", bounds_m=None)
        tags = [json.loads(t) for t in features.table["tags"]]
        assert sum("building" in t for t in tags) == 20
        assert sum("highway" in t for t in tags) == 1
        assert sum("landuse" in t for t in tags) == 1
        reference = read_features(shared / "cases/03-osm-order/normal.osm", crs="EPSG:32649", bounds_m=None)
        moved = shapely.union_all(features.table.geometry.to_numpy()) ^ shapely.union_all(
            reference.table.geometry.to_numpy()
        )
        assert moved.area < 1

    def test_way_and_relation(self, shared):
        features = read_features(shared / "cases/03-osm-order/mp_both.osm", crs="EPSG:32649", bounds_m=None)
        assert len(features.table) == 1
        house = features.table.geometry.iloc[0]
        assert house.area == pytest.approx(3199, abs=1)
        assert len(house.interiors) == 1
