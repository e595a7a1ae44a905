"""Imagery that lies in memory: for notebooks, tests, and data that came from elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.imagery.errors import ImageryError
from pipeline.imagery.source import content_digest
from regions.raster.grid import Grid, Window


class ArrayImagery:
    """An array on a grid, with the contract of `ImageSource`.

    Attributes:
        grid: The grid; the array covers it.
        bands: Bands per pixel.
    """

    def __init__(self, pixels: NDArray[np.uint8], grid: Grid, *, valid: NDArray[np.bool_] | None = None) -> None:
        shape = (grid.height_px, grid.width_px)
        if pixels.ndim != 3 or pixels.shape[1:] != shape or pixels.dtype != np.uint8:
            raise ImageryError(
                f"array is {pixels.dtype} {pixels.shape}, expected uint8 (bands, {shape[0]}, {shape[1]})"
            )
        if valid is not None and valid.shape != shape:
            raise ImageryError(f"valid mask is {valid.shape}, the grid {shape}: give one value per pixel")
        self.grid = grid
        self.bands = len(pixels)
        self._valid = np.ones(shape, np.bool_) if valid is None else valid
        self._pixels = pixels * self._valid

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Pixels uint8 (bands, H, W), 0 where invalid, and valid bool (H, W) of any window."""
        pixels = np.zeros((self.bands, window.height_px, window.width_px), np.uint8)
        valid = np.zeros((window.height_px, window.width_px), np.bool_)
        part = window.intersection(self.grid.window)
        if not part.is_empty:
            rows, cols = part.slices_in(window)
            own_rows, own_cols = part.slices_in(self.grid.window)
            pixels[:, rows, cols] = self._pixels[:, own_rows, own_cols]
            valid[rows, cols] = self._valid[own_rows, own_cols]
        return pixels, valid

    def digest(self, window: Window) -> str:
        """Digest of the content of a window."""
        return content_digest(*self.read(window))

    def stamp(self, window: Window) -> str:
        """The same as `digest`: memory is cheap to look at."""
        return self.digest(window)

    def may_have_data(self, window: Window) -> bool:
        """Whether a pixel of the window is valid."""
        return bool(self.read(window)[1].any())
