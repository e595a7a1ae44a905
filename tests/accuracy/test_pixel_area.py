"""Cities keep their imagery's resolution: ground counts, not pixels."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from accuracy.errors import AccuracyError, DesignError
from accuracy.estimation.estimation import estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.reporting.assessment import Context, assess
from accuracy.survey.design import SamplingDesign
from accuracy.survey.map_strata import MapStrata
from accuracy.survey.point_draw import draw_points
from accuracy.survey.sample import ReferenceSample
from tests.accuracy.test_drawing import write_rasters

approx = pytest.approx
SIDE_M = {"fine": 1, "coarse": 10}
ALLOCATION = {"mapped": 1500, "candidate": 1500, "rest": 1500}


def two_cities(tmp_path):
    """The same ground at 1 m, mapped rightly, and at 10 m, half of whose villages were missed: F1 is 2/3 by ground."""
    parts, truths = [], {}
    for city, side in SIDE_M.items():
        n = 400 // side
        truth = np.zeros((n, n), np.uint8)
        truth[: n // 2, : n // 5] = 1
        mask = truth.copy()
        if city == "coarse":
            mask[n // 4 :] = 0
            mask[n // 2 : 3 * n // 4, : n // 5] = 1  # as much elsewhere: precision a half, recall a half
        folder = tmp_path / city
        folder.mkdir()
        rasters = write_rasters(folder / "s.tif", np.zeros_like(mask), mask, side_m=side)
        drawn = draw_points(rasters, city=city, region="r", allocation=ALLOCATION, seed=1, strata=MapStrata(buffer_m=0))
        rows, cols = drawn.design["row_px"], drawn.design["col_px"]
        parts.append(drawn.design.assign(ref=truth[rows, cols].astype(int), N_city=2, n_city=2))
        truths[city] = (truth, mask)
    return gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs=parts[0].crs), truths


def sample_of(table, **design):
    return ReferenceSample(table=table, design=SamplingDesign(psu_selection="census", **design))


def by_ground(truths):
    """F1 of all ground, each pixel as large as it is."""
    tp, apart = 0.0, 0.0
    for city, (truth, mask) in truths.items():
        area = SIDE_M[city] ** 2
        tp += area * float((truth & mask).sum())
        apart += area * float((truth ^ mask).sum())
    return 2 * tp / (2 * tp + apart)


def test_a_city_of_fine_pixels_does_not_outweigh_one_of_coarse_pixels(tmp_path):
    table, truths = two_cities(tmp_path)
    true = by_ground(truths)
    assert true == approx(0.75)
    assert table.groupby("city")["pixel_m2"].first().to_dict() == approx({"fine": 1, "coarse": 100}, rel=2e-3)
    got = estimate(sample_of(table), EstimateOptions(measures=("F1", "area", "area_total", "total")))
    assert got.get("F1")["estimate"] == approx(true, abs=0.02)
    assert got.get("total")["estimate"] == approx(2 * 400**2, rel=2e-3)  # m²
    assert got.get("area_total")["estimate"] == approx(2 * 200 * 80, rel=0.03)
    pixels = estimate(sample_of(table.drop(columns=["row_px", "col_px"]), unit_area=None)).get("F1")["estimate"]
    assert pixels > 0.98  # what counting pixels alike says


def test_a_mixture_without_areas_is_refused(tmp_path):
    table, _ = two_cities(tmp_path)
    with pytest.raises(DesignError, match=r"'r/fine' .* 1 m and 'r/coarse' .* 10 m.*no column 'pixel_m2'"):
        estimate(sample_of(table.drop(columns="pixel_m2")))
    alone = table[table["city"] == "fine"].drop(columns="pixel_m2").assign(N_city=1, n_city=1)
    assert estimate(sample_of(alone)).get("F1")["estimate"] == 1


def test_areas_that_contradict_each_other_are_refused(tmp_path):
    table, _ = two_cities(tmp_path)
    with pytest.raises(AccuracyError, match=r"--pixel-m 10 says units of 100 m², .*leave --pixel-m out"):
        assess(sample_of(table), context=Context(unit_area_m2=100.0), replicates=0)
    assert assess(sample_of(table), replicates=0).context.unit_area_m2 == 1
    table.loc[0, "pixel_m2"] = 4.0
    with pytest.raises(DesignError, match=r"units of 1 and of 4 m² in 'pixel_m2'|of different resolution"):
        estimate(sample_of(table))
    table.loc[0, "pixel_m2"] = np.nan
    with pytest.raises(DesignError, match=r"'pixel_m2' holds nan in row 1"):
        estimate(sample_of(table))


def test_one_resolution_gives_the_figures_of_counts(tmp_path):
    table, _ = two_cities(tmp_path)
    table = table[table["city"] == "coarse"].assign(N_city=1, n_city=1)
    areas, counts = (estimate(sample_of(t)).frame for t in (table, table.drop(columns="pixel_m2")))
    np.testing.assert_allclose(areas["se"], counts["se"], rtol=1e-9)
    np.testing.assert_allclose(areas["ci_low"], counts["ci_low"], rtol=1e-9, atol=1e-12)
