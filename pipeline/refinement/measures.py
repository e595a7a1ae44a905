"""How well outlines follow reference outlines, on masks of one grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from regions.raster.boundaries import BoundaryCounts, count_boundaries
from regions.raster.burn import ShapeLayer
from regions.raster.grid import Grid


def boundary_f1(mask: NDArray[np.bool_], reference: NDArray[np.bool_], *, tolerance_px: float) -> float:
    """Boundary F1 (Csurka et al., BMVC 2013): harmonic mean of the shares of each outline near the other.

    Outline pixels are those of the class with a neighbour (of four) outside it; the edge of the array is no outline.

    Args:
        mask: bool (H, W).
        reference: bool (H, W).
        tolerance_px: Largest distance between pixel centres that counts as near.

    Returns:
        1.0 where neither has an outline, 0.0 where one has none.
    """
    return _f1(count_boundaries(reference, mask, tolerance_px=tolerance_px))


def boundary_iou(mask: NDArray[np.bool_], reference: NDArray[np.bool_], *, distance_px: float) -> float:
    """Boundary IoU (Cheng et al., CVPR 2021): IoU of the parts of both within a distance of their own outside.

    Args:
        mask: bool (H, W).
        reference: bool (H, W).
        distance_px: Depth of the inner ring in rows and columns; rounded, at least 1. The edge of the array is no
            outline.

    Returns:
        1.0 where both rings are empty.
    """
    return _iou(count_boundaries(reference, mask, tolerance_px=distance_px))


def _f1(counts: BoundaryCounts) -> float:
    if not counts.contour_map_px or not counts.contour_reference_px:
        return float(counts.contour_map_px == counts.contour_reference_px)
    return float(counts.f1 or 0.0)


def _iou(counts: BoundaryCounts) -> float:
    return 1.0 if counts.boundary_iou is None else counts.boundary_iou


def compare_outlines(
    found: gpd.GeoSeries,
    reference: gpd.GeoSeries,
    *,
    grid: Grid,
    distances_m: Sequence[float] = (3.0, 10.0),
    block_px: int = 2048,
) -> dict[str, float]:
    """IoU, boundary F1 and boundary IoU of outlines against reference outlines on a city's grid.

    Counts are added up over blocks with a margin, so the figures are those of the whole grid at once.

    Args:
        found: Polygons in the grid's CRS.
        reference: Reference polygons in the grid's CRS, complete on the grid.
        grid: The city's grid.
        distances_m: Tolerances and band widths in metres of the CRS.
        block_px: Does not change the answer.

    Returns:
        ``iou`` and, for each distance d, ``boundary_f1_{d}m`` and ``boundary_iou_{d}m``.
    """
    counts = [BoundaryCounts() for _ in distances_m]
    both = either = 0
    margin = math.ceil(max(distances_m) / grid.resolution_m) + 2
    ours, theirs = ShapeLayer(found.to_numpy(), grid), ShapeLayer(reference.to_numpy(), grid)
    for block in grid.blocks(block_px):
        outer = block.padded(margin).intersection(grid.window)
        own = block.slices_in(outer)
        mask, truth = ours.mask(outer), theirs.mask(outer)
        if not mask.any() and not truth.any():
            continue
        both += int(np.count_nonzero(mask[own] & truth[own]))
        either += int(np.count_nonzero(mask[own] | truth[own]))
        for k, distance_m in enumerate(distances_m):
            counts[k] += count_boundaries(truth, mask, tolerance_px=distance_m / grid.resolution_m, inside=own)
    result = {"iou": both / either if either else 1.0}
    for found_here, distance_m in zip(counts, distances_m, strict=True):
        result[f"boundary_f1_{distance_m:g}m"] = _f1(found_here)
        result[f"boundary_iou_{distance_m:g}m"] = _iou(found_here)
    return result
