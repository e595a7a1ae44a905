"""How well the boundary of a mask follows that of another: one definition for every part that compares outlines.

The contour of a mask is its pixels with a neighbour (of four) outside it; boundary precision, recall and F1 are shares
of contour pixels within a distance of the other contour (Csurka et al., BMVC 2013). The ring of a mask is its pixels
that ``d`` erosions by 3 x 3 take away; boundary IoU is that of the two rings (Cheng et al., CVPR 2021). The edge of the
array is no boundary: nothing is known beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from regions.errors import RegionsError

Mask = NDArray[np.bool_]
SQUARE = np.ones((3, 3), dtype=np.bool_)


class BoundaryError(RegionsError):
    """Two masks cannot be compared."""


@dataclass(frozen=True, kw_only=True)
class BoundaryCounts:
    """Pixel counts of one comparison; ratios of sums over blocks are the map's figures, not means of ratios.

    Attributes:
        ring_both_px: Pixels in both rings.
        ring_either_px: Pixels in either ring.
        contour_map_px: Contour pixels of the map.
        contour_map_near_px: Those within the tolerance of the reference's contour.
        contour_reference_px: Contour pixels of the reference.
        contour_reference_near_px: Those within the tolerance of the map's contour.
    """

    ring_both_px: int = 0
    ring_either_px: int = 0
    contour_map_px: int = 0
    contour_map_near_px: int = 0
    contour_reference_px: int = 0
    contour_reference_near_px: int = 0

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def boundary_iou(self) -> float | None:
        """Rings in common over rings of either; None without any."""
        return self.ring_both_px / self.ring_either_px if self.ring_either_px else None

    @property
    def precision(self) -> float | None:
        """Share of the map's contour near the reference's; None without a contour."""
        return self.contour_map_near_px / self.contour_map_px if self.contour_map_px else None

    @property
    def recall(self) -> float | None:
        """Share of the reference's contour near the map's; None without a contour."""
        return self.contour_reference_near_px / self.contour_reference_px if self.contour_reference_px else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of the two; 0 where both are, None where either is."""
        p, r = self.precision, self.recall
        if p is None or r is None:
            return None
        return 2 * p * r / (p + r) if p + r else 0.0


def count_boundaries(
    reference: Mask, mapped: Mask, *, tolerance_px: float, inside: tuple[slice, slice] | None = None
) -> BoundaryCounts:
    """Compare the boundaries of two masks of one grid.

    Args:
        reference: bool (H, W), the truth.
        mapped: bool (H, W), the map.
        tolerance_px: Largest distance between pixel centres that counts as near; the depth of the rings is this,
            rounded, and at least 1.
        inside: Rows and columns that are counted; None for all. What lies outside is seen, so that the edge of a block
            is no boundary.

    Raises:
        BoundaryError: The shapes differ, or the tolerance is negative.
    """
    if reference.shape != mapped.shape:
        raise BoundaryError(f"masks of shapes {reference.shape} and {mapped.shape}: they must share a grid")
    if tolerance_px < 0:
        raise BoundaryError(f"a tolerance of {tolerance_px:g} px is negative: give a distance")
    counted = inside or (slice(None), slice(None))
    depth = max(1, round(tolerance_px))
    ring_r, ring_m = find_ring(reference, depth)[counted], find_ring(mapped, depth)[counted]
    edge_r, edge_m = find_contour(reference), find_contour(mapped)
    near_r, near_m = (_near(edge, tolerance_px)[counted] for edge in (edge_r, edge_m))
    edge_r, edge_m = edge_r[counted], edge_m[counted]
    return BoundaryCounts(
        ring_both_px=int(np.count_nonzero(ring_r & ring_m)),
        ring_either_px=int(np.count_nonzero(ring_r | ring_m)),
        contour_map_px=int(np.count_nonzero(edge_m)),
        contour_map_near_px=int(np.count_nonzero(edge_m & near_r)),
        contour_reference_px=int(np.count_nonzero(edge_r)),
        contour_reference_near_px=int(np.count_nonzero(edge_r & near_m)),
    )


def find_ring(mask: Mask, depth_px: int) -> Mask:
    """Bool (H, W): the mask's pixels within ``depth_px`` rows and columns of its outside."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, SQUARE, iterations=depth_px, border_value=1))


def find_contour(mask: Mask) -> Mask:
    """Bool (H, W): the mask's pixels with a neighbour, of four, outside it."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, border_value=1))


def _near(edge: Mask, tolerance_px: float) -> Mask:
    if not edge.any():
        return np.zeros_like(edge)
    return np.asarray(ndimage.distance_transform_edt(~edge) <= tolerance_px + 1e-9)
