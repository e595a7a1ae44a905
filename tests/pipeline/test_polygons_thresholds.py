"""Thresholds: the curve against brute force, the choice, and ground that must not be used."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import typer
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from pipeline.polygons import PolygonConfig, PolygonError, find_villages
from pipeline.polygons.scores import grid_of_scores
from pipeline.polygons.threshold_page import read_validation_areas
from pipeline.polygons.thresholds import choose_thresholds
from regions.raster.grid import Grid
from tests.support.rasters import write_raster

GRID = Grid("EPSG:32650", 2.0, 250_000, -2_200_000, 180, 240)
CONFIG = PolygonConfig(min_area_m2=400, min_hole_m2=0, close_gap_m=8, simplify_m=0)


def city(seed=0):
    """Scores and reference squares: noise that reaches 0.7 outside and 0.4 inside."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((180, 240), dtype=bool)
    truth[30:80, 30:90] = truth[100:160, 120:200] = True
    noise = gaussian_filter(rng.normal(0, 1, truth.shape), 4) * 2.0
    scores = np.round(250 * np.clip(0.25 + 0.5 * gaussian_filter(truth.astype(float), 3) + noise, 0, 1))
    scores = scores.astype(np.uint8)
    scores[:, 235:] = 255
    left, _, _, top = GRID.bounds_m
    shapes = [
        shapely.box(left + 60, top - 160, left + 180, top - 60),
        shapely.box(left + 240, top - 320, left + 400, top - 200),
    ]
    return scores, truth, gpd.GeoSeries(shapes, crs=GRID.crs)


def test_the_curve_equals_the_vectoriser():
    scores, truth, reference = city()
    area = gpd.GeoSeries([shapely.box(*GRID.bounds_m)], crs=GRID.crs)
    choice = choose_thresholds(
        scores, grid=GRID, reference=reference, validation=area, config=CONFIG, levels=(0.3, 0.45, 0.6, 0.75)
    )
    assert len(choice.curve) == 10
    assert choice.not_predicted_px == 180 * 5 and choice.pixels == 180 * 235
    for row in choice.curve.itertuples():
        config = PolygonConfig(
            seed=row.seed, grow=row.grow, min_area_m2=400, min_hole_m2=0, close_gap_m=8,
            simplify_m=0, barriers=None,
        )  # fmt: skip
        villages = find_villages(scores, grid=GRID, config=config).villages
        found = np.zeros_like(truth)
        if len(villages):
            found = rasterio.features.rasterize(
                villages.geometry, truth.shape, transform=rasterio.Affine(*GRID.transform)
            ).astype(bool)
        hit, false = np.count_nonzero(found & truth), np.count_nonzero(found & ~truth)
        assert row.villages == len(villages)
        assert row.f1 == pytest.approx(2 * hit / (truth.sum() + hit + false))
        assert row.iou == pytest.approx(hit / (truth.sum() + false))
    best = choice.curve["f1"].max()
    chosen = choice.curve.query("grow == @choice.grow_probability and seed == @choice.seed_probability")
    assert chosen["f1"].iloc[0] == best
    table = choice.best_per_grow().set_index("grow")
    assert table.loc[choice.grow_probability, "seed"] == choice.seed_probability
    applied = choice.apply(CONFIG)
    assert (applied.grow, applied.close_gap_m) == (choice.grow_probability, 8)


def test_only_the_validation_ground_counts():
    scores, _, reference = city()
    left, bottom, _, top = GRID.bounds_m
    half = gpd.GeoSeries([shapely.box(left, bottom, left + 220, top)], crs=GRID.crs)  # the first village only
    one = choose_thresholds(scores, grid=GRID, reference=reference, validation=half, config=CONFIG)
    changed = scores.copy()
    changed[:, 160:235] = 250  # a big false village elsewhere
    two = choose_thresholds(changed, grid=GRID, reference=reference, validation=half, config=CONFIG)
    assert one.pixels == two.pixels == 110 * 180
    assert one.curve["f1"].max() == pytest.approx(two.curve["f1"].max(), abs=0.02)


def test_assessment_ground_is_refused():
    scores, _, reference = city()
    area = gpd.GeoSeries([shapely.box(*GRID.bounds_m)], crs=GRID.crs)
    with pytest.raises(PolygonError, match="assessment"):
        choose_thresholds(
            scores, grid=GRID, reference=reference, validation=area, assessment=area.buffer(-50), config=CONFIG
        )
    with pytest.raises(PolygonError, match="thresholds need both"):
        choose_thresholds(scores, grid=GRID, reference=reference.iloc[:0], validation=area, config=CONFIG)
    with pytest.raises(PolygonError, match="off the grid"):
        choose_thresholds(scores, grid=GRID, reference=reference, validation=area.translate(9e5), config=CONFIG)
    with pytest.raises(PolygonError, match="never chosen on assessment"):
        read_validation_areas(None, grid=GRID, role="assess")


def write_city(folder: Path):
    scores, _, reference = city()
    write_raster(folder / "scores.tif", GRID, scores, nodata=255)
    reference.to_frame("geometry").to_file(folder / "uv.gpkg")
    left, bottom, right, top = GRID.bounds_m
    halves = [shapely.box(left, bottom, left + 200, top), shapely.box(left + 200, bottom, right, top)]
    areas = gpd.GeoDataFrame({"role": ["validation", "assess"]}, geometry=halves, crs=GRID.crs)
    areas.to_file(folder / "districts.gpkg")


def test_command(tmp_path):
    import flows.commands.thresholds as command

    write_city(tmp_path)
    assert grid_of_scores(tmp_path / "scores.tif") == GRID
    app = typer.Typer()
    command.register(app)
    arguments = [str(tmp_path / "scores.tif"), "--reference", str(tmp_path / "uv.gpkg")]
    arguments += ["--districts", str(tmp_path / "districts.gpkg"), "--page", str(tmp_path / "curve.html")]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["grow"] <= data["seed"]
    assert data["pixels"] < 100 * 180  # the border of the assessed half is left out
    assert "plotly" in (tmp_path / "curve.html").read_text()
    text = CliRunner().invoke(app, arguments).stdout
    assert f"--grow {data['grow']} --seed {data['seed']}" in text and "####" in text
    refused = CliRunner().invoke(app, [*arguments, "--role", "train"])
    assert isinstance(refused.exception, PolygonError) and "train" in str(refused.exception)
