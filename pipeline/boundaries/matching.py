"""Which unit of a boundary file is which city of the registry: by code, else by name, and what did not match."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import shapely

from regions.registry import City

_NOTE = re.compile(r"[\[［(（〔【].*?[\]］)）〕】]|\s")
_KINDS = (
    "特别行政区", "地区", "林区", "自治州", "自治县", "盟", "市", "州", "县",
)  # fmt: skip
_PEOPLES = (
    "哈萨克", "柯尔克孜", "蒙古族", "蒙古", "回族", "藏族", "羌族", "彝族", "白族", "傣族", "景颇族", "傈僳族", "壮族",
    "苗族", "布依族", "侗族", "土家族", "哈尼族", "黎族", "朝鲜族", "满族", "维吾尔", "回",
)  # fmt: skip
NEAR_DEG = 3.0
"""A unit that is named like a city and whose nearest point lies further from the city's seat is another."""


@dataclass(frozen=True)
class Matches:
    """Cities and their boundaries.

    Attributes:
        table: One row per city that has a boundary, by adcode: `adcode`, `name`, `by` (code, name or place), `geometry`
            (WGS84 degrees).
        missing: Cities without a boundary, by adcode: adcode, name, why.
        unused: Units of the file that are none of the cities: code, name.
    """

    table: gpd.GeoDataFrame
    missing: tuple[dict[str, str], ...]
    unused: tuple[dict[str, str | None], ...]


def match(boundaries: gpd.GeoDataFrame, cities: Sequence[City]) -> Matches:
    """Find the boundary of each city.

    A unit whose code is a city's is that city's. A unit without a code, or with one that the registry does not know,
    goes by its name (without the kind of unit and the peoples in it), where it lies near the city's seat: names
    repeat. A city that is left, and whose seat lies in a unit that is left, has that one: its name is misspelt.

    Args:
        boundaries: As `read_boundaries` gives them.
        cities: The cities that want one.
    """
    by_code = {c.adcode: c for c in cities}
    found = {code: (row, "code") for row, code in enumerate(boundaries["code"]) if code in by_code}
    _by_name(boundaries, [c for c in cities if c.adcode not in found], found)
    _by_place(boundaries, [c for c in cities if c.adcode not in found], found)
    codes = sorted(found)
    table = gpd.GeoDataFrame(
        {"adcode": codes, "name": [by_code[c].name_zh for c in codes], "by": [found[c][1] for c in codes]},
        geometry=[boundaries.geometry.iloc[found[c][0]] for c in codes],
        crs=boundaries.crs,
    )
    missing = tuple(
        {"adcode": c.adcode, "name": c.name_zh, "why": "no unit of the boundary file has its code, name or seat"}
        for c in sorted(cities, key=lambda c: c.adcode)
        if c.adcode not in found
    )
    taken = {row for row, _ in found.values()}
    unused = tuple(
        {"code": code, "name": name}
        for row, (code, name) in enumerate(zip(boundaries["code"], boundaries["name"], strict=True))
        if row not in taken
    )
    return Matches(table, missing, unused)


def _by_name(boundaries: gpd.GeoDataFrame, cities: Sequence[City], found: dict[str, tuple[int, str]]) -> None:
    rows: dict[str, list[int]] = {}
    taken = {row for row, _ in found.values()}
    for row, name in enumerate(boundaries["name"]):
        if name and row not in taken:
            rows.setdefault(short_name(name), []).append(row)
            rows.setdefault(name.lower(), []).append(row)
    for city in cities:
        named = {*rows.get(short_name(city.name_zh), []), *rows.get(city.name_en.lower(), [])} - taken
        far = {row: _distance_deg(boundaries.geometry.iloc[row], city) for row in named}
        near = min(far, key=lambda row: (far[row], row), default=None)
        if near is not None and far[near] < NEAR_DEG:
            found[city.adcode] = (near, "name")
            taken.add(near)


def _by_place(boundaries: gpd.GeoDataFrame, cities: Sequence[City], found: dict[str, tuple[int, str]]) -> None:
    taken = {row for row, _ in found.values()}
    for city in cities:
        seat = shapely.Point(city.seat_lon, city.seat_lat)
        holding = [row for row in boundaries.sindex.query(seat, predicate="within").tolist() if row not in taken]
        if len(holding) == 1:
            found[city.adcode] = (holding[0], "place")
            taken.add(holding[0])


def short_name(name: str) -> str:
    """A name without remarks, the kind of unit and the peoples in it: 巴音郭楞 for 巴音郭楞蒙古自治州."""
    text = _NOTE.sub("", name)
    kind = next((k for k in _KINDS if text.endswith(k) and len(text) > len(k) + 1), "")
    text = text.removesuffix(kind)
    while kind == "自治州" and (people := next((p for p in _PEOPLES if text.endswith(p) and text != p), None)):
        text = text.removesuffix(people)
    return text


def _distance_deg(geometry: shapely.Geometry, city: City) -> float:
    return float(shapely.distance(geometry, shapely.Point(city.seat_lon, city.seat_lat)))
