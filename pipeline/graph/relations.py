"""Spatial relations of pairs of features, in bulk.

Codes of an unordered pair (a, b); `column` turns them into the columns of the published graph. For two lines or two
polygons the code is the column: 1 touches, 2 overlaps, 3 a covers b, 4 a is covered by b, 5 equals. For a line and a
polygon 1 touches, 2 crosses, 3 the polygon covers the line; for a point and a line or polygon 1 touches (boundary or
end point), 2 within. 0 is no relation. "Overlaps" is DE-9IM ``T*T***T**`` without a test of dimension, so two lines
that cross in a point overlap, as published.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.graph.ragged import POINT

NONE, TOUCHES, OVERLAPS, COVERS, COVERED_BY, EQUALS = range(6)
WITHIN = 2
_REVERSED = np.array([NONE, TOUCHES, OVERLAPS, COVERED_BY, COVERS, EQUALS], np.uint8)


def reverse(code: NDArray[np.uint8], *, same_kind: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The codes (n,) of the pairs (b, a) from those of (a, b)."""
    return np.where(same_kind, _REVERSED[code], code).astype(np.uint8)


def relate_pairs(
    geometry: NDArray[np.object_],
    kind: NDArray[np.uint8],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    *,
    equals_first: bool = True,
) -> NDArray[np.uint8]:
    """Relation codes (P,) of the pairs ``(a, b)`` of features whose envelopes meet.

    Args:
        geometry: shapely geometries (n,); prepared in place.
        kind: uint8 (n,).
        a: int64 (P,), first of each pair.
        b: int64 (P,), second of each pair.
        equals_first: Test for equality before covering. The published graph tests covering first, so that its
            "equals" never fires: of two equal features the first covers the second.
    """
    code = np.zeros(len(a), np.uint8)
    if not len(a):
        return code
    # the feature of the higher dimension, and of these the one with more vertices, is asked: it is prepared, so its
    # index is made once for all its pairs
    weight = shapely.get_num_coordinates(geometry).astype(np.int64) + (kind.astype(np.int64) << 40)
    swap = weight[a] < weight[b]
    big, small = np.where(swap, b, a), np.where(swap, a, b)
    order = np.argsort(big, kind="stable")
    shapely.prepare(geometry[np.unique(big)])
    meets = order[shapely.intersects(geometry[big[order]], geometry[small[order]])]
    contains = shapely.contains(geometry[big[meets]], geometry[small[meets]])
    sure = meets[contains]
    code[sure] = _code_contained(kind[big[sure]], kind[small[sure]])
    if len(sure):
        twins = sure[(kind[big[sure]] == kind[small[sure]])]
        bounds = shapely.bounds(geometry)
        twins = twins[(bounds[big[twins]] == bounds[small[twins]]).all(axis=1)]
        equal = twins[shapely.equals(geometry[big[twins]], geometry[small[twins]])]
        code[equal] = EQUALS
    rest = meets[~contains]
    code[rest] = _code_uncontained(geometry, kind, big[rest], small[rest])
    same = kind[a] == kind[b]
    code = np.where(swap & same, _REVERSED[code], code).astype(np.uint8)
    if not equals_first:
        code[code == EQUALS] = COVERS
    return code


def _code_contained(big: NDArray[np.uint8], small: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(big == POINT, NONE, np.where(small == POINT, WITHIN, COVERS)).astype(np.uint8)


def _code_uncontained(
    geometry: NDArray[np.object_], kind: NDArray[np.uint8], big: NDArray[np.int64], small: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Codes of pairs that meet and of which the big one does not contain the small one.

    A point that is met and not within lies on the boundary or an end. Of two others, if they do not touch, their
    interiors meet and something of the small one lies outside of the big one: it crosses or overlaps, unless the big
    one (more vertices, but of the same kind) is covered by the small one.
    """
    code = np.full(len(big), TOUCHES, np.uint8)
    code[kind[big] == POINT] = NONE
    drawn = np.flatnonzero(kind[small] != POINT)
    code[drawn] = np.where(shapely.touches(geometry[big[drawn]], geometry[small[drawn]]), TOUCHES, OVERLAPS)
    same = np.flatnonzero((kind[big] == kind[small]) & (code == OVERLAPS))
    inner, outer = shapely.bounds(geometry[big[same]]), shapely.bounds(geometry[small[same]])
    within = (inner[:, :2] >= outer[:, :2]).all(axis=1) & (inner[:, 2:] <= outer[:, 2:]).all(axis=1)
    same = same[within]
    code[same[shapely.covers(geometry[small[same]], geometry[big[same]])]] = COVERED_BY
    return code
