"""Map against complete reference: equal to brute force however the raster is cut."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from rasterio.transform import from_origin

from accuracy.comparison.confusion import Confusion
from accuracy.comparison.wall_to_wall import compare_wall_to_wall
from accuracy.errors import ComparisonError
from accuracy.pixels import pixel_area_m2
from tests.support.rasters import grid_at, write_raster

TRANSFORM = from_origin(500_000, 2_500_000, 10, 10)


def write(path: Path, values: np.ndarray, *, crs: str | None = "EPSG:32649", nodata: int | None = None) -> Path:
    grid = grid_at(500_000, 2_500_000, values.shape, resolution_m=10.0)
    return write_raster(path, grid, values, crs=crs, nodata=nodata)


def frame(polygons: list, **columns) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=polygons, crs="EPSG:32649")


def ground_box(c0: float, r0: float, c1: float, r1: float):
    return shapely.box(500_000 + 10 * c0, 2_500_000 - 10 * r1, 500_000 + 10 * c1, 2_500_000 - 10 * r0)


def test_cells_measures_and_uncounted_pixels_by_hand(tmp_path):
    score = np.zeros((10, 10), dtype=np.uint8)
    score[0:4, 0:5] = 200  # 20 mapped
    score[9, :] = 255  # 10 not predicted
    reference = frame([ground_box(0, 0, 4, 6), ground_box(0, 9, 3, 10)])  # 24 + 3 not predicted
    result = compare_wall_to_wall(write(tmp_path / "s.tif", score, nodata=255), reference, threshold=0.5)
    assert result.total.confusion == Confusion(tp=16, fp=4, fn=8, tn=62)
    assert (result.total.not_predicted_px, result.total.reference_not_predicted_px) == (10, 3)
    row = result.total.as_dict()
    assert row["precision"] == 16 / 20
    assert row["recall"] == 16 / 24
    assert row["F1"] == pytest.approx(2 * row["IoU"] / (1 + row["IoU"]), abs=1e-15)
    assert row["reference_uv_m2"] == pytest.approx(2400 / 0.9996**2, rel=1e-5)  # UTM's scale on its meridian
    grid = grid_at(12_900_000, 4_865_940, (9, 9), resolution_m=10.0, crs="EPSG:3857")
    with rasterio.open(write_raster(tmp_path / "m.tif", grid, np.zeros((9, 9), np.uint8))) as mercator:
        assert pixel_area_m2(mercator) == pytest.approx(100 * np.cos(np.radians(40)) ** 2, rel=0.01)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), window=st.integers(3, 40), threshold=st.integers(1, 250))
def test_equal_to_brute_force_for_any_window(tmp_path, seed, window, threshold):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (33, 27)).astype(np.uint8)
    path = write(tmp_path / f"s{seed}_{window}_{threshold}.tif", values, nodata=255)
    polygons = [ground_box(*np.sort(rng.uniform(-2, 30, 2)), 0, 0) for _ in range(0)]
    for _ in range(6):
        (c0, c1), (r0, r1) = np.sort(rng.uniform(-3, 35, 2)), np.sort(rng.uniform(-3, 35, 2))
        polygons.append(ground_box(c0, r0, c1, r1))
    areas = frame([ground_box(0, 0, 15, 20), ground_box(10, 5, 27, 33)], name=["a", "b"])
    got = compare_wall_to_wall(path, frame(polygons), areas=areas, threshold=threshold / 250, window_px=window)

    def burn(shapes):
        return rasterize(shapes, out_shape=values.shape, transform=TRANSFORM).astype(bool)

    truth, mapped, valid = burn(polygons), values >= threshold, values != 255
    masks = [burn([g]) for g in areas.geometry]
    for row, inside in zip((*got.areas, got.total), (*masks, masks[0] | masks[1]), strict=True):
        keep = inside & valid
        assert row.confusion == Confusion(
            tp=(keep & mapped & truth).sum(),
            fp=(keep & mapped & ~truth).sum(),
            fn=(keep & ~mapped & truth).sum(),
            tn=(keep & ~mapped & ~truth).sum(),
        )
        assert row.not_predicted_px == (inside & ~valid).sum()
        assert row.reference_not_predicted_px == (inside & ~valid & truth).sum()


def test_reference_in_another_crs_and_overlapping_invalid_polygons(tmp_path):
    score = np.zeros((40, 40), dtype=np.uint8)
    score[10:30, 10:30] = 250
    path = write(tmp_path / "s.tif", score)
    bowtie = shapely.Polygon([(500_100, 2_499_900), (500_300, 2_499_700), (500_300, 2_499_900), (500_100, 2_499_700)])
    box = ground_box(10, 10, 30, 30)
    reference = frame([box, box, bowtie]).to_crs("EPSG:4326")
    result = compare_wall_to_wall(path, reference, threshold=1.0)
    assert result.total.confusion.iou == pytest.approx(1.0, abs=0.01)


def test_a_mask_is_judged_and_ground_without_labels_left_out(tmp_path):
    mine = np.zeros((8, 8), dtype=np.uint8)
    mine[:4] = 1
    mine[0, 0] = 255
    path = write(tmp_path / "a.tif", mine, nodata=255)
    unlabelled = frame([ground_box(7, 0, 8, 8)]).to_crs("EPSG:4326")
    result = compare_wall_to_wall(
        path, frame([ground_box(0, 2, 8, 6)]), unlabelled=unlabelled, threshold=None, window_px=3
    )
    assert result.total.confusion == Confusion(tp=14, fp=13, fn=14, tn=14)
    assert result.total.not_predicted_px == 1


def test_scores_are_not_taken_for_a_mask(tmp_path):
    path = write(tmp_path / "s.tif", np.full((5, 5), 37, dtype=np.uint8), nodata=255)
    with pytest.raises(ComparisonError, match="holds the value 37: a mask has 1"):
        compare_wall_to_wall(path, frame([ground_box(0, 0, 2, 2)]), threshold=None)


def test_bad_input_names_file_values_and_what_to_do(tmp_path):
    path = write(tmp_path / "s.tif", np.zeros((5, 5), dtype=np.uint8))
    good = frame([ground_box(0, 0, 2, 2)])
    with pytest.raises(ComparisonError, match=r"threshold 1\.5 .*s\.tif"):
        compare_wall_to_wall(path, good, threshold=1.5)
    with pytest.raises(ComparisonError, match="no CRS"):
        compare_wall_to_wall(path, good.set_crs(None, allow_override=True))
    with pytest.raises(ComparisonError, match=r"'far'.*does not touch"):
        compare_wall_to_wall(path, good, areas=frame([ground_box(900, 900, 901, 901)], name=["far"]))
    with pytest.raises(ComparisonError, match="float32"):
        compare_wall_to_wall(write(tmp_path / "f.tif", np.zeros((5, 5), dtype=np.float32)), good)


def test_undefined_measures_are_none_not_zero(tmp_path):
    path = write(tmp_path / "s.tif", np.zeros((5, 5), dtype=np.uint8))
    nothing = compare_wall_to_wall(path, frame([ground_box(-9, -9, -8, -8)]))
    assert (nothing.total.confusion.precision, nothing.total.confusion.f1) == (None, None)
    assert nothing.total.confusion.overall_accuracy == 1
