"""The gallery page: what it shows is what is published, and it opens from disk in a real browser."""

import base64
import io
import re
import shutil

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image
from rasterio.features import rasterize

from accuracy.comparison.error_kinds import BOUNDARY_COMMITTED, MISSED, RIGHT_VILLAGE
from accuracy.reporting.gallery import GallerySubject, write_gallery
from accuracy.reporting.gallery_places import GalleryLimits
from accuracy.reporting.pictures import ERROR_COLOURS, PICTURE_PX, draw_errors, draw_image, draw_outlines, draw_scores
from accuracy.survey.map_strata import MapRasters
from tests.support.rasters import grid_at, write_raster

GRID = grid_at(500_000, 2_500_000, (600, 800), resolution_m=2.0)


def ground_box(c0, r0, c1, r1):
    return shapely.box(500_000 + 2 * c0, 2_500_000 - 2 * r1, 500_000 + 2 * c1, 2_500_000 - 2 * r0)


REFERENCE = [ground_box(50, 50, 150, 130), ground_box(400, 100, 500, 160), ground_box(300, 400, 420, 520)]
PUBLISHED = [ground_box(55, 50, 155, 130), ground_box(300, 400, 420, 500), ground_box(600, 300, 660, 340)]


def frame(polygons):
    return gpd.GeoDataFrame(geometry=polygons, crs="EPSG:32649")


@pytest.fixture
def subject(tmp_path):
    mask = rasterize(PUBLISHED, out_shape=(600, 800), transform=GRID.affine, dtype="uint8")
    mask[:, 780:] = 255
    scores = np.where(mask == 1, 200, 30).astype(np.uint8)
    scores[mask == 255] = 255
    noise = np.random.default_rng(0).integers(0, 255, (3, 800, 1000), dtype=np.uint8)

    def read(window):
        rows, cols = np.ogrid[: window.height_px, : window.width_px]
        return noise[:, (rows + window.row_px) % 800, (cols + window.col_px) % 1000]

    return GallerySubject(
        rasters=MapRasters(
            mask=write_raster(tmp_path / "m.tif", GRID, mask, nodata=255),
            scores=write_raster(tmp_path / "s.tif", GRID, scores, nodata=255),
        ),
        published=frame(PUBLISHED),
        reference=frame(REFERENCE),
        read_image=read,
    )


def picture(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_pictures_have_the_colours_they_are_said_to_have():
    codes = np.full((40, 60), RIGHT_VILLAGE, np.uint8)
    codes[:10], codes[10:20] = MISSED, BOUNDARY_COMMITTED
    drawn = np.asarray(picture(draw_errors(codes)).convert("RGBA"))
    assert drawn.shape == (40, 60, 4)
    assert tuple(drawn[0, 0]) == ERROR_COLOURS[MISSED]
    assert tuple(drawn[15, 30]) == ERROR_COLOURS[BOUNDARY_COMMITTED]
    scores = np.array([[0, 125, 250, 255]], np.uint8)
    light = np.asarray(picture(draw_scores(scores)).convert("L")).ravel()
    assert light[0] < light[1] < light[2]
    large = np.zeros((3, 900, 900), np.uint8)
    large[:, :, 450:] = 255
    small = np.asarray(picture(draw_image(large)))
    assert small.shape == (PICTURE_PX, PICTURE_PX, 3)
    assert small[0, 10].max() < 20
    assert small[0, -10].min() > 235


def test_outlines_lie_where_the_polygons_lie():
    shapes = np.array([shapely.box(10, 20, 40, 80), shapely.box(500, 500, 600, 600)], dtype=object)
    path = draw_outlines(shapes, (0.0, 0.0, 100.0, 100.0))
    points = np.array([p.split() for p in re.findall(r"[\d.]+ [\d.]+", path)], float) * 100 / PICTURE_PX
    assert path.count("M") == 1
    assert np.allclose(sorted(map(tuple, points)), [(10, 20), (10, 80), (40, 20), (40, 80)], atol=0.1)


def test_the_page_shows_each_village_error_and_chance_tiles(tmp_path, subject):
    result = write_gallery(subject, tmp_path / "g.html", title="T <1>")
    assert result.shown == {"village": 3, "missed": 0, "false": 1, "tile": 16}  # the missed village is shown as village
    kinds = {k.kind: (k.omitted_px + k.committed_px) for k in result.census.kinds}
    assert kinds["missed"] == 100 * 60 + 15 * 120  # a village; and its neighbour beyond 5 px of the mapped part
    assert kinds["false"] == 60 * 40
    text = result.page.read_text(encoding="utf-8")
    assert "T &lt;1&gt;" in text
    assert not re.search(r"https?://", text)
    first, second = (text.index(f"Reference village {n}") for n in (2, 1))
    assert first < second  # most missed ground first
    again = write_gallery(subject, tmp_path / "h.html", title="T <1>")
    assert again.page.read_bytes() == result.page.read_bytes()
    other = write_gallery(subject, tmp_path / "i.html", title="T <1>", limits=GalleryLimits(seed=1, tiles=3))
    assert other.shown["tile"] == 3
    assert other.page.read_bytes() != result.page.read_bytes()


def test_the_most_that_is_shown_stays_below_eight_megabytes(tmp_path, subject):
    limits = GalleryLimits()
    alone = write_gallery(subject, tmp_path / "a.html", title="t", limits=GalleryLimits(tiles=0)).page.stat().st_size
    with_tiles = write_gallery(subject, tmp_path / "b.html", title="t").page.stat().st_size
    per_card = (with_tiles - alone) / 16  # pictures of noise: nothing compresses worse
    assert per_card * (limits.villages + 2 * limits.regions + limits.tiles) < 8e6


def test_of_many_villages_the_worst_and_others_by_chance(tmp_path, subject):
    reference = frame([ground_box(20 * k, 20 * j, 20 * k + 9, 20 * j + 9) for k in range(9) for j in range(9)])
    full = GallerySubject(rasters=subject.rasters, published=subject.published, reference=reference)
    result = write_gallery(full, tmp_path / "g.html", title="t", limits=GalleryLimits(villages=10, regions=2))
    assert result.shown["village"] == 10
    text = result.page.read_text(encoding="utf-8")
    assert "10 of 81: the 5 with most ground missed, then others drawn at random." in text
    assert "<figcaption>image" not in text  # without imagery


@pytest.fixture
def browser(tmp_path):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,1000"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def test_the_page_opens_from_disk_and_outlines_can_be_hidden(tmp_path, subject, browser):
    from selenium.webdriver.common.by import By

    page = write_gallery(subject, tmp_path / "g.html", title="t").page
    browser.get(page.as_uri())
    cards = browser.find_elements(By.CSS_SELECTOR, ".card")
    assert len(cards) == 20
    assert all(s.size["width"] == 240 for s in cards[0].find_elements(By.TAG_NAME, "svg"))
    assert len(cards[0].find_elements(By.TAG_NAME, "figure")) == 4
    line = browser.find_element(By.CSS_SELECTOR, "path.published:not(.halo)")
    assert line.value_of_css_property("stroke") == "rgb(255, 59, 48)"
    browser.find_element(By.CSS_SELECTOR, "[data-hide=no-published]").click()
    assert line.value_of_css_property("display") == "none"
    assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]


def test_a_map_without_villages_and_a_reference_without_any(tmp_path, subject):
    nothing = frame([])
    empty = write_raster(tmp_path / "e.tif", GRID, np.zeros((600, 800), np.uint8), nodata=255)
    blank = GallerySubject(
        rasters=MapRasters(mask=empty, scores=subject.rasters.scores), published=nothing, reference=nothing
    )
    result = write_gallery(blank, tmp_path / "g.html", title="t", limits=GalleryLimits(tiles=2))
    assert result.shown == {"village": 0, "missed": 0, "false": 0, "tile": 2}
    assert result.page.read_text(encoding="utf-8").count("not estimable") == 4
