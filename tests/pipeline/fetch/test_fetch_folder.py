"""Sources of a city brought into its folder: one ground whatever the way, nothing overwritten, mistakes named."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pipeline.city.ground import ground_of
from pipeline.fetch.errors import FetchError
from pipeline.fetch.tiles import tile_range
from pipeline.vectors import read_features
from regions.campaign import CampaignError, load_campaign
from regions.registry import find_city
from regions.sources import XyzImagery
from tests.support.command_line import json_of
from tests.support.source_server import log
from tests.support.source_world import ADCODE, LICENCE, ZOOM, campaign_of, fetched, image_of, stac, xyz


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


def test_a_file_of_the_wrong_place_is_named(world, tmp_path):
    with rasterio.open(
        tmp_path / "far.tif", "w", driver="GTiff", width=8, height=8, count=3, dtype="uint8", crs="EPSG:32650",
        transform=from_origin(5e5, 4e6, 1, 1),
    ) as out:  # fmt: skip
        out.write(np.ones((3, 8, 8), np.uint8))
    source = {"kind": "local", "path": str(tmp_path / "far.tif"), "licence": LICENCE}
    with pytest.raises(Exception, match=r"far\.tif"):
        fetched(campaign_of(world, tmp_path / "c", [source]))
