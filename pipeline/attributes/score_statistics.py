"""Scores inside polygons, block by block: one histogram of 251 levels per polygon, in integers."""

from __future__ import annotations

from collections.abc import Callable

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from pipeline.polygons import ScoreSource, open_scores
from regions.raster.burn import ShapeLayer
from regions.raster.grid import Grid
from regions.raster.scores import NOT_PREDICTED, SCORE_SCALE


def count_scores(shapes: gpd.GeoSeries, scores: ScoreSource, grid: Grid, *, block_px: int = 2048) -> NDArray[np.int64]:
    """int64 (P, 256): how many pixel centres inside each polygon have each score (column 255: not predicted).

    Where polygons overlap, the later one gets the pixel.
    """
    layer = ShapeLayer(shapes.to_numpy(), grid)
    result = np.zeros((len(shapes), 256), dtype=np.int64)
    with open_scores(scores, grid) as read:
        for block in grid.blocks(block_px):
            rows = layer.rows(block)
            inside = rows >= 0
            if not inside.any():
                continue
            present, place = np.unique(rows[inside], return_inverse=True)
            pairs = place.astype(np.int64) * 256 + read(block)[inside]
            result[present] += np.bincount(pairs, minlength=len(present) * 256).reshape(-1, 256)
    return result


def summarise_scores(
    histograms: NDArray[np.int64], *, calibrate: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Mean, lower decile and calibrated confidence; NaN without a predicted pixel.

    Args:
        histograms: int64 (P, 256), see `count_scores`.
        calibrate: Scores float64 (n,) in [0, 1] to probabilities (n,); None gives NaN.

    Returns:
        ``score_mean``, ``score_p10`` (the smallest level that at least 10 % of the pixels do not exceed),
        ``confidence`` and ``predicted_share``, each float64 (P,).
    """
    predicted = histograms[:, : SCORE_SCALE + 1]
    levels = np.arange(SCORE_SCALE + 1) / SCORE_SCALE
    count = predicted.sum(axis=1)
    known = np.where(count > 0, count, np.nan)
    reached = np.cumsum(predicted, axis=1) * 10 >= count[:, None]
    confidence = np.full(len(count), np.nan) if calibrate is None else predicted @ calibrate(levels) / known
    total = count + histograms[:, NOT_PREDICTED]
    return {
        "score_mean": predicted @ levels / known,
        "score_p10": np.where(count > 0, levels[np.argmax(reached, axis=1)], np.nan),
        "confidence": confidence,
        "predicted_share": count / np.where(total > 0, total, np.nan),
    }
