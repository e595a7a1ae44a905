"""Looks of a city's imagery: scenes of one acquisition look alike and share their statistics.

Two files of one flight cut at a sheet's edge are one look; a summer and a winter scene are two. What tells looks apart
is what files state: date of acquisition, type of pixels, size of pixels. Files that state no date are taken together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from pipeline.imagery.acquired import date_of_scenes
from pipeline.imagery.opening import opened
from pipeline.imagery.scene import inspect
from regions.raster.grid import Grid

CELL_PX = 16
"""Which scene lies on top is told apart in cells of this size."""
NOBODY = 255


@dataclass(frozen=True)
class Looks:
    """The looks of a city.

    Attributes:
        names: What tells each look apart, in the order of the topmost scene.
        scene_look: Look of each scene.
    """

    names: tuple[str, ...]
    scene_look: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)


def looks_of(paths: Sequence[Path], *, crs: str | None = None) -> Looks:
    """The looks of scenes, topmost first.

    Args:
        paths: Scene files.
        crs: CRS of files that state none.

    Raises:
        ImageryError: a scene that cannot be read.
    """
    keys = []
    for path in paths:
        scene = inspect(path, crs=crs)
        date, _ = date_of_scenes([path])
        size = max(abs(scene.transform[0]), abs(scene.transform[1]))
        keys.append(f"{'no date' if date is None else date}, {scene.dtype}, pixels of {size:.3g}")
    names = tuple(dict.fromkeys(keys))
    return Looks(names, tuple(names.index(key) for key in keys))


class LookShares:
    """Which looks a tile shows, by share of its area: the same for every block that reads it.

    Args:
        paths: Scene files, topmost first.
        looks: Their looks.
        grid: The city's grid.
        crs: CRS of files that state none.
    """

    def __init__(self, paths: Sequence[Path], looks: Looks, *, grid: Grid, crs: str | None = None) -> None:
        self._count = len(looks)
        self._owner: NDArray[np.uint8] | None = None
        if self._count > 1:
            self._owner = scene_owners(paths, looks, grid=grid, crs=crs)

    def __call__(self, corners: NDArray[np.int64], tile_px: int) -> NDArray[np.float32]:
        """Shares of tiles.

        Args:
            corners: int64 (B, 2), row and column of each tile's upper left pixel on the grid; may lie past the grid.
            tile_px: Side of the tiles.

        Returns:
            float32 (B, looks), rows of sum 1; a tile without imagery shares itself equally.
        """
        if self._owner is None:
            return np.ones((len(corners), 1), np.float32)
        rows, columns = self._owner.shape
        shares = np.full((len(corners), self._count), 1 / self._count, np.float32)
        for k, (row, column) in enumerate(corners.tolist()):
            top, bottom = (int(np.clip(v // CELL_PX, 0, rows)) for v in (row, row + tile_px + CELL_PX - 1))
            left, right = (int(np.clip(v // CELL_PX, 0, columns)) for v in (column, column + tile_px + CELL_PX - 1))
            seen = self._owner[top:bottom, left:right]
            count = np.bincount(seen[seen != NOBODY], minlength=self._count)
            if count.sum():
                shares[k] = count / count.sum()
        return shares


def scene_owners(paths: Sequence[Path], looks: Looks, *, grid: Grid, crs: str | None) -> NDArray[np.uint8]:
    """Look of the topmost scene with data in each cell: uint8, `NOBODY` where there is none."""
    shape = (-(-grid.height_px // CELL_PX), -(-grid.width_px // CELL_PX))
    owner = np.full(shape, NOBODY, np.uint8)
    fine = grid.affine
    coarse = rasterio.Affine(fine.a * CELL_PX, fine.b, fine.c, fine.d, fine.e * CELL_PX, fine.f)
    for path, look in zip(paths, looks.scene_look, strict=True):
        scene = inspect(path, crs=crs)
        with (
            opened(scene.path) as dataset,
            WarpedVRT(
                dataset, src_crs=scene.crs, src_transform=rasterio.Affine(*scene.transform), crs=grid.crs,
                transform=coarse, height=shape[0], width=shape[1], resampling=Resampling.nearest,
                add_alpha=scene.alpha_band is None,
            ) as view,
        ):  # fmt: skip
            there = view.read(view.count if scene.alpha_band is None else scene.alpha_band) > 0
        owner[(owner == NOBODY) & there] = look
    return owner
