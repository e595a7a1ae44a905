"""Barriers cut, excluded land goes with its reason, simplification stays within its limits."""

import json

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pipeline.polygons import (
    BarrierConfig,
    ExclusionConfig,
    PolygonConfig,
    PolygonError,
    find_villages,
    polygonize_mask,
    simplify_polygons,
)
from pipeline.polygons.barriers import BarrierMask, select_barriers
from regions.raster.grid import Grid

GRID = Grid("EPSG:32650", 1.0, 0, -200, 200, 300)  # x 0..300, y 0..200
PLAIN = {"min_area_m2": 50, "min_hole_m2": 20, "simplify_m": 0, "close_gap_m": 0}


def features(*rows, crs=GRID.crs):
    tags = [json.dumps(tags, sort_keys=True) for _, tags in rows]
    return gpd.GeoDataFrame({"tags": tags}, geometry=[shape for shape, _ in rows], crs=crs)


def rectangle_scores():
    scores = np.zeros((200, 300), dtype=np.uint8)
    scores[50:150, 50:250] = 250
    return scores


def test_main_road_and_river_cut_but_lanes_and_tunnels_do_not():
    road = shapely.LineString([(100, 0), (100, 200)])
    lane = shapely.LineString([(150, 0), (150, 200)])
    tunnel = shapely.LineString([(170, 0), (170, 200)])
    river = shapely.box(200, 0, 215, 200)
    vectors = features(
        (road, {"highway": "trunk"}),
        (lane, {"highway": "residential"}),
        (tunnel, {"highway": "trunk", "tunnel": "yes"}),
        (river, {"natural": "water"}),
    )
    found = find_villages(rectangle_scores(), grid=GRID, config=PolygonConfig(**PLAIN), vectors=vectors)
    bounds = [shape.bounds for shape in found.villages.geometry]
    # 20 m wide road: 90..110; touched pixels go too, so the cut may be up to a pixel wider
    ends = [end for left, _, right, _ in bounds for end in (left, right)]
    assert ends == pytest.approx([50, 89.5, 110.5, 199.5, 215.5, 250], abs=0.51)
    shapes = select_barriers(vectors, BarrierConfig())
    for village in found.villages.geometry:
        assert not shapely.intersects(shapely.union_all(shapes).buffer(-0.01), village)
    none = find_villages(rectangle_scores(), grid=GRID, config=PolygonConfig(**PLAIN, barriers=None), vectors=vectors)
    assert len(none.villages) == 1


@given(seed=st.integers(0, 2**32 - 1), block=st.integers(5, 90))
@settings(max_examples=25, deadline=None)
def test_barriers_are_the_same_in_every_block(seed, block):
    rng = np.random.default_rng(seed)
    lines = [shapely.LineString(rng.uniform(-20, 320, (4, 2))).buffer(rng.uniform(0.1, 9)) for _ in range(4)]
    square = shapely.box(*np.sort(rng.integers(0, 100, 4)).astype(float))  # edges on the lattice
    mask = BarrierMask(np.array([*lines, square], dtype=object), GRID)
    whole = mask.burn(GRID.window)
    parts = np.zeros_like(whole)
    for window in GRID.blocks(block):
        burned = mask.burn(window)
        if burned is not None:
            parts[window.slices_in(GRID.window)] = burned
    np.testing.assert_array_equal(whole, parts)


def test_excluded_land_goes_with_its_reason():
    scores = rectangle_scores()
    scores[170:190, 100:140] = 250  # a second village, 800 m2, mostly in the park
    vectors = features(
        (shapely.box(200, 0, 260, 200), {"leisure": "park"}),  # a quarter of the first
        (shapely.box(95, 5, 135, 35), {"amenity": "university"}),
        (shapely.box(0, 0, 10, 10), {"natural": "water"}),
    )
    config = PolygonConfig(**PLAIN, exclusions=ExclusionConfig())
    found = find_villages(scores, grid=GRID, config=config, vectors=vectors)
    assert found.villages["excluded"].tolist() == ["park 0.25"]
    assert found.villages.geometry[0].bounds == pytest.approx((50, 50, 200, 150), abs=0.06)
    assert found.removed["reason"].tolist() == ["excluded: campus 0.87"]
    without = find_villages(scores, grid=GRID, config=PolygonConfig(**PLAIN), vectors=vectors)
    assert len(without.villages) == 2 and without.villages["excluded"].isna().all()


def test_vectors_must_fit():
    road = shapely.LineString([(0, 0), (1, 1)])
    with pytest.raises(PolygonError, match="EPSG:3857"):
        find_villages(
            rectangle_scores(), grid=GRID, config=PolygonConfig(),
            vectors=features((road, {"highway": "trunk"}), crs="EPSG:3857"),
        )  # fmt: skip
    with pytest.raises(PolygonError, match="tags"):
        find_villages(
            rectangle_scores(),
            grid=GRID,
            config=PolygonConfig(),
            vectors=gpd.GeoDataFrame(geometry=[road], crs=GRID.crs),
        )


def test_holes_and_gaps():
    scores = rectangle_scores()
    scores[60:64, 60:64] = 0  # 16 m2: filled
    scores[80:90, 80:90] = 0  # 100 m2: stays
    scores[50:150, 120:126] = 0  # a lane of 6 m
    config = PolygonConfig(min_area_m2=50, min_hole_m2=20, simplify_m=0, close_gap_m=6)
    found = find_villages(scores, grid=GRID, config=config)
    assert len(found.villages) == 1
    assert found.counts["holes_filled"] <= 1  # closing may have filled it before
    assert [shapely.Polygon(ring).area for ring in found.villages.geometry[0].interiors] == pytest.approx([100], abs=15)
    assert len(find_villages(scores, grid=GRID, config=PolygonConfig(**PLAIN)).villages) == 2


def random_villages(seed, sigma, share):
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.random((220, 220)), sigma)
    polygons = polygonize_mask(field > np.quantile(field, 1 - share))
    return polygons[shapely.area(polygons) >= 60]


@given(
    seed=st.integers(0, 2**32 - 1),
    sigma=st.sampled_from([3.0, 6.0, 10.0]),
    share=st.sampled_from([0.1, 0.3, 0.6]),
    tolerance=st.sampled_from([1.0, 2.0, 5.0]),
)
@settings(max_examples=25, deadline=None)
def test_simplification_keeps_its_promises(seed, sigma, share, tolerance):
    before = random_villages(seed, sigma, share)
    result = simplify_polygons(before, tolerance_m=tolerance)
    after = result.polygons
    assert len(after) == len(before)
    assert shapely.is_valid(after).all() and not shapely.is_empty(after).any()
    change = np.abs(shapely.area(after) / shapely.area(before) - 1)
    assert (change < 0.01).all()
    hausdorff = shapely.hausdorff_distance(before, after, densify=0.25)
    assert (hausdorff < tolerance).all()
    assert (hausdorff <= result.hausdorff_m + 1e-9).all()  # the bound is one
    assert np.median(result.tolerance_m) > 0  # and most outlines are simplified
    tree = shapely.STRtree(after)
    left, right = tree.query(after, predicate="intersects")
    other = left < right
    assert shapely.area(shapely.intersection(after[left[other]], after[right[other]])).sum() == pytest.approx(
        0, abs=1e-9
    )


def test_simplification_keeps_shared_borders_and_shortens():
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.random((200, 200)), 15)
    left = polygonize_mask(field > np.median(field))
    right = polygonize_mask(~(field > np.median(field)))
    both = np.concatenate((left, right))
    both = both[shapely.area(both) > 100]
    gap_before = 200 * 200 - shapely.area(shapely.union_all(both))
    result = simplify_polygons(both, tolerance_m=3)
    assert shapely.area(result.polygons).sum() == pytest.approx(shapely.area(shapely.union_all(result.polygons)))
    assert 200 * 200 - shapely.area(shapely.union_all(result.polygons)) == pytest.approx(gap_before, abs=1e-6)
    assert shapely.get_num_coordinates(result.polygons).sum() < 0.6 * shapely.get_num_coordinates(both).sum()
