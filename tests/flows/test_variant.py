"""A city mapped anew beside its product: folders, links and settings."""

import json

import pytest

from flows.campaign_run import configured
from flows.errors import RunError
from flows.orders import chosen_stages
from flows.stage_process import forget_stage
from flows.variant import Overrides, beside
from pipeline.city.job import job_of
from pipeline.city.stage_table import UnknownStageError, stages_up_to
from regions.campaign import CampaignError
from regions.registry import find_city

CITY = find_city("440300")


@pytest.fixture
def campaign(tmp_path):
    data = tmp_path / "data" / "440300"
    for name in ("imagery/a.tif", "imagery/a.tfw", "vectors/map.osm.pbf", "labels/uv.gpkg", "aoi.gpkg"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "b.tif").write_text("b")
    (tmp_path / "new" / "b.tfw").write_text("b's place")
    work = tmp_path / "out" / ".work" / "440300"
    (work / "graph-1").mkdir(parents=True)
    (work / "graph-1" / "stage.json").write_text("{}")
    (work / "scores" / "entries").mkdir(parents=True)
    (work / "scores" / "lock").write_text("")
    (work / "finished.json").write_text("{}")
    (tmp_path / "out" / "440300").mkdir()
    return configured(
        "china", data_root=str(tmp_path / "data"), out_root=str(tmp_path / "out"), checkpoint=str(tmp_path / "model")
    )


def test_other_thresholds_take_over_what_is_done(campaign, tmp_path):
    overrides = Overrides(polygons={"seed": 0.7})
    changed = beside(campaign, CITY, overrides)
    root = tmp_path / "out" / "regenerated" / overrides.name
    assert overrides.name == Overrides(polygons={"seed": 0.7}).name != Overrides(polygons={"seed": 0.6}).name
    assert changed.polygons.seed == 0.7
    assert changed.polygons.grow == campaign.polygons.grow
    job = job_of(changed, CITY)
    assert (job.out, job.previous) == (root / "440300", tmp_path / "out" / "440300")  # villages keep their ids
    assert job.ground.sources == job_of(campaign, CITY).ground.sources
    work = tmp_path / "out" / ".work" / "440300"
    linked = job.ground.work / "graph-1" / "stage.json"
    assert linked.stat().st_ino == (work / "graph-1" / "stage.json").stat().st_ino
    assert (job.ground.work / "scores" / "entries").is_dir()
    assert not (job.ground.work / "scores" / "lock").exists()
    assert not (job.ground.work / "finished.json").exists()
    beside(campaign, CITY, overrides)  # again: what is there stays


def test_other_imagery_keeps_everything_else_of_the_city(campaign, tmp_path):
    changed = beside(campaign, CITY, Overrides(imagery=(tmp_path / "new" / "b.tif",)), name="新的 scenes")
    sources = job_of(changed, CITY).ground.sources
    assert [p.name for p in sources.imagery] == ["b.tif"]
    assert sources.imagery[0].with_name("b.tfw").read_text() == "b's place"
    assert [p.name for p in sources.vectors] == ["map.osm.pbf"]
    assert sources.vectors[0].read_text() == "vectors/map.osm.pbf"
    with pytest.raises(RunError, match=r"none\.tif: no such scene"):
        beside(campaign, CITY, Overrides(imagery=(tmp_path / "none.tif",)))


@pytest.mark.parametrize("name", ["../up", ".hidden", "a/b"])
def test_names_are_plain(campaign, name):
    with pytest.raises(RunError, match="a plain name"):
        beside(campaign, CITY, Overrides(), name=name)


def test_parameters_that_do_not_fit_are_told_in_one_line(tmp_path):
    with pytest.raises(CampaignError, match=r"campaign china with this run's parameters: version: .* got 'new'"):
        configured("china", data_root=None, out_root=None, checkpoint=None, version="new")
    assert [s.name for s in chosen_stages(["polygons"])] == [s.name for s in stages_up_to("polygons")]
    with pytest.raises(UnknownStageError):
        chosen_stages(["paint"])


def test_a_stage_is_forgotten_before_it_is_made_anew(campaign):
    job = job_of(campaign, CITY)
    (job.out / "manifest.json").write_text(json.dumps({}))
    forget_stage("graph", job)
    assert not (job.ground.work / "graph-1").exists()
    assert (job.ground.work / "scores").exists()
    forget_stage("scores", job)
    assert not (job.ground.work / "scores").exists()
    assert (job.out / "manifest.json").exists()
    forget_stage("product", job)
    assert not (job.out / "manifest.json").exists()
