"""The area of interest, per tile and per pixel, the same however the city is cut."""

from __future__ import annotations

import threading
from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from pipeline.inference.errors import AreaError
from regions.raster.burn import burn
from regions.raster.grid import Grid, Window

CELL_PX = 1024


class AreaOfInterest:
    """A polygon in the grid's CRS, and which pixels have their centre in it.

    Pixels are rasterised in cells anchored to the origin of the CRS, never per block: rounding at the outline could
    otherwise differ between two ways of cutting. Block readers ask from several threads at once.
    """

    def __init__(self, geometry: BaseGeometry | None, grid: Grid) -> None:
        self._grid = grid
        if geometry is not None:
            if geometry.is_empty or geometry.area == 0.0:
                raise AreaError("the area of interest is empty: give a polygon")
            if not geometry.intersects(shapely.box(*grid.bounds_m)):
                raise AreaError(
                    f"the area of interest {_box(geometry.bounds)} does not meet the grid {_box(grid.bounds_m)} "
                    f"({grid.crs}): reproject it to the grid's CRS, or give the grid of this place"
                )
            geometry = shapely.from_wkb(shapely.to_wkb(geometry))  # preparing marks the object: never the caller's
            shapely.prepare(geometry)
        self._geometry = geometry
        self._prepared = threading.Lock()  # the index of a prepared geometry is built by its first use: GEOS, unlocked
        self._cell = lru_cache(maxsize=64)(self._burn_cell)

    def touches(self, bounds_m: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which boxes (K, 4) left, bottom, right, top meet the area: bool (K,)."""
        if self._geometry is None:
            return np.ones(len(bounds_m), np.bool_)
        boxes = shapely.box(*bounds_m.T)
        with self._prepared:
            hits: NDArray[np.bool_] = shapely.intersects(self._geometry, boxes)
        return hits

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window of the grid are in the grid and have their centre in the area: bool (H, W)."""
        mask = np.zeros((window.height_px, window.width_px), np.bool_)
        inside = window.intersection(self._grid.window)
        if inside.is_empty:
            return mask
        mask[inside.slices_in(window)] = True
        if self._geometry is None:
            return mask
        g = self._grid
        rows = range((g.first_row + inside.row_px) // CELL_PX, (g.first_row + inside.stop_row_px - 1) // CELL_PX + 1)
        cols = range((g.first_col + inside.col_px) // CELL_PX, (g.first_col + inside.stop_col_px - 1) // CELL_PX + 1)
        for i in rows:
            for j in cols:
                cell = Window(i * CELL_PX - g.first_row, j * CELL_PX - g.first_col, CELL_PX, CELL_PX)
                part = cell.intersection(inside)
                covered = self._cell(i, j)
                mask[part.slices_in(window)] = covered if isinstance(covered, bool) else covered[part.slices_in(cell)]
        return mask

    def _burn_cell(self, i: int, j: int) -> NDArray[np.bool_] | bool:
        grid = self._grid
        cell = grid[Window(i * CELL_PX - grid.first_row, j * CELL_PX - grid.first_col, CELL_PX, CELL_PX)]
        box = shapely.box(*cell.bounds_m)
        if self._geometry is None:
            return True
        with self._prepared:
            inside, meets = self._geometry.contains(box), self._geometry.intersects(box)
        if inside or not meets:
            return bool(inside)
        return burn([self._geometry], cell)


def _box(bounds: tuple[float, float, float, float]) -> str:
    return "({:.0f}, {:.0f})..({:.0f}, {:.0f})".format(*bounds)
