"""Sources from real servers: tiles, items, files with ranges, with every fault that they have."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rio_cogeo.cogeo import cog_validate

from pipeline.city.ground import ground_of
from pipeline.city.sources import find_sources
from pipeline.fetch import stac_assets, web
from pipeline.fetch.confidential import public_url
from pipeline.fetch.errors import FetchError, SecretMissingError
from pipeline.fetch.run import fetch_city, plan_fetch
from pipeline.fetch.tiles import EARTH_M, tile_range, zoom_for
from pipeline.fetch.web import Session
from pipeline.vectors import read_features
from regions.campaign import CampaignError, load_campaign
from regions.demo import generate_demo_city
from regions.registry import find_city
from regions.sources import Licence, XyzImagery
from tests.support.command_line import json_of
from tests.support.servers import s3_server
from tests.support.source_server import KEY, ROOT, TOKEN, faults, log, serve, write_stac

ADCODE = "990001"
LICENCE = {"name": "made", "derivatives": True}
ZOOM = 17


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A demo city, as files and behind a server."""
    root = tmp_path_factory.mktemp("world")
    generate_demo_city(root / "city", seed=3, side_m=1000, adcode=ADCODE)
    served = root / "served"
    served.mkdir()
    scenes = sorted((root / "city" / "imagery").glob("*.tif"))
    for scene in scenes:
        shutil.copyfile(scene, served / scene.name)
    with rasterio.open(scenes[0]) as source:
        bounds, crs, pixels = source.bounds, source.crs, source.read([1, 2, 3])
        profile = {"driver": "GTiff", "crs": crs, "transform": source.transform, "tiled": True, "blockxsize": 256}
        profile |= {"blockysize": 256, "height": source.height, "width": source.width, "dtype": "uint8"}
    with rasterio.open(served / "tiles.tif", "w", count=3, **profile) as out:
        out.write(pixels)
    for k, name in enumerate(("red", "green", "blue")):
        with rasterio.open(served / f"{name}.tif", "w", count=1, compress="deflate", **profile) as out:
            out.write(pixels[k], 1)
    with rasterio.open(served / "scl.tif", "w", count=1, **profile) as out:
        classes = np.full(pixels.shape[1:], 4, np.uint8)
        classes[:200, :200] = 9
        out.write(classes, 1)
    inner = (bounds.left + 150, bounds.bottom + 150, bounds.right - 150, bounds.top - 150)
    box = gpd.GeoSeries.from_wkt([_box(*inner)], crs=crs).to_crs("EPSG:4326").total_bounds
    whole = gpd.GeoSeries.from_wkt([_box(*bounds)], crs=crs).to_crs("EPSG:4326").total_bounds
    vectors = min((root / "city" / "vectors").iterdir())
    features = read_features([vectors], crs="EPSG:4326", bounds_m=tuple(whole)).table
    features.to_parquet(served / "features.parquet", write_covering_bbox=True, row_group_size=200)
    with serve(served) as address:
        item = {"bbox": [float(v) for v in whole], "collection": "scenes"}
        assets = {n: f"{address}/files/{n}.tif" for n in ("red", "green", "blue", "scl")}
        items = [
            item | {"id": "clear", "date": "2024-05-02", "cloud": 3.0, "assets": assets},
            item | {"id": "hazy", "date": "2024-06-02", "cloud": 15.0, "assets": assets},
            item | {"id": "cloudy", "date": "2024-07-02", "cloud": 90.0, "assets": assets},
            item | {"id": "old", "date": "2019-07-02", "cloud": 0.0, "assets": assets},
        ]
        write_stac(served, items, f"{address}/files")
        yield {"root": root, "served": served, "address": address, "bounds": tuple(float(v) for v in box)}


def _box(left, bottom, right, top):
    return f"POLYGON(({left} {bottom},{right} {bottom},{right} {top},{left} {top},{left} {bottom}))"


def campaign_of(world, folder: Path, imagery, vectors=(), **more):
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "name": "made", "version": "1.0.0", "cities": [ADCODE], "data_root": str(folder / "data"),
        "out_root": str(folder / "out"), "checkpoint": "none", "grid": {"resolution_m": 1.0},
        "sources": {"imagery": imagery, "vectors": list(vectors), "bounds_lonlat": list(world["bounds"])},
    } | more  # fmt: skip
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return path


def xyz(world, path="xyz", **more):
    return {
        "kind": "xyz",
        "url": f"{world['address']}/{path}/{{z}}/{{x}}/{{y}}.png",
        "zoom": ZOOM,
        "licence": LICENCE,
    } | more


def stac(world, **more):
    source = {"kind": "stac", "url": f"{world['address']}/stac", "start": "2024-01-01", "licence": LICENCE}
    return source | {"mask_asset": "scl", "mask_values": [9], "collections": ["scenes"]} | more


def fetched(path):
    campaign = load_campaign(path)
    return fetch_city(campaign, find_city(ADCODE))


def image_of(path):
    files = find_sources(load_campaign(path).data_folder(ADCODE), ADCODE).imagery
    with rasterio.open(files[0]) as file:
        return file.read().astype(int), file.read_masks(1) > 0, file.transform


@pytest.fixture(autouse=True)
def quick(monkeypatch, world):
    monkeypatch.setattr(web, "FIRST_WAIT_S", 0.01)
    faults(world["address"])


def test_three_ways_give_the_same_ground(world, tmp_path):
    """STAC with PBF, tiles with GeoParquet, local files: the same pixels to within resampling, the same features."""
    scene = min((world["root"] / "city" / "imagery").glob("*.tif"))
    pbf = next((world["root"] / "city" / "vectors").glob("*.osm.pbf"))
    parquet = {"kind": "parquet", "path": f"{world['address']}/files/features.parquet", "date": "2024-01-01"}
    ways = {
        "local": ([{"kind": "local", "path": str(scene), "date": "2024-05-02", "licence": LICENCE}],
                  [{"kind": "file", "path": str(pbf), "licence": LICENCE}]),
        "stac": ([stac(world)], [{"kind": "pbf", "path": str(pbf)}]),
        "xyz": ([xyz(world, date="2024-05")], [parquet]),
    }  # fmt: skip
    seen = {}
    for name, (imagery, vectors) in ways.items():
        path = campaign_of(world, tmp_path / name, imagery, vectors)
        fetched(path)
        ground = ground_of(load_campaign(path), find_city(ADCODE))
        grid = ground.extent().grid
        features = read_features(ground.sources.vectors, crs=grid.crs, bounds_m=grid.bounds_m).table
        seen[name] = (*image_of(path), len(features), float(features.area.sum()), ground.sources.notes)
    pixels, valid, transform, count, area, notes = seen["local"]
    assert valid.mean() > 0.99
    assert notes.image_date == "2024-05-02"
    assert notes.imagery_licence == "made"
    for name in ("stac", "xyz"):
        other, there, other_transform, other_count, other_area, _ = seen[name]
        assert other_transform == transform
        assert other.shape == pixels.shape
        both = valid & there
        assert both.mean() > 0.9
        difference = np.abs(other - pixels)[:, both]
        assert np.median(difference) <= (0 if name == "stac" else 6), name
        assert other_count == count
        assert other_area == pytest.approx(area, rel=1e-3)
    assert seen["stac"][5].image_date == "2024-05-02/2024-06-02"
    assert seen["xyz"][5].image_date == "2024-05-01/2024-05-31"


def test_tiles_are_laid_without_a_shift_and_keep_their_contrast(world, tmp_path):
    """Zoom by the grid; the offset is the least-squares step along the gradient of the ground's own pixels."""
    source = xyz(world, zoom=None)
    source["url"] += "?kernel=cubic"
    path = campaign_of(world, tmp_path / "xyz", [source])
    assert "tiles of zoom 18," in fetched(path).files[0]["what"]  # 0.55 m at 23 N; zoom 17 has 1.1 m
    local, there, _ = image_of(_local_way(world, tmp_path))
    tiles, seen, _ = image_of(path)
    inner = (slice(8, -8), slice(8, -8))
    assert (there & seen)[inner].all()
    truth, laid = local[1][inner].astype(float), tiles[1][inner].astype(float)
    slope = np.stack([g.ravel() for g in np.gradient(truth)], axis=1)
    shift_px = np.linalg.lstsq(slope, (truth - laid).ravel(), rcond=None)[0]
    assert np.abs(shift_px).max() < 0.02
    assert np.diff(laid).std() > 0.92 * np.diff(truth).std()  # bilinear: 0.85
    without = campaign_of(world, tmp_path / "open", [source], grid={})
    with pytest.raises(FetchError, match=r"neither the source names a zoom nor the campaign grid\.resolution_m"):
        fetched(without)


@given(st.floats(-70, 70), st.floats(0.1, 30), st.sampled_from([256, 512]))
def test_the_zoom_is_the_coarsest_that_is_finer_than_the_grid(south, resolution_m, tile_px):
    licence = Licence(name="x", derivatives=True)
    source = XyzImagery(kind="xyz", url="http://h/{z}/{x}/{y}", tile_px=tile_px, licence=licence)
    zoom = zoom_for(source, (100.0, south, 100.1, south + 0.1), resolution_m)
    equator_m = 40_075_016.68 / tile_px
    widest_m = equator_m * max(np.cos(np.radians(south)), np.cos(np.radians(south + 0.1)))
    if south <= 0 <= south + 0.1:
        widest_m = equator_m
    assert widest_m / 2**zoom <= 0.6 * resolution_m * (1 + 1e-6)
    assert zoom == 0 or widest_m / 2 ** (zoom - 1) > 0.6 * resolution_m * (1 - 1e-6)


def test_items_are_chosen_by_date_and_cloud_and_their_clouds_cut_out(world, tmp_path):
    path = campaign_of(world, tmp_path, [stac(world)])
    plan = plan_fetch(load_campaign(path), find_city(ADCODE))
    assert "2 items from 2024-05-02 to 2024-06-02" in plan.rows[0]["what"]
    result = fetched(path)
    assert [s["item"] for s in result.files[0]["scenes"]] == ["clear", "hazy"]
    _, valid, _ = image_of(path)
    assert not valid[:20, :20].any()  # class 9 in both items
    static = campaign_of(world, tmp_path / "static", [stac(world, url=f"{world['address']}/files/catalog.json")])
    fetched(static)
    np.testing.assert_array_equal(image_of(static)[0], image_of(path)[0])
    newest = campaign_of(world, tmp_path / "newest", [stac(world, order="newest", most_items=1)])
    assert [s["item"] for s in fetched(newest).files[0]["scenes"]] == ["hazy"]
    none = campaign_of(world, tmp_path / "none", [stac(world, end="2024-02-01")])
    with pytest.raises(FetchError, match="no item of scenes from 2024-01-01 to 2024-02-01"):
        fetched(none)


def not_cached(world):
    """GDAL remembers what earlier tests read."""
    for name in ("red", "green", "blue", "scl"):
        stac_assets._forget(f"{world['address']}/files/{name}.tif")
    faults(world["address"])


def test_corrupt_assets_are_asked_for_again(world, tmp_path):
    """No picture at all, or a picture whose blocks are wrong: at first; the ground is that of a good server."""
    not_cached(world)
    faults(
        world["address"],
        {"path": "/files/red.tif", "do": "corrupt", "times": 2},
        {"path": "/files/green.tif", "do": "garble", "from": 16384},
        {"path": "/files/scl.tif", "do": "corrupt", "times": 2},
    )
    path = campaign_of(world, tmp_path, [stac(world, max_cloud=5)])
    fetched(path)
    asked = [r["path"] for r in log(world["address"])["requests"]]
    not_cached(world)
    clean = campaign_of(world, tmp_path / "clean", [stac(world, max_cloud=5)])
    fetched(clean)
    for one, other in zip(image_of(path), image_of(clean), strict=True):
        np.testing.assert_array_equal(one, other)
    again = [r["path"] for r in log(world["address"])["requests"]]
    assert all(asked.count(f"/files/{n}.tif") > again.count(f"/files/{n}.tif") for n in ("red", "green", "scl"))


@pytest.mark.parametrize(("name", "do"), [("green", "garble"), ("scl", "corrupt")])
def test_an_asset_that_stays_corrupt_is_named_with_its_item(world, tmp_path, name, do):
    not_cached(world)
    start = 16384 if do == "garble" else 0
    faults(world["address"], {"path": f"/files/{name}.tif", "do": do, "from": start, "times": 999})
    path = campaign_of(world, tmp_path, [stac(world, max_cloud=5)])
    with pytest.raises(FetchError, match=rf"{name}\.tif: asset {name} of item clear cannot be read in 4 attempts"):
        fetched(path)
    assert sum(r["path"] == f"/files/{name}.tif" for r in log(world["address"])["requests"]) <= 40
    assert not list(load_campaign(path).data_folder(ADCODE).rglob("*.tif"))
    faults(world["address"])
    assert fetched(path).files[0]["scenes"][0]["item"] == "clear"


def test_faults_of_a_tile_server_are_waited_for(world, tmp_path):
    first = tile_range(XyzImagery(**xyz(world)), world["bounds"])
    tiles = list(first)
    at = [f"/xyz/{ZOOM}/{x}/{y}.png" for x, y in tiles]
    faults(
        world["address"],
        {"path": at[0], "do": "status", "status": 429, "retry_after": 0.2},
        {"path": at[1], "do": "status", "status": 503, "times": 2},
        {"path": at[2], "do": "corrupt", "times": 2},
        {"path": at[3], "do": "slow", "seconds": 0.3},
    )
    result = fetched(campaign_of(world, tmp_path, [xyz(world)]))
    assert result.files[0]["scenes"][0]["tiles"] == len(tiles)
    asked = [r["path"] for r in log(world["address"])["requests"]]
    assert asked.count(at[1]) == 3
    waited = [r["at"] for r in log(world["address"])["requests"] if r["path"] == at[0]]
    assert waited[1] - waited[0] >= 0.2
    clean = campaign_of(world, tmp_path / "clean", [xyz(world)])
    fetched(clean)
    np.testing.assert_array_equal(image_of(clean)[0], image_of(tmp_path / "campaign.yaml")[0])


def test_a_tile_that_stays_broken_is_named_and_the_others_are_kept(world, tmp_path):
    x, y = list(tile_range(XyzImagery(**xyz(world)), world["bounds"]))[-1]
    faults(world["address"], {"path": f"/xyz/{ZOOM}/{x}/{y}.png", "do": "corrupt", "times": 99})
    path = campaign_of(world, tmp_path, [xyz(world)])
    with pytest.raises(FetchError, match=f"tile {ZOOM}/{x}/{y} is no picture"):
        fetched(path)
    faults(world["address"])
    fetched(path)
    assert len(log(world["address"])["requests"]) <= 2 * XyzImagery(**xyz(world)).in_flight  # not all again


def test_missing_tiles_are_no_data(world, tmp_path):
    tiles = list(tile_range(XyzImagery(**xyz(world)), world["bounds"]))
    x, y = tiles[0]
    faults(world["address"], {"path": f"/xyz/{ZOOM}/{x}/{y}.png", "do": "status", "status": 404})
    result = fetched(campaign_of(world, tmp_path, [xyz(world)]))
    assert result.files[0]["scenes"][0]["tiles_missing"] == 1
    assert not image_of(tmp_path / "campaign.yaml")[1][:10, :10].any()


def test_many_requests_at_once_within_the_rate(world, tmp_path):
    faults(world["address"], {"latency_s": 0.05})
    fetched(campaign_of(world, tmp_path / "a", [xyz(world, zoom=19, per_second=2000)]))
    assert log(world["address"])["most_in_flight"] >= 10
    faults(world["address"])
    fetched(campaign_of(world, tmp_path / "b", [xyz(world, zoom=18, per_second=40)]))
    at = [r["at"] for r in log(world["address"])["requests"]]
    assert (len(at) - 1) / (at[-1] - at[0]) <= 44


def test_refreshed_tiles_come_only_where_they_changed(world, tmp_path):
    path = campaign_of(world, tmp_path, [xyz(world)])
    fetched(path)
    faults(world["address"])
    assert fetched(path).reused == ("imagery-00",)
    assert log(world["address"])["requests"] == []
    fetch_city(load_campaign(path), find_city(ADCODE), refresh=True)
    assert all(r["none_match"] for r in log(world["address"])["requests"])


def test_a_killed_fetch_goes_on_where_it_stopped(world, tmp_path):
    """SIGKILL in the middle: the next run asks only for what is missing, and ends with the same bytes."""
    whole = campaign_of(world, tmp_path / "whole", [xyz(world, zoom=18)])
    expected = fetched(whole).files
    path = campaign_of(world, tmp_path / "killed", [xyz(world, zoom=18)])
    faults(world["address"], {"latency_s": 0.1})
    program = (
        "from pipeline.fetch.run import fetch_city; from regions.campaign import load_campaign;"
        f"from regions.registry import find_city; fetch_city(load_campaign({str(path)!r}), find_city({ADCODE!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    while len(log(world["address"])["requests"]) < 20 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {r["path"] for r in log(world["address"])["requests"]}
    assert before
    faults(world["address"])
    again = fetched(path).files
    assert [f["sha256"] for f in again] == [f["sha256"] for f in expected]
    tiles = len(list(tile_range(XyzImagery(**xyz(world, zoom=18)), world["bounds"])))
    asked = [r["path"] for r in log(world["address"])["requests"]]
    assert len(asked) < tiles
    assert len(asked) == len(set(asked))


def test_a_download_that_is_dropped_goes_on(world, tmp_path):
    source = world["served"] / "tiles.tif"
    faults(world["address"], {"path": "/files/tiles.tif", "do": "drop", "share": 0.6, "times": 2})
    with Session() as session:
        out = session.download(f"{world['address']}/files/tiles.tif", tmp_path / "a.tif")
    assert out.read_bytes() == source.read_bytes()
    ranges = [r["range"] for r in log(world["address"])["requests"]]
    assert ranges[0] is None
    assert all(r for r in ranges[1:])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif"]
    with Session() as session, pytest.raises(FetchError, match="status 404"):
        session.download(f"{world['address']}/files/absent.tif", tmp_path / "b.tif")


def test_secrets_are_in_no_file_and_no_message(world, tmp_path, monkeypatch, capsys):
    keyed = xyz(world, "keyed", key_env="MADE_KEY")
    keyed["url"] += "?key={key}"
    path = campaign_of(world, tmp_path, [keyed])
    with pytest.raises(SecretMissingError, match="MADE_KEY"):
        fetched(path)
    monkeypatch.setenv("MADE_KEY", "wrong-but-secret")
    with pytest.raises(FetchError, match=r"403.*missing or refused") as refused:
        fetched(path)
    assert "wrong-but-secret" not in str(refused.value)
    monkeypatch.setenv("MADE_KEY", KEY)
    said = json_of("fetch", ADCODE, "--campaign", path, "--json")
    assert said["failed"] == 0
    captured = capsys.readouterr()
    everything = [json.dumps(said), captured.out, captured.err]
    everything += [p.read_bytes().decode("latin-1") for p in tmp_path.rglob("*") if p.is_file()]
    for text in everything:
        assert KEY not in text
        assert "wrong-but-secret" not in text


def test_a_bearer_token_opens_assets_and_is_written_nowhere(world, tmp_path, monkeypatch):
    for name in ("catalog", "clear", "hazy", "cloudy", "old"):
        text = (world["served"] / f"{name}.json").read_text(encoding="utf-8")
        text = text.replace(f"/files/{name}", f"/files/p_{name}").replace("/files/", "/private/")
        for item in ("clear", "hazy", "cloudy", "old"):
            text = text.replace(f"/private/{item}.json", f"/files/p_{item}.json")
        (world["served"] / f"p_{name}.json").write_text(text, encoding="utf-8")
    variable = "MADE_TOKEN"
    source = stac(world, url=f"{world['address']}/files/p_catalog.json", token_env=variable)
    path = campaign_of(world, tmp_path, [source])
    monkeypatch.setenv(variable, "refused-token")
    with pytest.raises(FetchError, match=r"red\.tif") as refused:
        fetched(path)
    assert "refused-token" not in str(refused.value)
    monkeypatch.setenv(variable, TOKEN)
    fetched(path)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()


@given(st.text(alphabet="abcdefghij", min_size=4), st.text(alphabet="abcdefghij", min_size=4))
def test_public_addresses_have_no_user_and_no_query(user, signature):
    url = f"https://{user}X:{signature}@h.example/a/b.tif?X-Amz-Signature={signature}Y#f"
    assert public_url(url) == "https://h.example/a/b.tif"


def test_signatures_of_addresses_are_in_no_message(world, tmp_path, capsys):
    """Signed addresses of files, which no environment variable holds: of what is absent, planned and brought."""
    signed = "?X-Amz-Signature=5168ab"
    absent = {"kind": "parquet", "path": f"{world['address']}/files/absent.parquet{signed}"}
    no_catalog = stac(world, url=f"{world['address']}/files/absent.json{signed}")
    tables = {"kind": "parquet", "path": f"{world['address']}/files/features.parquet{signed}"}
    told = []
    for k, (imagery, vectors) in enumerate((([xyz(world)], [absent]), ([no_catalog], []))):
        with pytest.raises(FetchError, match=r"/files/absent\.") as refused:
            fetched(campaign_of(world, tmp_path / str(k), imagery, vectors))
        told += ["".join(traceback.format_exception(refused.value))]
    path = campaign_of(world, tmp_path / "here", [xyz(world)], [tables])
    told += [json.dumps(json_of("fetch", ADCODE, "--campaign", path, *more, "--json")) for more in (["--dry-run"], [])]
    captured = capsys.readouterr()
    folder = load_campaign(path).data_folder(ADCODE)
    told += [captured.out, captured.err, *(p.read_text("latin-1") for p in folder.rglob("*") if p.is_file())]
    assert "features.parquet" in told[2]
    assert not any("5168ab" in text for text in told)


def test_a_dry_run_says_what_and_how_much_and_brings_nothing(world, tmp_path):
    pbf = next((world["root"] / "city" / "vectors").glob("*.osm.pbf"))
    path = campaign_of(world, tmp_path, [xyz(world), stac(world)], [{"kind": "pbf", "path": str(pbf)}])
    said = json_of("fetch", ADCODE, "--campaign", path, "--dry-run", "--json")
    tiles, items, features = said["cities"][0]["sources"]
    count = len(tile_range(XyzImagery(**xyz(world)), world["bounds"]))
    assert tiles["what"] == f"{count} tiles of zoom {ZOOM}, {count} not here yet"
    assert tiles["bytes"] > 0 and "2 items" in items["what"] and features["what"].endswith(".osm.pbf")
    assert said["cities"][0]["status"] == "planned" and not said["failed"]
    assert not any(r["path"].startswith("/xyz") for r in log(world["address"])["requests"])
    assert [p.name for p in tmp_path.rglob("*")] == ["campaign.yaml"]
    fetched(path)
    with rasterio.open(next((load_campaign(path).data_root / ".cache" / "stac" / ADCODE).glob("*.tif"))) as scene:
        assert items["bytes"] == pytest.approx(2 * 4 * scene.width * scene.height, rel=0.05)


def test_tiles_by_the_words_of_wmts_and_counted_from_the_south(world, tmp_path):
    path = campaign_of(world, tmp_path / "xyz", [xyz(world)])
    fetched(path)
    base = world["address"]
    wmts = f"{base}/wmts?layer=img&tilematrix={{TileMatrix}}&tilerow={{TileRow}}&tilecol={{TileCol}}"
    for name, url in (("wmts", wmts), ("tms", f"{base}/tms/{{z}}/{{x}}/{{-y}}.png")):
        other = campaign_of(world, tmp_path / name, [xyz(world, url=url)])
        fetched(other)
        np.testing.assert_array_equal(image_of(other)[0], image_of(path)[0])


def test_what_was_not_fetched_is_never_overwritten(world, tmp_path):
    path = campaign_of(world, tmp_path, [xyz(world)])
    folder = load_campaign(path).data_folder(ADCODE)
    (folder / "imagery").mkdir(parents=True)
    mine = folder / "imagery" / "00_xyz.tif"
    mine.write_bytes(b"mine")
    with pytest.raises(FetchError, match="stands in the way"):
        fetched(path)
    assert mine.read_bytes() == b"mine"


def test_a_source_without_terms_for_maps_is_refused_with_file_and_line(world, tmp_path):
    source = xyz(world)
    del source["licence"]
    path = campaign_of(world, tmp_path, [source])
    with pytest.raises(CampaignError, match=rf"{path}: sources.imagery.0.xyz.licence \(line \d+\): Field required"):
        load_campaign(path)
    path = campaign_of(world, tmp_path, [xyz(world, licence={"name": "none", "derivatives": False})])
    with pytest.raises(CampaignError, match="does not allow derived maps"):
        load_campaign(path)
    path = campaign_of(world, tmp_path, [xyz(world, colour="red")])
    line = next(k for k, t in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if "colour" in t)
    with pytest.raises(CampaignError, match=rf"colour \(line {line}\): Extra inputs"):
        load_campaign(path)


def test_a_city_may_have_sources_of_its_own(world, tmp_path):
    other = {"bounds_lonlat": [113.0, 23.0, 113.01, 23.01], "vectors": []}
    path = campaign_of(world, tmp_path, [xyz(world)], overrides={"440300": other})
    campaign = load_campaign(path)
    assert campaign.sources_of("440300").bounds_lonlat == (113.0, 23.0, 113.01, 23.01)
    assert campaign.sources_of("440300").imagery == campaign.sources_of("440100").imagery
    assert campaign.sources_of("440100").bounds_lonlat == world["bounds"]


@settings(max_examples=60)
@given(
    st.floats(75, 134), st.floats(19, 52), st.floats(0.001, 0.3), st.integers(5, 19),
    st.sampled_from(["wgs84", "gcj02", "bd09"]),
)  # fmt: skip
def test_tiles_cover_the_area_and_no_row_or_column_is_idle(west, south, size, zoom, datum):
    from regions.datum import from_wgs84

    source = XyzImagery(
        kind="xyz", url="http://h/{z}/{x}/{y}", zoom=zoom, datum=datum, licence=Licence(name="x", derivatives=True)
    )
    bounds = (west, south, west + size, south + size)
    tiles = tile_range(source, bounds)
    lon, lat = from_wgs84(np.array([bounds[0], bounds[2]]), np.array([bounds[1], bounds[3]]), datum)
    x = lon / 180 * EARTH_M
    y = np.log(np.tan(np.pi / 4 + np.radians(lat) / 2)) / np.pi * EARTH_M
    left, top = tiles.left_top_m
    right, bottom = left + tiles.columns * tiles.tile_m, top - tiles.rows * tiles.tile_m
    slack = 300.0 if datum != "wgs84" else 1e-3  # corners of a box in a shifted datum are no box
    assert left <= x[0] + slack
    assert right >= x[1] - slack
    assert bottom <= y[0] + slack
    assert top >= y[1] - slack
    assert tiles.columns <= (x[1] - x[0] + 2 * slack) / tiles.tile_m + 2
    assert tiles.rows <= (y[1] - y[0] + 2 * slack) / tiles.tile_m + 2


def test_a_file_of_the_wrong_place_is_named(world, tmp_path):
    with rasterio.open(
        tmp_path / "far.tif", "w", driver="GTiff", width=8, height=8, count=3, dtype="uint8", crs="EPSG:32650",
        transform=from_origin(5e5, 4e6, 1, 1),
    ) as out:  # fmt: skip
        out.write(np.ones((3, 8, 8), np.uint8))
    source = {"kind": "local", "path": str(tmp_path / "far.tif"), "licence": LICENCE}
    with pytest.raises(Exception, match=r"far\.tif"):
        fetched(campaign_of(world, tmp_path / "c", [source]))


def test_assets_in_an_s3_store(world, tmp_path, monkeypatch):
    """Items whose assets are s3:// addresses, read by ranges through GDAL; the keys stand in the environment."""
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-store")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-of-the-store")
    with s3_server() as place:
        store = boto3.client("s3", endpoint_url=f"http://{place}", region_name="us-east-1")
        store.create_bucket(Bucket="scenes")
        for name in ("red", "green", "blue"):
            store.upload_file(str(world["served"] / f"{name}.tif"), "scenes", f"a/{name}.tif")
        west, south, east, north = world["bounds"]
        item = {"id": "s3", "date": "2024-05-02", "cloud": 1.0, "bbox": [west, south, east, north]}
        item["assets"] = {n: f"s3://scenes/a/{n}.tif" for n in ("red", "green", "blue")}
        (tmp_path / "stac").mkdir()
        root = write_stac(tmp_path / "stac", [item], str(tmp_path / "stac"))
        source = {"kind": "stac", "url": str(root), "s3_endpoint": f"http://{place}", "licence": LICENCE}
        path = campaign_of(world, tmp_path / "c", [source])
        fetched(path)
    pixels, valid, _ = image_of(path)
    clear, seen, _ = image_of(_local_way(world, tmp_path))
    assert valid.all() and np.abs(pixels - clear)[:, seen].mean() < 0.01
    for file in (tmp_path / "c").rglob("*"):
        assert not file.is_file() or b"hush-of-the-store" not in file.read_bytes()


def _local_way(world, tmp_path):
    source = {"kind": "local", "path": str(world["served"] / "tiles.tif"), "date": "2024-05-02", "licence": LICENCE}
    path = campaign_of(world, tmp_path / "local", [source])
    fetched(path)
    return path


def test_what_is_fetched_is_a_cog_and_says_which_scene_each_block_shows(world, tmp_path):
    path = campaign_of(world, tmp_path, [stac(world, order="newest", max_cloud=20)])
    record = next(f for f in fetched(path).files if "scenes" in f)
    file = load_campaign(path).data_folder(ADCODE) / record["file"]
    assert cog_validate(file)[0]
    assert [s["item"] for s in record["scenes"]] == ["hazy", "clear"]
    with rasterio.open(file) as made:
        blocks = -(-made.height // 512) * -(-made.width // 512)
    shares = {}
    for row, column, _scene, share in record["blocks"]:
        shares[row, column] = shares.get((row, column), 0) + share
    assert len(shares) == blocks and max(shares.values()) < 1.002
    assert {int(scene) for _, _, scene, _ in record["blocks"]} == {0}  # the same ground twice: the second is not seen


def test_a_fetch_killed_within_a_scene_keeps_its_blocks(world, tmp_path, monkeypatch):
    """The blocks of an item that have come are not asked for again."""
    monkeypatch.setattr(stac_assets, "BLOCK_PX", 256)
    path = campaign_of(world, tmp_path, [stac(world, max_cloud=5)])
    read, calls = stac_assets._read, []

    def dying(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read(*given)

    monkeypatch.setattr(stac_assets, "_read", dying)
    with pytest.raises(KeyboardInterrupt):
        fetched(path)
    fetched(path)
    again = campaign_of(world, tmp_path / "clean", [stac(world, max_cloud=5)])
    before = len(calls)
    fetched(again)
    assert before == (len(calls) - before) + 1  # all blocks once, and the one at which it died
    assert (image_of(path)[0] == image_of(again)[0]).all()
