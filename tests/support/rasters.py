"""Rasters for tests: one writer, and pixels that say where they are.

A pixel of `coordinate_pixels` holds its own row and column on the lattice of its CRS, so a test that reads any window
of any file knows what must be there, and a shift by one pixel, swapped axes or a seam to the wrong scene show.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.io import DatasetWriter

from regions.raster.grid import Grid
from regions.raster.scores import MASK_DESCRIPTION, SCORE_ENCODING, SCORE_TAG

PERIOD = 251
"""A prime below 255: coordinates repeat only after 251 px, which is no multiple of any block or tile."""


def grid_at(
    left_m: float, top_m: float, shape_px: tuple[int, int], *, resolution_m: float = 1.0, crs: str = "EPSG:32649"
) -> Grid:
    """The grid of (height, width) pixels whose upper left corner is there; the corner must lie on the lattice."""
    col, row = left_m / resolution_m, -top_m / resolution_m
    if col != round(col) or row != round(row):
        raise ValueError(f"{left_m}, {top_m} is no corner of pixels of {resolution_m} m")
    return Grid(crs, resolution_m, round(col), round(row), *shape_px)


def coordinate_pixels(grid: Grid, *, bands: int = 3) -> np.ndarray:
    """Pixels that hold their coordinates: uint8 (bands, H, W), never 0 and never above 251.

    Band 0 is 1 + row modulo 251, band 1 is 1 + column modulo 251, band 2 mixes what both leave when divided by 251;
    further bands repeat these. Rows and columns are those of the lattice, so the same ground has the same pixel in
    every grid of one resolution.
    """
    rows = (grid.first_row + np.arange(grid.height_px))[:, None]
    cols = (grid.first_col + np.arange(grid.width_px))[None, :]
    kinds = (rows % PERIOD + 0 * cols, cols % PERIOD + 0 * rows, (rows // PERIOD + 16 * (cols // PERIOD)) % PERIOD)
    return np.stack([1 + kinds[band % 3] for band in range(bands)]).astype(np.uint8)


def write_coordinates(path: Path, grid: Grid, *, bands: int = 3, **how: Any) -> Path:
    """A file of `coordinate_pixels` whose nodata value is 0."""
    return write_raster(path, grid, coordinate_pixels(grid, bands=bands), **{"nodata": 0} | how)


def write_raster(path: Path, grid: Grid, values: np.ndarray, *, mask: np.ndarray | None = None, **how: Any) -> Path:
    """A tiled GeoTIFF of ``values`` (H, W) or (bands, H, W) on a grid.

    Args:
        path: The file.
        grid: Where the pixels lie.
        values: Pixels, whose type the file has.
        mask: Internal mask: where it is True the pixel is valid.
        how: Creation options and all else that `rasterio.open` takes, such as `nodata`, or a `transform` off the grid;
            these go before ours.
    """
    values = values if values.ndim == 3 else values[None]
    with raster_writer(path, grid, **{"bands": len(values), "dtype": values.dtype.name} | how) as sink:
        sink.write(values)
        if mask is not None:
            sink.write_mask(mask)
    return path


@contextmanager
def raster_writer(
    path: Path, grid: Grid, *, bands: int = 1, dtype: str = "uint8", **how: Any
) -> Iterator[DatasetWriter]:
    """An open GeoTIFF on a grid, in small blocks, for tests that write window by window."""
    profile = {
        "driver": "GTiff", "dtype": dtype, "count": bands, "height": grid.height_px, "width": grid.width_px,
        "crs": grid.crs, "transform": Affine(*grid.transform), "tiled": True, "blockxsize": 64, "blockysize": 64,
        "compress": "deflate",
    }  # fmt: skip
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile | how) as sink:
        yield sink


def mark_product(scores: Path, mask: Path | None = None) -> None:
    """Give rasters the marks by which a product's scores and mask are known."""
    with rasterio.open(scores, "r+") as sink:
        sink.update_tags(**{SCORE_TAG: SCORE_ENCODING})
    if mask is not None:
        with rasterio.open(mask, "r+") as sink:
            sink.set_band_description(1, MASK_DESCRIPTION)
