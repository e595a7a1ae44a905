"""Reliability of scores: by bins of equal width, how often what was said is so.

The expected calibration error is the mean distance of score and observed share over the bins, weighted by pixels
(Naeini et al. 2015; Guo et al. 2017). `accuracy.comparison.reliability` gives the same of a finished map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Pixels whose score lies in one bin.

    Attributes:
        low: Least score, included.
        high: End, excluded but for 1.
        pixels: How many.
        weight: Sum of their weights.
        score_mean: Weighted mean of their scores; None without pixels.
        observed: Weighted share of those that are so; None without pixels.
    """

    low: float
    high: float
    pixels: int
    weight: float
    score_mean: float | None
    observed: float | None

    @property
    def gap(self) -> float | None:
        """Mean score minus observed share: positive where the scores promise too much; None without pixels."""
        if self.score_mean is None or self.observed is None:
            return None
        return self.score_mean - self.observed


def reliability_bins(
    scores: NDArray[np.floating],
    observed: NDArray[np.bool_],
    *,
    weights: NDArray[np.float64] | None = None,
    count: int = BINS,
) -> tuple[ReliabilityBin, ...]:
    """Group pixels by score.

    Args:
        scores: Probabilities (n,), 0 to 1.
        observed: bool (n,): whether it was so.
        weights: float64 (n,), not negative; None weighs all pixels 1.
        count: Bins of equal width.
    """
    weight = np.ones(len(scores)) if weights is None else weights
    owner = np.clip((np.asarray(scores, np.float64) * count).astype(np.int64), 0, count - 1)
    pixels, total = np.bincount(owner, minlength=count), np.bincount(owner, weight, minlength=count)
    score, hits = (np.bincount(owner, weight * v, minlength=count) for v in (scores, observed))
    return tuple(
        ReliabilityBin(
            low=k / count,
            high=(k + 1) / count,
            pixels=int(pixels[k]),
            weight=float(total[k]),
            score_mean=float(score[k] / total[k]) if total[k] > 0 else None,
            observed=float(hits[k] / total[k]) if total[k] > 0 else None,
        )
        for k in range(count)
    )


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float | None:
    """Mean of the absolute gaps, weighted by pixels; None without pixels."""
    total = sum(b.weight for b in bins)
    if total <= 0:
        return None
    return sum(b.weight * abs(b.gap) for b in bins if b.gap is not None) / total
