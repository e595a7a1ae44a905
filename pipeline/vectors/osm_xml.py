"""OpenStreetMap XML of any kind, read into memory: any order of objects, any ids, several versions, inline geometry."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from osmium.osm import mutable

_KINDS = ("node", "way", "relation")


@dataclass
class _Object:
    """The newest version of an object, as far as it was read."""

    version: int
    exists: bool
    tags: dict[str, str]
    place: tuple[float, float] | None = None
    nodes: list[int] = field(default_factory=list)
    members: list[tuple[str, int, str]] = field(default_factory=list)


@dataclass
class OsmXml:
    """The objects of a file by kind and id, and how many stand in it twice with different content."""

    objects: dict[str, dict[int, _Object]] = field(default_factory=lambda: {kind: {} for kind in _KINDS})
    places: dict[tuple[float, float], int] = field(default_factory=dict)
    inline_ways: dict[int, list[int]] = field(default_factory=dict)
    contradictions: int = 0

    def write(self, writer: Any, below_zero: int) -> None:
        """Write nodes, ways and relations in the order of their ids; an id of -k becomes ``below_zero`` + k."""
        for ref, nodes in self.inline_ways.items():
            if ref not in self.objects["way"]:
                self.objects["way"][ref] = _Object(0, exists=True, tags={}, nodes=nodes)

        def above(number: int) -> int:
            return below_zero - number if number < 0 else number

        for number, node in self._in_order("node", above):
            if node.place is not None:
                writer.add_node(mutable.Node(id=number, location=node.place, tags=node.tags))
        for number, way in self._in_order("way", above):
            writer.add_way(mutable.Way(id=number, nodes=[above(n) for n in way.nodes], tags=way.tags))
        for number, relation in self._in_order("relation", above):
            members = [(kind, above(ref), role) for kind, ref, role in relation.members]
            writer.add_relation(mutable.Relation(id=number, members=members, tags=relation.tags))

    def take(self, element: ET.Element) -> None:
        """Take in an element of a node, way or relation."""
        number = int(element.attrib["id"])
        new = _Object(
            version=int(element.get("version") or 0),
            exists=element.get("visible") != "false" and element.get("action") != "delete",
            tags={tag.attrib["k"]: tag.get("v", "") for tag in element.iterfind("tag")},
            place=_place(element),
            nodes=[self._node(nd) for nd in element.iterfind("nd")],
            members=[self._member(m) for m in element.iterfind("member")],
        )
        known = self.objects[element.tag].get(number)
        if known is not None and new.version == known.version:
            self.contradictions += _contradict(new, known)
            # Overpass gives an object twice, once with its tags and once with its place (`out body; >; out skel;`)
            new = _Object(
                version=new.version,
                exists=new.exists and known.exists,
                tags=new.tags or known.tags,
                place=new.place or known.place,
                nodes=new.nodes or known.nodes,
                members=new.members or known.members,
            )
        if known is None or new.version >= known.version:
            self.objects[element.tag][number] = new

    def _in_order(self, kind: str, above: Any) -> Iterator[tuple[int, _Object]]:
        found = ((above(number), item) for number, item in self.objects[kind].items() if item.exists)
        return iter(sorted(found, key=lambda pair: pair[0]))

    def _node(self, nd: ET.Element) -> int:
        """The node of a way; one that is given by its place alone gets an id of its own."""
        place, ref = _place(nd), nd.get("ref")
        if ref is not None:
            if place is not None and int(ref) not in self.objects["node"]:
                self.objects["node"][int(ref)] = _Object(-1, exists=True, tags={}, place=place)
            return int(ref)
        if place is None:
            return 0
        number = self.places.setdefault(place, -(1 << 34) - len(self.places))
        self.objects["node"].setdefault(number, _Object(-1, exists=True, tags={}, place=place))
        return number

    def _member(self, member: ET.Element) -> tuple[str, int, str]:
        ref = int(member.attrib["ref"])
        nodes = [self._node(nd) for nd in member.iterfind("nd")]
        if nodes and member.attrib["type"] == "way":
            self.inline_ways[ref] = nodes
        return member.attrib["type"][0], ref, member.get("role", "")


def read_xml(file: IO[bytes]) -> OsmXml:
    """Read a file.

    Raises:
        ValueError: it is no XML, or not of OpenStreetMap.
    """
    found = OsmXml()
    depth = 0
    try:
        for event, element in ET.iterparse(file, events=("start", "end")):  # noqa: S314 - see above
            depth += 1 if event == "start" else -1
            if event == "end" and depth == 1:
                if element.tag in _KINDS:
                    found.take(element)
                element.clear()
    except (ET.ParseError, KeyError) as error:
        raise ValueError(f"no OpenStreetMap XML: {error}") from error
    return found


def _contradict(a: _Object, b: _Object) -> bool:
    """Whether two readings of one version of an object say different things of it."""
    pairs = ((a.tags, b.tags), (a.place, b.place), (a.nodes, b.nodes), (a.members, b.members))
    return any(one and other and one != other for one, other in pairs)


def _place(element: ET.Element) -> tuple[float, float] | None:
    lon, lat = element.get("lon"), element.get("lat")
    return None if lon is None or lat is None else (float(lon), float(lat))
