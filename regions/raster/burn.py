"""Polygons burnt into pixels, by one rule everywhere: a pixel belongs where its centre lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray

from regions.raster.grid import Grid, Window

Shape: TypeAlias = Any
"""A shapely geometry, or a GeoJSON mapping of one; None and empty geometries burn nothing."""


def burn(shapes: Iterable[Shape], grid: Grid) -> NDArray[np.bool_]:
    """Bool (H, W) of a grid: where the centre of a pixel lies in one of the shapes (in the grid's CRS)."""
    return burn_into(shapes, grid.affine, (grid.height_px, grid.width_px))


def burn_into(
    shapes: Iterable[Shape], transform: Affine, shape_px: tuple[int, int], *, all_touched: bool = False
) -> NDArray[np.bool_]:
    """As `burn`, for rasters that lie on no grid, such as a reference in another CRS or rotated.

    Args:
        shapes: In the coordinates that ``transform`` leads to.
        transform: From (column, row) to coordinates.
        shape_px: Rows and columns.
        all_touched: Burn every pixel that a shape touches, not only those whose centre lies in it.
    """
    pairs = [(shape, 1) for shape in shapes if _has_extent(shape)]
    return np.asarray(_burn(pairs, transform, shape_px, "uint8", all_touched=all_touched) > 0)


def burn_values(
    shapes: Iterable[Shape],
    values: Sequence[float] | NDArray[Any],
    grid: Grid,
    *,
    dtype: str = "int32",
    fill: float = 0,
) -> NDArray[Any]:
    """(H, W) of a grid with the value of the last shape in which a pixel's centre lies, ``fill`` elsewhere."""
    return burn_values_into(shapes, values, grid.affine, (grid.height_px, grid.width_px), dtype=dtype, fill=fill)


def burn_values_into(
    shapes: Iterable[Shape],
    values: Sequence[float] | NDArray[Any],
    transform: Affine,
    shape_px: tuple[int, int],
    *,
    dtype: str = "int32",
    fill: float = 0,
) -> NDArray[Any]:
    """As `burn_values`, for rasters that lie on no grid."""
    pairs = [(shape, value) for shape, value in zip(shapes, values, strict=True) if _has_extent(shape)]
    return _burn(pairs, transform, shape_px, dtype, fill=fill)


class ShapeLayer:
    """The shapes of a whole city, burnt window by window: a window costs only the shapes near it."""

    def __init__(self, shapes: NDArray[np.object_], grid: Grid) -> None:
        """Index ``shapes`` (P,), which lie in the CRS of ``grid``."""
        self._shapes = shapes
        self._tree = shapely.STRtree(shapes)
        self._grid = grid

    def near(self, window: Window) -> NDArray[np.int64]:
        """Rows (n,) of the shapes whose envelopes meet a window of the grid, rising."""
        hits = self._tree.query(shapely.box(*self._grid.window_bounds_m(window)))
        return np.asarray(np.sort(hits), np.int64)

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Bool (h, w): where the centre of a pixel lies in a shape."""
        return self.rows(window) >= 0

    def rows(self, window: Window) -> NDArray[np.int32]:
        """int32 (h, w): row of the last shape in which a pixel's centre lies, -1 where there is none."""
        if window.is_empty:
            return np.full((window.height_px, window.width_px), -1, np.int32)
        near = self.near(window)
        return burn_values(self._shapes[near], near, self._grid[window], fill=-1)


def _has_extent(shape: Shape) -> bool:
    return shape is not None and not getattr(shape, "is_empty", False)


def _burn(
    pairs: list[tuple[Any, Any]],
    transform: Affine,
    shape_px: tuple[int, int],
    dtype: str,
    *,
    fill: float = 0,
    all_touched: bool = False,
) -> NDArray[Any]:
    if not pairs:
        return np.full(shape_px, fill, dtype)
    burnt = rasterio.features.rasterize(
        pairs, out_shape=shape_px, transform=transform, dtype=dtype, fill=fill, all_touched=all_touched
    )
    return np.asarray(burnt)
