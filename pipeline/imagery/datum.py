"""Imagery in a shifted datum: where it truly lies, and where a piece of the grid lies in it.

The shift of GCJ-02 is smooth: over a piece of `PIECE_M` an affine transform meets it, and the difference between the
projections, to a few centimetres. So a scene is resampled piece by piece, each with an affine transform of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray

from regions.datum import Datum, from_wgs84, to_wgs84
from regions.raster.grid import Grid, Window

PIECE_M = 256.0
"""Side of the pieces that are resampled with one affine transform."""


def true_bounds(
    bounds: tuple[float, float, float, float], crs: str, datum: Datum, target: str
) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) in ``target`` of ground whose bounds are given in ``crs`` in a shifted ``datum``."""
    left, bottom, right, top = bounds
    along = np.linspace(0.0, 1.0, 22)
    xs, ys = left + (right - left) * along, bottom + (top - bottom) * along
    edge_x = np.concatenate([xs, xs, np.full(22, left), np.full(22, right)])
    edge_y = np.concatenate([np.full(22, bottom), np.full(22, top), ys, ys])
    lonlat = _lonlat(crs).transform(edge_x, edge_y)
    x, y = _lonlat(target).transform(*to_wgs84(*lonlat, datum), direction="INVERSE")
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def pixel_affines(grid: Grid, chunk: Window, crs: str, datum: Datum) -> Iterator[tuple[Window, Affine]]:
    """The pieces of a chunk of the grid, each with the affine transform from its pixels to a scene's coordinates.

    Args:
        grid: The grid.
        chunk: A window of it.
        crs: CRS that the scene declares.
        datum: What its coordinates are in truth.
    """
    side_px = max(1, int(PIECE_M / grid.resolution_m))
    for row in range(chunk.row_px, chunk.stop_row_px, side_px):
        for col in range(chunk.col_px, chunk.stop_col_px, side_px):
            piece = Window(row, col, side_px, side_px).intersection(chunk)
            yield piece, _fitted(grid, piece, crs, datum)


def _fitted(grid: Grid, piece: Window, crs: str, datum: Datum) -> Affine:
    """Least squares over 5 x 5 points of the piece."""
    cols, rows = np.meshgrid(np.linspace(0, piece.width_px, 5), np.linspace(0, piece.height_px, 5))
    to_ground = grid[piece].affine
    x = to_ground.a * cols + to_ground.b * rows + to_ground.c
    y = to_ground.d * cols + to_ground.e * rows + to_ground.f
    lon, lat = _lonlat(grid.crs).transform(x.ravel(), y.ravel())
    scene_x, scene_y = _lonlat(crs).transform(*from_wgs84(lon, lat, datum), direction="INVERSE")
    at = np.stack([cols.ravel(), rows.ravel(), np.ones(cols.size)], axis=1)
    middle = np.array([scene_x.mean(), scene_y.mean()])  # near zero, so that no digits are lost
    found: NDArray[np.float64] = np.linalg.lstsq(at, np.stack([scene_x, scene_y], axis=1) - middle, rcond=None)[0]
    (a, d), (b, e), (c, f) = found[0], found[1], found[2] + middle
    return Affine(a, b, c, d, e, f)


def _lonlat(crs: str) -> pyproj.Transformer:
    """From a CRS to degrees of its own datum."""
    return pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
