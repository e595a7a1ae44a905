"""The area of interest of a city from what its campaign names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import pyproj
import shapely

from pipeline.boundaries.area import AreaRule
from pipeline.boundaries.choice import open_built
from pipeline.boundaries.reading import read_boundaries
from pipeline.boundaries.table import make_areas, read_areas
from pipeline.fetch.errors import FetchError
from regions.registry import City
from regions.sources import Sources

LONLAT = "EPSG:4326"


@dataclass(frozen=True)
class FetchArea:
    """Ground that sources are asked for.

    Attributes:
        lonlat: Polygons in WGS84 degrees.
        crs: CRS of the city's grid.
        built_share: Share of it that is built-up; None where nothing says so.
    """

    lonlat: shapely.Geometry
    crs: str
    built_share: float | None = None

    @property
    def bounds_lonlat(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees."""
        west, south, east, north = self.lonlat.bounds
        return float(west), float(south), float(east), float(north)

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in the city's CRS."""
        way = pyproj.Transformer.from_crs(LONLAT, self.crs, always_xy=True)
        left, bottom, right, top = way.transform_bounds(*self.bounds_lonlat, densify_pts=21)
        return float(left), float(bottom), float(right), float(top)

    @property
    def km2(self) -> float:
        """Its area on the grid of its zone."""
        return float(gpd.GeoSeries([self.lonlat], crs=LONLAT).to_crs(self.crs).area.iloc[0]) / 1e6


def fetch_area(sources: Sources, city: City) -> FetchArea:
    """The area of a city.

    Raises:
        FetchError: the city has none, with the reason.
        BoundaryError: boundaries or built-up land cannot be used.
    """
    if sources.bounds_lonlat is not None:
        return FetchArea(shapely.box(*sources.bounds_lonlat), city.crs)
    if sources.areas is not None:
        table = read_areas(Path(sources.areas.replace("{adcode}", city.adcode)))
        mine = table[table["adcode"].astype(str) == city.adcode]
        if not len(mine):
            raise FetchError(f"{sources.areas}: no area of {city.adcode} {city.name_en}; `uvmap areas` says why")
        return FetchArea(shapely.union_all(mine.geometry.to_crs(LONLAT).to_numpy()), city.crs)
    if sources.boundaries is None:  # the schema asks for one of the three
        raise FetchError(f"{city.adcode}: the campaign names no area")
    given = sources.boundaries
    units = read_boundaries(Path(given.path), datum=given.datum, code=given.code, name=given.name)
    built, rule = None, AreaRule()
    if sources.built_up is not None:
        land = sources.built_up
        built = open_built(Path(land.path), product=land.product, values=land.values, at_least=land.at_least)
        rule = AreaRule(fringe_m=land.fringe_m)
    found = make_areas([city], units, built, rule)
    if not len(found.table):
        why = found.missing[0]["why"] if found.missing else "unknown"
        raise FetchError(f"{given.path}: {city.adcode} {city.name_en} has no area of interest: {why}")
    row = found.table.iloc[0]
    share = None if built is None else round(float(row["built_km2"] / row["area_km2"]), 4)
    return FetchArea(found.table.geometry.iloc[0], city.crs, share)
