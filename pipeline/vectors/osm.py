"""OpenStreetMap files (.osm.pbf, .osm, .osm.gz, .osm.bz2) as raw features in lon/lat.

Nodes with tags are points, ways are lines or, where closed and tagged as areas are, polygons, and multipolygon and
boundary relations are polygons. Untagged objects are passed over in C++; geometry is handed over as WKB and parsed
in bulk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import shapely
from numpy.typing import NDArray

from pipeline.vectors import tags as tagging
from pipeline.vectors.errors import VectorError
from pipeline.vectors.raw import RawFeatures

BATCH = 100_000
"""Objects parsed at a time: bounds the memory of what lies outside the area asked for."""

# Which closed ways are areas. Source: the list of polygon features of the OSM wiki ("Overpass turbo/Polygon
# Features", github.com/tyrasd/osm-polygon-features), as used by osm2geojson and Overpass turbo.
_ALWAYS = frozenset(
    {
        "building",
        "landuse",
        "amenity",
        "leisure",
        "boundary",
        "place",
        "shop",
        "tourism",
        "historic",
        "public_transport",
        "office",
        "building:part",
        "military",
        "ruins",
        "area:highway",
        "craft",
        "golf",
        "indoor",
    }
)
_ONLY = {
    "highway": frozenset({"services", "rest_area", "escape", "elevator"}),
    "waterway": frozenset({"riverbank", "dock", "boatyard", "dam"}),
    "barrier": frozenset({"city_wall", "ditch", "hedge", "retaining_wall", "wall", "spikes"}),
    "railway": frozenset({"station", "turntable", "roundhouse", "platform"}),
    "power": frozenset({"plant", "substation", "generator", "transformer"}),
}
_EXCEPT = {
    "natural": frozenset({"coastline", "cliff", "ridge", "arete", "tree_row"}),
    "man_made": frozenset({"cutline", "embankment", "pipeline"}),
    "aeroway": frozenset({"taxiway"}),
}


def is_area(tags: Mapping[str, str]) -> bool:
    """Whether a closed way with these tags is a polygon rather than a line."""
    area = tags.get("area")
    if area is not None:
        return area != "no"
    for key, value in tags.items():
        if value == "no":
            continue
        if key in _ALWAYS or value in _ONLY.get(key, ()) or (key in _EXCEPT and value not in _EXCEPT[key]):
            return True
    return False


@dataclass
class _Batch:
    """Objects as they come, parsed and filtered every `BATCH` of them."""

    bounds: tuple[float, float, float, float] | None
    counts: Counter[str]
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
        if self.bounds is not None:
            west, south, east, north = self.bounds
            b = shapely.bounds(geometry)
            keep = ~((b[:, 0] > east) | (b[:, 2] < west) | (b[:, 1] > north) | (b[:, 3] < south))
            self.counts["outside"] += int((~keep).sum())
        tags, ids = np.array(self.tags, object)[keep], np.array(self.ids, object)[keep]
        self.parts.append(RawFeatures(geometry[keep], tags, ids))
        for items in (self.wkb, self.ring, self.tags, self.ids):
            items.clear()


def read_osm(
    path: Path, *, bounds_lonlat: tuple[float, float, float, float] | None, counts: Counter[str]
) -> tuple[RawFeatures, str | None]:
    """All tagged objects whose envelope meets ``bounds_lonlat``, in lon/lat, and the date of the file.

    Args:
        path: The file.
        bounds_lonlat: West, south, east, north in degrees, or None for all.
        counts: What was dropped or mended is added here.

    Returns:
        Features, and the replication date of the file's header as an ISO date where it has one.

    Raises:
        VectorError: the file cannot be read to its end.
    """
    batch = _Batch(bounds_lonlat, counts)
    try:
        date = _header_date(path)
        _read_objects(path, batch, counts)
        batch.flush()
    except (RuntimeError, OSError, ValueError) as error:
        raise VectorError(
            f"{path}: cannot be read as OpenStreetMap data ({error}); the file may be truncated: fetch it again and"
            " compare its checksum with the source's"
        ) from error
    return RawFeatures.concat(batch.parts), date


def _header_date(path: Path) -> str | None:
    with osmium.io.Reader(str(path)) as reader:
        stamp = str(reader.header().get("osmosis_replication_timestamp") or "")
    return stamp[:10] or None


def _read_objects(path: Path, batch: _Batch, counts: Counter[str]) -> None:
    factory = osmium.geom.WKBFactory()
    processor = (
        osmium.FileProcessor(str(path))
        .with_locations("flex_mem")
        .with_areas()
        .with_filter(osmium.filter.EmptyTagFilter())
    )
    wanted: set[int] = set()
    seen: set[int] = set()
    for obj in processor:
        if obj.is_node():
            counts["read"] += 1
            batch.add(factory.create_point(obj), _tags(obj, batch)[0], f"n{obj.id}")
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
            seen.add(obj.orig_id())
            batch.add(wkb, _tags(obj, batch, without="type")[0], f"r{obj.orig_id()}")
        elif obj.is_relation():
            if obj.tags.get("type") in {"multipolygon", "boundary"}:
                counts["read"] += 1
                wanted.add(obj.id)
            else:
                counts["relations_without_geometry"] += 1
    counts["multipolygons_not_closed"] += len(wanted - seen)


def _add_way(way: Any, factory: Any, batch: _Batch, counts: Counter[str]) -> None:
    text, area = _tags(way, batch)
    nodes = way.nodes
    try:
        closed = area and len(nodes) > 3 and nodes[0].ref == nodes[-1].ref
        batch.add(factory.create_linestring(way), text, f"w{way.id}", ring=closed)
    except osmium.InvalidLocationError:
        # an extract without all nodes of the way: the runs of known nodes are kept as lines
        runs = _known_runs(way.nodes)
        counts["ways_with_missing_nodes"] += 1
        if not runs:
            counts["ways_without_nodes"] += 1
            return
        lines = shapely.multilinestrings([shapely.linestrings(r) for r in runs])
        batch.add(shapely.to_wkb(lines), text, f"w{way.id}")
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
