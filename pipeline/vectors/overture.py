"""Overture's columns as OpenStreetMap's tags, theme by theme (`docs/vectors_sources.md` has the table).

Features of OpenStreetMap keep their own tags where Overture hands them on (`source_tags`); else class and subtype name
the value of the key that the theme stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.vectors.values import text_of

_PLAIN = {"building": "building", "building_part": "building:part", "land": "natural"}
_LAND_USE_KEYS = {
    "leisure": {
        "beach_resort", "dog_park", "garden", "golf_course", "marina", "nature_reserve", "park", "pitch", "playground",
        "recreation_ground", "schoolyard", "stadium", "track", "water_park",
    },
    "amenity": {"clinic", "college", "doctors", "hospital", "kindergarten", "school", "university"},
    "aeroway": {"aerodrome", "airport", "airfield", "heliport"},
    "tourism": {"camp_site", "theme_park", "zoo", "resort"},
    "natural": {"wood", "forest", "grassland", "wetland"},
}  # fmt: skip
_WATERWAYS = {"river", "stream", "canal", "drain", "ditch"}
_ROADS = {"unknown": "road", "": "road"}
_INFRASTRUCTURE_KEYS = {
    "airport": "aeroway", "barrier": "barrier", "pedestrian": "amenity", "power": "power", "recreation": "leisure",
    "transit": "public_transport", "transportation": "amenity", "waste_management": "amenity", "aerialway": "aerialway",
    "emergency": "emergency",
}  # fmt: skip
"""Of the other subtypes (bridge, communication, pier, tower, utility, water...) man_made."""
_PLACE_KEYS = {
    "shop": (
        "supermarket", "convenience_store", "grocery_store", "clothing_store", "shopping_center", "shopping", "retail",
        "bookstore", "bakery", "hardware_store", "mobile_phone_store", "furniture_store", "beauty_salon", "hair_salon",
    ),
    "tourism": ("hotel", "hostel", "museum", "attraction", "guest_house", "resort"),
    "office": ("professional_services", "real_estate_agent", "lawyer", "insurance_agency", "company"),
    "leisure": ("park", "gym", "playground", "stadium_arena", "sports_club_and_league"),
    "industrial": ("factory", "industrial_company", "warehouse"),
}  # fmt: skip
_PLACE_KEY_OF = {category: key for key, categories in _PLACE_KEYS.items() for category in categories}
_COPIED = {
    "height": "height", "min_height": "min_height", "num_floors": "building:levels", "roof_shape": "roof:shape",
    "roof_height": "roof:height", "facade_material": "building:material", "surface": "surface", "elevation": "ele",
    "road_surface": "surface", "wikidata": "wikidata",
}  # fmt: skip

COLUMNS = frozenset(
    {
        "id",
        "names",
        "subtype",
        "class",
        "categories",
        "source_tags",
        "type",
        "theme",
        "sources",
        "update_time",
        *_COPIED,
    }
)
"""Columns that the mapping looks at."""
TYPES = frozenset({*_PLAIN, "water", "segment", "land_use", "land_cover", "infrastructure", "place"})
"""Types that are features of a map; connectors, addresses and divisions are not."""


def overture_tags(kind: str, row: Mapping[str, Any]) -> dict[str, str] | None:
    """The tags of one feature.

    Args:
        kind: Overture's type, such as ``building``, ``segment``, ``place``.
        row: Its columns as plain values.

    Returns:
        Tags, or None for types that are no features of a map.
    """
    if kind not in TYPES:
        return None
    tags = {new: text for old, new in _COPIED.items() if (text := _scalar(row.get(old))) is not None}
    name = (row.get("names") or {}).get("primary") if isinstance(row.get("names"), Mapping) else None
    if name:
        tags["name"] = str(name)
    own = _pairs(row.get("source_tags"))
    return tags | (own or _described(kind, row))


def _described(kind: str, row: Mapping[str, Any]) -> dict[str, str]:
    subtype, what = str(row.get("subtype") or ""), str(row.get("class") or "")
    value = what or subtype or "yes"
    if kind == "segment":
        return _segment(subtype, what)
    if kind == "place":
        return _place(row)
    if kind == "water":
        return _water(what, what or subtype)
    keys = {
        "land_use": next((k for k, values in _LAND_USE_KEYS.items() if value in values), "landuse"),
        "land_cover": "landcover",
        "infrastructure": _INFRASTRUCTURE_KEYS.get(subtype, "man_made"),
    }
    if kind == "land" and value == "forest":
        value = "wood"
    return {keys.get(kind) or _PLAIN[kind]: value}


def _water(what: str, value: str) -> dict[str, str]:
    if what in _WATERWAYS:
        return {"waterway": what}
    return {"natural": "water", **({"water": value} if value else {})}


def _segment(subtype: str, what: str) -> dict[str, str]:
    if subtype == "rail":
        return {"railway": "rail" if what in {"", "standard_gauge", "broad_gauge", "unknown"} else what}
    if subtype == "water":
        return {"route": "ferry"}
    return {"highway": _ROADS.get(what, what)}


def _place(row: Mapping[str, Any]) -> dict[str, str]:
    categories = row.get("categories")
    found = categories.get("primary") if isinstance(categories, Mapping) else None
    category = str(found or row.get("class") or "yes")
    return {_PLACE_KEY_OF.get(category, "amenity"): category}


def _scalar(value: Any) -> str | None:
    return None if isinstance(value, Mapping | list) else text_of(value)


def _pairs(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = [tuple(p) for p in value if len(p) == 2]
    else:
        return {}
    return {str(k): str(v) for k, v in items if v is not None}
