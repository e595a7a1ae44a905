"""Polygons equal an independent tracer's, whatever the blocks."""

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from scipy.ndimage import binary_closing

from pipeline.polygons import PolygonConfig, PolygonError, find_villages, polygonize_mask
from pipeline.polygons.morphology import choose_octagon, close_gaps
from regions.raster.burn import burn
from regions.raster.grid import Grid

SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24))
MASKS = st.one_of(
    hnp.arrays(bool, SHAPES),
    st.builds(
        lambda shape, seed, share: np.random.default_rng(seed).random(shape) < share,
        SHAPES,
        st.integers(0, 2**32 - 1),
        st.sampled_from([0.2, 0.4, 0.5, 0.6, 0.8, 0.95]),
    ),
)


def reference(mask, connectivity):
    """What rasterio (GDAL) finds, made valid, without collinear points."""
    found = rasterio.features.shapes(mask.astype("uint8"), mask=mask, connectivity=connectivity)
    shapes = [shapely.geometry.shape(shape) for shape, _ in found]
    return [shapely.make_valid(shapely.simplify(shape, 0)) for shape in shapes]


def canonical(polygons):
    return sorted(shapely.to_wkt(shapely.normalize(polygons), rounding_precision=0))


@given(mask=MASKS)
@settings(max_examples=300, deadline=None)
def test_equals_rasterio_vertex_for_vertex(mask):
    polygons = polygonize_mask(mask, connectivity=4)
    assert shapely.is_valid(polygons).all()
    assert canonical(polygons) == canonical(reference(mask, 4))


@given(mask=MASKS)
@settings(max_examples=200, deadline=None)
def test_corner_connected_parts_equal_rasterio_as_point_sets(mask):
    polygons = polygonize_mask(mask, connectivity=8)
    assert shapely.is_valid(polygons).all()
    expected = reference(mask, 8)
    assert len(polygons) == len(expected)
    found = {shapely.to_wkb(shapely.normalize(shapely.union_all([item]))) for item in polygons}
    assert found == {shapely.to_wkb(shapely.normalize(shapely.union_all([item]))) for item in expected}


@given(mask=MASKS, block=st.integers(1, 30), connectivity=st.sampled_from([4, 8]))
@settings(max_examples=300, deadline=None)
def test_blocks_leave_no_trace(mask, block, connectivity):
    whole = polygonize_mask(mask, connectivity=connectivity)
    parts = polygonize_mask(mask, connectivity=connectivity, block_px=block)
    assert shapely.to_wkb(whole).tolist() == shapely.to_wkb(parts).tolist()  # bytes, order and start points too


@given(mask=MASKS)
@settings(max_examples=100, deadline=None)
def test_polygons_burn_back_to_the_mask(mask):
    polygons = polygonize_mask(mask)
    burned = rasterio.features.rasterize(polygons, out_shape=mask.shape, dtype="uint8") if len(polygons) else mask * 0
    np.testing.assert_array_equal(burned.astype(bool), mask)
    assert (
        shapely.get_num_coordinates(shapely.simplify(polygons, 0)).sum() == shapely.get_num_coordinates(polygons).sum()
    )


@given(mask=MASKS, radius=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_closing_equals_scipy(mask, radius):
    square, diamond = choose_octagon(radius)
    padded = np.pad(mask, 2 * radius + 1)
    element = np.zeros((4 * radius + 1, 4 * radius + 1), dtype=bool)
    row, col = np.abs(np.mgrid[-2 * radius : 2 * radius + 1, -2 * radius : 2 * radius + 1])
    # square + diamond: distance to the square, measured by steps, at most the diamond's radius
    element = np.maximum(row - square, 0) + np.maximum(col - square, 0) <= diamond
    expected = binary_closing(padded, element)[2 * radius + 1 : -2 * radius - 1, 2 * radius + 1 : -2 * radius - 1]
    np.testing.assert_array_equal(close_gaps(mask, radius_px=radius), expected if radius else mask)


def test_grid_to_metres_is_anchored():
    scores = np.zeros((6, 8), dtype=np.uint8)
    scores[2:5, 3:7] = 250
    grid = Grid("EPSG:32650", 2.0, 100, -200, 6, 8)
    config = PolygonConfig(min_area_m2=0, min_hole_m2=0, simplify_m=0, close_gap_m=0)
    found = find_villages(scores, grid=grid, config=config)
    # scores fall from 250 to 0, the level of 0.45 lies at 112.5: 0.55 px, in 128ths, from the centres inside
    out = 2 * (70 / 128 - 0.5)
    assert found.villages.geometry[0].bounds == (206.0 - out, 390.0 - out, 214.0 + out, 396.0 + out)
    assert found.villages.geometry[0].exterior.is_ccw
    assert found.villages.crs.to_epsg() == 32650


@given(
    seed=st.integers(0, 2**32 - 1),
    block=st.integers(3, 40),
    connectivity=st.sampled_from([4, 8]),
    gap=st.sampled_from([0.0, 2.0, 5.0]),
)
@settings(max_examples=60, deadline=None)
def test_villages_do_not_depend_on_blocks_or_workers(seed, block, connectivity, gap):
    rng = np.random.default_rng(seed)
    scores = rng.choice(np.array([0, 90, 120, 180, 250, 255], dtype=np.uint8), (37, 41))
    grid = Grid("EPSG:32650", 1.0, 5, 7, 37, 41)
    config = {"simplify_m": 0.0, "close_gap_m": gap, "min_area_m2": 12.0, "min_hole_m2": 6.0}
    config["connectivity"] = connectivity
    whole = find_villages(scores, grid=grid, config=PolygonConfig(**config, block_px=64), workers=1)
    parts = find_villages(scores, grid=grid, config=PolygonConfig(**config, block_px=block), workers=2)
    assert whole.villages.geometry.to_wkb().tolist() == parts.villages.geometry.to_wkb().tolist()
    assert whole.counts == parts.counts
    assert whole.villages.geometry.is_valid.all()
    assert all(np.count_nonzero(burn([shape], grid)) >= 12 for shape in whole.villages.geometry)  # of the pixels


def test_hysteresis_and_not_predicted():
    scores = np.zeros((20, 40), dtype=np.uint8)
    scores[2:8, 2:12] = 110  # grows, but holds no seed
    scores[2:8, 15:25] = 110
    scores[4, 18] = 200
    scores[2:8, 25:35] = 255  # not predicted: never village
    grid = Grid("EPSG:32650", 1.0, 0, 0, 20, 40)
    config = PolygonConfig(grow=0.4, min_area_m2=0, min_hole_m2=0, simplify_m=0, close_gap_m=0)
    found = find_villages(scores, grid=grid, config=config)
    (shape,) = found.villages.geometry
    assert shape.bounds == pytest.approx((15.0, -8.0, 25.0, -2.0), abs=0.6)
    assert shape.bounds[2] == 25.0  # the pixel's edge, where nothing is known beyond
    assert found.counts["without_seed"] == 1


def test_config_refuses_what_cannot_be():
    with pytest.raises(ValidationError, match=r"grow 0\.7 must not exceed seed 0\.6"):
        PolygonConfig(seed=0.6, grow=0.7)
    with pytest.raises(ValidationError, match="min_hole_m2"):
        PolygonConfig(min_hole_m2=3000)


def test_scores_must_lie_on_the_grid():
    grid = Grid("EPSG:32650", 1.0, 0, 0, 20, 40)
    with pytest.raises(PolygonError, match=r"\(10, 40\)"):
        find_villages(np.zeros((10, 40), np.uint8), grid=grid, config=PolygonConfig())
