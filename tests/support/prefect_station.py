"""A server and a worker for tests, started by `uvmap up` in a home of their own, with stand-ins for the stages.

A scene whose content is a JSON object tells a `run_stage` put into the stages' processes (by a `sitecustomize` on
their path) what to do. Everything else is real: server, worker, flow process, stage processes, limits, record. Where a
file `for_real` lies beside the `sitecustomize`, it puts nothing in the stages' place.

The station works on a copy of the code, so that an edit while it runs does not count as one (a resumed run redoes what
older code did).
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from flows.record import RunRecord, read_record

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


@contextmanager
def station_in(folder: Path) -> Iterator[Station]:
    """A station under a folder: a copy of the code, stand-ins for the stages, a user's profiles, `uvmap up`."""
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
    try:
        yield station
    finally:
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
