"""Boundaries: boundary IoU (Cheng et al. 2021), boundary F1 and distances, with tolerances in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from accuracy.arrays import Bools
from accuracy.errors import ComparisonError

SQUARE = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class BoundaryCounts:
    """Counts of one comparison; ratios of sums over blocks are the map's figures, not means of ratios.

    Attributes:
        ring_both_px: Pixels in both rings.
        ring_either_px: Pixels in either ring.
        contour_map_px: Contour pixels of the map.
        contour_map_near_px: Those within the tolerance of the reference's contour.
        contour_reference_px: Contour pixels of the reference.
        contour_reference_near_px: Those within the tolerance of the map's contour.
    """

    ring_both_px: int
    ring_either_px: int
    contour_map_px: int
    contour_map_near_px: int
    contour_reference_px: int
    contour_reference_near_px: int

    @property
    def boundary_iou(self) -> float | None:
        """Rings in common over rings of either."""
        return self.ring_both_px / self.ring_either_px if self.ring_either_px else None

    @property
    def precision(self) -> float | None:
        """Share of the map's contour near the reference's."""
        return self.contour_map_near_px / self.contour_map_px if self.contour_map_px else None

    @property
    def recall(self) -> float | None:
        """Share of the reference's contour near the map's."""
        return self.contour_reference_near_px / self.contour_reference_px if self.contour_reference_px else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of the two; 0 where neither has any."""
        p, r = self.precision, self.recall
        if p is None or r is None:
            return None
        return 2 * p * r / (p + r) if p + r else 0.0


@dataclass(frozen=True, kw_only=True)
class BoundaryDistances:
    """Distances between two contours in metres.

    Attributes:
        mean_map_to_reference_m: Mean from the map's contour to the nearest of the reference.
        mean_reference_to_map_m: The reverse.
        p95_map_to_reference_m: 95th percentile.
        p95_reference_to_map_m: The reverse.
        hausdorff_m: Greatest of all.
    """

    mean_map_to_reference_m: float
    mean_reference_to_map_m: float
    p95_map_to_reference_m: float
    p95_reference_to_map_m: float
    hausdorff_m: float


def compare_boundaries(
    reference: Bools, mapped: Bools, *, tolerance_m: float, resolution_m: float, margin_px: int = 0
) -> BoundaryCounts:
    """Compare two masks (H, W) of one grid.

    The ring of a mask is the mask less ``d`` erosions by 3 x 3 with nothing outside the array, d = tolerance in pixels,
    at least 1; the contour is the mask's pixels with a 4-neighbour outside it.

    Args:
        reference: Mask of the truth.
        mapped: Mask of the map.
        tolerance_m: Tolerance.
        resolution_m: Side of a pixel.
        margin_px: Rows and columns at every side that are seen but not counted, so that the edge of a block is no
            boundary.

    Raises:
        ComparisonError: Shapes differ, or tolerance or resolution are not possible.
    """
    _check(reference, mapped, tolerance_m, resolution_m)
    d = max(1, round(tolerance_m / resolution_m))
    ring_r, ring_m = ring(reference, d), ring(mapped, d)
    edge_r, edge_m = contour(reference), contour(mapped)
    limit = tolerance_m / resolution_m + 1e-9
    near_r = _distance_px(edge_r) <= limit
    near_m = _distance_px(edge_m) <= limit
    count = (slice(margin_px, reference.shape[0] - margin_px), slice(margin_px, reference.shape[1] - margin_px))
    ring_r, ring_m, edge_r, edge_m = ring_r[count], ring_m[count], edge_r[count], edge_m[count]
    near_r, near_m = near_r[count], near_m[count]
    return BoundaryCounts(
        ring_both_px=int((ring_r & ring_m).sum()),
        ring_either_px=int((ring_r | ring_m).sum()),
        contour_map_px=int(edge_m.sum()),
        contour_map_near_px=int((edge_m & near_r).sum()),
        contour_reference_px=int(edge_r.sum()),
        contour_reference_near_px=int((edge_r & near_m).sum()),
    )


def boundary_distances(reference: Bools, mapped: Bools, *, resolution_m: float) -> BoundaryDistances | None:
    """Distances between the contours of two masks; None where one is empty.

    Raises:
        ComparisonError: Shapes differ.
    """
    _check(reference, mapped, 0.0, resolution_m)
    edge_r, edge_m = contour(reference), contour(mapped)
    if not (edge_r.any() and edge_m.any()):
        return None
    to_r = _distance_px(edge_r)[edge_m] * resolution_m
    to_m = _distance_px(edge_m)[edge_r] * resolution_m
    return BoundaryDistances(
        mean_map_to_reference_m=float(to_r.mean()),
        mean_reference_to_map_m=float(to_m.mean()),
        p95_map_to_reference_m=float(np.percentile(to_r, 95)),
        p95_reference_to_map_m=float(np.percentile(to_m, 95)),
        hausdorff_m=float(max(to_r.max(), to_m.max())),
    )


def iou_without_edge(reference: Bools, mapped: Bools, *, exclude_px: int) -> float | None:
    """IoU without pixels within ``exclude_px`` of the reference's edge: a sensitivity figure that flatters."""
    if exclude_px == 0:
        keep = np.ones_like(reference)
    else:
        inner = ndimage.binary_erosion(reference, SQUARE, iterations=exclude_px)
        outer = ndimage.binary_dilation(reference, SQUARE, iterations=exclude_px)
        keep = inner | ~outer
    either = int((keep & (reference | mapped)).sum())
    return int((keep & reference & mapped).sum()) / either if either else None


def ring(mask: Bools, depth_px: int) -> Bools:
    """The mask's pixels within ``depth_px`` of its outside."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, SQUARE, iterations=depth_px, border_value=0))


def contour(mask: Bools) -> Bools:
    """The mask's pixels with a 4-neighbour outside it."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, border_value=0))


def _distance_px(edge: Bools) -> NDArray[np.float64]:
    if not edge.any():
        return np.full(edge.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~edge))


def _check(reference: Bools, mapped: Bools, tolerance_m: float, resolution_m: float) -> None:
    if reference.shape != mapped.shape:
        raise ComparisonError(f"masks of shapes {reference.shape} and {mapped.shape}: they must share a grid")
    if not (resolution_m > 0 and tolerance_m >= 0):
        raise ComparisonError(f"tolerance {tolerance_m} m at {resolution_m} m resolution: both must be positive")
