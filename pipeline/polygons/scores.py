"""Windows of a score array or raster, whatever thread asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import local

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from rasterio.windows import Window as RasterWindow

from pipeline.polygons.errors import PolygonError
from regions.raster.gdal_cache import bounded_gdal_cache
from regions.raster.grid import Grid, Window
from regions.raster.scores import NOT_PREDICTED

ScoreSource = Path | str | NDArray[np.uint8]
ReadScores = Callable[[Window], NDArray[np.uint8]]


def open_scores(scores: ScoreSource, grid: Grid) -> _ScoreReader:
    """A context that gives ``read(window) -> uint8 (h, w)``; outside the grid all is "not predicted".

    Raises:
        PolygonError: The raster or array is not uint8 or does not lie on the grid.
    """
    return _ScoreReader(scores, grid)


class _ScoreReader:
    """Reads windows of an array or a raster, with a dataset handle per thread."""

    def __init__(self, scores: ScoreSource, grid: Grid) -> None:
        self._grid = grid
        self._local = local()
        self._env = bounded_gdal_cache()
        self._handles: list[rasterio.DatasetReader] = []
        self._array = scores if isinstance(scores, np.ndarray) else None
        self._path = None if isinstance(scores, np.ndarray) else Path(scores)

    def __enter__(self) -> ReadScores:
        self._env.__enter__()
        try:
            self._check()
        except PolygonError:
            self.__exit__()
            raise
        return self.read

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.close()
        self._env.__exit__()

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Uint8 (h, w) of a window that may reach past the grid."""
        inside = window.intersection(self._grid.window)
        if self._array is not None:
            data = self._array[inside.slices_in(self._grid.window)]
        else:
            raster_window = RasterWindow(inside.col_px, inside.row_px, inside.width_px, inside.height_px)
            data = self._dataset().read(1, window=raster_window)
        if inside == window:
            return data
        out = np.full((window.height_px, window.width_px), NOT_PREDICTED, dtype=np.uint8)
        out[inside.slices_in(window)] = data
        return out

    def _dataset(self) -> rasterio.DatasetReader:
        handle = getattr(self._local, "handle", None)
        if handle is None:
            try:
                handle = rasterio.open(self._path)
            except RasterioIOError as error:
                raise PolygonError(f"score raster {self._path} cannot be opened: {error}") from error
            self._local.handle = handle
            self._handles.append(handle)
        return handle

    def _check(self) -> None:
        grid = self._grid
        if self._array is not None:
            if self._array.dtype != np.uint8 or self._array.shape != (grid.height_px, grid.width_px):
                raise PolygonError(
                    f"scores are {self._array.dtype} {self._array.shape}, the grid wants uint8 "
                    f"({grid.height_px}, {grid.width_px})"
                )
            return
        dataset = self._dataset()
        if dataset.count > 2 or dataset.dtypes[0] != "uint8":
            raise PolygonError(
                f"{self._path}: scores must be uint8, one band or two (score, disagreement), "
                f"found {dataset.count} x {dataset.dtypes[0]}"
            )
        if (dataset.height, dataset.width) != (grid.height_px, grid.width_px) or not np.allclose(
            tuple(dataset.transform)[:6], grid.transform, rtol=0, atol=1e-6 * grid.resolution_m
        ):
            raise PolygonError(
                f"{self._path}: raster of {dataset.height} x {dataset.width} px at {tuple(dataset.transform)[:6]} does "
                f"not lie on the grid of {grid.height_px} x {grid.width_px} px at {grid.transform}: predict it again"
            )
        if dataset.crs is None or dataset.crs != rasterio.crs.CRS.from_user_input(grid.crs):
            raise PolygonError(f"{self._path}: raster is in {dataset.crs}, the grid in {grid.crs}: predict it again")


def grid_of_scores(path: Path) -> Grid:
    """The grid that a score raster was written on.

    Raises:
        PolygonError: The raster cannot be opened, is rotated, has no CRS or does not lie on the lattice of its CRS.
    """
    try:
        with rasterio.open(path) as dataset:
            transform, crs, bounds = dataset.transform, dataset.crs, tuple(dataset.bounds)
            shape = (dataset.height, dataset.width)
    except RasterioIOError as error:
        raise PolygonError(f"score raster {path} cannot be opened: {error}") from error
    if crs is None or transform.b or transform.d:
        raise PolygonError(f"{path}: a score raster has a CRS and is not rotated; found {crs}, {tuple(transform)[:6]}")
    code = crs.to_epsg()
    grid = Grid.covering(bounds, crs=f"EPSG:{code}" if code else crs.to_wkt(), resolution_m=float(transform.a))
    if (grid.height_px, grid.width_px) != shape:
        raise PolygonError(
            f"{path}: {shape} px do not lie on the lattice of {transform.a} m ({(grid.height_px, grid.width_px)} px "
            "would): write it with `uvmap map`"
        )
    return grid
