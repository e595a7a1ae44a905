"""`uvmap gallery`, and the gallery that `uvmap assess map` writes beside its report."""

import json

import geopandas as gpd
import numpy as np
import pytest
import shapely

from flows.commands import assess as assess_command
from flows.commands import gallery as gallery_command
from flows.commands import label as label_command
from pipeline.reference.reader import read_reference
from tests.support.accuracy_commands import make_product, run
from tests.support.rasters import coordinate_pixels, grid_at, write_raster


@pytest.fixture
def arguments(tmp_path):
    folder = make_product(tmp_path / "990001", seed=4)
    truth = gpd.GeoDataFrame(geometry=[shapely.box(500_100, 2_499_200, 500_700, 2_499_900)], crs="EPSG:32649")
    truth.to_file(tmp_path / "truth.gpkg")
    return [folder, "--reference", tmp_path / "truth.gpkg", "--json"]


def test_errors_by_kind_are_those_of_the_assessment(tmp_path, arguments):
    grid = grid_at(500_000, 2_500_000, (240, 240), resolution_m=5.0)  # finer than the product: resampled onto it
    scene = write_raster(tmp_path / "scene.tif", grid, coordinate_pixels(grid))
    total = json.loads(run("assess", "map", *arguments, "--out", tmp_path / "r", command=assess_command).stdout)[
        "total"
    ]
    assert 'href="gallery.html"' in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    out = tmp_path / "g.html"
    options = ["--imagery", scene, "--out", out, "--tiles", "2"]
    got = json.loads(run("gallery", *arguments, *options, command=gallery_command).stdout)
    every = got["errors"][-1]
    assert (every["omitted_px"], every["committed_px"]) == (total["fn"], total["fp"])
    assert got["shown"]["village"] == 1 and got["shown"]["tile"] == 2
    page = out.read_text(encoding="utf-8")
    assert page.count("<figcaption>image") == sum(got["shown"].values())
    assert "<figcaption>image" not in (tmp_path / "r" / "gallery.html").read_text(encoding="utf-8")


def test_the_gallery_is_left_out_where_it_is_not_wanted(tmp_path, arguments):
    run("assess", "map", *arguments, "--out", tmp_path / "r", "--no-gallery", command=assess_command)
    assert not (tmp_path / "r" / "gallery.html").exists()
    assert "gallery.html" not in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    run("assess", "map", *arguments, "--out", tmp_path / "s", "--map", "scores", command=assess_command)
    assert not (tmp_path / "s" / "gallery.html").exists()  # it shows what is published


def test_pictures_show_the_imagery_of_the_place(tmp_path, arguments):
    from flows.assessment import find_rasters
    from flows.gallery import imagery_of_product
    from regions.raster.grid import Window

    folder = arguments[0]
    grid = grid_at(500_000, 2_500_000, (120, 120), resolution_m=10.0)
    scene = write_raster(tmp_path / "scene.tif", grid, coordinate_pixels(grid))
    with imagery_of_product(find_rasters(folder), [scene]) as imagery:
        assert np.array_equal(imagery.read(Window(7, 9, 20, 30))[0], coordinate_pixels(grid)[:, 7:27, 9:39])


def test_tiles_to_label_are_chosen_and_blind(tmp_path):
    folder = make_product(tmp_path / "990001", seed=4)
    grid = grid_at(500_000, 2_500_000, (120, 120), resolution_m=10.0)
    scene = write_raster(tmp_path / "scene.tif", grid, coordinate_pixels(grid))
    west = gpd.GeoDataFrame(geometry=[shapely.box(500_000, 2_498_800, 500_600, 2_500_000)], crs="EPSG:32649")
    west.to_file(tmp_path / "west.gpkg")
    arguments = ["label", "select", folder, "--tiles", "10", "--tile-m", "100", "--out", tmp_path / "a", "--json"]
    arguments += ["--leave-out", tmp_path / "west.gpkg", "--imagery", scene, "--image-date", "2024-05-01"]
    got = json.loads(run(*arguments, command=label_command).stdout)
    assert (got["uncertain"], got["random"]) == (8, 2)
    points = gpd.read_file(tmp_path / "a" / "points_to_label.gpkg")
    assert set(points.columns) == {"point_id", "city", "geometry"}
    assert (points.geometry.x >= 500_600).all()
    tiles = gpd.read_file(tmp_path / "a" / "tiles.gpkg")
    assert tiles.geometry.area.tolist() == [10_000.0] * 10
    assert "2024-05-01" in (tmp_path / "a" / "labels_001.html").read_text(encoding="utf-8")
    answers = points[["point_id"]].assign(label=["1", "0"] * 5, interpreter="ann", date_ref="2024-05-01")
    answers.to_csv(tmp_path / "labels_001_ann.csv", index=False)
    options = ["--product", folder, "--out", tmp_path / "uv.tif", "--json"]
    made = json.loads(
        run("label", "squares", tmp_path / "a" / "tiles.gpkg", tmp_path / "labels_001_ann.csv", *options,
            command=label_command).stdout
    )  # fmt: skip
    assert (made["village"], made["other"]) == (5, 5)
    labels = read_reference([tmp_path / "uv.tif"], crs="EPSG:32649", bounds_m=(500_000, 2_498_800, 501_200, 2_500_000))
    assert labels.polygons.geometry.area.sum() == 5 * 10_000  # what training reads: villages, others, and the rest
    assert labels.unlabelled.geometry.area.sum() == 1200 * 1200 - 10 * 10_000
