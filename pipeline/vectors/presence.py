"""Whether a source lies where the city is, and if not, why it may seem so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyproj import CRS, Geod

from pipeline.vectors.crs import LONLAT
from pipeline.vectors.errors import VectorError
from pipeline.vectors.project import bounds_in

Bounds = tuple[float, float, float, float]
_DEGREES = (360.5, 90.5)


@dataclass(frozen=True)
class Extent:
    """Where a layer lies by its own coordinates.

    Attributes:
        bounds: Left, bottom, right, top in ``crs``.
        crs: CRS that it declares.
    """

    bounds: Bounds
    crs: CRS


def why_nothing_is_left(extents: list[Extent], *, crs: CRS, bounds_m: Bounds | None) -> str:
    """Where the source lies, where the area lies, and what the trouble is likely to be, as one clause.

    Args:
        extents: Of the layers of the source; those without finite bounds are passed over.
        crs: CRS of the grid.
        bounds_m: The area in ``crs``, or None for all.
    """
    extents = [e for e in extents if all(map(math.isfinite, e.bounds))]
    if not extents:
        return "no coordinates of it can be used; look at it with `ogrinfo -al -so`"
    area = None if bounds_m is None else _lonlat(Extent(bounds_m, crs))
    shown = "; ".join(_shown(e) for e in extents[:3])
    place = f"it lies at {shown}" + ("" if area is None else f", the area at {_degrees(area)}")
    return f"{place}; {_cause(extents[0], crs, bounds_m, area)}"


def not_degrees(bounds: Bounds) -> bool:
    """Whether coordinates cannot be longitude and latitude in either order."""
    x, y = (max(abs(bounds[k]), abs(bounds[k + 2])) for k in (0, 1))
    return min(x, y) > _DEGREES[1] or max(x, y) > _DEGREES[0]


def _cause(extent: Extent, crs: CRS, bounds_m: Bounds | None, area: Bounds | None) -> str:
    left, bottom, right, top = extent.bounds
    swapped = Extent((bottom, left, top, right), extent.crs)
    if extent.crs.is_geographic and not_degrees(extent.bounds):
        return (
            "these are no degrees, though the source declares or is taken for longitude and latitude: say its CRS with"
            " --vectors-crs, or write it into the file"
        )
    if _meets(swapped, crs, bounds_m) or (extent.crs.is_geographic and max(abs(bottom), abs(top)) > _DEGREES[1]):
        return (
            "its axes are swapped: latitude (or northing) is written first; write x before y, for example with"
            " `Swap X and Y coordinates` of QGIS"
        )
    if extent.crs.is_projected and max(map(abs, extent.bounds)) <= _DEGREES[0]:
        return "these seem to be degrees, though the source declares a projected CRS: correct the CRS in the file"
    zone = _zone_before_easting(extent)
    if zone is not None:
        return (
            f"its x coordinates begin with a zone number ({zone}), which the CRS it declares does not have: give it the"
            " CRS with the zone number (such as EPSG:4526), or take the number off"
        )
    here = _lonlat(extent)
    if area is None or here is None:
        return "its coordinates do not fit the CRS that it declares: correct the CRS in the file"
    return f"{_distance_km(here, area):,.0f} km apart: give a file of this area, correct its CRS, or leave it out"


def _zone_before_easting(extent: Extent) -> int | None:
    zone = int(extent.bounds[0] // 1_000_000)
    return zone if extent.crs.is_projected and 13 <= zone <= 45 and zone == int(extent.bounds[2] // 1_000_000) else None


def _meets(extent: Extent, crs: CRS, bounds_m: Bounds | None) -> bool:
    if bounds_m is None:
        return False
    try:
        left, bottom, right, top = bounds_in(extent.bounds, extent.crs, crs)
    except VectorError:
        return False
    return not (left > bounds_m[2] or right < bounds_m[0] or bottom > bounds_m[3] or top < bounds_m[1])


def _lonlat(extent: Extent) -> Bounds | None:
    try:
        found = bounds_in(extent.bounds, extent.crs, LONLAT)
    except VectorError:
        return None
    return found if max(map(abs, found)) <= _DEGREES[0] else None


def _shown(extent: Extent) -> str:
    here = _lonlat(extent)
    left, bottom, right, top = extent.bounds
    return _degrees(here) if here is not None else f"x {left:.8g} to {right:.8g}, y {bottom:.8g} to {top:.8g}"


def _degrees(bounds: Bounds) -> str:
    west, south, east, north = bounds
    return f"{west:.4f} to {east:.4f} E, {south:.4f} to {north:.4f} N"


def _distance_km(a: Bounds, b: Bounds) -> float:
    centres = [((x[0] + x[2]) / 2, (x[1] + x[3]) / 2) for x in (a, b)]
    return float(Geod(ellps="WGS84").inv(*centres[0], *centres[1])[2]) / 1000
