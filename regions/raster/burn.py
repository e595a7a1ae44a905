"""Polygons burnt into pixels, by one rule everywhere: a pixel belongs where its centre lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray

from regions.raster.grid import Grid


def burn(shapes: Iterable[shapely.Geometry | None], grid: Grid) -> NDArray[np.bool_]:
    """Bool (H, W) of a grid: where the centre of a pixel lies in one of the shapes (in the grid's CRS)."""
    return burn_into(shapes, grid.affine, (grid.height_px, grid.width_px))


def burn_into(
    shapes: Iterable[shapely.Geometry | None], transform: Affine, shape_px: tuple[int, int]
) -> NDArray[np.bool_]:
    """As `burn`, for rasters that lie on no grid, such as a reference in another CRS or rotated."""
    values = [(g, 1) for g in shapes if g is not None and not g.is_empty]
    return np.asarray(_burn(values, transform, shape_px, "uint8") > 0)


def burn_values(
    shapes: Sequence[shapely.Geometry],
    values: Sequence[float] | NDArray[Any],
    grid: Grid,
    *,
    dtype: str = "int32",
    fill: float = 0,
) -> NDArray[Any]:
    """(H, W) of a grid with the value of the last shape in which a pixel's centre lies, ``fill`` elsewhere."""
    pairs = [(g, v) for g, v in zip(shapes, values, strict=True) if g is not None and not g.is_empty]
    return _burn(pairs, grid.affine, (grid.height_px, grid.width_px), dtype, fill)


def _burn(
    pairs: list[tuple[Any, Any]], transform: Affine, shape_px: tuple[int, int], dtype: str, fill: float = 0
) -> NDArray[Any]:
    if not pairs:
        return np.full(shape_px, fill, dtype)
    burnt = rasterio.features.rasterize(pairs, out_shape=shape_px, transform=transform, dtype=dtype, fill=fill)
    return np.asarray(burnt)
