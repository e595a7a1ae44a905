"""Every deployment once through a real server and worker, and a run that falls silent.

    python benchmarks/service_drill.py NATION [--cities 440300 440100]

NATION is a folder of `uvmap nation`. A server and a worker of their own are started (`uvmap up`) on a home that is
removed at the end; then each deployment is run by `prefect deployment run` with parameters for that folder, one after
the other: the demo cities, a city anew beside itself, pretraining, training, drawing, estimating, analysing, building
a release. At last a run is started whose flow and worker are killed, and the seconds are counted until the
automation sets it to CRASHED. A table is printed, and as the last line one JSON object.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flows.record import read_record
from regions.campaign import load_campaign

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 900.0


class Drill:
    """A home of its own, and what is done there."""

    def __init__(self, folder: Path) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
        self.env = {**kept, "UVMAP_HOME": str(folder / "home"), "PREFECT_HOME": str(folder / "user")}
        self.home = folder / "home"
        (folder / "user").mkdir()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command, from the checkout."""
        return subprocess.run(
            [sys.executable, "-m", *words], env=self.env, cwd=ROOT, capture_output=True, text=True, check=False
        )

    def services(self) -> dict[str, Any]:
        """What `uvmap up` wrote."""
        found: dict[str, Any] = json.loads((self.home / "services.json").read_text())
        return found

    def start(self, deployment: str, parameters: dict[str, Any]) -> str:
        """`prefect deployment run`; the run's id."""
        words = [f"--param={name}={json.dumps(value)}" for name, value in parameters.items()]
        done = self.command("prefect", "deployment", "run", deployment, *words)
        if done.returncode != 0:
            raise SystemExit(f"{deployment}: {done.stdout}{done.stderr}")
        return next(w for w in done.stdout.split() if len(w) == 36 and w.count("-") == 4)

    def state(self, run: str) -> dict[str, Any]:
        """State of a run, as the server knows it."""
        import httpx  # noqa: PLC0415

        answer = httpx.get(f"http://127.0.0.1:{self.services()['port']}/api/flow_runs/{run}", timeout=60)
        state: dict[str, Any] = answer.raise_for_status().json()["state"]
        return state

    def ended(self, run: str) -> dict[str, Any]:
        """The final state of a run."""
        start = time.monotonic()
        while (state := self.state(run))["type"] not in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}:
            if time.monotonic() - start > PATIENCE_S:
                raise SystemExit(f"{run}: still {state['type']} after {PATIENCE_S:g} s")
            time.sleep(1)
        return state


def campaign_of(nation: Path, folder: Path) -> Path:
    """The campaign of the nation in miniature, whose roots are in its folder."""
    settings = load_campaign("nation-demo").model_dump(mode="json", exclude_unset=True)
    settings |= {
        "data_root": str(nation / "data"),
        "out_root": str(nation / "products"),
        "checkpoint": str(nation / "model"),
    }
    path = folder / "nation-demo.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def orders(nation: Path, folder: Path, cities: list[str]) -> dict[str, dict[str, Any]]:
    """Parameters of each deployment."""
    campaign, data, products = str(campaign_of(nation, folder)), str(nation / "data"), str(nation / "products")
    labelled = next(nation.glob("sample/labelled.parquet"), None)
    short = {"data_root": data, "max_seconds": 20.0}
    table: dict[str, dict[str, Any]] = {
        "uv-map/china": {"campaign": campaign, "cities": cities},
        "uv-map/demo": {
            "cities": [990101], "data_root": str(folder / "demo"), "out_root": str(folder / "demo-products"),
            "checkpoint": str(nation / "model"),
        },
        "uv-map-city/regenerate": {
            "city": cities[0], "campaign": campaign, "polygons": {"seed": 0.3, "grow": 0.2}, "name": "drill"
        },
        "uv-pretrain/pretrain": {"cities": cities, "out": str(folder / "pretrained"), **short},
        "uv-train/train": {"cities": cities, "out": str(folder / "model"), **short},
        "uv-sample/draw": {"seed": 7, "products": products, "out": str(folder / "sample"), "per_region": 1},
        "uv-analyze/analyze": {"campaign": campaign, "out": str(folder / "analysis")},
        "uv-release/build": {"version": "1.0.0", "campaign": campaign, "out": str(folder / "release")},
    }  # fmt: skip
    if labelled is not None:
        table["uv-estimate/estimate"] = {
            "labelled": str(labelled), "out": str(folder / "assessment"),
            "options": {"lonely_psu": "certainty", "replicates": 100},
        }  # fmt: skip
    return table


def silent(drill: Drill, nation: Path, folder: Path, cities: list[str]) -> dict[str, Any]:
    """Kill flow and worker of a run in the middle; how long until the server says that it crashed."""
    out = folder / "silent"
    given = {"campaign": str(folder / "nation-demo.yaml"), "cities": cities, "out_root": str(out), "force": True}
    run = drill.start("uv-map/china", {**given, "data_root": str(nation / "data")})
    record = out / f"run-{run}.json"
    while not record.exists() or read_record(record).counts()["running"] == 0:
        time.sleep(0.2)
    flow = psutil.Process(read_record(record).owner.pid)
    os.kill(drill.services()["worker"]["pid"], signal.SIGKILL)
    flow.kill()
    start = time.monotonic()
    before = drill.state(run)["type"]
    state = drill.ended(run)
    return {"before": before, "state": state["type"], "message": state["message"], "s": round(time.monotonic() - start)}


def main() -> None:
    """Up, each deployment, a silent run, down; print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nation", type=Path, help="folder of `uvmap nation`")
    parser.add_argument("--cities", nargs="+", default=["440300", "440100"])
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    drill = Drill(folder)
    try:
        up = drill.command("flows.cli", "up", "--cpus", "2")
        if up.returncode != 0:
            raise SystemExit(up.stdout + up.stderr)
        rows = []
        for deployment, parameters in orders(given.nation.resolve(), folder, given.cities).items():
            start = time.monotonic()
            state = drill.ended(drill.start(deployment, parameters))
            message = (state["message"] or "").splitlines()
            rows.append({
                "deployment": deployment, "state": state["type"], "s": round(time.monotonic() - start, 1),
                "message": message[0] if message else "",
            })  # fmt: skip
            print(f"{deployment:26} {rows[-1]['state']:10} {rows[-1]['s']:7.1f} s  {rows[-1]['message'][:90]}")
        crashed = silent(drill, given.nation.resolve(), folder, given.cities)
        print(f"{'a silent run':26} {crashed['state']:10} {crashed['s']:7} s  {crashed['message']}")
        left = [r["deployment"] for r in rows if r["state"] != "COMPLETED"]
        print(json.dumps({"deployments": rows, "silent": crashed, "not_completed": left, "load": os.getloadavg()[0]}))
    finally:
        drill.command("flows.cli", "down", "--force")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
