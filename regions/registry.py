"""The registry of cities: 372 prefecture-level and province-run units of China, keyed by adcode.

Codes and Chinese names follow the national standard list (GB/T 2260); 342 of the units are the national set of
the campaign `china`. The list behind the published 342-city product is not public, so the set is a documented
reading of it: the 337 municipalities and prefecture-level units plus the five province-run cities Jiyuan,
Xiantao, Qianjiang, Tianmen and Shennongjia.
"""

import csv
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from regions.crs import utm_code
from regions.errors import RegionsError

REGIONS: tuple[str, ...] = ("North", "Northeast", "East", "Central", "South", "Southwest", "Northwest")
DEMO_PREFIX = "99"
UNREGISTERED = "990000"
"""Key of ground that is no city of the registry: it has no names."""


class UnknownCityError(RegionsError):
    """No city has this adcode or name; the message offers the nearest."""


class AmbiguousCityError(RegionsError):
    """Several cities share this name; the message lists their adcodes."""


@dataclass(frozen=True)
class City:
    """One unit of the registry.

    Attributes:
        adcode: Six digits, the key everywhere.
        name_zh: Chinese name.
        name_en: English name; five of them occur twice.
        province: English name of the province.
        level: Kind of unit, such as "prefecture_level_city"; "demo" for a synthetic city.
        region: One of the seven `REGIONS`, the strata of the assessment.
        centroid_lon: Longitude of the unit's centroid, WGS84 degrees.
        centroid_lat: Latitude of the unit's centroid, WGS84 degrees.
        seat_lon: Longitude of the seat of government (the centroid where unknown), WGS84 degrees.
        seat_lat: Latitude of the seat (the centroid where unknown), WGS84 degrees.
        national: Whether the unit belongs to the national set of 342.
    """

    adcode: str
    name_zh: str
    name_en: str
    province: str
    level: str
    region: str
    centroid_lon: float
    centroid_lat: float
    seat_lon: float
    seat_lat: float
    national: bool

    @property
    def crs(self) -> str:
        """Authority code of the projected CRS of the city's grid: the WGS84 UTM zone of its seat."""
        return utm_code(self.seat_lon, self.seat_lat)


def demo_city(adcode: str) -> City:
    """The synthetic city with an adcode that starts with 99; it stands near Guangzhou and belongs to no set."""
    return City(
        adcode,
        f"示范市{adcode[2:]}",
        f"Demo {adcode[2:]}",
        "Demo",
        "demo",
        "South",
        113.0,
        23.0,
        113.0,
        23.0,
        False,
    )


@lru_cache(maxsize=1)
def load_registry() -> tuple[City, ...]:
    """All 372 units, ordered by adcode."""
    with files("regions").joinpath("data/cities.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(sorted((_city(row) for row in rows), key=lambda c: c.adcode))


def _city(row: dict[str, str]) -> City:
    lon, lat = float(row["centroid_lon"]), float(row["centroid_lat"])
    return City(
        adcode=row["adcode"],
        name_zh=row["name_zh"],
        name_en=row["name_en"],
        province=row["province"],
        level=row["level"],
        region=row["region"],
        centroid_lon=lon,
        centroid_lat=lat,
        seat_lon=float(row["seat_lon"]) if row["seat_lon"] else lon,
        seat_lat=float(row["seat_lat"]) if row["seat_lat"] else lat,
        national=row["national"] == "1",
    )


def national_set() -> tuple[City, ...]:
    """The 342 cities of the campaign `china`, ordered by adcode."""
    return tuple(c for c in load_registry() if c.national)


def find_city(key: str) -> City:
    """The one city with this adcode, Chinese name or English name (case does not matter).

    Raises:
        UnknownCityError: nothing fits; the message offers near matches.
        AmbiguousCityError: the name is shared; the message lists the adcodes.
    """
    wanted = str(key).strip()
    if len(wanted) == 6 and wanted.isdigit() and wanted.startswith(DEMO_PREFIX):
        return demo_city(wanted)
    cities = load_registry()
    exact = [c for c in cities if wanted == c.adcode or wanted.lower() in _names(c)]
    if len(exact) == 1:
        return exact[0]
    if exact:
        choice = ", ".join(f"{c.adcode} ({c.name_zh}, {c.province})" for c in exact)
        raise AmbiguousCityError(f"{len(exact)} cities are called '{wanted}': {choice}; give the adcode")
    near = ", ".join(f"{c.adcode} {c.name_zh} {c.name_en}" for c in near_matches(wanted))
    raise UnknownCityError(
        f"no city '{wanted}' in the registry" + (f"; did you mean {near}?" if near else "; `uvmap cities` lists all")
    )


def city_of(adcode: str) -> City | None:
    """The registry's entry of a ground's key; None for `UNREGISTERED`.

    Raises:
        UnknownCityError: no such city.
    """
    return None if adcode == UNREGISTERED else find_city(adcode)


def find_cities(keys: Iterable[str]) -> list[City]:
    """`find_city` for several keys, in the order given."""
    return [find_city(k) for k in keys]


def search_cities(text: str) -> list[City]:
    """Cities whose adcode starts with, or whose names or province contain ``text``; all for an empty text."""
    wanted = text.strip().lower()
    return [
        c
        for c in load_registry()
        if c.adcode.startswith(wanted)
        or wanted in c.name_en.lower()
        or wanted in c.name_zh
        or wanted in c.province.lower()
    ]


def near_matches(text: str, *, limit: int = 3) -> list[City]:
    """Cities whose adcode or name looks most like ``text``, best first."""
    cities = load_registry()
    names = {name: c for c in reversed(cities) for name in (c.adcode, *_names(c))}
    found = difflib.get_close_matches(text.lower(), names, n=2 * limit, cutoff=0.6)
    unique = {names[name].adcode: names[name] for name in found}
    return list(unique.values())[:limit]


def _names(city: City) -> tuple[str, ...]:
    """Spellings under which a city is found: English, Chinese, and Chinese without the kind of unit."""
    short = city.name_zh.removesuffix("市").removesuffix("地区").removesuffix("盟")
    return (city.name_en.lower(), city.name_zh, short)
