"""The outlines of runs: corners, rings and polygons, without a loop over pixels, edges or parts.

Corners lie on the lattice of pixel corners. In one lattice row the corners, from left to right, are by turns the
left and right ends of horizontal edges; in one lattice column they are by turns the upper and lower ends of
vertical edges. So two sorts give each corner its two neighbours, and following them (by pointer doubling) gives
the rings. Two pixels that touch at a corner only are told apart by their component: of one component, the ring
turns round the background, of two, round the pixels; hence no ring meets a point twice, and polygons are valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.polygons.runs import Runs

Lattice: TypeAlias = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True)
class Rings:
    """Closed outlines in pixel units, in order of their topmost, then leftmost edge.

    Attributes:
        cols: int64 (V,), corner columns of all rings one after the other, first corner not repeated; float64 once
            the rings run along the level of the scores (`contours`).
        rows: int64 (V,), corner rows; float64 likewise.
        offsets: int64 (K + 1,), ring k has corners ``offsets[k]:offsets[k + 1]``.
        areas_px: int64 (K,), signed area: positive for an outer ring (counter-clockwise with y upwards), negative
            for a hole.
        labels: int32 (K,), 4-connected component of each ring.
    """

    cols: Lattice
    rows: Lattice
    offsets: NDArray[np.int64]
    areas_px: NDArray[np.int64]
    labels: NDArray[np.int32]

    def select(self, keep: NDArray[np.intp]) -> Rings:
        """The rings with indices ``keep``, in that order."""
        lengths = np.diff(self.offsets)[keep]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        index = np.arange(offsets[-1]) + np.repeat(self.offsets[keep] - offsets[:-1], lengths)
        return Rings(self.cols[index], self.rows[index], offsets, self.areas_px[keep], self.labels[keep])


def trace_rings(runs: Runs, labels: NDArray[np.int32]) -> Rings:
    """The outlines of all 4-connected components.

    Args:
        runs: Runs of the whole grid.
        labels: int32 (R,), component of each run, for connectivity 4.
    """
    if len(runs) == 0:
        none = np.zeros(0, dtype=np.int64)
        return Rings(none, none, np.zeros(1, dtype=np.int64), none, np.zeros(0, dtype=np.int32))
    key, bottom_fg, down, label = _corners(runs, labels)
    row, col = key // runs.stride, key % runs.stride
    # vertical partners: sort by column, then row, at one point the lower end (up) before the upper end (down)
    order = np.argsort((col * (runs.height_px + 1) + row) * 2 + down)
    partner = np.empty(len(key), dtype=np.int64)
    partner[order[0::2]] = order[1::2]
    partner[order[1::2]] = order[0::2]
    # horizontal edge k joins corners 2k (left) and 2k + 1 (right); foreground on the left hand (y upwards)
    edge = np.arange(len(key) // 2)
    leftwards = bottom_fg[0::2]
    tail, head = 2 * edge + leftwards, 2 * edge + ~leftwards
    ring_of_edge, position, lengths = _follow(partner[head] >> 1)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    place = offsets[ring_of_edge] + position
    cols, rows = np.empty(len(key), dtype=np.int64), np.empty(len(key), dtype=np.int64)
    cols[2 * place], cols[2 * place + 1] = col[tail], col[head]
    rows[2 * place], rows[2 * place + 1] = row[tail], row[head]
    # shoelace with y = -row: the integral of row over dx along the horizontal edges
    areas = np.add.reduceat(rows[0::2] * (cols[1::2] - cols[0::2]), offsets[:-1])
    ring_labels = np.empty(len(lengths), dtype=np.int32)
    ring_labels[ring_of_edge] = label[tail]
    return Rings(cols, rows, 2 * offsets, areas, ring_labels)


def _corners(
    runs: Runs, labels: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int32]]:
    """Corners in lattice order: position, whether the edge at the right has its pixel below, downwards, component.

    Each change of a row is seen from the lattice row above it (the row is "bottom") and from the one below ("top").
    Seen from both with the same direction it lies on a straight vertical edge; with opposite directions it is a
    point where two pixels touch at their corners, and counts twice.
    """
    change = np.empty(2 * len(runs), dtype=np.int64)
    change[0::2], change[1::2] = runs.starts, runs.stops
    # a change that the row above has too, in the same direction, is on a straight edge there: no corner
    above = np.searchsorted(change, change - runs.stride)
    same = change[np.minimum(above, len(change) - 1)] == change - runs.stride
    straight = np.flatnonzero(same & ((above ^ np.arange(len(change))) % 2 == 0))
    lower, upper = np.ones(len(change), dtype=np.bool_), np.ones(len(change), dtype=np.bool_)
    lower[straight] = False
    upper[above[straight]] = False
    del above, same, straight
    # as the bottom row's the remaining changes are in order, as the top row's too: the sort merges the two
    as_bottom, as_top = np.flatnonzero(lower), np.flatnonzero(upper)
    key = np.concatenate((change[as_bottom], change[as_top] + runs.stride))
    order = np.argsort(key, kind="stable")
    key = key[order]
    bottom = order < len(as_bottom)
    source = np.concatenate((as_bottom, as_top))[order]
    del order, as_bottom, as_top, lower, upper
    bottom_fg = bottom == (source % 2 == 0)
    label = labels[source >> 1]
    down = bottom.copy()
    diagonal = np.flatnonzero(key[1:] == key[:-1])  # the first of two at one point: the bottom row's
    first_up = bottom_fg[diagonal] != (label[diagonal] == label[diagonal + 1])
    low, high = label[diagonal], label[diagonal + 1]
    down[diagonal], down[diagonal + 1] = ~first_up, first_up
    label[diagonal], label[diagonal + 1] = np.where(first_up, high, low), np.where(first_up, low, high)
    return key, bottom_fg, down, label


def _follow(successor: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cycles of a permutation: cycle of each element, its position in it, and the cycles' lengths.

    Cycles start at their smallest element and are numbered in order of it. Pointer doubling: after k rounds each
    element knows the smallest of the next 2^k, so the rounds grow with the logarithm of the longest cycle.
    """
    leader = np.arange(len(successor))
    jump = successor.copy()
    active = leader.copy()
    while len(active):
        through = jump[active]
        smallest = np.minimum(leader[active], leader[through])
        far = jump[through]
        if not np.any(smallest < leader[active]):
            break  # a round that changes nothing: every cycle is settled
        leader[active], jump[active] = smallest, far
        active = active[far != active]  # come round exactly: this cycle is settled
    return _rank(successor, leader)


def _rank(
    successor: NDArray[np.int64], leader: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Number and order the cycles whose smallest elements are known."""
    count = len(successor)
    steps = np.ones(count, dtype=np.int64)
    steps[leader == np.arange(count)] = 0
    jump = np.where(steps == 0, np.arange(count), successor)
    active = np.flatnonzero(jump != leader)
    while len(active):
        through = jump[active]
        steps[active] += steps[through]
        jump[active] = jump[through]
        active = active[jump[active] != leader[active]]
    heads, cycle = np.unique(leader, return_inverse=True)
    lengths = np.bincount(cycle, minlength=len(heads))
    return cycle, np.where(steps == 0, 0, lengths[cycle] - steps), lengths


def polygons_of_rings(rings: Rings) -> tuple[NDArray[np.object_], NDArray[np.int32]]:
    """One polygon with its holes per component.

    Args:
        rings: Rings of whole components: each with exactly one outer ring.

    Returns:
        object (P,) of shapely polygons in pixel units (x = column, y = row), and int32 (P,) their component, in
        ascending order of component.
    """
    # by component, the outer ring first, holes in the order of their first edge
    order = np.lexsort((np.arange(len(rings.labels)), rings.areas_px < 0, rings.labels))
    rings = rings.select(order)
    lengths = np.diff(rings.offsets)
    index = np.arange(rings.offsets[-1] + len(lengths))
    # each ring's first corner again at its end
    first = rings.offsets[:-1] + np.arange(len(lengths))
    index -= np.repeat(np.arange(len(lengths)), lengths + 1)
    index[first + lengths] = rings.offsets[:-1]
    coords = np.empty((len(index), 2), dtype=np.float64)
    coords[:, 0], coords[:, 1] = rings.cols[index], rings.rows[index]
    outer = np.flatnonzero(rings.areas_px > 0)
    ring_offsets = np.append(first, len(index))
    polygon_offsets = np.append(outer, len(lengths))
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, coords, (ring_offsets, polygon_offsets))
    return polygons, rings.labels[outer]
