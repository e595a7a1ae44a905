"""OpenStreetMap files in the order that readers need: nodes, ways, relations; one version each; ids above zero.

Overpass writes ways before nodes, or coordinates inside the ways; JOSM gives new objects ids below zero and keeps
deleted ones; history files hold all versions. libosmium finds no nodes for such ways, and says nothing.
"""

from __future__ import annotations

import bz2
import gzip
import re
from pathlib import Path
from typing import IO, Any, cast

import osmium

from pipeline.vectors.errors import VectorError
from pipeline.vectors.osm_xml import read_xml

BELOW_ZERO = 1 << 36
"""Added to the amount of ids below zero: far above the ids of OpenStreetMap, and still an id that libosmium takes."""
LARGEST_BYTES = 2 << 30
"""Files above this size are not put in order in memory."""

_XML = (".osm", ".osm.gz", ".osm.bz2", ".osh", ".osh.gz", ".osh.bz2")
_KINDS = (b"node", b"way", b"relation")
_OBJECT = re.compile(rb"<(node|way|relation)\s")
_MARKS = {
    rb"<(?:node|way|relation)\s[^>]*?\bid=[\"']-": "ids below zero, as JOSM gives them",
    rb"<(?:node|way|relation)\s[^>]*?\baction=[\"']delete": "objects that JOSM has marked as deleted",
    rb"<(?:node|way|relation)\s[^>]*?\bvisible=[\"']false": "deleted versions, as in a history",
    rb"<nd\s[^>]*?\blat=": "coordinates inside the ways, as Overpass writes them with `out geom`",
}
_CHANGES = re.compile(rb"<(osmChange|osmAugmentedDiff|diff|action)[\s>]")


def disorder(path: Path) -> str | None:  # noqa: PLR0911 -- one answer for each disorder
    """What keeps a file from being read as it is, in words; None where nothing does.

    Raises:
        VectorError: the file holds changes, not a map.
    """
    if path.name.lower().endswith(_XML):
        return _disorder_of_xml(path)
    with osmium.io.Reader(str(path)) as reader:
        header = reader.header()
        if header.has_multiple_object_versions:
            return "several versions of its objects (a history)"
        if str(header.get("sorting")) == "Type_then_ID":
            return None
    last = 0
    for obj in osmium.FileProcessor(str(path)):
        kind = 0 if obj.is_node() else 1 if obj.is_way() else 2
        if obj.id < 0:
            return "ids below zero"
        if kind < last:
            return "ways before nodes"
        last = kind
        if not obj.visible:
            return "deleted versions, as in a history"
    return None


def put_in_order(path: Path, out: Path, trouble: str) -> int:
    """Write the newest version of all objects of a file as a PBF in order, with ids above zero.

    Args:
        path: Any OpenStreetMap file.
        out: The PBF to be written.
        trouble: What is wrong with the order, for the message.

    Returns:
        How many objects stand in the file several times in one version but with different content.

    Raises:
        VectorError: the file is too large to be sorted in memory; names the command of osmium that does it on disk.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise VectorError(
            f"{path}: has {trouble}, and is too large to be put in order here; do it with `osmium time-filter` (a"
            f" history), `osmium renumber` (ids below zero) or else `osmium sort {path.name} -o sorted.osm.pbf`"
        )
    with osmium.SimpleWriter(str(out)) as writer:
        if path.name.lower().endswith(_XML):
            with opened(path) as file:
                found = read_xml(file)
            found.write(writer, BELOW_ZERO)
            return found.contradictions
        merge = osmium.MergeInputReader()
        merge.add_file(str(path))
        merge.apply(_Copy(writer), simplify=True)
    return 0


def opened(path: Path) -> IO[bytes]:
    """A file of text, unpacked where it is packed."""
    name = path.name.lower()
    if name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return bz2.open(path, "rb") if name.endswith(".bz2") else path.open("rb")


class _Copy(osmium.SimpleHandler):  # type: ignore[misc, unused-ignore]
    """Writes what it is shown, but for what was deleted."""

    def __init__(self, writer: Any) -> None:
        super().__init__()
        self._writer = writer

    def node(self, node: Any) -> None:
        if node.visible and node.location.valid():
            self._writer.add_node(node.replace(id=above_zero(node.id)))

    def way(self, way: Any) -> None:
        if way.visible:
            self._writer.add_way(way.replace(id=above_zero(way.id), nodes=[above_zero(n.ref) for n in way.nodes]))

    def relation(self, relation: Any) -> None:
        if relation.visible:
            members = [(m.type, above_zero(m.ref), m.role) for m in relation.members]
            self._writer.add_relation(relation.replace(id=above_zero(relation.id), members=members))


def above_zero(number: int) -> int:
    """An id above zero for any id."""
    return BELOW_ZERO - number if number < 0 else number


def _disorder_of_xml(path: Path) -> str | None:
    highest, rest = 0, b""
    with opened(path) as file:
        while piece := file.read(1 << 22):
            text = rest + piece
            if _CHANGES.search(text):
                raise VectorError(
                    f"{path}: holds changes (osmChange), not a map; apply them with `osmium apply-changes` and give the"
                    " result"
                )
            for mark, words in _MARKS.items():
                if re.search(mark, text):
                    return words
            for found in _OBJECT.finditer(text):
                kind = _KINDS.index(found[1])
                if kind < highest:
                    return "ways before nodes, as Overpass writes them"
                highest = kind
            cut = max(text.rfind(b"<"), len(text) - (1 << 16))
            rest = text[cut:] if cut > 0 else text[-(1 << 16) :]
    return None
