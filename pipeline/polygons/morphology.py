"""Closing of narrow gaps in a mask with an octagon, the nearest thing to a disc made of shifts alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def close_gaps(mask: NDArray[np.bool_], *, radius_px: int) -> NDArray[np.bool_]:
    """Dilate, then erode by an octagon of ``radius_px``.

    Exact where the mask is known: pixels at least ``2 * radius_px`` from the border, and everywhere if all outside
    the array is background. Gaps of at most ``2 * radius_px`` between two straight borders are filled.

    Args:
        mask: bool (h, w).
        radius_px: 0 returns the mask itself.

    Returns:
        bool (h, w).
    """
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if radius_px == 0 or len(rows) == 0:
        return mask
    # closing with a convex element adds nothing outside the bounding box
    box = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    grown = _dilate(np.pad(mask[box], radius_px), radius_px)
    # erosion is the dilation of the background; nothing comes in from outside the padded array
    closed = ~_dilate(~grown, radius_px)
    result = np.zeros_like(mask)
    result[box] = closed[radius_px:-radius_px, radius_px:-radius_px]
    return result


def choose_octagon(radius_px: int) -> tuple[int, int]:
    """The octagon of a radius as (square, diamond) radii that add up to it: 0.41 is tan(22.5 degrees)."""
    square = round(0.41421356 * radius_px)
    return square, radius_px - square


def _dilate(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    square, diamond = choose_octagon(radius_px)
    for axis in (0, 1):
        mask = _dilate_line(mask, square, axis)
    for _ in range(diamond):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def _dilate_line(mask: NDArray[np.bool_], radius_px: int, axis: int) -> NDArray[np.bool_]:
    """Dilate along one axis by shifts of doubled length: reach 1, 3, 7, ... up to ``radius_px``."""
    reach = 0
    while reach < radius_px:
        step = min(reach + 1, radius_px - reach)
        grown = mask.copy()
        source, target = np.moveaxis(mask, axis, 0), np.moveaxis(grown, axis, 0)
        target[step:] |= source[:-step]
        target[:-step] |= source[step:]
        mask, reach = grown, reach + step
    return mask
