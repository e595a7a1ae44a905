"""Ragged geometry cut at many rectangles at once (Sutherland and Hodgman 1974; Liang and Barsky 1984).

Every feature has a rectangle of its own, and coordinates are relative to it: the rectangle is the unit square. A
polygon that the rectangle cuts in several pieces comes out as one ring with edges that run forth and back along the
border; these enclose nothing, so area, centroid and the even-odd rule are those of the pieces together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.graph.measure import segments
from pipeline.graph.ragged import LINE, POLYGON, Shapes, starts_of


def clip_polygons(polygons: Shapes) -> Shapes:
    """Polygons (n,) cut at the unit square; rings that leave nothing are gone, a feature may have no ring."""
    start, ring = _ring_edges(polygons)
    xy = polygons.xy[start]
    n_rings = len(polygons.ring_start) - 1
    for axis in (0, 1):
        for limit, sign in ((0.0, 1.0), (1.0, -1.0)):
            xy, ring = _half_plane(xy, ring, axis, (limit, sign))
    size = np.bincount(ring, minlength=n_rings)
    kept = size > 2
    keep_vertex = kept[ring]
    xy, ring = xy[keep_vertex], ring[keep_vertex]
    owner = polygons.ring_node[kept]
    size = size[kept]
    # close the rings again
    first = np.cumsum(size) - size
    closed = np.insert(xy, first + size, xy[first], axis=0) if len(size) else xy
    return Shapes(
        polygons.kind,
        closed,
        starts_of(size + 1),
        starts_of(np.bincount(owner, minlength=len(polygons)).astype(np.int64)),
    )


def clip_lines(lines: Shapes) -> tuple[Shapes, NDArray[np.float64]]:
    """Lines (n,) cut at the unit square, and the length left of each (n,).

    Every segment that is left becomes a ring of two vertices; consecutive ones share an end.
    """
    start, owner = segments(lines)
    a, b = lines.xy[start], lines.xy[start + 1]
    delta = b - a
    enter, leave = np.zeros(len(a)), np.ones(len(a))
    outside = np.zeros(len(a), bool)
    for axis in (0, 1):
        with np.errstate(divide="ignore", invalid="ignore"):
            t0, t1 = (0.0 - a[:, axis]) / delta[:, axis], (1.0 - a[:, axis]) / delta[:, axis]
        flat = delta[:, axis] == 0
        outside |= flat & ((a[:, axis] < 0) | (a[:, axis] > 1))
        enter = np.where(flat, enter, np.maximum(enter, np.minimum(t0, t1)))
        leave = np.where(flat, leave, np.minimum(leave, np.maximum(t0, t1)))
    seen = ~outside & (enter < leave)
    a, delta, owner, enter, leave = a[seen], delta[seen], owner[seen], enter[seen], leave[seen]
    ends = np.stack([a + enter[:, None] * delta, a + leave[:, None] * delta], axis=1)
    length = np.bincount(owner, np.hypot(*(ends[:, 1] - ends[:, 0]).T), len(lines)).astype(np.float64)
    count = np.bincount(owner, minlength=len(lines)).astype(np.int64)
    shapes = Shapes(lines.kind, ends.reshape(-1, 2), np.arange(len(owner) + 1) * 2, starts_of(count))
    return shapes, length


def relative(shapes: Shapes, left_bottom: NDArray[np.float64], size: NDArray[np.float64]) -> Shapes:
    """The features with coordinates relative to their rectangles (n, 2), as shares of its sides (n, 2)."""
    owner = np.repeat(shapes.ring_node, shapes.ring_size)
    return Shapes(shapes.kind, (shapes.xy - left_bottom[owner]) / size[owner], shapes.ring_start, shapes.node_ring)


def _ring_edges(polygons: Shapes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First vertex of every edge and its ring: the vertices without the repeated last one."""
    size = polygons.ring_size - 1
    first = np.cumsum(size) - size
    ring = np.repeat(np.arange(len(size)), size)
    return np.arange(len(ring)) + np.repeat(polygons.ring_start[:-1] - first, size), ring


def _half_plane(
    xy: NDArray[np.float64], ring: NDArray[np.int64], axis: int, side: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Open rings cut at ``sign * (coordinate - limit) >= 0``, ``side`` being (limit, sign)."""
    if not len(xy):
        return xy, ring
    following = np.arange(1, len(ring) + 1)
    last = np.flatnonzero(np.append(ring[1:] != ring[:-1], True))
    following[last] = np.concatenate([[0], last[:-1] + 1])
    limit, sign = side
    depth = sign * (xy[:, axis] - limit)
    inside = depth >= 0
    if inside.all():
        return xy, ring
    crossing = inside != inside[following]
    count = inside.astype(np.int64) + crossing
    at = np.cumsum(count) - count
    out = np.empty((int(count.sum()), 2))
    out[at[inside]] = xy[inside]
    c = np.flatnonzero(crossing)
    share = depth[c] / (depth[c] - depth[following[c]])
    cut = xy[c] + share[:, None] * (xy[following[c]] - xy[c])
    cut[:, axis] = limit
    out[at[c] + inside[c]] = cut
    return out, np.repeat(ring, count)


__all__ = ["LINE", "POLYGON", "clip_lines", "clip_polygons", "relative"]
