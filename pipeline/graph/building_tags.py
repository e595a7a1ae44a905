"""What tags say of a building: whether there is one, how high it is, and how many storeys it has.

The one reading for the city graph, which the model sees, and for the published attributes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

STOREY_M = 3.0
"""Height taken for one storey where only `building:levels` is tagged."""
FOOT_M = 0.3048
MAX_HEIGHT_M = 1000.0
"""Tagged heights of this much and more are mistakes."""
NO_BUILDING = frozenset({"no", "construction", "proposed", "demolished", "ruins"})
"""Values of `building` and `building:part` where no building stands (yet, or any more)."""
HEIGHT_KEYS = ("height", "building:height", "est_height")
"""Tags that state a height, best first."""

_NUMBER = r"\d+(?:[.,]\d+)?"
_METRES = re.compile(rf"^\s*({_NUMBER})\s*(?:m|met(?:er|re)s?|米)?\s*$", re.IGNORECASE)
_FEET = re.compile(
    rf"^\s*({_NUMBER})\s*(?:ft|feet|foot|')\s*(?:({_NUMBER})\s*(?:in|inch|inches|\"|''))?\s*$", re.IGNORECASE
)
_LEVELS = re.compile(rf"^\s*({_NUMBER})\s*(?:;.*)?$")


def is_building(tags: Mapping[str, str]) -> bool:
    """Whether a feature is a whole building that stands: `building=*`, or `kind=building` of vector tiles."""
    return tags.get("building", "no") not in NO_BUILDING or tags.get("kind") == "building"


def is_building_part(tags: Mapping[str, str]) -> bool:
    """Whether a feature is a part of a building; it lies in the outline of one, so it does not count as a building."""
    return tags.get("building:part", "no") not in NO_BUILDING or tags.get("kind") == "building_part"


def tagged_height_m(tags: Mapping[str, str]) -> float:
    """The height that is tagged, in metres; NaN where none can be read.

    Metres unless feet are written: `12`, `12.5 m`, `12,5m`, `40 ft`, `40'`, `40'6"`, `40 ft 6 in`.
    """
    for key in HEIGHT_KEYS:
        value = _metres(tags.get(key, ""))
        if 0 < value < MAX_HEIGHT_M:
            return value
    return float("nan")


def levels_of(tags: Mapping[str, str]) -> float:
    """The number of storeys in `building:levels`, of several the first; NaN where none can be read."""
    match = _LEVELS.match(tags.get("building:levels", ""))
    levels = _number(match[1]) if match else float("nan")
    return levels if 0 < levels * STOREY_M < MAX_HEIGHT_M else float("nan")


def height_m(tags: Mapping[str, str]) -> float:
    """The height in metres: as tagged, else by the number of storeys; NaN where neither is known."""
    tagged = tagged_height_m(tags)
    return levels_of(tags) * STOREY_M if math.isnan(tagged) else tagged


def _metres(text: str) -> float:
    if match := _METRES.match(text):
        return _number(match[1])
    if match := _FEET.match(text):
        return (_number(match[1]) + _number(match[2] or "0") / 12) * FOOT_M
    return float("nan")


def _number(text: str) -> float:
    return float(text.replace(",", "."))
