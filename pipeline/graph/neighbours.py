"""Nearest neighbours that do not depend on how the city was cut into parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree


def nearest(
    places: NDArray[np.float64], rows: NDArray[np.int64], *, k: int, within_m: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (row, neighbour) of the at most ``k`` nearest other places of each of ``rows`` within ``within_m``.

    Of neighbours at the same distance as the first one that is left out, none is taken: which of them a search tree
    would return depends on the tree, and so on what else it holds.

    Args:
        places: float64 (n, 2), metres.
        rows: int64 (m,), the places whose neighbours are wanted.
        k: Neighbours at most.
        within_m: Greatest distance.

    Returns:
        int64 (P,) rows of ``places`` and int64 (P,) their neighbours.
    """
    if len(places) < 2 or not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # the place itself, k neighbours and the first left out
    count = min(k + 2, len(places))
    distance, other = KDTree(places).query(places[rows], k=count, distance_upper_bound=np.nextafter(within_m, np.inf))
    distance = np.where(other == rows[:, None], -1.0, distance)  # itself first, also among coincident places
    order = np.argsort(distance, axis=1, kind="stable")
    distance, other = np.take_along_axis(distance, order, 1), np.take_along_axis(other, order, 1)
    has_self = distance[:, 0] < 0
    taken = np.isfinite(distance) & (distance >= 0)
    if count == k + 2:
        taken &= distance < distance[:, -1:]
        # a place that its own search did not return has so many coincident ones that none can be told apart
        taken &= has_self[:, None]
    row, column = np.nonzero(taken)
    return rows[row], other[row, column]


def keep_smallest(
    a: NDArray[np.int64], value: NDArray[np.float64], tie: NDArray[np.int64], *, k: int
) -> NDArray[np.int64]:
    """Indices of the ``k`` entries of each ``a`` with the smallest ``value``, ties by ``tie``."""
    order = np.lexsort((tie, value, a))
    sorted_a = a[order]
    first = np.searchsorted(sorted_a, sorted_a, side="left")
    kept: NDArray[np.int64] = order[np.arange(len(a)) - first < k]
    return kept
