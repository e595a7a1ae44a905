"""Items of STAC: chosen, cut, asked for again where they came corrupt, opened with a token, read from a store."""

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from pipeline.fetch import stac_assets
from pipeline.fetch.errors import FetchError
from pipeline.fetch.run import plan_fetch
from regions.campaign import load_campaign
from regions.registry import find_city
from tests.support.servers import s3_server
from tests.support.source_server import TOKEN, faults, log, write_stac
from tests.support.source_world import ADCODE, LICENCE, campaign_of, fetched, image_of, local_way, stac


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
    clear, seen, _ = image_of(local_way(world, tmp_path))
    assert valid.all() and np.abs(pixels - clear)[:, seen].mean() < 0.01
    for file in (tmp_path / "c").rglob("*"):
        assert not file.is_file() or b"hush-of-the-store" not in file.read_bytes()


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
