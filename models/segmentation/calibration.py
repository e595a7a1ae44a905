"""Calibration: probabilities that mean what they say.

Temperature scaling (Guo et al. 2017, On Calibration of Modern Neural Networks): logits are divided by one number
that is fitted on validation data; the class of a pixel never changes by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from models.tiles.samples import IGNORE

TEMPERATURE_RANGE = (0.05, 20.0)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the smallest cross-entropy.

    Args:
        logits: Float (n, classes).
        labels: Integer (n,), `IGNORE` where unknown.

    Returns:
        Temperature within `TEMPERATURE_RANGE`; 1 where nothing is labelled.
    """
    known = labels != IGNORE
    x, y = logits[known].double(), labels[known].long()
    if not len(y):
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(functional.cross_entropy(x / np.exp(log_temperature), y))

    low, high = np.log(TEMPERATURE_RANGE)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x))


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How often the class is there where a probability was given.

    Attributes:
        edges: float64 (bins + 1,), bounds of the bins of probability.
        count: int64 (bins,), pixels per bin.
        confidence: float64 (bins,), mean probability per bin, NaN where empty.
        frequency: float64 (bins,), share of pixels of the class per bin, NaN where empty.
        expected_error: Mean distance of confidence and frequency, weighted by pixels (ECE).
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    frequency: NDArray[np.float64]
    expected_error: float


def reliability(
    probability: NDArray[np.float32], labels: NDArray[np.uint8], *, bins: int = 10, positive: int = 1
) -> Reliability:
    """Bins of reliability.

    Args:
        probability: Probability of the class, any shape, 0 to 1.
        labels: Labels of the same shape, `IGNORE` where unknown.
        bins: Number of equal bins.
        positive: The class.
    """
    known = labels != IGNORE
    p, y = probability[known].astype(np.float64), labels[known] == positive
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip((p * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        confidence = np.bincount(place, weights=p, minlength=bins) / count
        frequency = np.bincount(place, weights=y, minlength=bins) / count
    gap = np.where(count > 0, np.abs(confidence - frequency), 0.0)
    error = float((gap * count).sum() / max(1, count.sum()))
    return Reliability(edges=edges, count=count, confidence=confidence, frequency=frequency, expected_error=error)
