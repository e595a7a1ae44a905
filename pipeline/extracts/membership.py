"""What belongs to which extract: complete ways, complete multipolygons, and the relations of both.

The rule is that of the strategy "smart" of `osmium extract`: nodes in the box; ways with such a node, with all their
nodes; relations with such a node or way, and the relations that hold those; of the multipolygons that have such a node
or way, all nodes and ways, with all their nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import osmium
from numpy.typing import NDArray
from osmium.osm import osm_entity_bits as kinds

from pipeline.extracts.groups import Box, Boxes, Groups
from pipeline.extracts.relations import read_relations
from pipeline.vectors.errors import VectorError

Ids = NDArray[np.int64]
Numbers = NDArray[np.uint32]
Progress = Callable[[str, int], None]
_BATCH = 50_000
_CHUNK = 1 << 20
_RECORD = np.dtype([("id", "<i8"), ("x", "<i4"), ("y", "<i4")])


@dataclass(frozen=True)
class Membership:
    """The set of extracts of every object of a file, in the order of the file.

    Attributes:
        groups: What the numbers mean.
        nodes: Number per node (n,), in a file.
        ways: Number per way (w,).
        relations: Number per relation (r,).
    """

    groups: Groups
    nodes: Numbers
    ways: Numbers
    relations: Numbers


def membership(source: Path, boxes: Sequence[Box], folder: Path, progress: Progress) -> Membership:
    """Find out which extract each object of a file belongs to.

    Args:
        source: A PBF in the usual order.
        boxes: One per extract.
        folder: For temporary files, about 28 bytes for each node. Memory is needed for ways and relations alone.
        progress: Called with what was read and how many of them.

    Raises:
        VectorError: the file is not in the usual order.
    """
    groups = Groups()
    ids, nodes = _place_nodes(source, boxes, groups, folder)
    progress("nodes", len(ids))
    lookup = _Lookup(ids, nodes)
    extra: list[tuple[Ids, Numbers]] = []
    way_ids, ways = _place_ways(source, lookup, groups, extra)
    progress("ways", len(ways))
    relations = read_relations(source)
    direct = relations.touching(groups, nodes=lookup.sets_of, ways=_Lookup(way_ids, ways).sets_of)
    more_nodes, more_ways = relations.completing(direct)
    extra.append(lookup.places_of(*more_nodes))
    added = _Lookup(way_ids, ways).places_of(*more_ways)
    extra += _nodes_of(source, way_ids, added, lookup)
    _add(ways, [added], groups)
    _add(nodes, extra, groups)
    progress("relations", len(direct))
    return Membership(groups, nodes, ways, relations.with_parents(direct, groups))


@dataclass(frozen=True)
class _Lookup:
    """Objects by their ids, which rise; numbers of sets beside them."""

    ids: Ids
    sets: Numbers

    def places(self, ids: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """Place of each id (n,), and whether it is there at all."""
        if not len(self.ids):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return at, np.asarray(self.ids[at] == ids)

    def sets_of(self, ids: Ids) -> Numbers:
        """Number of the set of each id (n,); 0 where it is not there."""
        return self.sets_at(*self.places(ids))

    def sets_at(self, at: Ids, there: NDArray[np.bool_]) -> Numbers:
        """Number of the set at each place (n,); 0 where nothing is."""
        numbers = np.zeros(len(at), np.uint32)
        numbers[there] = self.sets[at[there]]
        return numbers

    def places_of(self, ids: Ids, numbers: Numbers) -> tuple[Ids, Numbers]:
        """Places and numbers of those ids that are there and not already in just that set."""
        at, there = self.places(ids)
        keep = there & (numbers != 0)
        keep[keep] = self.sets[at[keep]] != numbers[keep]
        return at[keep], numbers[keep]


def _place_nodes(source: Path, boxes: Sequence[Box], groups: Groups, folder: Path) -> tuple[Ids, Numbers]:
    """Ids of all nodes and the number of the set of boxes that each lies in."""
    file = folder / "places"
    table = osmium.index.create_map(f"sparse_file_array,{file}")
    with osmium.io.Reader(str(source), kinds.NODE) as reader:
        osmium.apply(reader, osmium.NodeLocationsForWays(table))
    del table
    records = np.memmap(file, _RECORD, "r") if file.stat().st_size else np.zeros(0, _RECORD)
    count = _used(records["id"])
    ids = np.memmap(folder / "ids", np.int64, "w+", shape=(max(count, 1),))[:count]
    sets = np.memmap(folder / "sets", np.uint32, "w+", shape=(max(count, 1),))[:count]
    index, last = Boxes(boxes, groups), 0
    for start in range(0, count, _CHUNK):
        part = np.array(records[start : min(start + _CHUNK, count)])
        if part["id"][0] <= last or (np.diff(part["id"]) <= 0).any():
            raise VectorError(
                f"{source}: its nodes are not in the order of their ids; `osmium sort` puts them in order"
            )
        last = int(part["id"][-1])
        ids[start : start + len(part)] = part["id"]
        sets[start : start + len(part)] = index.of_points(part["x"], part["y"])
    del records
    file.unlink()
    return ids, sets


def _used(ids: Ids) -> int:
    """How many places of a table are in use: it grows in steps, and the ids of unused places are 0."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if ids[middle] else (low, middle)
    return low


def _place_ways(source: Path, nodes: _Lookup, groups: Groups, extra: list[tuple[Ids, Numbers]]) -> tuple[Ids, Numbers]:
    """Ids of all ways and the number of each one's set; what their other nodes gain goes into ``extra``."""
    ids: list[Ids] = []
    sets: list[Numbers] = []
    for part, owners, refs in _ways(osmium.FileProcessor(str(source), kinds.WAY)):
        at, there = nodes.places(refs)
        of_nodes = nodes.sets_at(at, there)
        found = np.zeros(len(part), np.uint32)
        rows, numbers = groups.unions(owners, of_nodes)
        found[rows] = numbers
        gain = there & (found[owners] != of_nodes)
        extra.append(_distinct(at[gain], found[owners[gain]]))
        ids.append(part)
        sets.append(found)
    all_ids = np.concatenate(ids) if ids else np.zeros(0, np.int64)
    if (np.diff(all_ids) <= 0).any():
        raise VectorError(f"{source}: its ways are not in the order of their ids; `osmium sort` puts them in order")
    return all_ids, np.concatenate(sets) if sets else np.zeros(0, np.uint32)


def _nodes_of(source: Path, way_ids: Ids, added: tuple[Ids, Numbers], nodes: _Lookup) -> list[tuple[Ids, Numbers]]:
    """What the nodes gain of ways that gained sets themselves."""
    wanted, numbers = added
    if not len(wanted):
        return []
    order = np.lexsort((numbers, wanted))
    wanted, numbers = way_ids[wanted[order]], numbers[order]
    chosen = osmium.filter.IdFilter(np.unique(wanted).tolist())
    result = []
    for part, owners, refs in _ways(osmium.FileProcessor(str(source), kinds.WAY).with_filter(chosen)):
        first, stop = np.searchsorted(wanted, part), np.searchsorted(wanted, part, "right")
        for nth in range(int((stop - first).max())):  # a way may be completed for several multipolygons
            has = (first + nth < stop)[owners]
            result.append(nodes.places_of(refs[has], numbers[(first + nth)[owners[has]]]))
    return result


def _ways(processor: osmium.FileProcessor) -> Iterator[tuple[Ids, Ids, Ids]]:
    """Ids of some ways (w,), and for all their nodes the row of the way (n,) and the id of the node (n,)."""
    ids: list[int] = []
    counts: list[int] = []
    refs: list[int] = []
    for way in processor:
        before = len(refs)
        refs += [node.ref for node in way.nodes]
        ids.append(way.id)
        counts.append(len(refs) - before)
        if len(ids) == _BATCH:
            yield _as_arrays(ids, counts, refs)
            ids, counts, refs = [], [], []
    if ids:
        yield _as_arrays(ids, counts, refs)


def _as_arrays(ids: list[int], counts: list[int], refs: list[int]) -> tuple[Ids, Ids, Ids]:
    return np.array(ids, np.int64), np.repeat(np.arange(len(ids)), counts), np.array(refs, np.int64)


def _distinct(places: Ids, numbers: Numbers) -> tuple[Ids, Numbers]:
    keys = np.unique((places << 32) | numbers.astype(np.int64))
    return keys >> 32, (keys & 0xFFFFFFFF).astype(np.uint32)


def _add(sets: Numbers, more: list[tuple[Ids, Numbers]], groups: Groups) -> None:
    """Give the objects at some places the sets beside them too."""
    places = np.concatenate([np.zeros(0, np.int64), *(p for p, _ in more)])
    numbers = np.concatenate([np.zeros(0, np.uint32), *(n for _, n in more)])
    own = np.unique(places)
    rows, united = groups.unions(np.concatenate([own, places]), np.concatenate([sets[own], numbers]))
    sets[rows] = united
