"""Errors by kind: equal to brute force however the mask is cut, and to the wall-to-wall comparison in sum."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from rasterio.transform import from_origin
from scipy import ndimage

from accuracy.comparison.error_kinds import ERROR_KINDS, find_errors, tabulate_kinds
from accuracy.comparison.wall_to_wall import compare_wall_to_wall
from accuracy.errors import ComparisonError
from tests.support.rasters import grid_at, write_raster

PIXEL_M = 10.0
TRANSFORM = from_origin(500_000, 2_500_000, PIXEL_M, PIXEL_M)


def write(path, values):
    grid = grid_at(500_000, 2_500_000, values.shape, resolution_m=PIXEL_M)
    return write_raster(path, grid, values, crs="EPSG:32649", nodata=255)


def frame(polygons, **columns):
    return gpd.GeoDataFrame(columns, geometry=polygons, crs="EPSG:32649")


def ground_box(c0, r0, c1, r1):
    return shapely.box(500_000 + 10 * c0, 2_500_000 - 10 * r1, 500_000 + 10 * c1, 2_500_000 - 10 * r0)


def random_boxes(rng, count):
    boxes = []
    for _ in range(count):
        (c0, c1), (r0, r1) = np.sort(rng.uniform(-3, 35, 2)), np.sort(rng.uniform(-3, 35, 2))
        boxes.append(ground_box(c0, r0, c1, r1))
    return boxes


def test_three_kinds_by_hand(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[2:8, 2:10] = 1  # a village found, one column too wide
    mask[12:14, 20:25] = 1  # a false alarm of 10 px
    mask[18:20, 0:5] = 255
    reference = frame([ground_box(2, 2, 9, 8), ground_box(14, 2, 20, 5), ground_box(0, 18, 5, 20)])
    census = find_errors(write(tmp_path / "m.tif", mask), reference, reach_m=10.0, min_region_m2=100.0)
    assert [(k.kind, k.regions, k.omitted_px, k.committed_px) for k in census.kinds] == [
        ("missed", 1, 18, 0),
        ("false", 1, 0, 10),
        ("boundary", 1, 0, 6),
    ]
    assert census.kinds[0].area_m2 == pytest.approx(1800, rel=1e-3)
    assert census.villages[["row", "reference_px", "mapped_px"]].to_numpy().tolist() == [[0, 42, 42], [1, 18, 0]]
    assert census.regions["kind"].tolist() == ["missed", "false", "boundary"]  # largest first
    assert census.regions.geometry.iloc[0].equals(ground_box(14, 2, 20, 5))
    assert tabulate_kinds(census)[-1]["omitted_px"] == 18


def test_a_missed_neighbour_of_a_found_village_is_boundary_only_within_reach(tmp_path):
    mask = np.zeros((10, 30), np.uint8)
    mask[:, :10] = 1
    reference = frame([ground_box(0, 0, 20, 10)])
    census = find_errors(write(tmp_path / "m.tif", mask), reference, reach_m=30.0)
    assert [k.omitted_px for k in census.kinds] == [70, 0, 30]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), window=st.integers(4, 40), reach=st.sampled_from([0.0, 10.0, 25.0, 60.0]))
def test_equal_to_brute_force_for_any_window(tmp_path, seed, window, reach):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(33, 27)), 1.0)
    mask = (smooth > 0.1).astype(np.uint8)
    mask[rng.random(mask.shape) < 0.05] = 255
    path = write(tmp_path / f"m{seed}_{window}_{reach}.tif", mask)
    reference, areas = frame(random_boxes(rng, 4)), frame([ground_box(1, 1, 20, 30), ground_box(10, 5, 26, 33)])
    unlabelled = frame([ground_box(5, 5, 9, 12)])
    given_ground = {"areas": areas, "unlabelled": unlabelled}
    census = find_errors(path, reference, reach_m=reach, min_region_m2=200.0, window_px=window, **given_ground)

    def burn(shapes):
        return rasterize(shapes, out_shape=mask.shape, transform=TRANSFORM).astype(bool)

    truth, mapped = burn(reference.geometry), mask == 1
    judged = (mask != 255) & burn(areas.geometry) & ~burn(unlabelled.geometry)
    rows, cols = np.mgrid[: mask.shape[0], : mask.shape[1]]

    beyond = rasterize(  # the reference is known past the edge of the map too
        reference.geometry, out_shape=(53, 47), transform=from_origin(499_900, 2_500_100, PIXEL_M, PIXEL_M)
    )

    def near(at):  # within reach of any pixel of a list, each distance computed
        if not len(at):
            return np.zeros(mask.shape, bool)
        squares = (rows[..., None] - at[:, 0]) ** 2 + (cols[..., None] - at[:, 1]) ** 2
        return squares.min(axis=-1) * PIXEL_M**2 <= reach**2 + 1e-6

    by_map, by_truth = near(np.argwhere(mapped)), near(np.argwhere(beyond) - 10)
    omitted, committed = judged & truth & ~mapped, judged & mapped & ~truth
    kinds = {
        "missed": omitted & ~by_map,
        "false": committed & ~by_truth,
        "boundary": (omitted & by_map) | (committed & by_truth),
    }
    for total in census.kinds:
        members = kinds[total.kind]
        assert total.omitted_px == (members & omitted).sum()
        assert total.committed_px == (members & committed).sum()
        labels, count = ndimage.label(members)
        sizes = np.sort(np.bincount(labels.ravel(), minlength=count + 1)[1:])[::-1]
        found = census.regions[census.regions["kind"] == total.kind]
        assert np.allclose(found.geometry.area / PIXEL_M**2, sizes[sizes >= 2])
        assert total.regions == (sizes >= 2).sum()
    compared = compare_wall_to_wall(path, reference, threshold=None, **given_ground)
    assert census.confusion == compared.total.confusion
    for village in census.villages.itertuples():
        shape = burn([reference.geometry.iloc[village.row]])
        for other in reference.geometry.iloc[village.row + 1 :]:
            shape &= ~burn([other])
        assert (village.reference_px, village.mapped_px) == ((shape & judged).sum(), (shape & judged & mapped).sum())


def test_no_reference_and_no_map(tmp_path):
    mask = np.zeros((5, 5), np.uint8)
    mask[1, 1] = 1
    nothing = find_errors(write(tmp_path / "m.tif", mask), frame([]))
    assert [k.committed_px for k in nothing.kinds] == [0, 1, 0]
    assert nothing.villages.empty
    assert [k.kind for k in nothing.kinds] == list(ERROR_KINDS)


def test_what_is_no_mask_is_refused(tmp_path):
    path = write(tmp_path / "s.tif", np.full((5, 5), 37, np.uint8))
    with pytest.raises(ComparisonError, match="holds the value 37"):
        find_errors(path, frame([ground_box(0, 0, 2, 2)]))
    with pytest.raises(ComparisonError, match="no CRS"):
        find_errors(path, frame([]).set_crs(None, allow_override=True))
    with pytest.raises(ComparisonError, match="negative"):
        find_errors(path, frame([]), reach_m=-1)
