"""Tiles of real servers: which ones, how they are laid onto the grid, how many at once, again and after a kill."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.fetch.errors import FetchError
from pipeline.fetch.run import fetch_city
from pipeline.fetch.tiles import EARTH_M, tile_range, zoom_for
from regions.campaign import load_campaign
from regions.registry import find_city
from regions.sources import Licence, XyzImagery
from tests.support.source_server import ROOT, faults, log
from tests.support.source_world import ADCODE, ZOOM, campaign_of, fetched, image_of, local_way, xyz


def test_tiles_are_laid_without_a_shift_and_keep_their_contrast(world, tmp_path):
    """Zoom by the grid; the offset is the least-squares step along the gradient of the ground's own pixels."""
    source = xyz(world, zoom=None)
    source["url"] += "?kernel=cubic"
    path = campaign_of(world, tmp_path / "xyz", [source])
    assert "tiles of zoom 18," in fetched(path).files[0]["what"]  # 0.55 m at 23 N; zoom 17 has 1.1 m
    local, there, _ = image_of(local_way(world, tmp_path))
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


def test_tiles_by_the_words_of_wmts_and_counted_from_the_south(world, tmp_path):
    path = campaign_of(world, tmp_path / "xyz", [xyz(world)])
    fetched(path)
    base = world["address"]
    wmts = f"{base}/wmts?layer=img&tilematrix={{TileMatrix}}&tilerow={{TileRow}}&tilecol={{TileCol}}"
    for name, url in (("wmts", wmts), ("tms", f"{base}/tms/{{z}}/{{x}}/{{-y}}.png")):
        other = campaign_of(world, tmp_path / name, [xyz(world, url=url)])
        fetched(other)
        np.testing.assert_array_equal(image_of(other)[0], image_of(path)[0])


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
