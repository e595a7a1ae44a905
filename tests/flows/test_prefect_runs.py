"""Deployments against a real local server and a real worker, started by `uvmap up` in a home of their own.

Most runs use stand-ins for the stages: a scene whose content is a JSON object tells a `run_stage` put into the
stages' processes (by a `sitecustomize` on their path) what to do. Everything else is real: server, worker, flow
process, stage processes, limits, record. The last run maps a demo city with the real stages: where a file `for_real`
lies beside the `sitecustomize`, it puts nothing in their place.

All tests share one server and one worker; the runs are started together and go on side by side, and each test waits
for its own. The station works on a copy of the code, so that an edit while it runs does not count as one (a resumed
run redoes what older code did).
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows.random_model import write_random_model
from flows.record import RunRecord, read_record
from pipeline.city.stage_table import stage_names

pytestmark = [pytest.mark.slow(cpu_s=200), pytest.mark.xdist_group("prefect"), pytest.mark.timeout(1800)]

STAGE_NAMES = stage_names()
ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """
    import sys

    if "flows.nursery" in " ".join(sys.orig_argv):
        import dataclasses, types
        from pathlib import Path

        def run_stage(name, job, *, progress=False):
            import json, os, signal, time
            from pipeline.errors import PipelineError

            scene = job.ground.sources.imagery[0]
            orders = json.loads(scene.read_bytes())
            job.ground.work.mkdir(parents=True, exist_ok=True)
            calls = job.ground.work / "calls.txt"
            with calls.open("a") as file:
                file.write(name + "\\n")
            print(f"stand-in for {name}", flush=True)
            if orders.get("killed_once") == name and calls.read_text().split().count(name) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if orders.get("fail") == name:
                raise PipelineError(f"{scene}: truncated; fetch it again")
            while name in orders.get("wait", {}) and not Path(orders["wait"][name]).exists():
                time.sleep(0.1)
            if name == "product":
                job.out.mkdir(parents=True, exist_ok=True)
                (job.out / "manifest.json").write_text("{}")
            return {"stage": name}

        def plan_city(job, *, throughput):
            return throughput

        @dataclasses.dataclass
        class Plan:
            tiles: int = 36

        from flows.nursery import modules_to_warm

        if not Path(__file__).with_name("for_real").exists():
            for name in modules_to_warm():  # heavy, and not what is tested here
                if not name.startswith("flows"):
                    sys.modules[name] = types.ModuleType(name)
            sys.modules["pipeline.city.stages"].run_stage = run_stage
            vars(sys.modules["pipeline.city.plan"]).update(
                plan_city=plan_city, measure_throughput=lambda *_, **__: Plan()
            )
"""
USER_PROFILES = """
active = "mine"

[profiles.mine]
PREFECT_LOGGING_LEVEL = "DEBUG"
"""


@dataclass(frozen=True)
class Station:
    """A home with services, and a user's environment that points to them."""

    folder: Path
    env: dict[str, str]

    def command(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", *args],
            env=self.env,
            cwd=self.folder / "code",
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def uvmap(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.command("flows.cli", *args, check=check)

    def services(self) -> dict[str, Any]:
        services: dict[str, Any] = json.loads((self.folder / "home" / "services.json").read_text())
        return services

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.services()['port']}/api"

    def deployment_run(self, name: str, /, **parameters: Any) -> str:
        """What `prefect deployment run` does; returns the run's id."""
        deployment = self.ask("GET", f"deployments/name/{name}")
        return str(
            self.ask("POST", f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})["id"]
        )

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request; as Prefect's own clients do, again where a busy SQLite answers 503."""
        for attempt in range(10):
            answer = httpx.request(method, f"{self.api}/{path}", json=body, timeout=90)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(1 + attempt)
        return answer.raise_for_status().json() if answer.content else None

    def state(self, run: str) -> tuple[str, str]:
        state = self.ask("GET", f"flow_runs/{run}")["state"]
        return state["type"], state["message"] or ""

    def finished(self, run: str) -> tuple[str, str]:
        until(lambda: self.state(run)[0] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}, seconds=400)
        return self.state(run)


def until(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prefect")
    for room in ("regions", "models", "pipeline", "accuracy", "flows"):
        shutil.copytree(ROOT / room, folder / "code" / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", folder / "code")
    (folder / "path").mkdir()
    (folder / "path" / "sitecustomize.py").write_text(textwrap.dedent(STAND_IN))
    (folder / "user").mkdir()
    (folder / "user" / "profiles.toml").write_text(USER_PROFILES)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "UVMAP"))}
    path = os.pathsep.join([str(folder / "path"), str(folder / "code"), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {
        **kept,
        "PYTHONPATH": path,
        "UVMAP_HOME": str(folder / "home"),
        "PREFECT_HOME": str(folder / "user"),
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    station = Station(folder, env)
    station.uvmap("up", "--cpus", "4")
    yield station
    station.uvmap("down", "--force", check=False)


def put_city(root: Path, adcode: str, **orders: Any) -> None:
    scene = root / adcode / "imagery" / "scene.tif"
    scene.parent.mkdir(parents=True)
    scene.write_text(json.dumps(orders))


def places(folder: Path) -> dict[str, str]:
    (folder / "model").mkdir(parents=True, exist_ok=True)
    return {"data_root": str(folder / "data"), "out_root": str(folder / "out"), "checkpoint": str(folder / "model")}


def record_of(folder: Path, run: str) -> RunRecord:
    return read_record(folder / "out" / f"run-{run}.json")


def gone(folder: Path, run: str) -> bool:
    return record_of(folder, run).owner.alive() is False


def is_nursery(process: psutil.Process) -> bool:
    return "flows.nursery" in process.cmdline()


def calls(folder: Path, adcode: str) -> list[str]:
    return (folder / "out" / ".work" / adcode / "calls.txt").read_text().split()


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
    put_city(folder / "data", "440100", wait={"graph": str(folder / "go")})
    put_city(folder / "data", "440300", wait={"graph": str(folder / "never")})
    run = station.deployment_run("uv-map/china", **places(folder), cities=["440100", "440300"], stages=["scores"])
    path = folder / "out" / f"run-{run}.json"
    until(lambda: path.exists() and {c.step for c in record_of(folder, run).cities.values()} == {"graph"}, seconds=200)
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
