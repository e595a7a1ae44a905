"""The encoding of scores: probability of urban village as uint8, 0 to 250 for 0 to 1, 255 where not predicted."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SCORE_SCALE = 250
"""The score of probability 1."""

NOT_PREDICTED = 255
"""The score, and the value of a mask, where nothing was predicted; never the same as 0."""

SCORE_TAG = "UVMAP_SCORE"
SCORE_ENCODING = "0..250 = probability 0..1, 255 = not predicted"
"""Tag of a score raster and its value, by which a score raster is told from any other uint8 raster."""

MASK_DESCRIPTION = "urban village: 1 yes, 0 no, 255 not predicted"
"""Description of the band of a mask of published polygons, by which it is told from other rasters."""


def score_of(probability: float) -> int:
    """The smallest score of at least ``probability``: 0.6 gives 150, although 0.6 * 250 is a hair more in floats."""
    return math.ceil(probability * SCORE_SCALE - 1e-9)


def is_predicted(scores: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Bool, the shape of ``scores``: where a score or a mask says anything."""
    return np.asarray(scores != NOT_PREDICTED)


def at_least(scores: NDArray[np.uint8], probability: float) -> NDArray[np.bool_]:
    """Bool, the shape of ``scores``: predicted, with at least this probability."""
    return np.asarray((scores >= score_of(probability)) & (scores != NOT_PREDICTED))


def probability_of(scores: NDArray[np.uint8], *, not_predicted: float) -> NDArray[np.float64]:
    """Float64, the shape of ``scores``: their probabilities, and ``not_predicted`` where nothing was predicted."""
    return np.asarray(np.where(is_predicted(scores), scores / SCORE_SCALE, not_predicted), np.float64)
