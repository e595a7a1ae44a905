"""The labelling page in a real browser, opened from disk without network."""

import base64
import io
import json
import re
import shutil
import time

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.enums import ColorInterp

from accuracy.errors import LabelError
from accuracy.survey.chips import cut_chips
from accuracy.survey.labelling_page import write_labelling_pages
from accuracy.survey.labels import merge_labels, read_labels
from tests.support.rasters import grid_at, write_raster

IDS = ["c-1", "c-2", "城-3", 'c"<4>']


def imagery(path):
    rng = np.random.default_rng(0)
    grid = grid_at(500_000, 2_500_000, (300, 300), resolution_m=2.0)
    return write_raster(path, grid, rng.integers(0, 255, (3, 300, 300), dtype=np.uint8))


def points(ids=IDS, x=500_300):
    geometry = shapely.points(np.full(len(ids), x) + 10 * np.arange(len(ids)), np.full(len(ids), 2_499_700))
    return gpd.GeoDataFrame({"point_id": ids}, geometry=geometry, crs="EPSG:32649").to_crs(4326)


def test_pages_hold_their_images_and_call_nothing(tmp_path):
    pages = write_labelling_pages(points(), tmp_path / "p", imagery=imagery(tmp_path / "i.tif"), batch=3)
    assert [p.name for p in pages] == ["labels_001.html", "labels_002.html"]
    text = pages[0].read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))
    assert [i["id"] for i in data["items"]] == IDS[:3]
    assert all(i["image"].startswith("data:image/jpeg;base64,") for i in data["items"])
    assert not re.search(r"https?://", text)
    again = write_labelling_pages(points(), tmp_path / "q", imagery=tmp_path / "i.tif", batch=3)
    assert again[0].read_bytes() == pages[0].read_bytes()


def test_the_maps_answer_is_refused_and_imagery_must_cover(tmp_path):
    path = imagery(tmp_path / "i.tif")
    with pytest.raises(LabelError, match="must not see"):
        write_labelling_pages(points().assign(map=1), tmp_path, imagery=path)
    with pytest.raises(LabelError, match="covers none"):
        write_labelling_pages(points(x=600_000), tmp_path, imagery=path)


def test_chips_show_colours_as_declared(tmp_path):
    grid = grid_at(500_000, 2_500_000, (300, 300), resolution_m=2.0)
    red = np.zeros((3, 300, 300), np.uint8)
    red[2] = 200  # the third band is declared red
    path = write_raster(tmp_path / "bgr.tif", grid, red)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    (chip, *_) = cut_chips(points(), path, half_side_m=50.0)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(chip.data_uri.split(",")[1]))))
    assert shown[190, 190, 0] > 150
    assert shown[190, 190, 2] < 60


@pytest.mark.shared
def test_imagery_that_cannot_be_shown_is_named(tmp_path, shared):
    cases = shared / "cases"
    for name, said in (("14-bands/palette.tif", "-expand rgb"), ("13-engineering-crs/local.tif", "local CRS")):
        with pytest.raises(LabelError, match=said):
            cut_chips(points(), cases / name, half_side_m=50.0)
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(LabelError, match="cannot be read as imagery"):
        cut_chips(points(), tmp_path / "text.tif", half_side_m=50.0)


@pytest.fixture
def browser(tmp_path):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = shutil.which("chromium")
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
    ):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    yield driver, downloads
    driver.quit()


def test_keys_progress_reload_and_saved_file(tmp_path, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    driver, downloads = browser
    (page,) = write_labelling_pages(
        points(), tmp_path / "p", imagery=imagery(tmp_path / "i.tif"), image_date="2024-05-01"
    )

    def find(name):
        return driver.find_element(By.ID, name)

    def press(*keys):
        for key in keys:
            driver.switch_to.active_element.send_keys(key)

    driver.get(page.as_uri())
    assert find("count").text == "point 1 of 4, 0 answered"
    assert driver.execute_script("return document.getElementById('image').naturalWidth") == 384
    press("1", "0", "?")
    assert find("count").text == "point 4 of 4, 3 answered"
    assert float(find("bar").get_attribute("value")) == 0.75
    press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert find("b0").get_attribute("aria-pressed") == "true"
    press("1", Keys.ARROW_RIGHT)
    driver.refresh()  # answers outlive the page
    assert find("count").text == "point 4 of 4, 3 answered"
    find("save").click()
    assert "name" in find("state").text
    find("comment").send_keys('roofs, "tight"')
    find("who").send_keys("Ann")
    driver.execute_script("document.activeElement.blur()")
    press("0")
    find("save").click()
    assert "4 answers saved" in find("state").text
    target = downloads / "labels_001_Ann.csv"
    for _ in range(100):
        if target.exists():
            break
        time.sleep(0.1)
    table = read_labels(target)
    assert table.frame.set_index("point_id").loc[IDS, "label"].fillna(-1).tolist() == [1, 1, -1, 0]
    assert set(table.frame["interpreter"]) == {"Ann"}
    merged = merge_labels(points().drop(columns="geometry"), [table], map_date="2024-06-01")
    assert merged["ref"].isna().sum() == 1
    errors = [e for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    assert not errors
