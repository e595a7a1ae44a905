"""The pixel grid of a city, windows on it, and the tiles that the model sees.

Pixels and tiles are anchored to the origin of the CRS, not to the city's extent, so that the same ground
always falls in the same pixel and in the same tile, whatever area is asked for.

Worked example in one dimension, resolution 1 m, tile 4 px, stride 2 px, an extent from x = 3 to x = 9:
lattice columns 3..8 are in the extent; tile k covers columns [2k, 2k + 4); the tiles that touch the extent are
k = 0 ([0, 4)), 1, 2, 3 and 4 ([8, 12)). Parts of a tile outside the extent are read as nodata.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from affine import Affine

from regions.errors import RegionsError


class GridError(RegionsError):
    """A grid, window or tiling is impossible."""


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels, half open: rows ``[row_px, row_px + height_px)``, columns likewise.

    Row and column count from the upper left corner of the grid the window belongs to; they may be negative or
    reach past the grid where a halo does.
    """

    row_px: int
    col_px: int
    height_px: int
    width_px: int

    def __post_init__(self) -> None:
        if self.height_px < 0 or self.width_px < 0:
            raise GridError(f"window with negative size: {self.height_px} x {self.width_px} px")

    @property
    def stop_row_px(self) -> int:
        """First row below the window."""
        return self.row_px + self.height_px

    @property
    def stop_col_px(self) -> int:
        """First column right of the window."""
        return self.col_px + self.width_px

    @property
    def is_empty(self) -> bool:
        """Whether the window holds no pixel."""
        return self.height_px == 0 or self.width_px == 0

    def intersection(self, other: Window) -> Window:
        """The common part of two windows of one grid (empty, size 0, where they do not meet)."""
        row, col = max(self.row_px, other.row_px), max(self.col_px, other.col_px)
        height = max(0, min(self.stop_row_px, other.stop_row_px) - row)
        width = max(0, min(self.stop_col_px, other.stop_col_px) - col)
        return Window(row, col, height, width)

    def padded(self, halo_px: int) -> Window:
        """The window grown by ``halo_px`` on all four sides."""
        return Window(
            self.row_px - halo_px,
            self.col_px - halo_px,
            self.height_px + 2 * halo_px,
            self.width_px + 2 * halo_px,
        )

    def shifted(self, rows_px: int, cols_px: int) -> Window:
        """The window moved by a number of rows and columns."""
        return Window(self.row_px + rows_px, self.col_px + cols_px, self.height_px, self.width_px)

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """Row and column slices that cut this window out of an array that covers ``outer``."""
        return (
            slice(self.row_px - outer.row_px, self.stop_row_px - outer.row_px),
            slice(self.col_px - outer.col_px, self.stop_col_px - outer.col_px),
        )


@dataclass(frozen=True)
class Grid:
    """The pixel grid of a city.

    Attributes:
        crs: Projected CRS as an authority code ("EPSG:32650") or WKT; axis unit metre.
        resolution_m: Side of a pixel in metres.
        first_col: Index of the first column on the lattice of the CRS: its left edge is ``first_col * resolution_m``.
        first_row: Index of the first row, counted downwards: its upper edge is ``-first_row * resolution_m``.
        height_px: Number of rows.
        width_px: Number of columns.
    """

    crs: str
    resolution_m: float
    first_col: int
    first_row: int
    height_px: int
    width_px: int

    def __post_init__(self) -> None:
        if not (self.resolution_m > 0 and math.isfinite(self.resolution_m)):
            raise GridError(f"resolution must be a positive number of metres, got {self.resolution_m}")
        if self.height_px <= 0 or self.width_px <= 0:
            raise GridError(f"a grid needs at least one pixel, got {self.height_px} x {self.width_px} px")

    @classmethod
    def covering(cls, bounds_m: tuple[float, float, float, float], *, crs: str, resolution_m: float) -> Grid:
        """The smallest anchored grid that covers ``bounds_m`` = (left, bottom, right, top) in ``crs``.

        Edges within a thousandth of a pixel of a lattice line are taken to lie on it.
        """
        left, bottom, right, top = bounds_m
        if not (left < right and bottom < top):
            raise GridError(f"empty bounds: left {left} right {right} bottom {bottom} top {top}")
        snap = 1e-3
        first_col = math.floor(left / resolution_m + snap)
        first_row = math.floor(-top / resolution_m + snap)
        stop_col = math.ceil(right / resolution_m - snap)
        stop_row = math.ceil(-bottom / resolution_m - snap)
        return cls(crs, resolution_m, first_col, first_row, stop_row - first_row, stop_col - first_col)

    @property
    def window(self) -> Window:
        """The whole grid as a window."""
        return Window(0, 0, self.height_px, self.width_px)

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in the CRS, metres."""
        return self.window_bounds_m(self.window)

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """Affine coefficients (a, b, c, d, e, f): x = a col + b row + c, y = d col + e row + f."""
        r = self.resolution_m
        return (r, 0.0, self.first_col * r, 0.0, -r, -self.first_row * r)

    @property
    def affine(self) -> Affine:
        """The transform from (column, row) to coordinates in the CRS, as rasterio takes it."""
        return Affine(*self.transform)

    def __getitem__(self, window: Window) -> Grid:
        """The grid of a window: a part of a grid is a grid (the window may reach past this one).

        Raises:
            GridError: the window is empty.
        """
        return Grid(
            self.crs,
            self.resolution_m,
            self.first_col + window.col_px,
            self.first_row + window.row_px,
            window.height_px,
            window.width_px,
        )

    def window_bounds_m(self, window: Window) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of a window in the CRS, metres."""
        r = self.resolution_m
        return (
            (self.first_col + window.col_px) * r,
            -(self.first_row + window.stop_row_px) * r,
            (self.first_col + window.stop_col_px) * r,
            -(self.first_row + window.row_px) * r,
        )

    def window_of_bounds(self, bounds_m: tuple[float, float, float, float]) -> Window:
        """The smallest window that covers ``bounds_m`` (may reach past the grid)."""
        other = Grid.covering(bounds_m, crs=self.crs, resolution_m=self.resolution_m)
        return Window(
            other.first_row - self.first_row,
            other.first_col - self.first_col,
            other.height_px,
            other.width_px,
        )

    def blocks(self, block_px: int) -> Iterator[Window]:
        """Windows of ``block_px`` on a side (less at the lower and right edge), in row-major order."""
        if block_px <= 0:
            raise GridError(f"block size must be positive, got {block_px} px")
        for row in range(0, self.height_px, block_px):
            for col in range(0, self.width_px, block_px):
                yield Window(row, col, min(block_px, self.height_px - row), min(block_px, self.width_px - col))


@dataclass(frozen=True)
class Tiling:
    """Overlapping square tiles anchored to the lattice of the CRS.

    Tile ``(i, j)`` covers lattice rows ``[i * stride_px, i * stride_px + tile_px)`` and columns likewise.

    Attributes:
        tile_px: Side of a tile (224 for GeoLink).
        stride_px: Distance between neighbouring tiles; at most ``tile_px``.
    """

    tile_px: int
    stride_px: int

    def __post_init__(self) -> None:
        if not 0 < self.stride_px <= self.tile_px:
            raise GridError(f"stride must be in 1..tile ({self.tile_px} px), got {self.stride_px} px")

    def window(self, grid: Grid, tile: tuple[int, int]) -> Window:
        """The window of tile ``(i, j)`` on ``grid``."""
        return Window(
            tile[0] * self.stride_px - grid.first_row,
            tile[1] * self.stride_px - grid.first_col,
            self.tile_px,
            self.tile_px,
        )

    def tiles_touching(self, grid: Grid, window: Window) -> list[tuple[int, int]]:
        """Indices ``(i, j)`` of all tiles that share a pixel with ``window``, in row-major order."""
        if window.is_empty:
            return []
        rows = self._range(grid.first_row + window.row_px, grid.first_row + window.stop_row_px)
        cols = self._range(grid.first_col + window.col_px, grid.first_col + window.stop_col_px)
        return [(i, j) for i in rows for j in cols]

    def _range(self, start: int, stop: int) -> range:
        # the first tile with k * stride + tile > start, and the last with k * stride < stop
        return range((start - self.tile_px) // self.stride_px + 1, (stop - 1) // self.stride_px + 1)
