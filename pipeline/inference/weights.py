"""Whole-number blending: sums that come out the same in any order.

A tile's probability becomes a whole number of 0 to 64000 (`UNITS`), its window weight a whole number whose sum over
all tiles on a pixel is 256 per axis, so 65536 per pixel. The sum of products is at most 64000 x 65536 < 2**32: it
fits uint32, needs no second accumulator for the weights, and its upper 8 bits are, rounded, the score of 0 to 250
(64000 x 65536 / 2**24 = 250).

Worked example in one dimension, tile 4 px, stride 2 px: the smooth window sin^2 gives 0.15, 0.85, 0.85, 0.15; a pixel
lies in two tiles, at places k and k + 2, whose weights become 38, 218 and 218, 38 of 256.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from regions.raster.grid import Tiling
from regions.raster.scores import SCORE_SCALE

UNITS = SCORE_SCALE * 256
"""The whole number of probability 1."""
WEIGHT_SUM = 256
SHIFT = 24
HALF = 1 << (SHIFT - 1)
MASKED = 0xFFFFFFFF
"""A sum that no blend can reach: marks pixels that are not predicted."""


def make_window_weights(tiling: Tiling) -> NDArray[np.uint32]:
    """Weight of each place in a tile along one axis.

    A squared sine rises over the overlap from the tile's edge; it is scaled so that the tiles on a pixel sum to one
    and rounded so that they sum to `WEIGHT_SUM` exactly (the running sum over the tiles on a pixel is rounded, and
    its steps taken).

    Returns:
        uint32 (tile,).
    """
    tile, stride = tiling.tile_px, tiling.stride_px
    ramp = min(max(1, tile - stride), tile / 2)
    edge = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    smooth = np.array([math.sin(math.pi / 2 * min(1.0, d / ramp)) ** 2 for d in edge])
    weights = np.zeros(tile, np.uint32)
    for residue in range(stride):
        places = slice(residue, tile, stride)
        share = np.cumsum(smooth[places]) / smooth[places].sum()
        steps = np.rint(share * WEIGHT_SUM).astype(np.int64)
        weights[places] = np.diff(steps, prepend=0)
    return weights


@lru_cache(maxsize=8)
def make_tile_weights(tiling: Tiling) -> NDArray[np.uint32]:
    """uint32 (tile, tile): the product of the weights of both axes."""
    one = make_window_weights(tiling)
    both = one[:, None] * one[None, :]
    both.setflags(write=False)
    return both


def scale_sums(total: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The score (0 to 250) of complete sums: the nearest level, half a level up."""
    return ((total + np.uint32(HALF)) >> np.uint32(SHIFT)).astype(np.uint8)
