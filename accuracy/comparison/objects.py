"""Villages as objects: one-to-one matching by IoU, over- and under-segmentation, splits and merges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

from accuracy.arrays import Ints
from accuracy.errors import ComparisonError

Geometries = NDArray[Any]
COVER = 0.1  # share of an object from which another counts as covering a part of it


@dataclass(frozen=True, kw_only=True)
class ObjectMatch:
    """Matched and unmatched objects.

    Attributes:
        reference: int64 (T,), matched reference objects.
        predicted: int64 (T,), their partners.
        iou: float64 (T,), their IoU.
        n_reference: Reference objects in all.
        n_predicted: Predicted objects in all.
    """

    reference: Ints
    predicted: Ints
    iou: NDArray[np.float64]
    n_reference: int
    n_predicted: int

    @property
    def tp(self) -> int:
        """Matched pairs."""
        return len(self.iou)

    @property
    def fp(self) -> int:
        """Predicted objects without a partner."""
        return self.n_predicted - self.tp

    @property
    def fn(self) -> int:
        """Reference objects without a partner."""
        return self.n_reference - self.tp

    @property
    def precision(self) -> float | None:
        """Share of predicted objects that match."""
        return self.tp / self.n_predicted if self.n_predicted else None

    @property
    def recall(self) -> float | None:
        """Share of reference objects that match."""
        return self.tp / self.n_reference if self.n_reference else None

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN)."""
        whole = self.n_reference + self.n_predicted
        return 2 * self.tp / whole if whole else None

    @property
    def panoptic_quality(self) -> float | None:
        """Sum of the matched IoU over TP + FP / 2 + FN / 2 (Kirillov et al. 2019)."""
        whole = self.n_reference + self.n_predicted
        return 2 * float(self.iou.sum()) / whole if whole else None

    @property
    def mean_iou(self) -> float | None:
        """Mean IoU of the matched pairs."""
        return float(self.iou.mean()) if self.tp else None


def find_overlaps(reference: Sequence[Any], predicted: Sequence[Any]) -> pd.DataFrame:
    """Every pair of objects that share area.

    Returns:
        ``reference``, ``predicted`` (positions), ``intersection`` (area in the units of the CRS), ``iou``,
        ``over_segmentation`` 1 - |r n p| / |r|, ``under_segmentation`` 1 - |r n p| / |p|, ``distance``
        sqrt((OS^2 + US^2) / 2) (Clinton et al. 2010).

    Raises:
        ComparisonError: A geometry is not a polygon or has no area.
    """
    r, p = _polygons(reference, "reference"), _polygons(predicted, "predicted")
    tree = shapely.STRtree(p)
    left, right = tree.query(r, predicate="intersects") if len(r) and len(p) else (np.zeros(0, int), np.zeros(0, int))
    shared = shapely.area(shapely.intersection(r[left], p[right]))
    keep = shared > 0
    left, right, shared = left[keep], right[keep], shared[keep]
    area_r, area_p = shapely.area(r)[left], shapely.area(p)[right]
    over, under = 1 - shared / area_r, 1 - shared / area_p
    table = pd.DataFrame(
        {
            "reference": left.astype(np.int64),
            "predicted": right.astype(np.int64),
            "intersection": shared,
            "iou": shared / (area_r + area_p - shared),
            "over_segmentation": over,
            "under_segmentation": under,
            "distance": np.sqrt((np.square(over) + np.square(under)) / 2),
        }
    )
    return table.sort_values(["reference", "predicted"], ignore_index=True)


def match_objects(
    reference: Sequence[Any], predicted: Sequence[Any], *, iou: float = 0.5, strict: bool = True
) -> ObjectMatch:
    """Match one to one so that the sum of IoU is greatest among pairs above the threshold (Hungarian method).

    Args:
        reference: Polygons of the truth, single objects.
        predicted: Polygons of the map, same CRS.
        iou: Threshold.
        strict: Pairs need IoU above the threshold; at exactly 0.5 two halves of an object would tie.

    Raises:
        ComparisonError: A geometry is not a polygon, or the threshold lies outside [0, 1].
    """
    if not 0 <= iou <= 1:
        raise ComparisonError(f"IoU threshold {iou} lies outside [0, 1]")
    pairs = find_overlaps(reference, predicted)
    good = pairs[(pairs["iou"] > iou) if strict else (pairs["iou"] >= iou)]
    rows, cols = (good[c].to_numpy() for c in ("reference", "predicted"))
    matched: list[tuple[int, int, float]] = []
    n, m = len(reference), len(predicted)
    if len(rows):
        graph = sparse.coo_array((np.ones(len(rows)), (rows, n + cols)), shape=(n + m, n + m))
        _, label = connected_components(graph, directed=False)
        for _, group in good.groupby(label[rows]):
            matched += _assign(group)
    matched.sort()
    return ObjectMatch(
        reference=np.array([t[0] for t in matched], dtype=np.int64),
        predicted=np.array([t[1] for t in matched], dtype=np.int64),
        iou=np.array([t[2] for t in matched], dtype=np.float64),
        n_reference=n,
        n_predicted=m,
    )


def find_splits_and_merges(
    reference: Sequence[Any], predicted: Sequence[Any], *, cover: float = COVER
) -> tuple[list[int], list[int]]:
    """Reference objects that the map splits, and predicted objects that merge several.

    Split: two or more predicted objects each cover at least ``cover`` of it. Merged: it covers at least ``cover`` of
    two or more reference objects.
    """
    pairs = find_overlaps(reference, predicted)
    big = pairs[pairs["over_segmentation"] <= 1 - cover + 1e-12]
    split = big.groupby("reference").size()
    merged = big.groupby("predicted").size()
    return [int(k) for k in split[split > 1].index], [int(k) for k in merged[merged > 1].index]


def _assign(group: pd.DataFrame) -> list[tuple[int, int, float]]:
    r, rows = np.unique(group["reference"], return_inverse=True)
    p, cols = np.unique(group["predicted"], return_inverse=True)
    gain = np.zeros((len(r), len(p)))
    gain[rows, cols] = group["iou"]
    a, b = linear_sum_assignment(gain, maximize=True)
    return [(int(r[i]), int(p[j]), float(gain[i, j])) for i, j in zip(a, b, strict=True) if gain[i, j] > 0]


def _polygons(geometries: Sequence[Any], what: str) -> Geometries:
    array = np.asarray(list(geometries), dtype=object)
    for k, geometry in enumerate(array):
        if not isinstance(geometry, shapely.Polygon | shapely.MultiPolygon) or geometry.area <= 0:
            kind = getattr(geometry, "geom_type", type(geometry).__name__)
            raise ComparisonError(f"{what} object {k} is a {kind} without area: give polygons")
    return np.asarray(shapely.make_valid(array), dtype=object)
