"""Outlines at the level of the scores: those of scikit-image, the pixels of the ring, blocks without a trace."""

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.measure import find_contours

from pipeline.polygons import PolygonConfig, find_villages
from pipeline.polygons.contours import STEPS, UnitEdges, contour_rings
from pipeline.polygons.rings import polygons_of_rings, trace_rings
from pipeline.polygons.runs import label_runs, runs_of_mask
from regions.raster.burn import burn
from regions.raster.grid import Grid, Window

EVERYTHING = {"min_area_m2": 0, "min_hole_m2": 0, "close_gap_m": 0, "barriers": None}


def reader(scores):
    """Windows of an array, 255 outside of it."""
    padded = np.pad(scores, 64, constant_values=255)

    def read(window: Window):
        row, col = window.row_px + 64, window.col_px + 64
        return padded[row : row + window.height_px, col : col + window.width_px]

    return read


def contoured(scores, level, block_px=16):
    mask = (scores >= level) & (scores != 255)
    height, width = mask.shape
    runs = runs_of_mask(mask, window=Window(0, 0, height, width), height_px=height, width_px=width)
    _, labels = label_runs(runs, connectivity=4)
    rings = trace_rings(runs, labels)
    return mask, rings, contour_rings(rings, reader(scores), level=level, block_px=block_px)


def smooth_field(seed, sigma, side=40):
    """Scores of 0 to 250 that pass every level gently, with a rim below any level."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), sigma)
    scores = np.clip(125 + 60 * field / field.std(), 0, 250).astype(np.uint8)
    scores[[0, -1]] = scores[:, [0, -1]] = 0
    return scores


def has_saddle(mask):
    """Whether two pixels of the mask, or two outside it, meet at a corner only."""
    a, b, c, d = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
    return bool(np.any((a == d) & (b == c) & (a != b)))


@given(seed=st.integers(0, 2**32 - 1), sigma=st.sampled_from([1.5, 3.0]), level=st.integers(60, 190))
@settings(max_examples=80, deadline=None)
def test_rings_are_those_of_scikit_image(seed, sigma, level):
    scores = smooth_field(seed, sigma)
    mask, _, rings = contoured(scores, level)
    assume(mask.any() and not has_saddle(mask))
    expected = [np.column_stack((c[:-1, 1], c[:-1, 0])) + 0.5 for c in find_contours(scores.astype(float), level - 0.5)]
    found = [
        np.column_stack((rings.cols[a:b], rings.rows[a:b]))
        for a, b in zip(rings.offsets[:-1], rings.offsets[1:], strict=True)
    ]
    assert len(found) == len(expected)

    for points in found:
        other = min(expected, key=lambda p: np.abs(p.mean(axis=0) - points.mean(axis=0)).sum())
        assert len(other) == len(points)  # a point for each pair of neighbours that the level parts
        order, wanted = np.lexsort(points.round(2).T), np.lexsort(other.round(2).T)
        near = np.abs(np.sort(points[order], axis=0) - np.sort(other[wanted], axis=0)).max()
        assert near <= 1 / STEPS + 1e-9  # rounded to the steps, and kept off the centres


@given(seed=st.integers(0, 2**32 - 1), level=st.sampled_from([60, 113, 125, 200]), smooth=st.booleans())
@settings(max_examples=120, deadline=None)
def test_valid_and_the_same_pixels(seed, level, smooth):
    rng = np.random.default_rng(seed)
    scores = smooth_field(seed, 1.0) if smooth else rng.integers(0, 256, (19, 23)).astype(np.uint8)
    mask, before, rings = contoured(scores, level)
    polygons, labels = polygons_of_rings(rings)
    assert shapely.is_valid(polygons).all()
    assert labels.tolist() == sorted(set(before.labels.tolist()))
    # no two share a point, let alone ground
    assert len(shapely.STRtree(polygons).query(polygons, predicate="intersects")[0]) == len(polygons)
    height, width = mask.shape
    pixels = Grid("EPSG:3857", 1.0, 0, 0, height, width)
    flipped = shapely.transform(polygons, lambda xy: xy * (1, -1))
    np.testing.assert_array_equal(burn(flipped, pixels), mask)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_unit_edges_part_inside_from_outside(seed):
    mask = np.random.default_rng(seed).random((13, 17)) < 0.6
    runs = runs_of_mask(mask, window=Window(0, 0, 13, 17), height_px=13, width_px=17)
    edges = UnitEdges(trace_rings(runs, label_runs(runs, connectivity=4)[1]))
    padded = np.pad(mask, 1)
    assert padded[edges.rows + 1, edges.cols + 1].all()
    assert not padded[edges.rows + edges.down + 1, edges.cols + edges.right + 1].any()
    pairs = set(zip(edges.rows, edges.cols, edges.down, edges.right, strict=True))
    assert len(pairs) == len(edges)  # each once
    inner = np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    assert len(edges) == inner  # and all of them


@given(
    seed=st.integers(0, 2**32 - 1), block=st.integers(3, 45), gap=st.sampled_from([0.0, 5.0]), first=st.integers(0, 9)
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_blocks_and_the_place_of_the_grid_leave_no_trace(seed, block, gap, first):
    scores = smooth_field(seed, 2.0)
    scores[20:24, 5:30] = 255
    config = {**EVERYTHING, "close_gap_m": gap, "min_area_m2": 20}
    whole = find_villages(
        scores, grid=Grid("EPSG:32650", 0.3, 1000, -7000, 40, 40), config=PolygonConfig(**config), workers=1
    ).villages
    parts = find_villages(
        scores, grid=Grid("EPSG:32650", 0.3, 1000, -7000, 40, 40), config=PolygonConfig(**config, block_px=block)
    ).villages
    assert whole.geometry.to_wkb().tolist() == parts.geometry.to_wkb().tolist()
    # another extent of the same ground: the same numbers
    wider = np.full((40 + first, 40 + first), 0, dtype=np.uint8)
    wider[first:, first:] = scores
    moved = find_villages(
        wider, grid=Grid("EPSG:32650", 0.3, 1000 - first, -7000 - first, 40 + first, 40 + first),
        config=PolygonConfig(**config, block_px=block),
    ).villages  # fmt: skip
    assert whole.geometry.to_wkb().tolist() == moved.geometry.to_wkb().tolist()


def test_a_disc_is_a_disc():
    row, col = np.mgrid[:200, :200] + 0.5
    slope = 250 / (1 + np.exp((np.hypot(row - 101.3, col - 98.8) - 70) / 4))  # the level of 0.5 at a radius of 70
    scores = np.round(slope).astype(np.uint8)
    config = PolygonConfig(**EVERYTHING, grow=0.5, seed=0.6, simplify_m=0)
    disc = find_villages(scores, grid=Grid("EPSG:32650", 1.0, 0, 0, 200, 200), config=config).villages.geometry[0]
    reach = np.hypot(*(shapely.get_coordinates(disc) - (98.8, -101.3)).T)
    assert np.abs(reach - 70).max() < 0.1  # pixel edges stray by up to 0.7
    assert disc.area == pytest.approx(np.pi * 70**2, rel=1e-3)
    assert disc.length == pytest.approx(2 * np.pi * 70, rel=1e-3)  # pixel edges are a quarter longer


def test_simplification_keeps_the_area_of_the_pixels():
    scores = smooth_field(5, 20.0, side=400)
    found = find_villages(scores, grid=Grid("EPSG:32650", 1.0, 0, 0, 400, 400), config=PolygonConfig(barriers=None))
    exact = find_villages(
        scores, grid=Grid("EPSG:32650", 1.0, 0, 0, 400, 400), config=PolygonConfig(barriers=None, simplify_m=0)
    )
    shapes, before = found.villages.geometry, exact.villages.geometry
    assert len(shapes) > 2
    pixels = [burn([shape], Grid("EPSG:32650", 1.0, 0, 0, 400, 400)).sum() for shape in before]
    assert (np.abs(shapes.area / pixels - 1) < 0.01).all()
    corners = shapely.get_num_coordinates(shapes.to_numpy()).sum() / shapes.length.sum() * 1000
    assert corners < 86  # per kilometre: half of what pixel edges gave on the demo city
    assert shapes.is_valid.all()
