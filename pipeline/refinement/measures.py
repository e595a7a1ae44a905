"""How well outlines follow reference outlines, on masks of one grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

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
    ours, theirs = _outline(mask), _outline(reference)
    if not ours.any() or not theirs.any():
        return float(not ours.any() and not theirs.any())
    precision = float(np.mean(distance_transform_edt(~theirs)[ours] <= tolerance_px))
    recall = float(np.mean(distance_transform_edt(~ours)[theirs] <= tolerance_px))
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def boundary_iou(mask: NDArray[np.bool_], reference: NDArray[np.bool_], *, distance_px: float) -> float:
    """Boundary IoU (Cheng et al., CVPR 2021): IoU of the parts of both within a distance of their own outline.

    Args:
        mask: bool (H, W).
        reference: bool (H, W).
        distance_px: Width of the inner band; the edge of the array is no outline.

    Returns:
        1.0 where both bands are empty.
    """
    ours, theirs = _band(mask, distance_px), _band(reference, distance_px)
    union = np.count_nonzero(ours | theirs)
    return 1.0 if union == 0 else float(np.count_nonzero(ours & theirs) / union)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    wide = np.pad(mask, 1, mode="edge")
    inner = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return mask & ~inner


def _band(mask: NDArray[np.bool_], distance_px: float) -> NDArray[np.bool_]:
    if mask.all():
        return np.zeros_like(mask)
    band: NDArray[np.bool_] = mask & (distance_transform_edt(mask) <= distance_px)
    return band


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
    counts = np.zeros((len(distances_m), 6), dtype=np.int64)
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
            counts[k] += _boundary_counts(mask, truth, own, distance_m / grid.resolution_m)
    result = {"iou": both / either if either else 1.0}
    for (ours_near, ours_all, theirs_near, theirs_all, common, union), distance_m in zip(
        counts.tolist(), distances_m, strict=True
    ):
        precision = ours_near / ours_all if ours_all else float(theirs_all == 0)
        recall = theirs_near / theirs_all if theirs_all else float(ours_all == 0)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        result[f"boundary_f1_{distance_m:g}m"] = f1
        result[f"boundary_iou_{distance_m:g}m"] = common / union if union else 1.0
    return result


def _boundary_counts(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], own: tuple[slice, slice], distance_px: float
) -> NDArray[np.int64]:
    """Outline pixels near the other and all, of both; band pixels in common and in either; inside ``own``."""
    ours, theirs = _outline(mask), _outline(truth)
    band, other = _band(mask, distance_px)[own], _band(truth, distance_px)[own]
    near_ours = _near(theirs, distance_px)[own] & ours[own]
    near_theirs = _near(ours, distance_px)[own] & theirs[own]
    counted = (near_ours, ours[own], near_theirs, theirs[own], band & other, band | other)
    return np.array([np.count_nonzero(item) for item in counted], dtype=np.int64)


def _near(outline: NDArray[np.bool_], distance_px: float) -> NDArray[np.bool_]:
    if not outline.any():
        return np.zeros_like(outline)
    near: NDArray[np.bool_] = distance_transform_edt(~outline) <= distance_px
    return near
