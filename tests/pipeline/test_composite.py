"""Composites of scenes against numpy's own median, and as STAC items of a campaign."""

import numpy as np
import pytest
import rasterio
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

from pipeline.fetch import imagery as fetch_imagery
from pipeline.fetch.run import fetch_city
from pipeline.imagery import ingest as ingest_scenes
from pipeline.imagery.composite import first_of, median_of
from regions.campaign import load_campaign
from regions.raster.grid import Grid
from regions.registry import find_city
from tests.support.source_server import write_stac

ADCODE = "990001"
LEFT, TOP, SIDE = 500_000, 2_500_000, 700
LICENCE = {"name": "made", "derivatives": True}


def brute(pixels, valid):
    """Median of valid scenes by numpy, pixels (n, 3, h, w), valid (n, h, w)."""
    masked = np.where(valid[:, None], pixels.astype(float), np.nan)
    some = valid.any(axis=0)
    out = np.zeros(pixels.shape[1:], np.uint8)
    out[:, some] = np.rint(np.nanmedian(masked[:, :, some], axis=0))
    return out, some


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 7), st.integers(0, 2**32 - 1), st.floats(0, 1), st.randoms())
def test_median_of_scenes_is_numpys_whatever_their_order(count, seed, share, shuffler):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 3, 5, 6), dtype=np.uint8)
    valid = rng.random((count, 5, 6)) < share
    order = list(range(count))
    shuffler.shuffle(order)
    found, there = median_of([(pixels[k], valid[k]) for k in order], (3, 5, 6))
    if count:
        expected, some = brute(pixels, valid)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(there, some)
    else:
        assert not there.any() and not found.any()


def test_scenes_below_what_is_full_are_not_read():
    asked = []

    def scenes():
        for k in range(3):
            asked.append(k)
            yield np.full((3, 4, 4), k + 1, np.uint8), np.arange(16).reshape(4, 4) >= (8 if k == 0 else 0)

    pixels, valid = first_of(scenes(), (3, 4, 4))
    assert valid.all() and asked == [0, 1]
    assert (pixels[:, :2] == 2).all() and (pixels[:, 2:] == 1).all()


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Five items on the grid, each with clouds of its own; a corner that none sees; the last reaches half the area."""
    root = tmp_path_factory.mktemp("items")
    rng = np.random.default_rng(4)
    ground = rng.integers(60, 180, (3, SIDE, SIDE))
    profile = {"driver": "GTiff", "crs": "EPSG:32649", "dtype": "uint8", "width": SIDE, "height": SIDE, "tiled": True,
               "blockxsize": 256, "blockysize": 256}  # fmt: skip
    made, pixels, valid = [], [], []
    for k in range(5):
        shown = np.clip(ground + rng.integers(-40, 41, ground.shape), 0, 255).astype(np.uint8)
        classes = (
            np.where(rng.random((SIDE // 50, SIDE // 50)) < 0.3, 9, 4).astype(np.uint8).repeat(50, 0).repeat(50, 1)
        )
        classes[:50, :50] = 9
        start = SIDE // 2 if k == 4 else 0
        place = from_origin(LEFT + start, TOP, 1, 1)
        for name, bands in (("visual", shown), ("scl", classes[None])):
            cut = bands[:, :, start:]
            with rasterio.open(
                root / f"{name}{k}.tif", "w", count=len(cut), transform=place, **profile | {"width": cut.shape[2]}
            ) as out:
                out.write(cut)
        seen = classes != 9
        seen[:, :start] = False
        pixels.append(shown)
        valid.append(seen)
        box = transform_bounds("EPSG:32649", "EPSG:4326", LEFT + start, TOP - SIDE, LEFT + SIDE, TOP)
        assets = {n: str(root / f"{n}{k}.tif") for n in ("visual", "scl")}
        made.append(
            {"id": f"i{k}", "date": f"2024-05-0{k + 1}", "cloud": float(k), "bbox": list(box), "assets": assets}
        )
    write_stac(root, made, str(root))
    return root, np.stack(pixels), np.stack(valid)


def fetched(folder, root, **more):
    box = transform_bounds("EPSG:32649", "EPSG:4326", LEFT + 10, TOP - SIDE + 10, LEFT + SIDE - 10, TOP - 10)
    source = {"kind": "stac", "url": str(root / "catalog.json"), "assets": ["visual"], "mask_asset": "scl",
              "mask_values": [9], "licence": LICENCE} | more  # fmt: skip
    campaign = {
        "name": "made", "version": "1.0.0", "cities": [ADCODE], "data_root": str(folder / "data"),
        "out_root": str(folder / "out"), "checkpoint": "none", "grid": {"resolution_m": 1.0},
        "sources": {"imagery": [source], "bounds_lonlat": list(box)},
    }  # fmt: skip
    folder.mkdir()
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(campaign), encoding="utf-8")
    result = fetch_city(load_campaign(path), find_city(ADCODE))
    record = result.files[0]
    with rasterio.open(result.folder / record["file"]) as file:
        row, column = round(TOP - file.transform.f), round(file.transform.c - LEFT)
        found, there = file.read(), file.read_masks(1) > 0
    place = (slice(row, row + there.shape[0]), slice(column, column + there.shape[1]))
    return found, there, place, record


def test_median_of_items_is_that_of_their_pixels_without_clouds(items, tmp_path):
    root, pixels, valid = items
    found, there, place, record = fetched(tmp_path / "median", root, composite="median")
    expected, some = brute(pixels, valid)
    np.testing.assert_array_equal(there, some[place])
    np.testing.assert_array_equal(found, expected[:, *place])
    assert not some[:50, :50].any()
    three = fetched(tmp_path / "three", root, composite="median", most_items=3)
    np.testing.assert_array_equal(three[0], brute(pixels[:3], valid[:3])[0][:, *place])
    assert record["composite"] == "median"
    assert [s["item"] for s in record["scenes"]] == [f"i{k}" for k in range(5)]
    by_block = {}
    for row, column, scene, share in record["blocks"]:
        assert 0 < share <= 1
        by_block.setdefault((row, column), []).append(scene)
    first, second = place[1].start, place[1].start + fetch_imagery.BLOCK_PX
    assert first < SIDE // 2 < second  # the last item is in both columns of blocks
    assert all(scenes == [0, 1, 2, 3, 4] for scenes in by_block.values())
    assert len(by_block) == 4


def test_the_top_item_is_what_is_shown_without_a_composite(items, tmp_path):
    root, pixels, valid = items
    found, _, place, record = fetched(tmp_path / "top", root)
    top = np.argmax(valid, axis=0)
    expected = np.take_along_axis(pixels, top[None, None], axis=0)[0] * valid.any(axis=0)
    np.testing.assert_array_equal(found, expected[:, *place])
    assert record["composite"] == "first"


@pytest.mark.parametrize(("rule", "size"), [("median", "MEDIAN_PX"), ("first", "CHUNK_PX")])
def test_pixels_do_not_depend_on_blocks(items, tmp_path, monkeypatch, rule, size):
    """Scenes off the grid, one of which covers blocks in part: the kernel's width is not that of what it covers."""
    import sys

    root, *_ = items
    grid = Grid("EPSG:32649", 1.5, 333_340, -1_666_660, 300, 300)
    scenes = [root / f"visual{k}.tif" for k in ((4, 0) if rule == "first" else range(5))]
    whole = ingest_scenes(scenes, grid, tmp_path / "whole.tif", rule=rule)
    monkeypatch.setattr(sys.modules["pipeline.imagery.ingest"], size, 64)
    pieces = ingest_scenes(scenes, grid, tmp_path / "pieces.tif", rule=rule)
    with rasterio.open(whole) as one, rasterio.open(pieces) as other:
        assert one.read_masks(1).any()
        assert np.abs(one.read().astype(int) - other.read()).max() <= 1
