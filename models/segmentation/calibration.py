"""Calibration: probabilities that mean what they say.

Temperature scaling (Guo et al. 2017, On Calibration of Modern Neural Networks): logits are divided by one number
that is fitted on validation data; the class of a pixel never changes by it.
"""

from __future__ import annotations

import numpy as np
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
