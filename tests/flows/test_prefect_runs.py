"""Deployments against a real local server and a real worker, started by `uvmap up` in a home of their own.

Most runs use stand-ins for the stages (`tests.support.prefect_station`); the last run maps a demo city with the real
ones. All tests share one server and one worker; the runs are started together and go on side by side, and each test
waits for its own.
"""

import json
import os
import re
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.random_model import write_random_model
from flows.record import read_record
from pipeline.city.stage_table import stage_names
from tests.support.prefect_station import (
    ROOT,
    Station,
    calls,
    gone,
    is_nursery,
    places,
    put_city,
    record_of,
    station_in,
    until,
)

pytestmark = [pytest.mark.slow(cpu_s=200), pytest.mark.xdist_group("prefect"), pytest.mark.timeout(1800)]

STAGE_NAMES = stage_names()


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    with station_in(tmp_path_factory.mktemp("prefect")) as station:
        yield station


@dataclass(frozen=True)
class Runs:
    """Runs under way: the folder of each, their ids by name, and the file that lets `killed` go on."""

    folder: Path
    ids: dict[str, str]

    @property
    def go(self) -> Path:
        return self.folder / "go"

    def finished(self, station: Station, name: str) -> tuple[str, str]:
        return station.finished(self.ids[name])


@pytest.fixture(scope="module")
def runs(station, tmp_path_factory):
    """Four runs, started together."""
    folder = tmp_path_factory.mktemp("runs")
    data = {name: folder / name / "data" for name in ("failing", "single", "nowhere", "killed")}
    for name, root in data.items():
        put_city(root, "440100", **({"killed_once": "graph"} if name == "single" else {}))
    put_city(data["failing"], "110000", fail="graph")
    put_city(data["killed"], "440300", wait={"polygons": str(folder / "go")})

    def start(deployment: str, name: str, **parameters: Any) -> str:
        return station.deployment_run(deployment, **places(folder / name), **parameters)

    return Runs(
        folder,
        {
            "failing": start("uv-map/china", "failing", cities=[110000, "Guangzhou", "天津"]),
            "single": start("uv-map-city/regenerate", "single", city=440100),
            "nowhere": start("uv-map-city/regenerate", "nowhere", city="深圳市"),
            "killed": start("uv-map/china", "killed", cities=["440100", "440300"]),
        },
    )


def test_up_again_changes_nothing_and_other_profiles_stay(station):
    before = station.services()
    again = json.loads(station.uvmap("up", "--json").stdout)
    assert {k: again[k] for k in before} == before
    assert again["cpus"] == 4
    assert again["hint"] is None  # the user's profile points to no server, so `uvmap` was made active
    profiles = (station.folder / "user" / "profiles.toml").read_text()
    assert 'active = "uvmap"' in profiles
    assert 'PREFECT_LOGGING_LEVEL = "DEBUG"' in profiles
    listed = station.ask("POST", "deployments/filter", {})
    assert {"china", "demo", "regenerate", "train", "draw", "estimate"} <= {d["name"] for d in listed}
    schedules = [s for d in listed for s in d["schedules"]]
    assert [s["active"] for s in schedules] == [False]
    server = psutil.Process(before["server"]["pid"])
    assert {c.laddr.ip for c in server.net_connections() if c.status == "LISTEN"} == {"127.0.0.1"}


@pytest.mark.usefixtures("runs")  # they go on meanwhile
def test_china_maps_what_is_there_and_names_the_missing_and_the_failed(station, tmp_path):
    folder = tmp_path
    put_city(folder / "data", "440100")
    put_city(folder / "data", "440300")
    put_city(folder / "data", "110000", fail="scores")
    parameters = {**places(folder), "failure_tolerance": 0.34}
    options = [f"--param={key}={value}" for key, value in parameters.items()]
    station.command("prefect", "deployment", "run", "uv-map/china", "--watch", *options)
    (path,) = (folder / "out").glob("run-*.json")
    record = read_record(path)
    assert station.state(record.run)[0] == "COMPLETED"
    assert record.state == "completed"
    assert record.counts() == {"done": 2, "running": 0, "waiting": 0, "failed": 1, "missing": 339}
    assert record.cities["110000"].reason.startswith("scores: ")
    assert record.cities["110000"].reason.endswith("110000/imagery/scene.tif: truncated; fetch it again")
    assert tuple(record.cities["440300"].stages) == STAGE_NAMES
    assert "no data folder for 120000" in record.cities["120000"].reason
    assert calls(folder, "110000") == [
        "graph",
        "check",
        "adapt",
        "scores",
    ]  # not retried: the file would not mend itself
    artifacts = {
        a["key"]: a["data"] for a in station.ask("POST", "artifacts/filter", {}) if a["flow_run_id"] == record.run
    }
    assert "2 done, 1 failed, 339 missing of 342 cities" in artifacts["uv-map-cities"]
    assert "120000 Tianjin 天津市" in artifacts["uv-map-cities"]
    assert "| 440100 | 36 |" in artifacts["uv-map-plan"]
    assert artifacts["uv-map-progress"] == 100.0
    tasks = station.ask("POST", "task_runs/filter", {"flow_runs": {"id": {"any_": [record.run]}}})
    assert {"110000-graph", "440100-product"} <= {t["name"] for t in tasks}
    told = json.loads(station.uvmap("status", record.run[:8], "--json").stdout)
    assert told["counts"]["missing"] == 339


def test_too_many_failures_fail_the_run_but_not_the_other_city(station, runs):
    kind, message = runs.finished(station, "failing")
    assert kind == "FAILED"
    assert message == "1 done, 1 failed, 1 missing of 3 cities: more than the tolerated share 0.05 of 2 with data"
    assert record_of(runs.folder / "failing", runs.ids["failing"]).cities["440100"].state == "done"


def test_what_is_killed_from_outside_is_tried_again(station, runs):
    assert runs.finished(station, "single") == ("COMPLETED", "1 done, 0 failed, 0 missing of 1 cities")
    assert calls(runs.folder / "single", "440100") == [STAGE_NAMES[0], *STAGE_NAMES]


def test_a_city_without_data_fails_in_one_line(station, runs):
    kind, message = runs.finished(station, "nowhere")
    assert kind == "FAILED"
    assert "no data folder for 440300" in message
    assert "\n" not in message


def test_killed_run_is_resumed_without_redoing_what_is_done(station, runs):
    for name in ("failing", "single", "nowhere"):  # they would lose their worker
        runs.finished(station, name)
    folder, run = runs.folder / "killed", runs.ids["killed"]
    path = folder / "out" / f"run-{run}.json"
    until(lambda: path.exists() and "scores" in record_of(folder, run).cities["440300"].stages, seconds=200)
    until(lambda: calls(folder, "440300")[-1] == "polygons", seconds=60)
    refused = station.uvmap("resume", run, check=False)
    assert refused.returncode == 1
    assert "is being worked on by process" in refused.stderr
    refused = station.uvmap("down", check=False)
    assert refused.returncode == 1
    assert run in refused.stderr

    flow = psutil.Process(record_of(folder, run).owner.pid)
    (nursery,) = [c for c in flow.children() if is_nursery(c)]
    (stage,) = nursery.children()
    os.kill(station.services()["worker"]["pid"], signal.SIGKILL)
    flow.kill()
    psutil.wait_procs([stage, nursery], timeout=20)
    assert not stage.is_running()  # the stage does not outlive its flow
    assert not nursery.is_running()
    assert "dead (its process" in station.uvmap("status", run).stdout
    assert station.state(run)[0] == "RUNNING"  # nobody told the server

    runs.go.touch()
    station.uvmap("up")
    assert "is scheduled again" in station.uvmap("resume", run[:10]).stdout
    assert station.finished(run) == ("COMPLETED", "2 done, 0 failed, 0 missing of 2 cities")
    assert record_of(folder, run).attempt == 2
    assert calls(folder, "440100") == list(STAGE_NAMES)  # once each (as long as nobody edits the code meanwhile)
    left = station.ask(
        "POST",
        "task_runs/filter",
        {"flow_runs": {"id": {"any_": [run]}}, "task_runs": {"state": {"type": {"any_": ["RUNNING"]}}}},
    )
    assert left == []
    complete = station.uvmap("resume", run, check=False)
    assert (complete.returncode, "is complete" in complete.stderr) == (1, True)


def test_a_cancelled_run_leaves_no_process_within_ten_seconds(station, tmp_path):
    folder = tmp_path
    put_city(folder / "data", "110000")
    put_city(folder / "data", "440100", wait={"graph": str(folder / "go")})
    put_city(folder / "data", "440300", wait={"graph": str(folder / "never")})
    codes = ["110000", "440100", "440300"]
    run = station.deployment_run("uv-map/china", **places(folder), cities=codes, stages=["scores"])
    path = folder / "out" / f"run-{run}.json"
    until(lambda: path.exists() and record_of(folder, run).cities["110000"].state == "done", seconds=200)
    until(lambda: {record_of(folder, run).cities[c].step for c in codes[1:]} == {"graph"}, seconds=60)
    slot = {"names": ["uvmap-gpu"], "slots": 1, "mode": "concurrency", "lease_duration": 120}
    lease = station.ask("POST", "v2/concurrency_limits/increment-with-lease", slot)  # as another run would hold it
    (folder / "go").touch()
    until(lambda: record_of(folder, run).cities["440100"].step == "adapt", seconds=60)
    flow = psutil.Process(record_of(folder, run).owner.pid)
    until(lambda: len(flow.children(recursive=True)) >= 2, seconds=100)
    family = [flow, *flow.children(recursive=True)]
    start = time.monotonic()
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    station.ask("POST", f"flow_runs/{run}/set_state", state)  # as the UI and `prefect flow-run cancel` do
    _, left = psutil.wait_procs(family, timeout=60)
    assert left == []
    assert time.monotonic() - start < 10 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert station.finished(run)[0] == "CANCELLED"
    assert record_of(folder, run).cities["110000"].state == "done"
    assert list(record_of(folder, run).cities["440100"].stages) == ["graph"]
    station.ask("POST", "v2/concurrency_limits/decrement-with-lease", {"lease_id": lease["lease_id"]})


def test_a_killed_server_costs_nothing_that_is_done(station, tmp_path):
    put_city(tmp_path / "data", "440100")
    put_city(tmp_path / "data", "440300", wait={"polygons": str(tmp_path / "go")})
    run = station.deployment_run("uv-map/china", **places(tmp_path), cities=["440100", "440300"])
    path = tmp_path / "out" / f"run-{run}.json"
    until(lambda: path.exists() and record_of(tmp_path, run).cities["440300"].step == "polygons", seconds=200)
    until(lambda: calls(tmp_path, "440300")[-1] == "polygons", seconds=100)
    until(lambda: record_of(tmp_path, run).cities["440100"].state == "done", seconds=100)
    os.kill(station.services()["server"]["pid"], signal.SIGKILL)
    (tmp_path / "go").touch()
    station.uvmap("up")
    until(
        lambda: record_of(tmp_path, run).state != "running" or not record_of(tmp_path, run).owner.alive(), seconds=300
    )
    if record_of(tmp_path, run).counts()["done"] < 2 or station.state(run)[0] != "COMPLETED":
        until(lambda: gone(tmp_path, run), seconds=100)
        station.uvmap("resume", run)
        assert station.finished(run)[0] == "COMPLETED"
    assert record_of(tmp_path, run).counts()["done"] == 2
    assert calls(tmp_path, "440100") == list(STAGE_NAMES)


def test_a_demo_city_is_mapped_by_the_real_stages_then_anew_beside_itself(station, tmp_path):
    folder = tmp_path / "数据 with spaces"
    if not psutil.pid_exists(station.services()["worker"]["pid"]):
        station.uvmap("up")  # where the test before this one ended early
    (station.folder / "path" / "for_real").touch()
    write_random_model(folder / "model")
    given = places(folder)
    run = station.deployment_run("uv-map/demo", cities=[990101], **given)
    path = folder / "out" / f"run-{run}.json"
    until(lambda: path.exists() and record_of(folder, run).cities["990101"].step is not None, seconds=200)
    (nursery,) = [c for c in psutil.Process(record_of(folder, run).owner.pid).children() if is_nursery(c)]
    until(nursery.children, seconds=100)
    # what is imported before a fork opens no files, and starts no threads but that of an allocator that minds forks
    threads = {p.read_text().strip() for p in Path(f"/proc/{nursery.pid}/task").glob("*/comm")}
    assert threads <= {"python", "jemalloc_bg_thd"}
    assert {Path(f.path).name for f in nursery.open_files()} <= {"proj.db"}
    assert station.finished(run)[0] == "COMPLETED"
    record = read_record(path)
    assert record.counts()["done"] == 1, record.cities["990101"].reason
    assert tuple(record.cities["990101"].stages) == ("demo-data", *STAGE_NAMES)
    assert record.cities["990101"].km2 == pytest.approx(1.0)
    assert all(stage.cpu_s > 0 for stage in record.cities["990101"].stages.values())
    product = folder / "out" / "990101"
    before = {p.name: p.read_bytes() for p in product.iterdir()}
    assert {"manifest.json", "990101_uv.parquet", "990101_scores.tif"} <= set(before)
    events = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    assert {(e["city"], e["stage"], e["event"]) for e in events} >= {("990101", n, "done") for n in STAGE_NAMES}

    del given["checkpoint"]
    run = station.deployment_run(
        "uv-map-city/regenerate", city="990101", campaign=demo_campaign(folder), polygons={"seed": 0.3, "grow": 0.2},
        name="lower",
    )  # fmt: skip
    kind, message = station.finished(run)
    assert kind == "COMPLETED", message
    root = folder / "out" / "regenerated" / "lower"
    entry = read_record(root / f"run-{run}.json").cities["990101"]
    # the raster of the scores is put together anew at its new place, of blocks that are all there
    assert all(entry.stages[n].summary["reused"] for n in ("graph", "check", "adapt"))
    assert not any(entry.stages[n].summary["reused"] for n in ("polygons", "refinement", "product"))
    assert entry.stages["scores"].cpu_s < record.cities["990101"].stages["scores"].cpu_s
    assert {p.name: p.read_bytes() for p in product.iterdir()} == before  # the old one stays
    assert (root / "990101" / "manifest.json").exists()
    assert (
        entry.diff["villages_new"] == json.loads((root / "990101" / "manifest.json").read_text())["figures"]["villages"]
    )
    assert entry.diff["grown"] + entry.diff["shrunk"] == entry.diff["changed"]
    assert (root / "diff-990101" / "diff.html").exists()
    assert "villages: " in station.uvmap("status", run).stdout

    # all is done: a new run finds it without starting a process
    again = station.deployment_run("uv-map/demo", cities=[990101], **places(folder))
    assert station.finished(again)[0] == "COMPLETED"
    assert read_record(folder / "out" / f"run-{again}.json").cities["990101"].found


def demo_campaign(folder: Path) -> str:
    path = folder / "campaign.yaml"
    text = (ROOT / "regions" / "campaigns" / "demo.yaml").read_text()
    for key, value in (("data_root", "data"), ("out_root", "out"), ("checkpoint", "model")):
        text = re.sub(rf"^{key}:.*$", f"{key}: {folder / value}", text, flags=re.MULTILINE)
    path.write_text(text)
    return str(path)


def test_down_stops_both_and_gives_the_profile_back(station):
    """The last one: the others need what it stops."""
    before = station.services()
    station.uvmap("down")
    for name in ("server", "worker"):
        assert not psutil.pid_exists(before[name]["pid"])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", before["port"]))  # free again
    assert [p for p in psutil.process_iter(["environ"]) if str(station.folder / "home") in str(p.info["environ"])] == []
    assert 'active = "mine"' in (station.folder / "user" / "profiles.toml").read_text()
    assert "stopped" in station.uvmap("status").stdout
    station.uvmap("down")  # again: nothing to do is no error
