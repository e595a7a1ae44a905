"""Coordinates from one CRS to another, in bulk."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from pipeline.vectors.crs import LONLAT
from pipeline.vectors.errors import VectorError
from regions.datum import Datum, is_shifted_datum, to_wgs84

_MODERN = ("WGS 84", "CGCS2000", "China Geodetic Coordinate System 2000", "ITRF", "ETRS89", "NAD83", "IGS", "GRS")
"""Datums that agree with each other to a metre, so that no shift between them is no fault."""


@lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> Transformer:
    try:
        return Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        raise VectorError(
            f"no transformation from {CRS(source).name} to {CRS(target).name} ({str(error).splitlines()[0]}); convert"
            " the source to EPSG:4326 with `ogr2ogr -t_srs EPSG:4326` first"
        ) from error


def bounds_in(bounds: tuple[float, float, float, float], source: CRS, target: CRS) -> tuple[float, float, float, float]:
    """The envelope in ``target`` of ``bounds`` (left, bottom, right, top) in ``source``, a thousandth wider.

    Raises:
        VectorError: the bounds do not lie where ``source`` can be transformed.
    """
    try:
        left, bottom, right, top = _transformer(source.to_wkt(), target.to_wkt()).transform_bounds(
            *bounds, densify_pts=21
        )
    except ProjError:
        left = bottom = right = top = math.inf
    if not all(map(math.isfinite, (left, bottom, right, top))):
        raise VectorError(
            f"bounds {bounds} in {source.to_string()} cannot be expressed in {target.to_string()}; check that they are"
            " in the CRS of the grid"
        )
    margin_x, margin_y = (right - left) * 1e-3, (top - bottom) * 1e-3
    return (left - margin_x, bottom - margin_y, right + margin_x, top + margin_y)


def reproject(geometry: NDArray[np.object_], source: CRS, target: CRS) -> NDArray[np.object_]:
    """Geometries (n,) in ``target``, two-dimensional; coordinates that cannot be transformed become infinite."""
    flat = shapely.force_2d(geometry)
    if source == target:
        return np.asarray(flat, object)
    transformer = _transformer(source.to_wkt(), target.to_wkt())

    def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(transformer.transform(xy[:, 0], xy[:, 1]), axis=1)

    return np.asarray(shapely.transform(flat, moved), object)


def without_shift(geometry: NDArray[np.object_], crs: CRS, datum: Datum) -> tuple[NDArray[np.object_], CRS]:
    """Geometries (n,) as they truly lie, and the CRS they are in then: lon/lat where ``datum`` is a shifted one.

    Args:
        geometry: In ``crs`` as far as its numbers go, which are those of ``datum``.
        crs: What is declared, such as EPSG:4326 or web mercator.
        datum: What the coordinates are in truth.
    """
    if not is_shifted_datum(datum):
        return geometry, crs
    lonlat = reproject(geometry, crs, LONLAT)
    return np.asarray(
        shapely.transform(lonlat, lambda xy: np.stack(to_wgs84(xy[:, 0], xy[:, 1], datum), axis=1)), object
    ), LONLAT


def datum_that_is_guessed(geometry: NDArray[np.object_], source: CRS, target: CRS) -> str | None:
    """What is uncertain in the way from ``source`` to ``target`` at the first of these places; None where nothing is.

    PROJ takes two datums as equal (a ballpark transformation) where it knows no shift between them, or none that is
    valid there. Positions of old Chinese datums are then off by about 100 m.
    """
    xy = shapely.get_coordinates(geometry[:100])
    xy = xy[np.isfinite(xy).all(axis=1)]
    if source == target or not len(xy):
        return None
    transformer = _transformer(source.to_wkt(), target.to_wkt())
    transformer.transform(*xy[0])
    try:
        steps = transformer.get_last_used_operation().description.split(" + ")
    except ProjError:
        return None
    for step in steps:
        old, _, new = step.partition("offset from ")[2].partition(" to ")
        if "ballpark" in step.lower() and not (_is_modern(old) and _is_modern(new)):
            return (
                f"no shift from the datum {old} to {new} is known for this place: features may lie about 100 m off;"
                " convert the source to WGS 84 with the parameters of its survey first"
            )
    return None


def _is_modern(datum: str) -> bool:
    return any(name in datum for name in _MODERN)
