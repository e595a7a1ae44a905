"""What a refiner gets of a village in a window: its pixels, its scores, a box, points and a mask of logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from regions.raster.scores import probability_of

MAX_LOGIT = 6.0
"""Largest logit of the mask prompt; SAM's own low-resolution logits are of this order."""
FREE_PX = 8
"""Negative points keep this distance from the outline."""


@dataclass(frozen=True)
class Prompt:
    """One village in one window.

    Attributes:
        inside: bool (T, T), pixels of its outline before refinement.
        scores: uint8 (T, T), 255 = not predicted.
        allowed: bool (T, T), pixels that may become part of it: no other village, barrier or excluded land.
        box: int (4,) left, top, right, bottom of the pixels inside, in pixels of the window.
        positive: float64 (n, 2) points (x, y) inside.
        negative: float64 (m, 2) points (x, y) outside.
    """

    inside: NDArray[np.bool_]
    scores: NDArray[np.uint8]
    allowed: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]


def make_prompt(
    inside: NDArray[np.bool_],
    scores: NDArray[np.uint8],
    allowed: NDArray[np.bool_],
    *,
    positive_points: int,
    negative_points: int,
) -> Prompt | None:
    """The prompt of a village in a window; None where no pixel of it lies there."""
    if not inside.any():
        return None
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = (int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1)
    probability = probability_of(scores, not_predicted=0.0)
    depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    distance = distance_transform_edt(~inside)
    near = (distance > FREE_PX) & (distance < max(inside.shape) / 4)
    return Prompt(
        inside,
        scores,
        allowed,
        box,
        spread_points(inside, depth * (0.2 + probability), positive_points),
        spread_points(near, (1 - probability) * np.where(allowed, 1.0, 1.5), negative_points),
    )


def spread_points(mask: NDArray[np.bool_], weight: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Points of a mask, heavy and far from each other: the heaviest first, then by weight x distance to those taken.

    Returns:
        float64 (k, 2) as (x, y), k at most ``count``; the same for the same input.
    """
    row, col = np.nonzero(mask)
    if len(row) == 0 or count == 0:
        return np.zeros((0, 2))
    heavy = weight[row, col]
    away = np.full(len(row), np.inf)
    chosen: list[int] = []
    for _ in range(min(count, len(row))):
        value = heavy if not chosen else heavy * np.sqrt(away)
        best = int(np.argmax(value))
        if chosen and away[best] == 0:
            break
        chosen.append(best)
        away = np.minimum(away, (row - row[best]) ** 2.0 + (col - col[best]) ** 2.0)
    return np.column_stack((col[chosen], row[chosen])).astype(np.float64)


def make_logits(prompt: Prompt, *, side_px: int) -> NDArray[np.float32]:
    """float32 (side, side): logits of the scores near the village, low elsewhere, averaged to the prompt's size."""
    probability = probability_of(prompt.scores, not_predicted=0.0)
    probability = np.clip(probability, 1 / (1 + np.exp(MAX_LOGIT)), 1 / (1 + np.exp(-MAX_LOGIT)))
    logits = np.log(probability / (1 - probability))
    left, top, right, bottom = prompt.box
    reach = FREE_PX * 4
    outside = np.ones(logits.shape, dtype=bool)
    outside[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach] = False
    logits[outside | ~prompt.allowed] = -MAX_LOGIT
    factor = logits.shape[0] // side_px
    small: NDArray[np.float32] = logits.reshape(side_px, factor, side_px, factor).mean(axis=(1, 3)).astype(np.float32)
    return small
