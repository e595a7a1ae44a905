"""The labelling page in a real browser, opened from disk without network."""

import base64
import io
import json
import re
import shutil
import time

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.enums import ColorInterp

from accuracy.errors import LabelError
from accuracy.survey.chips import ChipSize, choose_chips, cut_chips
from accuracy.survey.labelling_page import LabelImagery, write_labelling_pages
from accuracy.survey.labels import read_labels
from accuracy.survey.merging import MergeRules, merge_labels
from tests.support.rasters import grid_at, write_raster

IDS = ["c-1", "c-2", "城-3", 'c"<4>']


def imagery(path):
    rng = np.random.default_rng(0)
    grid = grid_at(500_000, 2_500_000, (300, 300), resolution_m=2.0)
    return write_raster(path, grid, rng.integers(0, 255, (3, 300, 300), dtype=np.uint8))


def points(ids=IDS, x=500_300):
    geometry = shapely.points(np.full(len(ids), x) + 10 * np.arange(len(ids)), np.full(len(ids), 2_499_700))
    return gpd.GeoDataFrame({"point_id": ids}, geometry=geometry, crs="EPSG:32649").to_crs(4326)


def of(*paths, date=""):
    return [LabelImagery(path=p, date=date) for p in paths]


def data_of(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))


def test_pages_hold_their_images_and_call_nothing(tmp_path):
    pages = write_labelling_pages(points(), tmp_path / "p", imagery=of(imagery(tmp_path / "i.tif")), batch=3).pages
    assert [p.name for p in pages] == ["labels_001.html", "labels_002.html"]
    text = pages[0].read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))
    assert [i["id"] for i in data["items"]] == IDS[:3]
    assert all(i["image"].startswith("data:image/jpeg;base64,") for i in data["items"])
    assert not re.search(r"https?://", text)
    again = write_labelling_pages(points(), tmp_path / "q", imagery=of(tmp_path / "i.tif"), batch=3).pages
    assert again[0].read_bytes() == pages[0].read_bytes()


def test_the_maps_answer_is_refused_and_imagery_must_cover(tmp_path):
    path = imagery(tmp_path / "i.tif")
    with pytest.raises(LabelError, match="must not see"):
        write_labelling_pages(points().assign(map=1), tmp_path, imagery=of(path))
    with pytest.raises(LabelError, match="covers none"):
        write_labelling_pages(points(x=600_000), tmp_path, imagery=of(path))


def test_several_rasters_serve_one_batch_and_what_none_shows_is_listed(tmp_path):
    """Two flat scenes side by side, of 100 and of 200: a point is shown on the one that covers its surroundings."""
    west = write_raster(
        tmp_path / "w.tif", grid_at(500_000, 2_500_000, (200, 200)), np.full((3, 200, 200), 100, np.uint8)
    )
    east = write_raster(
        tmp_path / "e.tif", grid_at(500_150, 2_500_000, (200, 200)), np.full((3, 200, 200), 200, np.uint8)
    )
    far = write_raster(
        tmp_path / "f.tif", grid_at(700_000, 2_500_000, (200, 200)), np.full((3, 200, 200), 50, np.uint8)
    )
    x = [500_050, 500_160, 500_190, 500_300, 500_347, 500_900]  # the last but one: its 10 m square sticks out
    table = gpd.GeoDataFrame(
        {"point_id": list("abcdef"), "city": "c"}, geometry=shapely.points(x, [2_499_900] * 6), crs="EPSG:32649"
    ).to_crs(4326)
    size = ChipSize(half_side_m=40.0)
    dated = [LabelImagery(path=p, date=d) for p, d in ((west, "2024-05-01"), (east, "2023-04-01"), (far, ""))]
    written = write_labelling_pages(table, tmp_path / "p", imagery=dated, size=size)
    assert written.shown == 4 and written.unused == [str(far)] and written.undated == 0
    assert written.without_picture["point_id"].tolist() == ["e", "f"]
    assert pd.read_csv(written.list_file)["point_id"].tolist() == ["e", "f"]
    (page,) = written.pages
    assert [(i["id"], i["date"]) for i in data_of(page)["items"]] == [
        ("a", "2024-05-01"), ("b", "2024-05-01"), ("c", "2023-04-01"), ("d", "2023-04-01"),
    ]  # fmt: skip
    chips, source = choose_chips(table, [west, east], size)
    assert source == [0, 0, 1, 1, -1, -1]
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(c.data_uri.split(",")[1]))))[190, 190, 0] for c in chips[:4]
    ]
    assert [round(int(v), -2) for v in shown] == [100, 100, 200, 200]
    whole = write_labelling_pages(table.iloc[:2], tmp_path / "p", imagery=of(west))
    assert whole.list_file is None and not (tmp_path / "p" / "points_without_picture.csv").exists()


def test_batches_of_other_points_or_dates_do_not_share_a_key(tmp_path):
    path = imagery(tmp_path / "i.tif")
    keys = []
    for k, (ids, date) in enumerate([(IDS, ""), (IDS, "2024-05-01"), (["x", *IDS[1:]], ""), ([*IDS[:3], "y"], "")]):
        written = write_labelling_pages(points(ids), tmp_path / str(k), imagery=of(path, date=date))
        keys.append(data_of(written.pages[0])["key"])
    assert len(set(keys)) == 4


def test_chips_show_colours_as_declared(tmp_path):
    grid = grid_at(500_000, 2_500_000, (300, 300), resolution_m=2.0)
    red = np.zeros((3, 300, 300), np.uint8)
    red[2] = 200  # the third band is declared red
    path = write_raster(tmp_path / "bgr.tif", grid, red)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    (chip, *_) = cut_chips(points(), path, ChipSize(half_side_m=50.0))
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(chip.data_uri.split(",")[1]))))
    assert shown[190, 190, 0] > 150
    assert shown[190, 190, 2] < 60


@pytest.mark.shared
def test_imagery_that_cannot_be_shown_is_named(tmp_path, shared):
    cases = shared / "cases"
    for name, said in (("14-bands/palette.tif", "-expand rgb"), ("13-engineering-crs/local.tif", "local CRS")):
        with pytest.raises(LabelError, match=said):
            cut_chips(points(), cases / name, ChipSize(half_side_m=50.0))
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(LabelError, match="cannot be read as imagery"):
        cut_chips(points(), tmp_path / "text.tif", ChipSize(half_side_m=50.0))


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


def wait_for(path):
    for _ in range(100):
        if path.exists():
            return path
        time.sleep(0.1)
    raise AssertionError(f"{path} was not saved")


def test_keys_progress_reload_and_saved_file(tmp_path, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    driver, downloads = browser
    path = imagery(tmp_path / "i.tif")
    (page,) = write_labelling_pages(points(), tmp_path / "p", imagery=of(path, date="2024-05-01")).pages

    def find(name):
        return driver.find_element(By.ID, name)

    def press(*keys):
        for key in keys:
            driver.switch_to.active_element.send_keys(key)

    driver.get(page.as_uri())
    assert find("count").text == "point 1 of 4, 0 answered" and find("gate").is_displayed()
    assert driver.execute_script("return document.getElementById('image').naturalWidth") == 384
    driver.execute_script("document.activeElement.blur()")
    press("1")  # nobody's answers are kept
    assert find("count").text == "point 1 of 4, 0 answered"
    find("who").send_keys("Ann", Keys.ENTER)
    assert not find("gate").is_displayed() and find("name").text == "Interpreter: Ann"
    press("1", "0", "?")
    assert find("count").text == "point 4 of 4, 3 answered" and "imagery of 2024-05-01" in find("place").text
    assert float(find("bar").get_attribute("value")) == 0.75
    press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert find("b0").get_attribute("aria-pressed") == "true"
    press("1", Keys.ARROW_RIGHT)
    driver.refresh()  # answers outlive the page; the name is asked again, with the last one written
    assert find("who").get_attribute("value") == "Ann"
    press(Keys.ENTER)
    assert find("count").text == "point 4 of 4, 3 answered"
    find("comment").send_keys('roofs, "tight"')
    driver.execute_script("document.activeElement.blur()")
    press("0")
    find("save").click()
    assert "4 answers saved" in find("state").text
    table = read_labels(wait_for(downloads / "labels_001_Ann.csv"))
    assert table.frame.set_index("point_id").loc[IDS, "label"].fillna(-1).tolist() == [1, 1, -1, 0]
    assert set(table.frame["interpreter"]) == {"Ann"}
    merged = merge_labels(points().drop(columns="geometry"), [table], MergeRules(map_date="2024-06-01"))
    assert merged["ref"].isna().sum() == 1
    errors = [e for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    assert not errors


def test_answers_of_another_interpreter_or_image_date_are_not_met_again(tmp_path, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    driver, downloads = browser
    path = imagery(tmp_path / "i.tif")
    pages = [
        write_labelling_pages(points(), tmp_path / day, imagery=of(path, date=day)).pages[0]
        for day in ("2024-05-01", "2020-05-01")
    ]

    def count_of(page, who):
        driver.get(page.as_uri())
        field = driver.find_element(By.ID, "who")
        field.clear()
        field.send_keys(who, Keys.ENTER)
        return driver.find_element(By.ID, "count").text

    assert count_of(pages[0], "Ann").endswith("0 answered")
    for key in "11":
        driver.switch_to.active_element.send_keys(key)
    assert count_of(pages[0], "Bo").endswith("0 answered")
    driver.switch_to.active_element.send_keys("0")
    driver.find_element(By.ID, "other").click()
    driver.find_element(By.ID, "who").send_keys("Cy", Keys.ENTER)
    assert driver.find_element(By.ID, "count").text.endswith("0 answered")
    assert count_of(pages[1], "Ann").endswith("0 answered")
    assert count_of(pages[0], "Bo").endswith("1 answered")
    assert count_of(pages[0], "Ann").endswith("2 answered")
    driver.find_element(By.ID, "save").click()
    saved = pd.read_csv(wait_for(downloads / "labels_001_Ann.csv"))
    assert saved["label"].tolist() == [1, 1] and set(saved["interpreter"]) == {"Ann"}
