"""OpenStreetMap files (.osm.pbf, .osm, .osm.gz, .osm.bz2, .osh) as raw features in lon/lat.

Nodes with tags are points, ways are lines or, where closed and tagged as areas are, polygons, and multipolygon and
boundary relations are polygons. Untagged objects are passed over in C++; geometry is handed over as WKB and parsed
in bulk. Files whose objects do not come in the usual order or with usual ids are put in order first.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import shapely
from numpy.typing import NDArray

from pipeline.vectors import tags as tagging
from pipeline.vectors.crs import LONLAT
from pipeline.vectors.osm_areas import drawn_once, is_area
from pipeline.vectors.osm_order import BELOW_ZERO, disorder, put_in_order
from pipeline.vectors.presence import Bounds, Extent
from pipeline.vectors.raw import RawFeatures
from pipeline.vectors.source import Account

BATCH = 100_000
"""Objects parsed at a time: bounds the memory of what lies outside the area asked for."""


@dataclass
class _Batch:
    """Objects as they come, parsed and filtered every `BATCH` of them."""

    bounds: Bounds | None
    counts: Counter[str] = field(default_factory=Counter)
    seen: list[NDArray[np.float64]] = field(default_factory=list)
    wkb: list[bytes | str] = field(default_factory=list)
    ring: list[bool] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    parts: list[RawFeatures] = field(default_factory=list)
    known_tags: dict[tuple[tuple[str, str], ...], tuple[str, bool, Counter[str]]] = field(default_factory=dict)

    def add(self, wkb: bytes | str, tags: str, source_id: str, *, ring: bool = False) -> None:
        self.wkb.append(wkb)
        self.tags.append(tags)
        self.ids.append(source_id)
        self.ring.append(ring)
        if len(self.wkb) >= BATCH:
            self.flush()

    def flush(self) -> None:
        if not self.wkb:
            return
        geometry = shapely.from_wkb(np.array(self.wkb, object), on_invalid="ignore")
        ring = np.array(self.ring, bool)
        if ring.any():
            coords, owner = shapely.get_coordinates(geometry[ring], return_index=True)
            geometry[ring] = shapely.polygons(shapely.linearrings(coords, indices=owner))
        keep = np.ones(len(geometry), bool)
        self.seen.append(shapely.total_bounds(geometry))
        if self.bounds is not None:
            west, south, east, north = self.bounds
            b = shapely.bounds(geometry)
            keep = ~((b[:, 0] > east) | (b[:, 2] < west) | (b[:, 1] > north) | (b[:, 3] < south))
            self.counts["outside"] += int((~keep).sum())
        tags, ids = np.array(self.tags, object)[keep], np.array(self.ids, object)[keep]
        self.parts.append(RawFeatures(geometry[keep], tags, ids))
        for items in (self.wkb, self.ring, self.tags, self.ids):
            items.clear()

    def extents(self) -> list[Extent]:
        """Where everything that was read lies."""
        if not self.seen:
            return []
        all_of_them = np.array(self.seen)
        low, high = np.nanmin(all_of_them[:, :2], axis=0), np.nanmax(all_of_them[:, 2:], axis=0)
        return [Extent((float(low[0]), float(low[1]), float(high[0]), float(high[1])), LONLAT)]


def read_osm(path: Path, *, bounds_lonlat: Bounds | None, account: Account) -> tuple[RawFeatures, str | None]:
    """All tagged objects whose envelope meets ``bounds_lonlat``, in lon/lat, and the date of the file.

    Args:
        path: The file.
        bounds_lonlat: West, south, east, north in degrees, or None for all.
        account: What was dropped or mended is added here.

    Returns:
        Features, and the replication date of the file's header as an ISO date where it has one.

    Raises:
        VectorError: the file holds changes rather than a map, or is too large to be put in order.
        RuntimeError: the file cannot be read to its end.
    """
    date = _header_date(path)
    trouble = disorder(path)
    batch = _Batch(bounds_lonlat)
    if trouble is None:
        try:
            raw = _read_objects(path, batch)
        except RuntimeError as error:
            if not any(words in str(error) for words in ("out of order", "twice in input")):
                raise
            trouble = "ids that are not in order, or stand in it twice"
        else:
            if len(set(raw.source_id)) < len(raw):
                trouble = "the same object in several versions"
    if trouble is not None:
        with tempfile.TemporaryDirectory(prefix="uvmap-osm-") as folder:
            ordered = Path(folder) / "ordered.osm.pbf"
            contradictions = put_in_order(path, ordered, trouble)
            if contradictions:
                account.warnings.append(
                    f"{contradictions} objects stand in it several times with different content; the last of each is"
                    " read: fetch the file again"
                )
            batch = _Batch(bounds_lonlat)
            raw = _read_objects(ordered, batch)
        account.counts["files_put_in_order"] += 1
    account.counts.update(batch.counts)
    account.extents = batch.extents
    return raw, date


def _header_date(path: Path) -> str | None:
    with osmium.io.Reader(str(path)) as reader:
        stamp = str(reader.header().get("osmosis_replication_timestamp") or "")
    return stamp[:10] or None


def _read_objects(path: Path, batch: _Batch) -> RawFeatures:
    factory, counts = osmium.geom.WKBFactory(), batch.counts
    untagged = osmium.filter.EmptyTagFilter().enable_for(
        osmium.osm.osm_entity_bits.NODE | osmium.osm.osm_entity_bits.WAY | osmium.osm.osm_entity_bits.RELATION
    )
    processor = osmium.FileProcessor(str(path)).with_locations("flex_mem").with_areas().with_filter(untagged)
    tagged: set[int] = set()
    drawn: set[int] = set()
    outers: dict[str, tuple[str, ...]] = {}
    for obj in processor:
        if obj.is_node():
            counts["read"] += 1
            batch.add(factory.create_point(obj), _tags(obj, batch)[0], _name("n", obj.id))
        elif obj.is_way():
            counts["read"] += 1
            _add_way(obj, factory, batch, counts)
        elif obj.is_area():
            if obj.from_way():
                continue  # taken as a way, where the rules of OSM decide between line and area
            try:
                wkb = factory.create_multipolygon(obj)
            except RuntimeError:  # its rings do not close: counted below
                continue
            drawn.add(obj.orig_id())
            batch.add(wkb, _tags(obj, batch, without="type")[0], _name("r", obj.orig_id()))
        elif obj.is_relation():
            if obj.tags.get("type") not in {"multipolygon", "boundary"}:
                counts["relations_without_geometry"] += 1
                continue
            outers[_name("r", obj.id)] = tuple(
                _name("w", m.ref) for m in obj.members if m.type == "w" and m.role in {"outer", ""}
            )
            if len(obj.tags) > 1:
                counts["read"] += 1
                tagged.add(obj.id)
    counts["multipolygons_not_closed"] += len(tagged - drawn)
    batch.flush()
    return drawn_once(RawFeatures.concat(batch.parts), outers, counts)


def _name(kind: str, number: int) -> str:
    """The name of an object by the number that it has in its own file."""
    return f"{kind}{BELOW_ZERO - number}" if number > BELOW_ZERO else f"{kind}{number}"


def _add_way(way: Any, factory: Any, batch: _Batch, counts: Counter[str]) -> None:
    text, area = _tags(way, batch)
    nodes = way.nodes
    try:
        closed = area and len(nodes) > 3 and nodes[0].ref == nodes[-1].ref
        batch.add(factory.create_linestring(way), text, _name("w", way.id), ring=closed)
    except osmium.InvalidLocationError:
        # an extract without all nodes of the way: the runs of known nodes are kept as lines
        runs = _known_runs(way.nodes)
        counts["ways_with_missing_nodes"] += 1
        if not runs:
            counts["ways_without_nodes"] += 1
            return
        lines = shapely.multilinestrings([shapely.linestrings(r) for r in runs])
        batch.add(shapely.to_wkb(lines), text, _name("w", way.id))
    except RuntimeError:
        # fewer than two places: nothing to draw
        if all(node.location.valid() for node in nodes):
            counts["zero_length_lines"] += 1
        else:
            counts["ways_with_missing_nodes"] += 1
            counts["ways_without_nodes"] += 1


def _known_runs(nodes: Any) -> list[NDArray[np.float64]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for node in nodes:
        if node.location.valid():
            runs[-1].append((node.lon, node.lat))
        elif runs[-1]:
            runs.append([])
    return [np.array(run) for run in runs if len(run) > 1]


def _tags(obj: Any, batch: _Batch, *, without: str | None = None) -> tuple[str, bool]:
    """The canonical tags of an object, and whether they make a closed way an area; worked out once per tag set."""
    items = tuple((t.k, t.v) for t in obj.tags if t.k != without)
    known = batch.known_tags.get(items)
    if known is None:
        noted: Counter[str] = Counter()
        tags = dict(items)
        text = tagging.canonical(tagging.clean(tags, noted))
        known = (text, is_area(tags), noted)
        if len(batch.known_tags) >= BATCH:
            batch.known_tags.clear()
        batch.known_tags[items] = known
    text, area, noted = known
    if noted:
        batch.counts.update(noted)
    return text, area
