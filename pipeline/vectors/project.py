"""Coordinates from one CRS to another, in bulk."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from pipeline.vectors.errors import VectorError


@lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


def bounds_in(bounds: tuple[float, float, float, float], source: CRS, target: CRS) -> tuple[float, float, float, float]:
    """The envelope in ``target`` of ``bounds`` (left, bottom, right, top) in ``source``, a thousandth wider.

    Raises:
        VectorError: the bounds do not lie where ``source`` can be transformed.
    """
    left, bottom, right, top = _transformer(source.to_wkt(), target.to_wkt()).transform_bounds(*bounds, densify_pts=21)
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
