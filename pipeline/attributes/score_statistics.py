"""Scores inside polygons, block by block: one histogram of 251 levels per polygon, in integers."""

from __future__ import annotations

from collections.abc import Callable

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

from pipeline.polygons import SCORE_MAX, SCORE_NODATA, ScoreSource, score_reader
from regions.raster.grid import Grid


def score_histograms(
    shapes: gpd.GeoSeries, scores: ScoreSource, grid: Grid, *, block_px: int = 2048
) -> NDArray[np.int64]:
    """int64 (P, 256): how many pixel centres inside each polygon have each score (column 255: not predicted).

    Where polygons overlap, the later one gets the pixel.
    """
    geometry = shapes.to_numpy()
    tree = shapely.STRtree(geometry)
    result = np.zeros((len(geometry), 256), dtype=np.int64)
    with score_reader(scores, grid) as read:
        for block in grid.blocks(block_px):
            hits = np.sort(tree.query(shapely.box(*grid.window_bounds_m(block))))
            if len(hits) == 0:
                continue
            a, b, c, d, e, f = grid.transform
            inner = rasterize(
                zip(geometry[hits], range(1, len(hits) + 1), strict=True),
                out_shape=(block.height_px, block.width_px),
                transform=Affine(a, b, c + block.col_px * a, d, e, f + block.row_px * e),
                dtype="int32",
            )
            inside = inner > 0
            pairs = (inner[inside].astype(np.int64) - 1) * 256 + read(block)[inside]
            result[hits] += np.bincount(pairs, minlength=len(hits) * 256).reshape(-1, 256)
    return result


def score_statistics(
    histograms: NDArray[np.int64], *, calibrate: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Mean, lower decile and calibrated confidence; NaN without a predicted pixel.

    Args:
        histograms: int64 (P, 256), see `score_histograms`.
        calibrate: Scores float64 (n,) in [0, 1] to probabilities (n,); None gives NaN.

    Returns:
        ``score_mean``, ``score_p10`` (the smallest level that at least 10 % of the pixels do not exceed),
        ``confidence`` and ``predicted_share``, each float64 (P,).
    """
    predicted = histograms[:, : SCORE_MAX + 1]
    levels = np.arange(SCORE_MAX + 1) / SCORE_MAX
    count = predicted.sum(axis=1)
    known = np.where(count > 0, count, np.nan)
    reached = np.cumsum(predicted, axis=1) * 10 >= count[:, None]
    confidence = np.full(len(count), np.nan) if calibrate is None else predicted @ calibrate(levels) / known
    total = count + histograms[:, SCORE_NODATA]
    return {
        "score_mean": predicted @ levels / known,
        "score_p10": np.where(count > 0, levels[np.argmax(reached, axis=1)], np.nan),
        "confidence": confidence,
        "predicted_share": count / np.where(total > 0, total, np.nan),
    }
