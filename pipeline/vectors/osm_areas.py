"""Which closed ways of OpenStreetMap are areas, and which of them a multipolygon relation draws already."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import numpy as np
import shapely

from pipeline.vectors import tags as tagging
from pipeline.vectors.raw import RawFeatures

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


_SAME_WHATEVER_THE_VALUE = frozenset({"building", "building:part"})


def drawn_once(raw: RawFeatures, outers: Mapping[str, tuple[str, ...]], counts: Counter[str]) -> RawFeatures:
    """Features without the outlines that a multipolygon relation draws too: one building, with its holes, is one.

    An outer way that says the same as its relation (both a building, or equal in another tag that makes an area) is
    left out, and its other tags go to the relation. A relation without tags takes those of its outer way, as old maps
    mean it; where there are none, it says nothing and is left out.

    Args:
        raw: Features of one file.
        outers: Ids of the outer ways of each relation (``r7``).
        counts: Outlines left out are added here.
    """
    if not outers:
        return raw
    wanted = {way for ways in outers.values() for way in ways}
    rows: dict[str, int] = {}
    relations: list[tuple[int, str]] = []
    polygonal = shapely.get_dimensions(raw.geometry) == 2
    for row, name in enumerate(raw.source_id):
        if name in wanted and polygonal[row]:
            rows[name] = row
        elif name in outers:
            relations.append((row, name))
    keep, tags = np.ones(len(raw), bool), raw.tags.copy()
    for row, name in relations:
        own = json.loads(tags[row])
        untagged = not own
        for way in (rows[w] for w in outers[name] if w in rows):
            theirs = json.loads(raw.tags[way])
            if untagged or _say_the_same(own, theirs):
                own = {**theirs, **own}
                keep[way] = False
        tags[row] = tagging.canonical(own)
        if not own:
            keep[row] = False
            counts["relations_untagged"] += 1
        elif untagged:
            counts["read"] += 1
    counts["outlines_of_relations"] += int((~keep[list(rows.values())]).sum()) if rows else 0
    return RawFeatures(raw.geometry, tags, raw.source_id)[keep]


def _say_the_same(relation: Mapping[str, str], way: Mapping[str, str]) -> bool:
    """Whether a relation and its outer way mean one thing."""
    shared = relation.keys() & way.keys()
    if shared & _SAME_WHATEVER_THE_VALUE:
        return True
    return any(relation[key] == way[key] and is_area({key: way[key]}) for key in shared)
