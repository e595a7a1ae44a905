"""Which ground is learnt from and which chooses the model, where nobody said so."""

from __future__ import annotations

import numpy as np
import shapely

HELD_OUT_EVERY = 5
"""Every fifth strip of an area is kept for validation."""
GAP_TILES = 0.25
"""Ground left out on each side of a strip, in tiles: neighbours say the same."""


def held_out_strips(area: shapely.Geometry, *, tile_m: float) -> tuple[shapely.Geometry, shapely.Geometry]:
    """An area cut in two across its longer side: what is learnt from, and strips as wide as a tile to validate on.

    The strips are every fifth, or the last fifth of a small area. Both parts keep the distance `GAP_TILES` tiles.

    Args:
        area: Labelled ground, in metres.
        tile_m: Side of a tile in metres.

    Returns:
        Ground to learn from and ground to validate on; either may be empty where the area is small or scattered.
    """
    left, bottom, right, top = shapely.bounds(area)
    along_x = right - left >= top - bottom
    start, stop = (left, right) if along_x else (bottom, top)
    count = max(HELD_OUT_EVERY, round((stop - start) / tile_m))
    edges = np.linspace(start, stop, count + 1)
    held = np.flatnonzero(np.arange(count) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1)
    gap = GAP_TILES * tile_m

    def strips(wider: float) -> shapely.Geometry:
        low, high = edges[held] - wider, edges[held + 1] + wider
        boxes = shapely.box(low, bottom, high, top) if along_x else shapely.box(left, low, right, high)
        return shapely.union_all(boxes)

    return shapely.difference(area, strips(gap)), shapely.intersection(area, strips(0.0))
