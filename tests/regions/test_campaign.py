"""Campaign files: the embedded ones, and what is said of bad ones."""

import pytest
import yaml

from regions.campaign import CampaignError, load_campaign
from regions.registry import UnknownCityError


def test_china_has_342_cities_in_order():
    cities = load_campaign("china").selected()
    assert len(cities) == 342
    assert [c.adcode for c in cities] == sorted(c.adcode for c in cities)


def test_demo_has_three():
    campaign = load_campaign("demo")
    assert len(campaign.selected()) == 3
    assert campaign.data_folder("990101").name == "990101"


def write(tmp_path, **changes):
    data = load_campaign("demo").model_dump(mode="json") | changes
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def test_round_trip(tmp_path):
    assert load_campaign(write(tmp_path)) == load_campaign("demo")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colour": 3}, "colour"),
        ({"version": "one"}, "version"),
        ({"cities": []}, "no cities"),
        ({"grid": {"stride_px": 0}}, "grid.stride_px"),
        ({"polygons": {"seed": 0.2, "grow": 0.6}}, "must not exceed"),
        ({"polygons": {"min_area_m2": 500}}, "min_hole_m2"),
        ({"polygons": {"barriers": {"highway": []}}}, r"polygons\.barriers\.highway"),
        ({"polygons": {"refine": "sam"}}, r"polygons\.refine \(line \d+\): .*write refinement"),
        ({"refinement": {"refiner": "sam"}}, "sam_weights"),
        ({"previous_root": "out/demo-nation"}, "folder of its own"),
        ({"cluster": {"address": "tcp://10.0.0.5:8786", "workers": 4}}, "names a running scheduler"),
        ({"cluster": {"workers": 4, "most_workers": 2}}, "less than workers"),
    ],
)
def test_faults_are_named(tmp_path, changes, said):
    with pytest.raises(CampaignError, match=said):
        load_campaign(write(tmp_path, **changes))


def test_unknown_names(tmp_path):
    with pytest.raises(CampaignError, match="china"):
        load_campaign("chine")
    with pytest.raises(CampaignError, match="does not exist"):
        load_campaign(tmp_path / "none.yaml")
    with pytest.raises(UnknownCityError):
        load_campaign(write(tmp_path, cities=["123456"])).selected()
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [", encoding="utf-8")
    with pytest.raises(CampaignError, match="YAML"):
        load_campaign(bad)


def test_a_cluster_in_one_word(tmp_path):
    assert load_campaign(write(tmp_path, cluster="tcp://10.0.0.5:8786")).cluster.address == "tcp://10.0.0.5:8786"
    assert load_campaign(write(tmp_path, cluster="/shared/scheduler.json")).cluster.address == "/shared/scheduler.json"
    assert load_campaign(write(tmp_path, cluster="slurm")).cluster.kind == "slurm"


@pytest.mark.parametrize(("name", "kind"), [("sentinel2", "stac"), ("local-mosaics", "local"), ("tiles", "xyz")])
def test_worked_examples_of_sources_load(name, kind):
    campaign = load_campaign(name)
    for city in campaign.selected():
        sources = campaign.sources_of(city.adcode)
        assert sources.imagery[0].kind == kind and sources.imagery[0].licence.derivatives
        assert sources.vectors and campaign.grid.resolution_m


def test_a_city_of_an_example_has_imagery_of_its_own():
    campaign = load_campaign("local-mosaics")
    assert campaign.sources_of("440300").imagery[0].datum == "gcj02"
    assert campaign.sources_of("440100").imagery[0].datum == "wgs84"
