"""Faults of servers: waited for, tried again, named."""

import numpy as np
import pytest

from pipeline.fetch.errors import FetchError
from pipeline.fetch.tiles import tile_range
from pipeline.fetch.web import Session
from regions.sources import XyzImagery
from tests.support.source_server import faults, log
from tests.support.source_world import ZOOM, campaign_of, fetched, image_of, xyz


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
