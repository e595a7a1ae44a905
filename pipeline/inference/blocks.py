"""How a city is cut into blocks of tiles.

Each tile belongs to one block, so no tile is computed twice. A block's tiles reach past its own pixels, its *core*,
to the right and downwards; what they add there is kept as sums, and the neighbour's scores are made of both.

Worked example in one dimension, tile 4 px, stride 2 px, 3 tiles per block: block 0 owns tiles 0, 1, 2, which cover
pixels 0..7; its core is 0..5, its overhang 6..7. Block 1 owns tiles 3, 4, 5 (pixels 6..13), core 6..11. Pixels 6 and
7 get sums from tile 2 (of block 0) and tile 3 (of block 1). Pixels 2..5 are block 0's alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regions.raster.grid import Grid, Tiling, Window


@dataclass(frozen=True, order=True)
class BlockId:
    """Place of a block in the lattice of blocks, anchored to the origin of the CRS like tiles and pixels."""

    row: int
    col: int

    @property
    def name(self) -> str:
        """For files and ledgers."""
        return f"block_r{self.row}_c{self.col}"


@dataclass(frozen=True)
class BlockPlan:
    """The blocks of a grid.

    Attributes:
        grid: The grid.
        tiling: Its tiles.
        tiles_per_side: Tiles of a block along each axis.
    """

    grid: Grid
    tiling: Tiling
    tiles_per_side: int

    @classmethod
    def of_size(cls, grid: Grid, tiling: Tiling, *, block_px: int) -> BlockPlan:
        """The plan whose blocks read at most ``block_px`` on a side (one tile where that is less)."""
        return cls(grid, tiling, max(1, (block_px - tiling.tile_px) // tiling.stride_px + 1))

    @property
    def core_px(self) -> int:
        """Side of a core."""
        return self.tiles_per_side * self.tiling.stride_px

    @property
    def overhang_px(self) -> int:
        """How far a block's tiles reach past its core."""
        return self.tiling.tile_px - self.tiling.stride_px

    @property
    def reach(self) -> int:
        """How many blocks on, to the right and downwards, an overhang may reach."""
        return math.ceil(self.overhang_px / self.core_px)

    def core(self, block: BlockId) -> Window:
        """The pixels that are a block's own, as a window of the grid (not clipped to it)."""
        return Window(
            block.row * self.core_px - self.grid.first_row,
            block.col * self.core_px - self.grid.first_col,
            self.core_px,
            self.core_px,
        )

    def footprint(self, block: BlockId) -> Window:
        """The pixels that a block's tiles cover, as a window of the grid (not clipped to it)."""
        core = self.core(block)
        side = self.core_px + self.overhang_px
        return Window(core.row_px, core.col_px, side, side)

    def blocks(self) -> Iterator[BlockId]:
        """All blocks with a tile that touches the grid, in row-major order."""
        rows, cols = self._tile_rows(), self._tile_cols()
        n = self.tiles_per_side
        for row in range(rows[0] // n, rows[-1] // n + 1):
            for col in range(cols[0] // n, cols[-1] // n + 1):
                yield BlockId(row, col)

    def tiles(self, block: BlockId) -> NDArray[np.int64]:
        """Upper left pixels (row, col) on the grid of the block's tiles that touch the grid: (K, 2), row-major."""
        n, stride = self.tiles_per_side, self.tiling.stride_px
        axes = []
        for at, span, first in (
            (block.row, self._tile_rows(), self.grid.first_row),
            (block.col, self._tile_cols(), self.grid.first_col),
        ):
            own = range(max(at * n, span[0]), min((at + 1) * n, span[-1] + 1))
            axes.append(np.array(own, np.int64) * stride - first)
        rows, cols = np.meshgrid(*axes, indexing="ij")
        return np.stack([rows.ravel(), cols.ravel()], axis=1)

    def tile_bounds_m(self, tiles: NDArray[np.int64]) -> NDArray[np.float64]:
        """(K, 4) left, bottom, right, top in metres of tiles given by their upper left pixels (K, 2)."""
        r, t = self.grid.resolution_m, self.tiling.tile_px
        left = (self.grid.first_col + tiles[:, 1]) * r
        top = -(self.grid.first_row + tiles[:, 0]) * r
        right = (self.grid.first_col + tiles[:, 1] + t) * r
        bottom = -(self.grid.first_row + tiles[:, 0] + t) * r
        return np.stack([left, bottom, right, top], axis=1)

    def _tile_rows(self) -> range:
        return self._touching(self.grid.first_row, self.grid.height_px)

    def _tile_cols(self) -> range:
        return self._touching(self.grid.first_col, self.grid.width_px)

    def _touching(self, first: int, size: int) -> range:
        t, s = self.tiling.tile_px, self.tiling.stride_px
        return range((first - t) // s + 1, (first + size - 1) // s + 1)


def unite_windows(tiles: NDArray[np.int64], tile_px: int) -> Window:
    """The smallest window that holds all tiles (K, 2), K > 0."""
    row, col = (int(v) for v in tiles.min(axis=0))
    last_row, last_col = (int(v) for v in tiles.max(axis=0))
    return Window(row, col, last_row + tile_px - row, last_col + tile_px - col)
