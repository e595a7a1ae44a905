"""Simplification in metres that keeps shared borders and validity, and that proves it polygon by polygon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

MAX_AREA_CHANGE = 0.01
"""Largest change of a polygon's area, as a share of it."""
ROUNDING = 1e-9
TRIES = 8
"""Tolerances tried, each smaller than the one before by the square root of two."""


@dataclass(frozen=True)
class Simplified:
    """Outlines after simplification, with the measures that were checked.

    Attributes:
        polygons: object (P,), in the order given.
        tolerance_m: float64 (P,), tolerance of GEOS that passed; 0 where the outline was left as it was.
        hausdorff_m: float64 (P,), Hausdorff distance between the outlines before and after (an upper bound of it).
        area_change: float64 (P,), share of the area before, signed.
    """

    polygons: NDArray[np.object_]
    tolerance_m: NDArray[np.float64]
    hausdorff_m: NDArray[np.float64]
    area_change: NDArray[np.float64]


def simplify_polygons(polygons: NDArray[np.object_], *, tolerance_m: float) -> Simplified:
    """Simplify polygons so that no outline moves by ``tolerance_m`` or more.

    A polygon by itself goes through GEOS' simplification by distance (Douglas and Peucker, keeping its topology), which
    leaves the fewest corners; polygons that share borders through its coverage simplification (Visvalingam and Whyatt,
    by triangle area), which keeps them shared. Each result is measured: valid, Hausdorff distance below the
    tolerance, area within 1 %, no overlap with a neighbour that was not there before. What fails is done again with a
    smaller tolerance, polygons that share borders all together, and is left as it was if nothing passes.

    Args:
        polygons: object (P,) of valid polygons, in metres.
        tolerance_m: 0 returns the polygons as they are.
    """
    count = len(polygons)
    result = Simplified(polygons.copy(), np.zeros(count), np.zeros(count), np.zeros(count))
    if tolerance_m <= 0 or count == 0:
        return result
    tree = shapely.STRtree(polygons)
    left, right = tree.query(polygons, predicate="dwithin", distance=2 * tolerance_m)
    left, right = left[left < right], right[left < right]
    overlap_before = shapely.area(shapely.intersection(polygons[left], polygons[right]))
    group = _group_borders(polygons, left, right)
    alone = np.bincount(group)[group] == 1
    pending = np.ones(int(group.max()) + 1, dtype=bool)
    area = shapely.area(polygons)
    for k in range(TRIES):
        tolerance = tolerance_m / 2 ** (k / 2)
        todo = np.flatnonzero(pending[group])
        if len(todo) == 0:
            break
        trial = _simplify(polygons[todo], alone[todo], tolerance)
        change = shapely.area(trial) / area[todo] - 1
        distance = measure_distances(polygons[todo], trial)
        bad = (
            ~shapely.is_valid(trial)
            | shapely.is_empty(trial)
            | (np.abs(change) >= MAX_AREA_CHANGE)
            | (distance >= tolerance_m * (1 - ROUNDING))
        )
        failed = np.zeros(len(pending), dtype=bool)
        failed[group[todo[bad]]] = True
        passed = ~failed[group[todo]]
        result.polygons[todo[passed]] = trial[passed]
        result.tolerance_m[todo[passed]] = tolerance
        result.hausdorff_m[todo[passed]] = distance[passed]
        result.area_change[todo[passed]] = change[passed]
        pending &= failed
    # neighbours that now overlap go back to what they were, until none does
    while True:
        overlap = shapely.area(shapely.intersection(result.polygons[left], result.polygons[right]))
        worse = overlap > overlap_before + 1e-9
        if not worse.any():
            return result
        back = np.isin(group, group[np.concatenate((left[worse], right[worse]))])
        result.polygons[back] = polygons[back]
        for values in (result.tolerance_m, result.hausdorff_m, result.area_change):
            values[back] = 0.0


def _simplify(polygons: NDArray[np.object_], alone: NDArray[np.bool_], tolerance_m: float) -> NDArray[np.object_]:
    result = polygons.copy()
    result[alone] = shapely.simplify(polygons[alone], tolerance_m)
    if not alone.all():
        result[~alone] = shapely.coverage_simplify(polygons[~alone], tolerance_m)
    return result


def _group_borders(
    polygons: NDArray[np.object_], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.int32]:
    """int32 (P,): polygons that share borders, directly or through others, have the same number."""
    touching = shapely.intersects(polygons[left], polygons[right])
    left, right = left[touching], right[touching]
    border = shapely.get_dimensions(shapely.intersection(polygons[left], polygons[right])) >= 1
    graph = coo_matrix(
        (np.ones(np.count_nonzero(border), dtype=np.int8), (left[border], right[border])),
        shape=(len(polygons), len(polygons)),
    )
    labels: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return labels


def measure_distances(before: NDArray[np.object_], after: NDArray[np.object_]) -> NDArray[np.float64]:
    """Upper bounds of the Hausdorff distances between outlines and their simplification.

    The corners left are corners of the outline before, so each stretch between two of them was replaced by a chord.
    The largest distance of the stretch's corners from their own chord bounds both directions: distance to a chord is
    convex along an edge, and a stretch from one end of its chord to the other passes over every point of it. This
    takes linear time, where the distance between all pairs of edges is quadratic.

    Args:
        before: object (P,) of polygons.
        after: object (P,) of the same polygons with fewer corners.

    Returns:
        float64 (P,); infinite where the corners or rings are not those of the outline before.
    """
    corners, ring, owner = _ring_corners(before)
    left, left_ring, left_owner = _ring_corners(after)
    result = np.zeros(len(before))
    changed = shapely.get_num_interior_rings(before) != shapely.get_num_interior_rings(after)
    result[changed] = np.inf
    if changed.any():  # rings no longer correspond: nothing is proved for the others either
        result[~changed] = measure_distances(before[~changed], after[~changed])
        return result
    kept = _positions(corners, ring, left, left_ring)
    result[left_owner[kept < 0]] = np.inf
    flag = np.zeros(len(corners), dtype=bool)
    flag[kept[kept >= 0]] = True
    position = np.flatnonzero(flag)
    # for each corner the kept ones before and after it in its ring, going round at the ring's end
    first = np.searchsorted(position, np.searchsorted(ring, ring, side="left"), side="left")
    stop = np.searchsorted(position, np.searchsorted(ring, ring, side="right"), side="left")
    usable = stop > first
    result[owner[~usable]] = np.inf
    at = np.searchsorted(position, np.arange(len(corners)), side="right")
    start_of = np.where(at > first, at - 1, stop - 1)[usable]
    end_of = np.where(at < stop, at, first)[usable]
    distance = _chord_distances(corners[usable], corners[position[start_of]], corners[position[end_of]])
    np.maximum.at(result, owner[usable], distance)
    return result


def _ring_corners(polygons: NDArray[np.object_]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Corners (V, 2) without the closing one, ring (V,) and polygon (V,) of each."""
    rings, ring_owner = shapely.get_rings(polygons, return_index=True)
    coords, ring = shapely.get_coordinates(rings, return_index=True)
    open_end = np.concatenate((ring[1:] == ring[:-1], [False])) if len(ring) else np.zeros(0, dtype=bool)
    return coords[open_end], ring[open_end].astype(np.int64), ring_owner[ring[open_end]].astype(np.int64)


def _positions(
    corners: NDArray[np.float64], ring: NDArray[np.int64], left: NDArray[np.float64], left_ring: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Row in ``corners`` of each of ``left`` (same ring, same coordinates); -1 where there is none."""
    both = np.concatenate((corners, left))
    rings = np.concatenate((ring, left_ring))
    second = np.repeat([0, 1], [len(corners), len(left)])
    order = np.lexsort((second, both[:, 1], both[:, 0], rings))
    same = np.all(both[order[1:]] == both[order[:-1]], axis=1) & (rings[order[1:]] == rings[order[:-1]])
    same &= (second[order[1:]] == 1) & (second[order[:-1]] == 0)
    result = np.full(len(left), -1, dtype=np.int64)
    result[order[1:][same] - len(corners)] = order[:-1][same]
    return result


def _chord_distances(
    points: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance of each point (n, 2) from its own chord."""
    chord, offset = end - start, points - start
    length2 = np.einsum("ij,ij->i", chord, chord)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.clip(np.where(length2 > 0, np.einsum("ij,ij->i", chord, offset) / length2, 0.0), 0.0, 1.0)
    rest = offset - share[:, None] * chord
    distance: NDArray[np.float64] = np.hypot(rest[:, 0], rest[:, 1])
    return distance
