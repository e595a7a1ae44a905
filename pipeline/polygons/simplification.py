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
TRIES = 6
"""Tolerances tried per group of neighbours: the wanted one, then each smaller by the square root of two."""


@dataclass(frozen=True)
class Simplified:
    """Outlines after simplification, with the measures that were checked.

    Attributes:
        polygons: object (P,), in the order given.
        tolerance_m: float64 (P,), tolerance that passed; 0 where the outline was left as it was.
        hausdorff_m: float64 (P,), distance between the outlines before and after.
        area_change: float64 (P,), share of the area before, signed.
    """

    polygons: NDArray[np.object_]
    tolerance_m: NDArray[np.float64]
    hausdorff_m: NDArray[np.float64]
    area_change: NDArray[np.float64]


def simplify_polygons(polygons: NDArray[np.object_], *, tolerance_m: float) -> Simplified:
    """Simplify polygons so that no outline moves by ``tolerance_m`` or more.

    GEOS' coverage simplification (Visvalingam and Whyatt, by triangle area) keeps shared borders shared. Its
    tolerance is no distance, so each result is measured: valid, Hausdorff distance below the tolerance, area
    within 1 %, no overlap with a neighbour that was not there before. A group of neighbours in which one fails is
    done again with a smaller tolerance, all together, and is left as it was if none passes.

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
    graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    groups, group = connected_components(graph, directed=False)
    overlap_before = shapely.area(shapely.intersection(polygons[left], polygons[right]))
    area = shapely.area(polygons)
    pending = np.ones(groups, dtype=bool)
    for k in range(TRIES):
        tolerance = tolerance_m / 2 ** (k / 2)
        todo = np.flatnonzero(pending[group])
        if len(todo) == 0:
            break
        trial = polygons.copy()
        trial[todo] = shapely.coverage_simplify(polygons[todo], tolerance)
        change = np.zeros(count)
        distance = np.zeros(count)
        change[todo] = shapely.area(trial[todo]) / area[todo] - 1
        distance[todo] = shapely.hausdorff_distance(polygons[todo], trial[todo], densify=0.5)
        bad = np.zeros(count, dtype=bool)
        bad[todo] = (
            ~shapely.is_valid(trial[todo])
            | shapely.is_empty(trial[todo])
            | (shapely.get_type_id(trial[todo]) != shapely.get_type_id(polygons[todo]))
            | (np.abs(change[todo]) >= MAX_AREA_CHANGE)
            | (distance[todo] >= tolerance_m)
        )
        pairs = np.flatnonzero(pending[group[left]])
        overlap = shapely.area(shapely.intersection(trial[left[pairs]], trial[right[pairs]]))
        bad[left[pairs[overlap > overlap_before[pairs] + 1e-9]]] = True
        failed = np.zeros(groups, dtype=bool)
        failed[group[bad]] = True
        passed = todo[~failed[group[todo]]]
        result.polygons[passed] = trial[passed]
        result.tolerance_m[passed] = tolerance
        result.hausdorff_m[passed] = distance[passed]
        result.area_change[passed] = change[passed]
        pending &= failed
    return result
