"""Spatial relations of pairs of features, in bulk.

Codes of an unordered pair (a, b); `column` turns them into the columns of the published graph. For two lines or two
polygons the code is the column: 1 touches, 2 overlaps, 3 a covers b, 4 a is covered by b, 5 equals. For a line and a
polygon 1 touches, 2 crosses, 3 the polygon covers the line; for a point and a line or polygon 1 touches (boundary or
end point), 2 within. 0 is no relation. "Overlaps" is DE-9IM ``T*T***T**`` without a test of dimension, so two lines
that cross in a point overlap, as published.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.graph.ragged import LINE, POINT

NONE, TOUCHES, OVERLAPS, COVERS, COVERED_BY, EQUALS = range(6)
CROSSES, WITHIN = 2, 2
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
    code[sure] = _contained_code(kind[big[sure]], kind[small[sure]])
    if len(sure):
        twins = sure[(kind[big[sure]] == kind[small[sure]])]
        bounds = shapely.bounds(geometry)
        twins = twins[(bounds[big[twins]] == bounds[small[twins]]).all(axis=1)]
        equal = twins[shapely.equals(geometry[big[twins]], geometry[small[twins]])]
        code[equal] = EQUALS
    rest = meets[~contains]
    matrix, distinct = pd.factorize(shapely.relate(geometry[big[rest]], geometry[small[rest]]))
    table = np.array([[_code_of(m, k) for k in range(9)] for m in distinct], np.uint8).reshape(-1, 9)
    code[rest] = table[matrix, kind[big[rest]].astype(np.int64) * 3 + kind[small[rest]]]
    same = kind[a] == kind[b]
    code = np.where(swap & same, _REVERSED[code], code).astype(np.uint8)
    if not equals_first:
        code[code == EQUALS] = COVERS
    return code


def _contained_code(big: NDArray[np.uint8], small: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(big == POINT, NONE, np.where(small == POINT, WITHIN, COVERS)).astype(np.uint8)


def _code_of(matrix: str, kinds: int) -> int:
    """The code of a DE-9IM matrix of (big, small); ``kinds`` is 3 * kind of big + kind of small."""
    big, small = divmod(kinds, 3)
    inside, meets = matrix[0] != "F", any(matrix[k] != "F" for k in (0, 1, 3, 4))
    if not meets or big == POINT:
        return NONE
    if not inside:
        return TOUCHES
    covered = matrix[2] == "F" and matrix[5] == "F"  # big covered by small
    covers = matrix[6] == "F" and matrix[7] == "F"
    if small == POINT:
        return WITHIN
    if small == LINE and big != LINE:  # a line and a polygon
        return COVERS if covers else CROSSES
    if covers:
        return COVERS
    if covered:
        return COVERED_BY
    return OVERLAPS if matrix[2] != "F" and matrix[6] != "F" else NONE
