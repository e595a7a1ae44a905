"""Reliability against a direct computation on the whole array."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch
from torchmetrics.functional.classification import binary_calibration_error

from accuracy.comparison.reliability import Reliability, measure_reliability
from accuracy.errors import ComparisonError
from models.segmentation.reliability import expected_calibration_error, reliability_bins
from tests.support.rasters import grid_at, write_raster


def write(path, values, dtype="uint8"):
    write_raster(path, grid_at(500_000, 2_500_000, values.shape), values.astype(dtype), nodata=255)


def test_counts_are_those_of_the_whole_array(tmp_path):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 256, (150, 200))
    values[(values > 250) & (values < 255)] = 250
    write(tmp_path / "s.tif", values)
    village = shapely.box(500_020, 2_499_900, 500_090, 2_499_970)
    area = shapely.box(500_000, 2_499_880, 500_150, 2_500_000)
    frame = gpd.GeoDataFrame(geometry=[village], crs="EPSG:32649")
    areas = gpd.GeoDataFrame(geometry=[area], crs="EPSG:32649")
    found = measure_reliability(tmp_path / "s.tif", frame.to_crs("EPSG:4326").to_crs("EPSG:32649"), areas=areas)
    truth = np.zeros(values.shape, bool)
    truth[30:100, 20:90] = True
    known = (values != 255) & (np.arange(150)[:, None] < 120) & (np.arange(200) < 150)
    np.testing.assert_array_equal(found.pixels, np.bincount(values[known], minlength=251)[:251])
    np.testing.assert_array_equal(found.positives, np.bincount(values[known & truth], minlength=251)[:251])
    silent = gpd.GeoDataFrame(geometry=[shapely.box(500_050, 2_499_880, 500_150, 2_500_000)], crs="EPSG:32649")
    part = measure_reliability(tmp_path / "s.tif", frame, areas=areas, unlabelled=silent)
    known &= np.arange(200) < 50
    np.testing.assert_array_equal(part.pixels, np.bincount(values[known], minlength=251)[:251])


def test_calibrated_scores_have_no_error_and_wrong_ones_do():
    pixels = np.full(251, 1000, np.int64)
    exact = Reliability(pixels=pixels, positives=np.arange(251) * 4)
    assert exact.expected_calibration_error() == pytest.approx(0, abs=1e-12)
    never = Reliability(pixels=pixels, positives=np.zeros(251, np.int64))
    assert never.expected_calibration_error() == pytest.approx(0.5)
    assert sum(b["pixels"] for b in exact.bins()) == 251_000
    blank = Reliability(pixels=np.zeros(251, np.int64), positives=np.zeros(251, np.int64))
    assert blank.expected_calibration_error() is None
    assert blank.bins()[0]["observed"] is None


def test_the_error_is_that_of_torchmetrics_and_of_the_training():
    rng = np.random.default_rng(4)
    scores = rng.integers(0, 251, 5_000)
    hits = rng.uniform(size=5_000) < scores / 400
    found = Reliability(pixels=np.bincount(scores, minlength=251), positives=np.bincount(scores[hits], minlength=251))
    bins = reliability_bins(scores / 250, hits)
    assert found.expected_calibration_error() == pytest.approx(expected_calibration_error(bins))
    assert [row["pixels"] for row in found.bins()] == [b.pixels for b in bins]
    assert [row["gap"] for row in found.bins()] == pytest.approx([b.gap for b in bins])
    assert found.bins()[9]["gap"] > 0.3  # promises too much
    off_edge = scores[scores % 25 != 0]  # bins of torchmetrics hold their upper edge
    loose = Reliability(
        pixels=np.bincount(off_edge, minlength=251),
        positives=np.bincount(scores[hits & (scores % 25 != 0)], minlength=251),
    )
    theirs = binary_calibration_error(
        torch.from_numpy(off_edge / 250), torch.from_numpy(hits[scores % 25 != 0]).long(), n_bins=10, norm="l1"
    )
    assert loose.expected_calibration_error() == pytest.approx(float(theirs), abs=1e-6)


def test_levels_can_be_read_as_other_probabilities():
    pixels = np.full(251, 10, np.int64)
    found = Reliability(pixels=pixels, positives=np.arange(251) // 25)
    half = found.read_as(np.arange(251) / 500)
    assert sum(b["pixels"] for b in half.bins()[:5]) == 2_500 and half.bins()[5]["pixels"] == 10
    assert half.bins()[4]["gap"] < 0 < found.expected_calibration_error() < half.expected_calibration_error()


def test_other_rasters_are_refused(tmp_path):
    write(tmp_path / "f.tif", np.zeros((70, 70)), dtype="float32")
    with pytest.raises(ComparisonError, match="float32"):
        measure_reliability(tmp_path / "f.tif", gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32649"))
