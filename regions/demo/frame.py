"""Where a demo city lies: from its local metres to its CRS and to OSM's lattice of longitudes and latitudes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from regions.demo.layout import DemoError
from regions.demo.shapes import Floats
from regions.raster.grid import Grid

OSM_UNITS = 10_000_000  # OpenStreetMap stores degrees as integers of 1e-7
DEFAULT_CENTER_LONLAT = (113.30, 23.10)
LOCAL_CRS = "local"
"""CRS of grids in a city's local metres, which are placed nowhere on earth."""


@dataclass(frozen=True)
class Frame:
    """The place of a square city in a projected CRS.

    Attributes:
        crs: Authority code of a projected CRS in metres, as "EPSG:32649".
        left_m: Western edge, a whole number of metres.
        bottom_m: Southern edge, a whole number of metres.
        side_m: Side of the city.
    """

    crs: str
    left_m: int
    bottom_m: int
    side_m: int

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in the CRS."""
        left, bottom = float(self.left_m), float(self.bottom_m)
        return left, bottom, left + self.side_m, bottom + self.side_m

    @property
    def grid(self) -> Grid:
        """The city's pixels of 1 m."""
        return Grid.covering(self.bounds_m, crs=self.crs, resolution_m=1.0)

    @property
    def origin(self) -> Floats:
        """What to add to local metres."""
        return np.array([self.left_m, self.bottom_m], float)

    def to_osm_units(self, local_m: Floats) -> NDArray[np.int64]:
        """Local points (n, 2) to integer longitude and latitude of 1e-7 degree (n, 2)."""
        lon, lat = _transformer(self.crs, "EPSG:4326").transform(*(local_m + self.origin).T)
        return np.round(np.stack([lon, lat], axis=1) * OSM_UNITS).astype(np.int64)

    def from_osm_units(self, units: NDArray[np.int64]) -> Floats:
        """Integer longitudes and latitudes (n, 2) to points (n, 2) in the CRS."""
        x, y = _transformer("EPSG:4326", self.crs).transform(*(units / OSM_UNITS).T)
        return np.stack([x, y], axis=1)


@lru_cache(maxsize=16)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


def make_frame(
    *, side_m: int, center_lonlat: tuple[float, float] = DEFAULT_CENTER_LONLAT, crs: str | None = None
) -> Frame:
    """Place a city about a point.

    Args:
        side_m: Side of the city in metres.
        center_lonlat: Longitude and latitude of its middle in degrees (WGS 84).
        crs: Projected CRS in metres; by default the UTM zone of the middle.

    Raises:
        DemoError: The CRS is unknown, or is not projected in metres, or the middle lies outside it.
    """
    lon, lat = center_lonlat
    if crs is None:
        crs = f"EPSG:{(32600 if lat >= 0 else 32700) + int((lon + 180) // 6) + 1}"
    try:
        parsed = CRS.from_user_input(crs)
    except CRSError as error:
        raise DemoError(f"demo city: unknown CRS {crs!r}; give a projected one such as EPSG:32649") from error
    if not parsed.is_projected or parsed.axis_info[0].unit_name != "metre":
        raise DemoError(f"demo city: {crs} is not projected in metres; give one such as EPSG:32649")
    x, y = _transformer(crs, "EPSG:4326").transform(lon, lat, direction="INVERSE")
    if not (np.isfinite(x) and np.isfinite(y)):
        raise DemoError(f"demo city: the middle {center_lonlat} lies outside {crs}")
    return Frame(crs, round(x - side_m / 2), round(y - side_m / 2), side_m)
