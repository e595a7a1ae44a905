"""How well outlines follow reference outlines, on masks of one grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt


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
