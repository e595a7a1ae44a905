"""Several scenes of the same ground as one picture: the topmost with data, or the median of all that have any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rule = Literal["first", "median"]
"""``first``: the topmost scene with data; ``median``: per pixel and band the median of all scenes with data there."""
Seen = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Pixels uint8 (bands, H, W) of one scene and where they are valid, bool (H, W)."""


def first_of(scenes: Iterable[Seen], shape: tuple[int, int, int]) -> Seen:
    """The topmost scene with data at each pixel; scenes below what is full are not asked for.

    Args:
        scenes: Topmost first.
        shape: Bands, rows and columns.

    Returns:
        Pixels uint8 of ``shape``, 0 where no scene has data, and where one has.
    """
    pixels, valid = np.zeros(shape, np.uint8), np.zeros(shape[1:], np.bool_)
    for values, there in scenes:
        np.copyto(pixels, values, where=there & ~valid)
        valid |= there
        if valid.all():
            break
    return pixels, valid


def median_of(scenes: Iterable[Seen], shape: tuple[int, int, int]) -> Seen:
    """Median of the scenes with data at each pixel, band by band; of an even number the mean of the middle two.

    The order of the scenes does not matter; halves are rounded to the even number, as `numpy.rint` does. All scenes are
    held at once: about 20 bytes per pixel and scene of three bands.

    Args:
        scenes: In any order.
        shape: Bands, rows and columns.

    Returns:
        As `first_of`.
    """
    seen = list(scenes)
    if not seen:
        return np.zeros(shape, np.uint8), np.zeros(shape[1:], np.bool_)
    there = np.stack([v for _, v in seen], axis=-1)
    stack = np.stack([p for p, _ in seen], axis=-1).astype(np.uint16)
    stack[:, ~there] = np.iinfo(np.uint16).max  # past all that count
    stack.sort(axis=-1)
    count = there.sum(axis=-1)
    below, above = np.maximum(count - 1, 0) // 2, count // 2
    twice = sum(
        np.take_along_axis(stack, k[None, ..., None], axis=-1)[..., 0].astype(np.uint32) for k in (below, above)
    )
    pixels = np.where(count > 0, np.rint(twice / 2), 0).astype(np.uint8)
    return pixels, count > 0
