"""Measures of ragged geometry: centroids, extents and interior points, for all features at once.

The rules for the points that stand for a feature are those of the published graph (a polygon: three interior points
on rays at 0, 120 and 240 degrees from the centroid, then the centroid; a line: centroid, first and last vertex; a
point: itself), with the radius at the middle of the published random range, so that equal input gives equal points.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.graph.ragged import LINE, POINT, POLYGON, Shapes, spans

_RAY = np.deg2rad([0.0, 120.0, 240.0])
_STEPS = np.linspace(1.0, 0.0, 10)


def segments(shapes: Shapes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First vertex of every segment (S,) and the feature it belongs to (S,); points have none."""
    size = np.maximum(shapes.ring_size - 1, 0)
    return spans(shapes.ring_start[:-1], size), np.repeat(shapes.ring_node, size)


def anchors(shapes: Shapes) -> NDArray[np.float64]:
    """The points that stand for each feature, float64 (n, 4, 2), NaN where a kind has fewer.

    Point: itself. Line: centroid, first, last vertex. Polygon: three interior points, centroid.
    """
    n = len(shapes)
    out = np.full((n, 4, 2), np.nan)
    first = shapes.ring_start[shapes.node_ring[:-1]]
    out[:, 0] = shapes.xy[first]
    lines = np.flatnonzero(shapes.kind == LINE)
    if len(lines):
        out[lines, 0] = find_line_centroids(shapes.take(lines))
        out[lines, 1] = shapes.xy[first[lines]]
        out[lines, 2] = shapes.xy[shapes.ring_start[shapes.node_ring[lines] + 1] - 1]
    polygons = np.flatnonzero(shapes.kind == POLYGON)
    if len(polygons):
        part = shapes.take(polygons)
        centroid, _ = find_polygon_centroids(part)
        out[polygons, 3] = centroid
        out[polygons, :3] = find_interior_points(part, centroid)
    return out


def find_line_centroids(lines: Shapes) -> NDArray[np.float64]:
    """Length-weighted mean of the segments' middles, (n, 2)."""
    start, owner = segments(lines)
    a, b = lines.xy[start], lines.xy[start + 1]
    length = np.hypot(*(b - a).T)
    n = len(lines)
    total = np.bincount(owner, length, n)
    base = lines.xy[lines.ring_start[lines.node_ring[:-1]]]
    middle = (a + b) / 2 - base[owner]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.stack([np.bincount(owner, length * middle[:, k], n) / total for k in range(2)], axis=1)
    return np.asarray(base + np.where(np.isfinite(mean), mean, 0.0), np.float64)


def find_polygon_centroids(polygons: Shapes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centroids (n, 2) and areas (n,) of polygons with counter-clockwise shells and clockwise holes (shoelace).

    A polygon without area has the mean of its vertices.
    """
    start, owner = segments(polygons)
    n = len(polygons)
    base = polygons.xy[polygons.ring_start[polygons.node_ring[:-1]]]
    a, b = polygons.xy[start] - base[owner], polygons.xy[start + 1] - base[owner]
    cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    area = np.bincount(owner, cross, n) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.stack([np.bincount(owner, cross * (a + b)[:, k], n) / (6 * area) for k in range(2)], axis=1)
        plain = np.stack([np.bincount(owner, a[:, k], n) / np.bincount(owner, minlength=n) for k in range(2)], axis=1)
    centroid: NDArray[np.float64] = base + np.where(np.isfinite(mean), mean, plain)
    return centroid, area.astype(np.float64)


def find_interior_points(polygons: Shapes, centroid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Three points per polygon, (n, 3, 2), on rays from the centroid (n, 2).

    The radius is the middle of the published range, (r_min + r_max) / 4 with the distances of the nearest and the
    farthest vertex of the shell; where that is outside the polygon, the first of nine steps back that is inside; where
    none is, a hundredth of r_min.
    """
    n = len(polygons)
    shell = polygons.node_ring[:-1]
    size = polygons.ring_start[shell + 1] - polygons.ring_start[shell]
    vertex = spans(polygons.ring_start[shell], size)
    owner = np.repeat(np.arange(n), size)
    distance = np.hypot(*(polygons.xy[vertex] - centroid[owner]).T)
    at = np.cumsum(size) - size
    r_min, r_max = np.minimum.reduceat(distance, at), np.maximum.reduceat(distance, at)
    ray = np.stack([np.cos(_RAY), np.sin(_RAY)], axis=1)
    radius = (r_min + r_max) / 4
    points = centroid[:, None] + radius[:, None, None] * ray
    open_rows = np.flatnonzero(~_inside(polygons, points).all(axis=1))
    if len(open_rows):
        part = polygons.take(open_rows)
        steps = radius[open_rows, None, None] * _STEPS[:, None]  # (m, 10, 1)
        tried = centroid[open_rows, None, None] + steps[:, None] * ray[:, None]  # (m, 3, 10, 2)
        inside = _inside(part, tried.reshape(len(open_rows), -1, 2)).reshape(len(open_rows), 3, len(_STEPS))
        best = np.take_along_axis(tried, inside.argmax(axis=2)[:, :, None, None], axis=2)[:, :, 0]
        last = centroid[open_rows, None] + (r_min[open_rows] / 100)[:, None, None] * ray
        points[open_rows] = np.where(np.asarray(inside.any(axis=2))[..., None], best, last)
    return np.asarray(points, np.float64)


def _inside(polygons: Shapes, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each of P points per polygon (n, P, 2) is inside it, by the even-odd rule: bool (n, P)."""
    start, owner = segments(polygons)
    a, b = polygons.xy[start], polygons.xy[start + 1]
    rise = b[:, 1] - a[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (b[:, 0] - a[:, 0]) / rise
    out = np.zeros(points.shape[:2], bool)
    for k in range(points.shape[1]):
        p = points[:, k][owner]
        straddles = (a[:, 1] > p[:, 1]) != (b[:, 1] > p[:, 1])
        right = p[:, 0] < a[:, 0] + slope * (p[:, 1] - a[:, 1])
        out[:, k] = np.bincount(owner[straddles & right], minlength=len(polygons)) % 2 == 1
    return out


def measure_shapes(
    geometry: NDArray[np.object_], kind: NDArray[np.uint8], height_m: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The geometry columns of each feature but the last, float32 (n, 7): `models.geolink.graph.GEOMETRY_COLUMNS`.

    Args:
        geometry: shapely geometries (n,), in a CRS with metre axes.
        kind: uint8 (n,).
        height_m: float32 (n,), NaN where unknown.
    """
    n = len(geometry)
    out = np.zeros((n, 7), np.float32)
    out[:, 0] = np.log1p(shapely.area(geometry)) / 10
    out[:, 1] = np.log1p(shapely.length(geometry)) / 10
    drawn = np.flatnonzero(kind != POINT)
    if len(drawn):
        sides = _rectangle_sides(geometry[drawn])
        length = np.hypot(sides[..., 0], sides[..., 1])  # (m, 2)
        longest = length.max(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            out[drawn, 2] = np.where(longest > 0, 1 - length.min(axis=1) / longest, 0)
        side = sides[np.arange(len(drawn)), length.argmax(axis=1)]
        angle = np.arctan2(side[:, 1], side[:, 0])
        out[drawn, 3], out[drawn, 4] = np.cos(2 * angle), np.sin(2 * angle)
    known = np.isfinite(height_m)
    out[known, 5] = height_m[known] / 50
    out[:, 6] = known
    return out


def _rectangle_sides(geometry: NDArray[np.object_]) -> NDArray[np.float64]:
    """Two neighbouring sides (m, 2, 2) of the minimum rotated rectangle; for straight lines the line and nothing."""
    rectangle = shapely.oriented_envelope(geometry)
    kind = shapely.get_type_id(rectangle)
    sides = np.zeros((len(geometry), 2, 2))
    for type_id, count in ((1, 2), (3, 5)):
        rows = np.flatnonzero(kind == type_id)
        if len(rows):
            parts = rectangle[rows] if type_id == 1 else shapely.get_exterior_ring(rectangle[rows])
            xy = shapely.get_coordinates(parts).reshape(len(rows), count, 2)
            sides[rows, 0] = xy[:, 1] - xy[:, 0]
            if type_id == 3:
                sides[rows, 1] = xy[:, 2] - xy[:, 1]
    return sides
