"""Outlines of sub-pixel precision: the rings of pixels, moved to where the scores pass the level.

Every unit edge of a ring lies between the centres of a pixel inside and one outside. Its point goes to where the line
from score to score passes the level (linear interpolation, as marching squares does: Lorensen and Cline 1987, Computer
Graphics 21(4), 163). Points follow each other as the edges do, so rings keep their number, their order and which
component they belong to; what is ambiguous in marching squares (two pixels that meet at a corner) the tracer has told
apart before. A point stays off both centres, so exactly the pixels of the ring have their centres inside; and two
points of one cell of four centres never join across another such line, so no ring meets itself or another.

Worked example, one row of scores 20, 100, 140, 180 and a level of 120: the third pixel is the first inside, the
point lies half way from its centre (2.5) to that of the second (1.5), at 2.0; with 110 instead of 100 at two thirds
of the way, at 1.83.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.polygons.rings import Rings
from pipeline.polygons.scores import ReadScores
from regions.raster.grid import Window
from regions.raster.scores import NOT_PREDICTED

STEPS = 128
"""Points lie on this many steps between two centres: exact in binary, so that the same ground gives the same numbers
on every grid."""


class UnitEdges:
    """The unit edges of rings, each between a pixel inside and one outside.

    Attributes:
        rows: int64 (E,), row of the pixel inside.
        cols: int64 (E,), its column.
        down: int64 (E,), 1 where the pixel outside lies below, -1 above, 0 beside.
        right: int64 (E,), 1 where it lies to the right, -1 to the left, 0 above or below.
        offsets: int64 (K + 1,), ring k has edges ``offsets[k]:offsets[k + 1]``.
    """

    def __init__(self, rings: Rings) -> None:
        following = np.arange(1, len(rings.cols) + 1)
        following[rings.offsets[1:] - 1] = rings.offsets[:-1]
        across, along = rings.cols[following] - rings.cols, rings.rows[following] - rings.rows
        length = np.abs(across) + np.abs(along)
        stops = np.cumsum(length)
        self.offsets = np.concatenate(([0], stops))[rings.offsets]
        step = np.arange(self.offsets[-1]) - np.repeat(stops - length, length)
        heading_right, heading_down = np.repeat(np.sign(across), length), np.repeat(np.sign(along), length)
        # foreground on the left hand (y upwards): heading right the pixel above the edge is inside, heading down
        # the one at its right
        self.rows = np.repeat(rings.rows, length) + heading_down * step - ((heading_right > 0) | (heading_down < 0))
        self.cols = np.repeat(rings.cols, length) + heading_right * step - ((heading_right < 0) | (heading_down < 0))
        self.down, self.right = heading_right, -heading_down

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, share: NDArray[np.float64], rings: Rings) -> Rings:
        """The rings with a point on each edge, ``share`` (E,) of the way from the centre inside to that outside."""
        cols = self.cols + 0.5 + share * self.right
        rows = self.rows + 0.5 + share * self.down
        return Rings(cols, rows, self.offsets, rings.areas_px, rings.labels)

    def by_block(self, block_px: int) -> Iterator[tuple[Window, NDArray[np.int64]]]:
        """Windows of blocks that hold pixels inside, and which edges each holds."""
        if len(self) == 0:
            return
        stride = int(self.cols.max()) // block_px + 1
        block = self.rows // block_px * stride + self.cols // block_px
        order = np.argsort(block, kind="stable")
        numbers, starts = np.unique(block[order], return_index=True)
        for number, edges in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            row, col = number // stride * block_px, number % stride * block_px
            yield Window(row, col, block_px, block_px), edges


def halve_corners(rings: Rings) -> Rings:
    """The rings through the middles of their unit edges: what a level is to scores, for a mask that has none."""
    edges = UnitEdges(rings)
    return edges.place(np.full(len(edges), 0.5), rings)


def contour_rings(rings: Rings, read: ReadScores, *, level: int, block_px: int) -> Rings:
    """The rings at the level instead of on pixel edges.

    Where one of the two scores says nothing of the level (closed gaps, barriers, pixels that are not predicted), the
    point stays on the pixel edge.

    Args:
        rings: Rings on pixel edges.
        read: Gives windows of the scores.
        level: Smallest score inside; the outlines run half a step below it, so that no score lies on them.
        block_px: Side of the windows read; does not change the answer.

    Returns:
        The rings in the same order, with one point for each unit edge; areas are those of the pixels.
    """
    edges = UnitEdges(rings)
    share = np.full(len(edges), 0.5)
    for window, of_block in edges.by_block(block_px):
        share[of_block] = _crossings(edges, of_block, window, read, level)
    return edges.place(share, rings)


def _crossings(
    edges: UnitEdges, chosen: NDArray[np.int64], window: Window, read: ReadScores, level: int
) -> NDArray[np.float64]:
    """float64 (n,): share of the way from the centre inside to that outside at which the level is passed."""
    outer = window.padded(1)
    scores = read(outer)
    row, col = edges.rows[chosen] - outer.row_px, edges.cols[chosen] - outer.col_px
    inside = scores[row, col].astype(np.float64)
    outside = scores[row + edges.down[chosen], col + edges.right[chosen]].astype(np.float64)
    told = (inside >= level) & (outside < level)  # not predicted is 255, so never below the level
    told &= inside != NOT_PREDICTED
    share = np.full(len(chosen), 0.5)
    share[told] = (inside[told] - (level - 0.5)) / (inside[told] - outside[told])
    return np.clip(np.round(share * STEPS), 1, STEPS - 1) / STEPS
