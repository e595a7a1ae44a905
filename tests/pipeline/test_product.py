"""A product's files: checksums, byte equality, the STAC item, the report page."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import shapely
import shapely.affinity
from rio_cogeo.cogeo import cog_validate

from pipeline.files import replacing, replacing_folder, sha256_of
from pipeline.product.files import (
    ProductError,
    check_product,
    mask_path,
    polygon_paths,
    read_manifest,
    scores_path,
    write_manifest,
    write_polygons,
    write_report,
    write_stac_item,
)
from pipeline.product.mask import write_polygon_mask
from pipeline.product.report_page import ReportPage, ReportTable, reliability_figure, score_colours
from regions.raster.grid import Grid
from regions.raster.profiles import tiled_profile

GRID = Grid("EPSG:32649", 1.0, 500_000, -2_500_300, 300, 400)


@pytest.fixture
def polygons():
    left, _, _, top = GRID.bounds_m
    boxes = [shapely.box(left + 20 + 60 * k, top - 80, left + 60 + 60 * k, top - 20) for k in range(5)]
    return gpd.GeoDataFrame(
        {
            "uv_id": [f"u{k}" for k in range(5)],
            "tiles": [[1, 2]] * 5,
            "height": pd.array([1.5, None, 2, 3, 4], "Float64"),
        },
        geometry=boxes,
        crs=GRID.crs,
    )


def product(folder, polygons):
    folder.mkdir()
    scores = np.full((GRID.height_px, GRID.width_px), 255, np.uint8)
    scores[:200] = 0
    scores[20:80, 20:300] = 250
    with rasterio.open(
        scores_path(folder, "440300"), "w", driver="COG", dtype="uint8", count=1, height=300, width=400, crs=GRID.crs,
        transform=rasterio.Affine(*GRID.transform), nodata=255,
    ) as sink:  # fmt: skip
        sink.write(scores, 1)
    write_polygons(polygons, folder, "440300")
    write_polygon_mask(scores_path(folder, "440300"), polygons, mask_path(folder, "440300"))
    tables = [ReportTable("Accuracy", ("area", "IoU"), (("north", 0.8123), ("<b>south", None)), "a note")]
    write_report(
        folder, ReportPage("Shenzhen", "test", tables, notes=["kept"]), adcode="440300", grid=GRID,
        image=np.zeros((30, 40, 3), np.uint8), outlines=[("villages", polygons, "#d00")],
    )  # fmt: skip
    write_stac_item(folder, adcode="440300", name="Shenzhen", grid=GRID, image_date="2023-05-01", properties={})
    write_manifest(folder, adcode="440300", inputs={}, parameters={}, figures={}, counts={})
    return folder


def test_same_content_gives_the_same_bytes(tmp_path, polygons):
    one, two = product(tmp_path / "a", polygons), product(tmp_path / "b", polygons)
    assert {p.name: sha256_of(p) for p in one.iterdir()} == {p.name: sha256_of(p) for p in two.iterdir()}
    assert check_product(one) == []


def test_damage_is_found(tmp_path, polygons):
    folder = product(tmp_path / "a", polygons)
    (folder / "report.html").write_text("x", encoding="utf-8")
    scores_path(folder, "440300").unlink()
    faults = check_product(folder)
    assert len(faults) == 2
    assert any("missing" in f for f in faults)
    with pytest.raises(ProductError, match="uvmap map"):
        read_manifest(tmp_path)


def test_tables_can_be_read_by_box_and_by_desktop_software(tmp_path, polygons):
    parquet, package = polygon_paths(product(tmp_path / "a", polygons), "440300")
    left, _, _, top = GRID.bounds_m
    near = gpd.read_parquet(parquet, bbox=(left, top - 90, left + 70, top))
    assert set(near["uv_id"]) == {"u0"}
    assert gpd.read_file(package)["tiles"].tolist() == ["[1, 2]"] * 5


def test_no_village_is_a_product_too(tmp_path, polygons):
    folder = product(tmp_path / "a", polygons.iloc[:0])
    assert len(gpd.read_parquet(polygon_paths(folder, "440300")[0])) == 0
    assert check_product(folder) == []


def test_item(tmp_path, polygons):
    folder = product(tmp_path / "a", polygons)
    item = pystac.Item.from_file(folder / "440300_item.json")
    assert item.properties["proj:code"] == GRID.crs
    asset = item.assets["scores_tif"]
    assert asset.extra_fields["file:checksum"] == "1220" + sha256_of(scores_path(folder, "440300"))
    mask = mask_path(folder, "440300")
    assert item.assets["uv_mask_tif"].extra_fields["file:checksum"] == "1220" + sha256_of(mask)
    assert read_manifest(folder)["files"][mask.name]["sha256"] == sha256_of(mask)
    west, south, east, north = item.bbox
    assert 110 < west < east < 112
    assert 22 < south < north < 23


def test_report_needs_no_network(tmp_path, polygons):
    text = (product(tmp_path / "a", polygons) / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;south" in text
    assert "0.812" in text
    assert 'src="http' not in text
    assert "link rel" not in text.split("</style>")[0]


def test_the_reliability_figure_shows_pixels_before_and_after():
    def rows(*observed):
        return [
            {"low": k / 2, "high": (k + 1) / 2, "pixels": 10**k, "score_mean": k / 2, "observed": share}
            for k, share in enumerate(observed)
        ] + [{"low": 0.9, "high": 1.0, "pixels": 0, "score_mean": None, "observed": None}]

    figure = reliability_figure(rows(0.2, 0.9), before=rows(0.5, 0.6))
    lines = {trace.name: trace for trace in figure.data}
    assert list(lines["scores"].y) == [0.2, 0.9] and list(lines["before calibration"].y) == [0.5, 0.6]
    assert list(lines["pixels, scores"].y) == [1, 10]
    assert lines["scores"].text[1] == "10 pixels, -0.400"
    assert "before calibration" not in {t.name for t in reliability_figure(rows(0.2, 0.9)).data}


def test_score_colours():
    colours = score_colours(np.array([[0, 250, 255]], np.uint8))
    assert colours[0, 0, 3] == 0
    assert colours[0, 1, 3] == 255
    assert tuple(colours[0, 2]) == (120, 120, 120, 160)


def random_villages(seed):
    """Rotated rings with holes and free coordinates on a grid of more than one COG block, and scores with gaps."""
    rng = np.random.default_rng(seed)
    grid = Grid("EPSG:32649", 0.5, 1_000_003, -5_000_611, 700, 1_300)
    left, bottom, right, top = grid.bounds_m
    shapes = []
    for x, y, radius, turn in rng.uniform((left, bottom, 8, 0), (right, top, 45, 90), (40, 4)):
        ring = shapely.box(x - radius, y - radius / 2, x + radius, y + radius / 2)
        ring = ring.difference(shapely.Point(x, y).buffer(radius / 4))
        ring = shapely.affinity.rotate(ring, turn)
        shapes.append(ring.difference(shapely.union_all(shapes)) if shapes else ring)
    scores = rng.integers(0, 251, (grid.height_px, grid.width_px), dtype=np.uint8)
    scores[rng.random(scores.shape) < 0.1] = 255
    shapes = [s for s in shapes if not s.is_empty]
    return grid, scores, gpd.GeoDataFrame(geometry=shapes, crs=grid.crs)


@pytest.mark.parametrize("seed", [0, 1])
def test_mask_is_the_published_polygons_pixel_by_pixel(tmp_path, seed):
    grid, scores, villages = random_villages(seed)
    with rasterio.open(tmp_path / "scores.tif", "w", **tiled_profile(grid, dtype="uint8", nodata=255)) as sink:
        sink.write(scores, 1)
    out = write_polygon_mask(tmp_path / "scores.tif", villages, mask_path(tmp_path, "440300"))
    assert out.name == "440300_uv_mask.tif"
    row, col = np.indices(scores.shape)
    x, y = grid.affine @ (col + 0.5, row + 0.5)
    whole = shapely.union_all(villages.geometry.to_numpy())
    shapely.prepare(whole)
    wanted = np.where(scores == 255, 255, shapely.contains_xy(whole, x, y))
    with rasterio.open(out) as raster:
        np.testing.assert_array_equal(raster.read(1), wanted)
        assert raster.nodata == 255
        assert raster.transform == grid.affine
        assert raster.overviews(1)
    assert {0, 1, 255} == set(np.unique(wanted))
    valid, errors, warnings = cog_validate(str(out), strict=True, quiet=True)
    assert valid, (errors, warnings)
    small = write_polygon_mask(tmp_path / "scores.tif", villages, tmp_path / "small.tif", window_px=512)
    assert small.read_bytes() == out.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"scores.tif", "440300_uv_mask.tif", "small.tif"}


def test_mask_needs_polygons_in_the_crs_of_the_scores(tmp_path, polygons):
    folder = product(tmp_path / "a", polygons)
    with pytest.raises(ProductError, match=r"EPSG:4326.*reproject"):
        write_polygon_mask(scores_path(folder, "440300"), polygons.to_crs("EPSG:4326"), tmp_path / "mask.tif")
    empty = write_polygon_mask(scores_path(folder, "440300"), polygons.iloc[:0], tmp_path / "mask.tif")
    with rasterio.open(empty) as raster:
        assert set(np.unique(raster.read(1))) == {0, 255}


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("old")

    def half(target):
        with replacing(target) as temporary:
            temporary.write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        half(path)
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]
    assert path.read_text() == "old"
    folder = tmp_path / "d"
    for content in ("one", "two"):
        with replacing_folder(folder) as temporary:
            (temporary / content).write_text(content)
    assert [p.name for p in folder.iterdir()] == ["two"]
    assert {p.name for p in tmp_path.iterdir()} == {"f.txt", "d"}
