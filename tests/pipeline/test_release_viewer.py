"""The viewer of a release in a real browser: polygons, search, keys, a phone, servers without ranges, no WebGL."""

import base64
import gzip
import io
import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image
from pmtiles.reader import MmapSource, Reader, all_tiles
from pmtiles.tile import Entry, find_tile, serialize_directory, zxy_to_tileid

from pipeline.city.sources import INVENTED_NOTE
from pipeline.release.checksums import hash_file
from pipeline.release.record import read_record
from pipeline.release.viewer.facts import accuracy_facts
from pipeline.release.viewer.pictures import demo_pictures
from regions.demo import generate_demo_nation
from regions.registry import city_of
from tests.support.products import write_products
from tests.support.range_server import serving
from tests.support.releases import build, make_campaign

ADCODES = ("440300", "990001")
DEMO = "990001"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("viewer")
    write_products(root / "products", ADCODES, villages=30)
    seat = {DEMO: (city_of(DEMO).seat_lon, city_of(DEMO).seat_lat)}
    generate_demo_nation(root / "data", adcodes=[DEMO], centers_lonlat=seat, side_m=1000, parts=("imagery",))
    return build(make_campaign(root, ADCODES), root / "r1", with_accuracy=True)


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    drivers = []

    def start(*flags):
        options = Options()
        options.binary_location = shutil.which("chromium")
        for flag in (
            *("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"),
            *("--disable-sync", "--no-first-run", "--disable-quic", "--force-prefers-reduced-motion"),
            *("--window-size=1100,900", *flags),
        ):
            options.add_argument(flag)
        options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        drivers.append(webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver"))))
        drivers[-1].set_script_timeout(60)
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.quit()


@pytest.fixture(scope="module")
def driver(browse):
    return browse("--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@pytest.fixture(scope="module")
def address(release):
    with serving(release) as url:
        yield url


def state(driver):
    """What the page says of itself, once it is drawn or in trouble."""
    for _ in range(450):
        found = driver.execute_script("return document.body.dataset.state")
        if found in {"ready", "trouble"}:
            return found
        time.sleep(0.1)
    raise AssertionError("the page is not drawn within 45 seconds")


def redrawn(driver):
    driver.execute_script("document.body.dataset.state = ''; uvmapViewer.map.triggerRepaint()")
    return state(driver)


def shown(driver, name):
    return driver.execute_script("return document.getElementById(arguments[0]).textContent", name)


def opened(driver, address, query):
    """The viewer with a city found by its name."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    driver.get(f"{address}/viewer/")
    assert state(driver) == "ready", shown(driver, "trouble")
    search = driver.find_element(By.ID, "search")
    search.send_keys(query, Keys.ENTER)
    redrawn(driver)
    return search


def test_the_folder_says_what_the_release_says(release):
    data = json.loads((release / "viewer" / "data.json").read_text(encoding="utf-8"))
    record = read_record(release)
    assert data["villages"] == record.villages == 60
    assert {c["adcode"] for c in data["cities"]} == set(ADCODES)
    assert [f["name"] for f in data["files"]] == sorted(n for n in record.data if n != "viewer.zip")
    assert data["accuracy"]["whole"][0] == {"name": "F1", "estimate": 0.8, "low": 0.73, "high": 0.85}
    assert [p["adcode"] for p in data["imagery"]] == [DEMO]  # none of real ground
    assert record.data["viewer.zip"].sha256 == hash_file(release / "viewer.zip")[0]
    assert "BSD" in (release / "viewer" / "NOTICE.txt").read_text(encoding="utf-8")
    for page in ("index.html", "viewer.js", "viewer.css", "pmtiles.js"):
        text = (release / "viewer" / page).read_text(encoding="utf-8")
        assert 'src="http' not in text
        assert "url(" not in text


def test_generated_data_under_a_real_code_are_shown_and_real_scenes_are_not(release, tmp_path):
    scenes = release.parent / "data" / DEMO / "imagery"
    for adcode in ("110000", "310000"):
        shutil.copytree(scenes, tmp_path / adcode / "imagery")
    (tmp_path / "310000" / INVENTED_NOTE).write_text("{}")
    pictures = list(demo_pictures(["110000", "310000"], tmp_path, tmp_path))
    assert [p["adcode"] for p in pictures] == ["310000"] and not (tmp_path / "imagery_110000.jpg").exists()
    with Image.open(tmp_path / "imagery_310000.jpg") as image:
        assert max(image.size) <= 1400  # a kilometre at 1 m is not blown up


def test_names_stand_on_the_map_and_none_covers_another(driver, address):
    driver.get(f"{address}/viewer/")
    assert state(driver) == "ready"
    boxes = driver.execute_script(
        "return [...document.querySelectorAll('.labels > span')].map(e => [e.textContent, e.getBoundingClientRect()])"
    )
    assert "深圳市" in " ".join(text for text, _ in boxes)
    for k, (_, a) in enumerate(boxes):
        for _, b in boxes[:k]:
            apart = (
                a["right"] <= b["left"] or b["right"] <= a["left"] or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]
            )
            assert apart
    driver.execute_script("uvmapViewer.map.jumpTo({zoom: 13})")
    redrawn(driver)
    assert driver.execute_script("return document.querySelectorAll('.labels > span').length") == 0


def test_a_region_has_its_own_figures_where_the_sample_gives_them(tmp_path):
    row = {"measure": "F1", "variance": "two_stage", "domain": "region", "value": "South", "estimate": 0.7}
    row |= {"ci_low": 0.6, "ci_high": 0.8}
    rows = [row, row | {"variance": "other", "estimate": 0.1}, row | {"domain": "", "value": "all", "estimate": 0.75}]
    (tmp_path / "accuracy.json").write_text(
        json.dumps({"kind": "sample", "primary_variance": "two_stage", "estimates": rows})
    )
    facts = accuracy_facts(tmp_path / "accuracy.json")
    assert facts["regions"] == {"South": [{"name": "F1", "estimate": 0.7, "low": 0.6, "high": 0.8}]}
    assert facts["whole"][0]["estimate"] == 0.75
    (tmp_path / "accuracy.json").write_text(json.dumps({"kind": "census", "cities": {}}))
    assert "no interval" in accuracy_facts(tmp_path / "accuracy.json")["note"]
    assert accuracy_facts(None)["whole"] == []


@pytest.mark.parametrize("query", ["深圳", "shen zhen", "440300"])
def test_a_city_is_found_and_its_polygons_are_drawn(release, driver, address, query):
    opened(driver, address, query)
    assert shown(driver, "detail-title") == "Shenzhen 深圳市"
    assert "0.73 to 0.85" in shown(driver, "accuracy")
    count = driver.execute_script(
        "const drawn = uvmapViewer.map.queryRenderedFeatures({layers: ['villages']});"
        "return new Set(drawn.map((f) => f.properties.uv_id)).size"
    )
    assert count == 30
    # and they are seen: many pixels of their colour
    picture = driver.find_element("css selector", ".maplibregl-canvas").screenshot_as_png
    red, green, blue = np.moveaxis(np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int), -1, 0)
    assert ((red - green > 50) & (blue - green > 10)).mean() > 0.02
    assert [e for e in driver.get_log("browser") if e["level"] == "SEVERE"] == []


def test_by_keyboard_alone(driver, address):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    driver.get(f"{address}/viewer/")
    state(driver)

    def focused():
        return driver.execute_script("const e = document.activeElement; return e.id || e.className || e.tagName")

    order = []
    for _ in range(6):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        order.append(focused())
    assert order[:3] == ["skip", "search", "region"]
    search = driver.find_element(By.ID, "search")
    search.send_keys(Keys.ARROW_DOWN)
    assert driver.switch_to.active_element.get_attribute("data-adcode") == DEMO
    driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert shown(driver, "detail-title").startswith("Shenzhen")
    # Enter on the map opens the village in its middle
    place = "const f = uvmapViewer.map.queryRenderedFeatures({layers: ['villages']})[0], g = f.geometry;"
    place += "const r = (g.type === 'Polygon' ? g.coordinates : g.coordinates[0])[0];"
    redrawn(driver)
    driver.execute_script(place + "uvmapViewer.map.jumpTo({center: r[0], zoom: 16})")
    redrawn(driver)
    driver.find_element(By.CSS_SELECTOR, ".maplibregl-canvas").send_keys(Keys.ENTER)
    assert shown(driver, "detail-title").startswith("Village in Shenzhen")
    assert "440300-" in shown(driver, "facts")
    assert "Area" in shown(driver, "facts") and " m²" in shown(driver, "facts")
    hints = driver.execute_script("return [...document.querySelectorAll('#facts dt')].map(e => e.title.split(':')[0])")
    assert "area_m2" in hints  # what the tables call it
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert driver.execute_script("return document.getElementById('detail').hidden")
    search.send_keys("nowhere")
    assert "No city" in shown(driver, "found")
    search.send_keys(Keys.ESCAPE)
    assert search.get_attribute("value") == ""


def test_regions_files_imagery_and_a_phone(release, driver, address):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    opened(driver, address, DEMO)
    images = driver.execute_script("return uvmapViewer.map.getStyle().layers.filter(l => l.type === 'raster').length")
    assert images == 1
    Select(driver.find_element(By.ID, "region")).select_by_value("South")
    assert shown(driver, "detail-title") == "South"
    links = driver.execute_script("return [...document.querySelectorAll('#files a')].map(a => a.getAttribute('href'))")
    assert "../urban_villages.parquet" in links
    for link in links:
        assert (release / "viewer" / link).exists()
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        width = driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= 360
        low = driver.execute_script("return document.getElementById('map').getBoundingClientRect().height")
        assert low > 300
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_our_reader_gives_the_tiles_that_the_reference_gives(release, driver, address):
    driver.get(f"{address}/viewer/")
    state(driver)
    with (release / "urban_villages.pmtiles").open("rb") as file:
        source = MmapSource(file)
        wanted = dict(all_tiles(source))
        header = Reader(source).header()
    places = sorted(wanted)[:: max(1, len(wanted) // 60)]
    z = header["max_zoom"]
    missing = next((z, x, 0) for x in range(2**z) if (z, x, 0) not in wanted)
    script = """
      const [places, done] = arguments;
      (async () => {
        const out = [];
        for (const [z, x, y] of places) {
          const tile = await uvmapViewer.archive.tile(z, x, y);
          out.push(tile === null ? null : btoa(String.fromCharCode(...new Uint8Array(tile))));
        }
        return out;
      })().then(done, (e) => done(String(e)));
    """
    got = driver.execute_async_script(script, [*places, missing])
    assert got[-1] is None
    for place, tile in zip(places, got, strict=False):
        assert base64.b64decode(tile) == gzip.decompress(wanted[place])


def test_numbers_of_tiles_and_directories_are_those_of_the_reference(driver, address):
    driver.get(f"{address}/viewer/")
    places = [(0, 0, 0), (1, 1, 0), (5, 17, 30), (13, 6689, 3551), (22, 3_400_001, 1_700_777), (26, 2**26 - 1, 12345)]
    ids = driver.execute_script("return arguments[0].map(([z, x, y]) => TileArchive.tileId(z, x, y))", places)
    assert ids == [zxy_to_tileid(*p) for p in places]
    entries = [Entry(k * k * 1000 + k, (k // 3) * 977, 100 + k, 1 + k % 4) for k in range(500)]
    entries.append(Entry(2**45, 2**40, 5, 0))  # a leaf, of numbers beyond 32 bits
    packed = base64.b64encode(gzip.decompress(serialize_directory(entries))).decode()
    read = driver.execute_script(
        "const b = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));"
        "return TileArchive.entries(b).map((e) => [e.id, e.offset, e.length, e.run])",
        packed,
    )
    assert read == [[e.tile_id, e.offset, e.length, e.run_length] for e in entries]
    wanted = [0, 1, 1001, 1002, 1003, 4002, 4004, 4005, 2**44, 2**45, 2**45 + 7]
    found = driver.execute_script(
        "const b = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0)), es = TileArchive.entries(b);"
        "return arguments[1].map((i) => TileArchive.find(es, i)?.id ?? null)",
        packed,
        wanted,
    )
    assert found == [None if (e := find_tile(entries, i)) is None else e.tile_id for i in wanted]


def test_a_server_without_ranges_and_a_folder_without_a_server(release, driver):
    with serving(release, ranges=False) as url:
        opened(driver, url, "深圳")
        assert driver.execute_script("return uvmapViewer.archive.whole !== null")
        assert driver.execute_script("return uvmapViewer.map.queryRenderedFeatures({layers: ['villages']}).length") > 20
    driver.get((release / "viewer" / "index.html").as_uri())
    assert "python -m http.server" in shown(driver, "trouble")


def test_the_archive_stands_beside_the_tiles_of_a_record(release, driver, tmp_path):
    shutil.unpack_archive(release / "viewer.zip", tmp_path)
    shutil.copy(release / "urban_villages.pmtiles", tmp_path)
    with serving(tmp_path) as url:
        opened(driver, url, "深圳")
        assert driver.execute_script("return uvmapViewer.map.queryRenderedFeatures({layers: ['villages']}).length") > 20
        assert "apart" in shown(driver, "files")
        (tmp_path / "urban_villages.pmtiles").unlink()
        driver.get(f"{url}/viewer/")
        assert state(driver) == "trouble"
        assert "urban_villages.pmtiles beside" in shown(driver, "trouble")


def test_without_webgl_search_and_files_still_work(release, browse, address):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    driver = browse("--disable-gpu", "--disable-3d-apis")
    driver.get(f"{address}/viewer/")
    assert state(driver) == "trouble"
    assert "no WebGL" in shown(driver, "trouble")
    driver.find_element(By.ID, "search").send_keys("深圳", Keys.ENTER)
    assert shown(driver, "detail-title") == "Shenzhen 深圳市"
    assert len(driver.find_elements(By.CSS_SELECTOR, "#files a")) == len(read_record(release).data) - 1
