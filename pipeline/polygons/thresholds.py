"""Thresholds chosen on validation data: every pair of grow and seed levels, judged pixel by pixel.

For one grow level the components of the closed mask do not depend on the seed level: each has an area, a highest
score, and pixels inside and outside the reference. So one labelling per grow level gives all seed levels at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.polygons.errors import PolygonError
from pipeline.polygons.morphology import close_gaps
from pipeline.polygons.scores import ReadScores, ScoreSource, open_scores
from regions.raster.burn import burn
from regions.raster.grid import Grid, Window
from regions.raster.scores import at_least, is_predicted, score_of
from regions.settings import PolygonConfig

LEVELS = tuple(round(0.05 * k, 2) for k in range(2, 19))
"""0.10 to 0.90 by 0.05."""
HALO_PX = 256
"""Ground round the validation area that is labelled too, so that its edge does not shrink villages."""


@dataclass(frozen=True)
class ThresholdChoice:
    """The best pair and the curve it was chosen from.

    Attributes:
        grow_probability: Level down to which villages grow.
        seed_probability: Level that starts one.
        curve: One row per pair: ``grow``, ``seed``, ``precision``, ``recall``, ``f1``, ``iou`` (float64; 0 where
            nothing is found), ``villages`` (int64, components that touch the area).
        pixels: Pixels judged.
        not_predicted_px: Pixels of the area left out because they have no score.
    """

    grow_probability: float
    seed_probability: float
    curve: pd.DataFrame
    pixels: int
    not_predicted_px: int

    def best_per_grow(self) -> pd.DataFrame:
        """The rows of the curve with the best seed level for each grow level, of equals the highest."""
        ordered = self.curve.sort_values(["grow", "f1", "seed"], kind="stable")
        return ordered.groupby("grow").tail(1).reset_index(drop=True)

    def apply(self, config: PolygonConfig) -> PolygonConfig:
        """The configuration with these thresholds."""
        return config.model_copy(update={"grow": self.grow_probability, "seed": self.seed_probability})


def choose_thresholds(
    scores: ScoreSource,
    *,
    grid: Grid,
    reference: gpd.GeoSeries,
    validation: gpd.GeoSeries,
    config: PolygonConfig,
    assessment: gpd.GeoSeries | None = None,
    levels: Sequence[float] = LEVELS,
) -> ThresholdChoice:
    """The pair of thresholds with the highest F1 on the validation area; of equals the highest levels.

    Closing and minimum mapping unit are those of ``config``; barriers, exclusions and simplification do not enter.

    Args:
        scores: The score raster.
        grid: The city's grid.
        reference: Reference villages in the grid's CRS, complete on the validation area.
        validation: The area, in the grid's CRS.
        config: Sizes.
        assessment: Ground kept for the assessment, in the grid's CRS; it must not meet the validation area.
        levels: Probabilities to try, each for growing and for seeds.

    Raises:
        PolygonError: The area overlaps the assessment's, lies off the grid, or has no predicted pixel or reference.
    """
    area = shapely.union_all(validation.to_numpy())
    if assessment is not None:
        common = shapely.area(shapely.intersection(area, shapely.union_all(assessment.to_numpy())))
        if common > 0:
            raise PolygonError(
                f"the validation area shares {common:.0f} m2 with the assessment's: thresholds must not be chosen on "
                "ground that the accuracy is measured on; take other areas"
            )
    parts = [part for part in shapely.get_parts(area) if not _window(part, grid).intersection(grid.window).is_empty]
    if not parts:
        raise PolygonError(f"the validation area {area.bounds} lies off the grid {grid.bounds_m}")
    shapes = reference.to_numpy()
    counts: dict[tuple[float, float], NDArray[np.int64]] = {}
    truth_px = pixels = missing = 0
    with open_scores(scores, grid) as read:
        for part in parts:
            ground = _Ground.of(part, shapes, read, grid)
            truth_px += int(np.count_nonzero(ground.truth))
            pixels += int(np.count_nonzero(ground.judged))
            missing += ground.not_predicted_px
            for grow in levels:
                for seed, found in _counts(ground, grow, levels, config, grid).items():
                    counts[grow, seed] = counts.get((grow, seed), np.zeros(3, dtype=np.int64)) + found
    if pixels == 0 or truth_px == 0:
        raise PolygonError(
            f"the validation area has {pixels} predicted pixels and {truth_px} of reference villages: "
            "thresholds need both"
        )
    curve = _curve(counts, truth_px)
    best = curve.sort_values(["f1", "grow", "seed"], kind="stable").iloc[-1]
    return ThresholdChoice(float(best["grow"]), float(best["seed"]), curve, pixels, missing)


@dataclass(frozen=True)
class _Ground:
    """One connected part of the validation area with ground round it."""

    scores: NDArray[np.uint8]
    judged: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    not_predicted_px: int

    @classmethod
    def of(cls, part: shapely.Polygon, reference: NDArray[np.object_], read: ReadScores, grid: Grid) -> _Ground:
        window = _window(part, grid).padded(HALO_PX).intersection(grid.window)
        scores = read(window)
        inside = burn([part], grid[window])
        near = shapely.STRtree(reference).query(part, predicate="intersects")
        judged = inside & is_predicted(scores)
        truth = burn(reference[np.sort(near)], grid[window]) & judged
        return cls(scores, judged, truth, int(np.count_nonzero(inside & ~judged)))


def _window(part: shapely.Geometry, grid: Grid) -> Window:
    left, bottom, right, top = shapely.bounds(part)
    return grid.window_of_bounds((float(left), float(bottom), float(right), float(top)))


def _counts(
    ground: _Ground, grow: float, levels: Sequence[float], config: PolygonConfig, grid: Grid
) -> dict[float, NDArray[np.int64]]:
    """For each seed level at or above ``grow``: true positives, false positives and components in the area."""
    mask = close_gaps(at_least(ground.scores, grow), radius_px=config.close_radius_px(grid.resolution_m))
    mask &= is_predicted(ground.scores)
    labels, found = ndimage.label(mask)
    size = np.bincount(labels.ravel(), minlength=found + 1)
    hits = np.bincount(labels[ground.truth], minlength=found + 1)
    judged = np.bincount(labels[ground.judged], minlength=found + 1)
    highest = np.zeros(found + 1, dtype=np.uint8)
    np.maximum.at(highest, labels[mask], ground.scores[mask])
    large = size * grid.resolution_m**2 >= config.min_area_m2
    large[0] = False
    result = {}
    for seed in levels:
        if seed >= grow:
            kept = large & (highest >= score_of(seed))
            numbers = (hits[kept].sum(), (judged - hits)[kept].sum(), np.count_nonzero(judged[kept]))
            result[seed] = np.array(numbers, dtype=np.int64)
    return result


def _curve(counts: dict[tuple[float, float], NDArray[np.int64]], truth_px: int) -> pd.DataFrame:
    rows = []
    for (grow, seed), (hit, false, villages) in sorted(counts.items()):
        precision = hit / (hit + false) if hit + false else 0.0
        recall = hit / truth_px
        f1 = 2 * hit / (truth_px + hit + false)
        rows.append((grow, seed, precision, recall, f1, hit / (truth_px + false), int(villages)))
    return pd.DataFrame(rows, columns=["grow", "seed", "precision", "recall", "f1", "iou", "villages"])
