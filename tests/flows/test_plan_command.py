"""`uvmap plan`: hours and cost before a run, and the plan against what a run took."""

import json

import pytest
from typer.testing import CliRunner

from flows.cli import build_app
from flows.record import CityEntry, Owner, RunRecord, StageEntry, now
from regions.demo import generate_demo_city


def run(*arguments):
    result = CliRunner().invoke(build_app(), ["plan", *arguments])
    assert result.exit_code == 0, result.output
    return result


def test_hours_and_cost_of_a_city(tmp_path):
    generate_demo_city(tmp_path / "990101", side_m=1000, adcode="990101")
    how = ("990101", "--data-root", str(tmp_path), "--cores", "4", "--gpus", "2")
    text = run(*how, "--tiles-per-s", "1500", "--gpu-price", "2", "--core-price", "0.05").output
    assert "1500.0 tiles/s of one device; on 4 cores and 2 accelerators" in text
    assert "GB of products" in text
    found = json.loads(run(*how, "--tiles-per-s", "1500", "--gpu-price", "2", "--json").output)
    assert found["budget"]["cost"] == found["budget"]["elapsed_h"] * 4
    assert "time unknown" in run(*how).output


def test_planned_against_actual_by_city(tmp_path, monkeypatch):
    monkeypatch.setenv("UVMAP_HOME", str(tmp_path / "home"))
    folder = tmp_path / "out"
    folder.mkdir()
    record = RunRecord(
        run="3f2a0000-0000-0000-0000-000000000000", name="wise-owl", flow="uv-map", campaign="demo", version="1.0.0",
        data_root=tmp_path, out_root=folder, checkpoint=tmp_path, failure_tolerance=0.0, owner=Owner.me(),
        started=now(), updated=now(), state="completed",
    )  # fmt: skip
    for k, code in enumerate(("990101", "990102"), start=1):
        stages = {name: StageEntry(seconds=s, summary={}) for name, s in (("graph", 1.0 + k), ("scores", 3.0 * k))}
        plan = {"area_km2": float(k), "tiles": 50 * k, "seconds": 2.0 * k}
        record.cities[code] = CityEntry(name=f"Demo {k}", state="done", stages=stages, plan=plan)
    record.cities["990103"] = CityEntry(name="Demo 3", state="missing", reason="no data")
    record.save()
    found = json.loads(run("--against", "3f2a", "--json").output)
    assert [r["ratio"] for r in found["cities"]] == [1.5, 1.5, None]
    assert found["total"]["ratio"] == 1.5
    assert found["rates"]["graph"] == {"city_s": 1.0, "km2_s": 1.0}
    generate_demo_city(tmp_path / "data/990101", side_m=1000, adcode="990101")
    how = ("990101", "--data-root", str(tmp_path / "data"), "--tiles-per-s", "10", "--json")
    usual, learnt = (json.loads(run(*how, *more).output)["budget"] for more in ((), ("--rates", "3f2a")))
    assert learnt["stage_cpu_h"]["graph"] * 3600 == pytest.approx(1.0 + learnt["area_km2"])
    assert learnt["stage_cpu_h"]["scores"] == usual["stage_cpu_h"]["scores"], "its seconds hold those of the model"
    text = run("--against", "wise-owl").output
    assert "2 of 3 cities done" in text
    assert "scores took 9 s, 1.50 times the plan" in text
