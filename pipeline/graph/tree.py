"""An index of boxes that lie in space-filling order: a packed R-tree in plain arrays.

Nodes of a city graph are stored in Morton order, so the boxes of `FAN` neighbours in the array have a small common
envelope: envelopes of envelopes are a search tree that needs no building, is shared by processes through the page
cache, and is queried for all windows of a batch at once. (A `shapely.STRtree` must be built in every process from
geometry objects, which for a metropolis is gigabytes.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAN = 16


@dataclass(frozen=True)
class BoxTree:
    """Boxes and the envelopes above them.

    Attributes:
        levels: float64 (n, 4) left, bottom, right, top of the boxes, then of each `FAN` of them, and so on.
    """

    levels: tuple[NDArray[np.float64], ...]

    @classmethod
    def over(cls, boxes: NDArray[np.float64]) -> BoxTree:
        """The tree over ``boxes`` (n, 4)."""
        levels = [boxes]
        while len(levels[-1]) > FAN:
            below = levels[-1]
            starts = np.arange(0, len(below), FAN)
            low = np.minimum.reduceat(below[:, :2], starts, axis=0)
            high = np.maximum.reduceat(below[:, 2:], starts, axis=0)
            levels.append(np.concatenate([low, high], axis=1))
        return cls(tuple(levels))

    def query(self, windows: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All pairs (window, box) that meet, touching included, ordered by window, then box.

        Args:
            windows: float64 (B, 4) left, bottom, right, top.

        Returns:
            int64 (P,) window and int64 (P,) box.
        """
        top = self.levels[-1]
        window = np.repeat(np.arange(len(windows)), len(top))
        box = np.tile(np.arange(len(top)), len(windows))
        columns = [np.ascontiguousarray(windows[:, k]) for k in range(4)]
        for depth in range(len(self.levels) - 1, -1, -1):
            level = self.levels[depth]
            b = level[box]
            meet = (
                (b[:, 0] <= columns[2][window])
                & (b[:, 2] >= columns[0][window])
                & (b[:, 1] <= columns[3][window])
                & (b[:, 3] >= columns[1][window])
            )
            window, box = window[meet], box[meet]
            if depth:
                below = len(self.levels[depth - 1])
                size = np.minimum(FAN, below - box * FAN)
                stops = np.cumsum(size)
                child = np.arange(stops[-1] if len(stops) else 0) - np.repeat(stops - size, size)
                box = np.repeat(box * FAN, size) + child
                window = np.repeat(window, size)
        return window, box


def morton(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Position on the Z-order curve of coordinates (n,), by whole units of the CRS, from a fixed origin.

    The code depends on the coordinates alone, so that what is stored in this order does not depend on extents.
    """

    def spread(values: NDArray[np.float64]) -> NDArray[np.uint64]:
        v = (np.clip(np.floor(values), -(2.0**31), 2.0**31 - 1) + 2.0**31).astype(np.uint64)
        for shift, mask in (
            (16, 0x0000FFFF0000FFFF),
            (8, 0x00FF00FF00FF00FF),
            (4, 0x0F0F0F0F0F0F0F0F),
            (2, 0x3333333333333333),
            (1, 0x5555555555555555),
        ):
            v = (v | (v << np.uint64(shift))) & np.uint64(mask)
        return v

    return spread(x) | (spread(y) << np.uint64(1))
