"""Reliability of a map's scores: does a score of 0.7 mean that 70 % of such pixels are urban village?

Against complete reference inside given areas, so a census like `accuracy.comparison.wall_to_wall`. The expected
calibration error is the mean distance between score and observed share over bins of equal width, weighted by pixels
(Naeini et al. 2015; Guo et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from accuracy.errors import ComparisonError
from regions.raster.burn import burn_into
from regions.raster.scores import SCORE_SCALE, is_predicted


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Pixels by score.

    Attributes:
        pixels: int64 (251,): predicted pixels of each score 0 to 250 inside the areas.
        positives: int64 (251,): those of them that are urban village in the reference.
        probability: float64 (251,): what a level means; None for level / 250.
    """

    pixels: NDArray[np.int64]
    positives: NDArray[np.int64]
    probability: NDArray[np.float64] | None = None

    def bins(self, count: int = 10) -> list[dict[str, float | int | None]]:
        """Bins of equal width, the least score of each included.

        Returns:
            Rows ``low``, ``high``, ``pixels``, ``score_mean``, ``observed`` and ``gap`` (mean score minus observed
            share: positive where the scores promise too much); the last three None where a bin is empty.
        """
        levels = np.arange(SCORE_SCALE + 1)
        probability = levels / SCORE_SCALE if self.probability is None else self.probability
        owner = levels * count // SCORE_SCALE if self.probability is None else (probability * count).astype(int)
        owner = np.minimum(owner, count - 1)
        rows: list[dict[str, float | int | None]] = []
        for k in range(count):
            mine = owner == k
            n = int(self.pixels[mine].sum())
            score_mean = float((probability * self.pixels)[mine].sum() / n) if n else None
            observed = float(self.positives[mine].sum() / n) if n else None
            rows.append(
                {
                    "low": k / count,
                    "high": (k + 1) / count,
                    "pixels": n,
                    "score_mean": score_mean,
                    "observed": observed,
                    "gap": None if score_mean is None or observed is None else score_mean - observed,
                }
            )
        return rows

    def expected_calibration_error(self, count: int = 10) -> float | None:
        """Mean distance of score and observed share over the bins, weighted by pixels; None without pixels."""
        total = int(self.pixels.sum())
        if total == 0:
            return None
        gap = 0.0
        for row in self.bins(count):
            n, distance = row["pixels"], row["gap"]
            if n is not None and distance is not None:
                gap += n * abs(distance)
        return gap / total

    def read_as(self, probability: NDArray[np.float64]) -> Reliability:
        """The same pixels, each of the 251 levels read as another probability: float64 (251,), 0 to 1."""
        return replace(self, probability=probability)


def measure_reliability(
    scores: Path,
    reference: gpd.GeoDataFrame,
    *,
    areas: gpd.GeoDataFrame | None = None,
    unlabelled: gpd.GeoDataFrame | None = None,
) -> Reliability:
    """Count pixels and urban villages per score, block by block of the raster.

    Args:
        scores: uint8 raster, 0 to 250 for probability 0 to 1, 255 = not predicted.
        reference: Urban villages, complete inside ``areas``; any CRS.
        areas: Where to look; None for everywhere.
        unlabelled: Ground of which the reference says nothing: it is left out.

    Raises:
        ComparisonError: not a raster of scores, or the reference has no CRS.
    """
    if reference.crs is None:
        raise ComparisonError(f"reference polygons for {scores} have no CRS: write one into the file before comparing")
    counts = np.zeros((2, SCORE_SCALE + 1), np.int64)
    with rasterio.open(scores) as raster:
        if raster.dtypes[0] != "uint8" or raster.crs is None:
            raise ComparisonError(
                f"{scores} holds {raster.dtypes[0]} in CRS {raster.crs}, expected uint8 scores with a CRS"
            )
        villages = reference.to_crs(raster.crs).geometry.to_numpy()
        inside = None if areas is None else areas.to_crs(raster.crs).geometry.to_numpy()
        unknown = None if unlabelled is None else unlabelled.to_crs(raster.crs).geometry.to_numpy()
        for _, window in raster.block_windows(1):
            values = raster.read(1, window=window)
            transform = raster.window_transform(window)
            box = shapely.box(*rasterio.windows.bounds(window, raster.transform))
            known = is_predicted(values)
            if inside is not None:
                known &= _burn(inside, box, values.shape, transform)
            if unknown is not None:
                known &= ~_burn(unknown, box, values.shape, transform)
            if not known.any():
                continue
            truth = _burn(villages, box, values.shape, transform)
            counts[0] += np.bincount(values[known], minlength=SCORE_SCALE + 1)[: SCORE_SCALE + 1]
            counts[1] += np.bincount(values[known & truth], minlength=SCORE_SCALE + 1)[: SCORE_SCALE + 1]
    return Reliability(pixels=counts[0], positives=counts[1])


def _burn(
    shapes: NDArray[np.object_], box: shapely.Geometry, shape: tuple[int, int], transform: rasterio.Affine
) -> NDArray[np.bool_]:
    return burn_into((g for g in shapes if g is not None and g.intersects(box)), transform, shape)
