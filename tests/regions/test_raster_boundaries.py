"""Boundaries of masks against brute force, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from regions.raster.boundaries import BoundaryCounts, BoundaryError, count_boundaries, find_contour, find_ring


def blobs(seed, shape=(24, 31)):
    field = gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return field > np.quantile(field, 0.6)


def pixels(mask):
    return [tuple(p) for p in np.argwhere(mask)]


@given(seed=st.integers(0, 10_000), tolerance=st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.3]))
@settings(max_examples=30, deadline=None)
def test_counts_equal_a_search_over_all_pairs_of_pixels(seed, tolerance):
    truth, mapped = blobs(seed), blobs(seed + 1)
    depth = max(1, round(tolerance))
    rings, contours = [], []
    for mask in (truth, mapped):
        outside = pixels(~mask)
        rings.append(
            {p for p in pixels(mask) if any(max(abs(p[0] - q[0]), abs(p[1] - q[1])) <= depth for q in outside)}
        )
        contours.append({p for p in pixels(mask) if any(abs(p[0] - q[0]) + abs(p[1] - q[1]) == 1 for q in outside)})
    assert rings[0] == set(pixels(find_ring(truth, depth))) and contours[1] == set(pixels(find_contour(mapped)))

    def near(ones, others):
        return sum(any(np.hypot(p[0] - q[0], p[1] - q[1]) <= tolerance + 1e-9 for q in others) for p in ones)

    assert count_boundaries(truth, mapped, tolerance_px=tolerance) == BoundaryCounts(
        ring_both_px=len(rings[0] & rings[1]),
        ring_either_px=len(rings[0] | rings[1]),
        contour_map_px=len(contours[1]),
        contour_map_near_px=near(contours[1], contours[0]),
        contour_reference_px=len(contours[0]),
        contour_reference_near_px=near(contours[0], contours[1]),
    )


@given(seed=st.integers(0, 10_000), cut=st.integers(8, 16))
@settings(max_examples=20, deadline=None)
def test_parts_with_a_margin_add_up_to_the_whole(seed, cut):
    truth, mapped = blobs(seed), blobs(seed + 1)
    whole = count_boundaries(truth, mapped, tolerance_px=2)
    margin = 4
    left = slice(0, cut + margin)
    right = slice(cut - margin, None)
    parts = [
        count_boundaries(truth[:, left], mapped[:, left], tolerance_px=2, inside=(slice(None), slice(0, cut))),
        count_boundaries(truth[:, right], mapped[:, right], tolerance_px=2, inside=(slice(None), slice(margin, None))),
    ]
    assert parts[0] + parts[1] == whole


def test_nothing_to_compare_is_none_and_wrong_shapes_are_refused():
    full = np.ones((5, 5), dtype=bool)
    counts = count_boundaries(full, full, tolerance_px=1)
    assert (counts.boundary_iou, counts.precision, counts.f1) == (None, None, None)
    with pytest.raises(BoundaryError, match="must share a grid"):
        count_boundaries(full, full[:4], tolerance_px=1)
    with pytest.raises(BoundaryError, match="is negative"):
        count_boundaries(full, full, tolerance_px=-1)
