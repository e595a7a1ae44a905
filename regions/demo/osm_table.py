"""The vector side of a demo city: one table of OpenStreetMap features, as a PBF file or as a GeoDataFrame."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import osmium
import shapely
from numpy.typing import NDArray
from osmium.osm import mutable

from regions.demo.block import make_block
from regions.demo.canvas import OsmDraft, Parcel
from regions.demo.frame import OSM_UNITS, Frame
from regions.demo.layout import District, Layout
from regions.demo.shapes import Floats

PBF_NAME = "demo.osm.pbf"
OSM_DATE = "2023-06-01"
_NODE, _WAY, _AREA, _RELATION = 0, 1, 2, 3
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class OsmTable:
    """All OSM features of a city, nodes first, then ways, then multipolygon relations.

    Attributes:
        kind: 0 node, 1 line way, 2 area way, 3 multipolygon relation, (f,), ascending but for 1 and 2.
        tag_set: Index into ``tag_sets`` (f,).
        tag_sets: Canonical JSON of each distinct set of tags.
        ring_count: Rings of each feature (f,), 1 but for relations: outer ring, then inner ones.
        ring_size: Points of each ring, closing point left out.
        units: Longitude and latitude of every point in 1e-7 degree.
    """

    kind: NDArray[np.int8]
    tag_set: NDArray[np.int32]
    tag_sets: tuple[str, ...]
    ring_count: NDArray[np.int32]
    ring_size: NDArray[np.int32]
    units: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kind)

    def source_ids(self) -> list[str]:
        """OSM identifiers ("n12", "w3", "r1") of the features, as :func:`write_pbf` gives them."""
        nodes, ways, relations = self.counts
        return (
            [f"n{k + 1}" for k in range(nodes)]
            + [f"w{k + 1}" for k in range(ways)]
            + [f"r{k + 1}" for k in range(relations)]
        )

    @property
    def counts(self) -> tuple[int, int, int]:
        """Numbers of tagged nodes, of ways and of relations."""
        nodes, relations = int((self.kind == _NODE).sum()), int((self.kind == _RELATION).sum())
        return nodes, len(self) - nodes - relations, relations


@dataclass(frozen=True)
class Vectors:
    """All vector content of a city.

    Attributes:
        osm: What OpenStreetMap has.
        villages: District and true outline of each urban village, in local metres.
        parcels: District and parcel of each piece of land cover, in local metres.
    """

    osm: OsmTable
    villages: tuple[tuple[District, shapely.Polygon], ...]
    parcels: tuple[tuple[District, Parcel], ...]


def collect_vectors(layout: Layout, frame: Frame, *, progress: Progress | None = None) -> Vectors:
    """Draw every superblock once and keep its features, its villages and its parcels.

    Args:
        layout: Plan of the city.
        frame: Its place.
        progress: Called with (superblock rows done, all rows).
    """
    interned: dict[str, int] = {}
    kind: list[int] = []
    tag_set: list[int] = []
    ring_count: list[int] = []
    ring_size: list[int] = []
    units: list[NDArray[np.int64]] = []
    villages: list[tuple[District, shapely.Polygon]] = []
    parcels: list[tuple[District, Parcel]] = []
    for row in range(layout.n):
        points: list[Floats] = []
        for col in range(layout.n):
            block = make_block(layout, row, col)
            district = layout.districts[int(layout.district_of[row, col])]
            villages.extend((district, polygon) for polygon in block.villages)
            parcels.extend((district, parcel) for parcel in block.parcels)
            for draft in block.osm:
                text = canonical_tags(draft.tags)
                tag_set.append(interned.setdefault(text, len(interned)))
                kind.append(_kind(draft))
                rings = (draft.ring, *draft.holes)
                ring_count.append(len(rings))
                ring_size.extend(len(r) for r in rings)
                points.extend(rings)
        if points:
            units.append(frame.to_osm_units(np.concatenate(points)))
        if progress is not None:
            progress(row + 1, layout.n)
    table = OsmTable(
        np.array(kind, np.int8), np.array(tag_set, np.int32), tuple(interned), np.array(ring_count, np.int32),
        np.array(ring_size, np.int32), np.concatenate(units) if units else np.zeros((0, 2), np.int64),
    )  # fmt: skip
    rank = np.where(table.kind == _AREA, _WAY, table.kind)
    return Vectors(_taken(table, np.argsort(rank, kind="stable")), tuple(villages), tuple(parcels))


def canonical_tags(tags: dict[str, str]) -> str:
    """Tags as the one JSON text that all modules compare: keys sorted, no escapes."""
    return json.dumps(tags, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _kind(draft: OsmDraft) -> int:
    if draft.holes:
        return _RELATION
    return {"node": _NODE, "way": _WAY, "area": _AREA}[draft.kind]


def _spans(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The indices start, start + 1, ... of every span, one after the other."""
    total = int(sizes.sum())
    skipped = np.repeat(starts - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
    return np.asarray(np.arange(total) + skipped)


def _taken(table: OsmTable, order: NDArray[np.int64]) -> OsmTable:
    counts, sizes = table.ring_count.astype(np.int64), table.ring_size.astype(np.int64)
    ring_start = np.concatenate([[0], np.cumsum(counts)])[:-1]
    rings = _spans(ring_start[order], counts[order])
    point_start = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    points = _spans(point_start[rings], sizes[rings])
    return OsmTable(
        table.kind[order], table.tag_set[order], table.tag_sets, table.ring_count[order], table.ring_size[rings],
        table.units[points],
    )  # fmt: skip


def to_geodataframe(table: OsmTable, frame: Frame) -> gpd.GeoDataFrame:
    """The features as the pipeline's readers give them, in the city's CRS.

    Returns:
        Columns geometry, tags (canonical JSON), source_id, source, source_date.
    """
    xy = frame.from_osm_units(table.units)
    sizes = table.ring_size.astype(np.int64)
    first_ring = np.concatenate([[0], np.cumsum(table.ring_count)])[:-1].astype(np.int64)
    start = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    geometry = np.empty(len(table), object)
    nodes = np.flatnonzero(table.kind == _NODE)
    geometry[nodes] = shapely.points(xy[start[first_ring[nodes]]])
    lines = np.flatnonzero(table.kind == _WAY)
    ring = first_ring[lines]
    geometry[lines] = shapely.linestrings(
        xy[_spans(start[ring], sizes[ring])], indices=np.repeat(np.arange(len(lines)), sizes[ring])
    )
    areas = np.flatnonzero(table.kind >= _AREA)
    counts = table.ring_count[areas].astype(np.int64)
    ring = _spans(first_ring[areas], counts)
    closed = sizes[ring] + 1
    at = _spans(start[ring], closed)
    ends = np.cumsum(closed) - 1
    at[ends] = start[ring]
    rings = shapely.linearrings(xy[at], indices=np.repeat(np.arange(len(ring)), closed))
    geometry[areas] = shapely.polygons(rings, indices=np.repeat(np.arange(len(areas)), counts))
    tags = np.array(table.tag_sets, object)
    return gpd.GeoDataFrame(
        {
            "tags": tags[table.tag_set] if len(table) else [],
            "source_id": table.source_ids(),
            "source": PBF_NAME,
            "source_date": OSM_DATE,
        },
        geometry=geometry,
        crs=frame.crs,
    )[["geometry", "tags", "source_id", "source", "source_date"]]


def write_pbf(table: OsmTable, path: Path, *, progress: Progress | None = None) -> None:
    """Write the features as an OSM PBF file; ways that meet in a point share its node.

    The file holds no time of writing: the same table gives the same bytes.
    """
    nodes, _, _ = table.counts
    keys = (table.units[:, 0] + 1_800_000_000) * 2_000_000_000 + table.units[:, 1] + 900_000_000
    vertex_keys, vertex = np.unique(keys[nodes:], return_inverse=True)
    refs = vertex + nodes + 1
    tags = [json.loads(text) for text in table.tag_sets]
    header = osmium.io.Header()
    header.set("generator", "uvmap demo city")
    header.set("osmosis_replication_timestamp", f"{OSM_DATE}T00:00:00Z")
    path.unlink(missing_ok=True)
    with osmium.SimpleWriter(str(path), header=header) as writer:
        for k in range(nodes):
            location = (table.units[k] / OSM_UNITS).tolist()
            writer.add_node(mutable.Node(id=k + 1, version=1, location=location, tags=tags[table.tag_set[k]]))
        lon, lat = vertex_keys // 2_000_000_000 - 1_800_000_000, vertex_keys % 2_000_000_000 - 900_000_000
        for k, location in enumerate(np.stack([lon / OSM_UNITS, lat / OSM_UNITS], axis=1).tolist()):
            writer.add_node(mutable.Node(id=nodes + 1 + k, version=1, location=location))
        _write_ways(writer, table, refs, tags, progress)


def _write_ways(
    writer: osmium.SimpleWriter,
    table: OsmTable,
    refs: NDArray[np.int64],
    tags: list[dict[str, str]],
    progress: Progress | None,
) -> None:
    """Ways, then the untagged rings of the relations as ways, then the relations."""
    nodes, ways, _ = table.counts
    ring_end = np.cumsum(table.ring_size.astype(np.int64)) - nodes
    ring, start, way_id = nodes, 0, 1
    members: list[list[tuple[str, int, str]]] = []
    for k in range(nodes, len(table)):
        kind, roles = int(table.kind[k]), []
        for part in range(int(table.ring_count[k])):
            end = int(ring_end[ring])
            points = refs[start:end].tolist()
            if kind != _WAY:
                points.append(points[0])
            tagged = {} if kind == _RELATION else tags[table.tag_set[k]]
            writer.add_way(mutable.Way(id=way_id, version=1, nodes=points, tags=tagged))
            roles.append(("w", way_id, "inner" if part else "outer"))
            ring, start, way_id = ring + 1, end, way_id + 1
        if kind == _RELATION:
            members.append(roles)
        if progress is not None and k % 50_000 == 0:
            progress(k, len(table))
    for k, roles in enumerate(members):
        tagged = {"type": "multipolygon", **tags[table.tag_set[nodes + ways + k]]}
        writer.add_relation(mutable.Relation(id=k + 1, version=1, members=roles, tags=tagged))
    if progress is not None:
        progress(len(table), len(table))
