"""The nation in miniature: the whole of `uv-map/china` on synthetic cities, with what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from flows.errors import RunError
from flows.process import Finished, run_isolated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.record import RunRecord

CAMPAIGN = "nation-demo"
CAMPAIGN_FILE = "campaign.yaml"
"""In the folder of a nation: its cities, data, products and model, for the commands that follow."""
SEED = 7
CITIES_PER_REGION = 4
POLL_S = 2.0
"""Between two looks at the record and the processes: each costs 0.04 CPU-s with 342 cities."""


@dataclass
class Meter:
    """CPU seconds of processes that are not stages, as last seen; peak memory of all together."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0

    def look(self, processes: dict[str, int | None]) -> None:
        """Read the clocks of the processes, and the memory of them and all below them."""
        resident: dict[int, int] = {}
        for name, pid in processes.items():
            try:
                process = psutil.Process(pid) if pid else None
                if process is None:
                    continue
                times = process.cpu_times()
                self.cpu_s[name] = times.user + times.system
                for one in (process, *process.children(recursive=True)):
                    resident[one.pid] = _own_bytes(one)
                    if "flows.nursery" in one.cmdline() and one.parent() == process:
                        times = one.cpu_times()
                        self.cpu_s["nursery"] = times.user + times.system
            except psutil.Error:
                continue
        self.peak_bytes = max(self.peak_bytes, sum(resident.values()))


def run_nation(
    cities: Sequence[str],
    *,
    out: Path,
    checkpoint: Path,
    cpus: int,
    say: Callable[[str], None],
    campaign: str = CAMPAIGN,
    previous: Path | None = None,
    training: Path | None = None,
) -> dict[str, Any]:
    """Map synthetic cities by `uv-map/china` on a server and a worker of their own, then assess a sample of them.

    Args:
        cities: Adcodes.
        out: Folder of everything: data, products, tables, home of the services.
        checkpoint: The model.
        cpus: Stages at once.
        say: Receives one line per step.
        campaign: Name or file of a campaign of synthetic cities.
        previous: Folder of an earlier nation: villages keep its ids, and the version is the next minor one.
        training: Everything that shaped the model, for the check of leakage; see `uvmap assess sample --training`.

    Returns:
        cities, done, seconds, peak_gb, orchestrator_share, seconds_per_city, cpu_s by part, and what was assessed.

    Raises:
        RunError: the run did not complete, or ``previous`` is no nation.
    """
    start = time.monotonic()
    campaign = str(_write_campaign(campaign, cities, out, checkpoint, previous))
    seconds: dict[str, float] = {}
    meter = Meter()
    with _services(out, cpus, say) as services:
        seconds["up"] = _since(start)
        record = _run(out, services, campaign=campaign, cpus=cpus, meter=meter, say=say)
        seconds["run"] = _since(start) - seconds["up"]
    mapped = [code for code, city in record.cities.items() if city.state == "done"]
    if not mapped:
        raise RunError(f"no city was mapped: {record.headline()}; {record.path} says why")
    say(f"assessing cities of {len(mapped)}")
    before = time.monotonic()
    assessed, assess_cpu_s = _assess(mapped, out, campaign, training)
    seconds["assess"] = _since(before)
    stages_cpu_s = sum(stage.cpu_s for city in record.cities.values() for stage in city.stages.values())
    orchestrator_s = sum(meter.cpu_s.values())
    by_stage: dict[str, float] = {}
    for city in record.cities.values():
        for name, stage in city.stages.items():
            by_stage[name] = by_stage.get(name, 0.0) + stage.cpu_s
    return {
        "cities": len(cities),
        "done": len(mapped),
        "failed": len(record.of_state("failed")),
        "seconds": round(_since(start), 1),
        "peak_gb": round(meter.peak_bytes / 1e9, 2),
        "orchestrator_share": round(orchestrator_s / (orchestrator_s + stages_cpu_s), 4),
        "seconds_per_city": round(seconds["run"] / len(mapped), 2),
        "cpu_s_per_city": round((orchestrator_s + stages_cpu_s) / len(mapped), 2),
        "cpu_s": {"stages": round(stages_cpu_s, 1), **{k: round(v, 1) for k, v in meter.cpu_s.items()}}
        | {"assess": round(assess_cpu_s, 1)},
        "stage_cpu_s": {name: round(total / len(mapped), 2) for name, total in by_stage.items()},
        "seconds_by_step": {name: round(value, 1) for name, value in seconds.items()},
        "assessed": assessed,
        "load": round(os.getloadavg()[0], 1),
        "record": str(record.path),
        "campaign": campaign,
    }


def _write_campaign(campaign: str, cities: Sequence[str], out: Path, checkpoint: Path, previous: Path | None) -> Path:
    """The campaign of this nation as a file of its own: what is mapped, released and analysed afterwards is the same.

    Raises:
        RunError: ``previous`` holds no campaign file.
    """
    import yaml

    from regions.campaign import load_campaign

    chosen = load_campaign(campaign)
    version, before = chosen.version, chosen.previous_root
    if previous is not None:
        path = previous / CAMPAIGN_FILE
        if not path.is_file() or previous.resolve() == out.resolve():
            raise RunError(
                f"{previous}: is no earlier nation ({CAMPAIGN_FILE} is not there, or it is the folder of this one); "
                "give --previous the --out of another `uvmap nation`"
            )
        old = load_campaign(path)
        major, minor, _ = old.version.split(".")
        version, before = f"{major}.{int(minor) + 1}.0", old.out_root
    text = chosen.model_dump(mode="json", exclude_unset=True) | {
        "version": version,
        "cities": list(cities),
        "data_root": str(out / "data"),
        "out_root": str(out / "products"),
        "previous_root": None if before is None else str(before),
        "checkpoint": str(checkpoint),
    }
    target = out / CAMPAIGN_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(yaml.safe_dump(text, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return target


def _run(
    out: Path,
    services: Any,
    *,
    campaign: str,
    cpus: int,
    meter: Meter,
    say: Callable[[str], None],
) -> RunRecord:
    from flows.record import read_record, record_path
    from flows.service.setup import api

    with api(services) as client:
        deployment = client.read_deployment_by_name("uv-map/china")
        run = client.create_flow_run_from_deployment(deployment.id, parameters={"campaign": campaign})
    say(f"uv-map/china {run.name} ({run.id}): uvmap status {str(run.id)[:8]} --watch")
    path = record_path(out / "products", str(run.id))
    processes = {"server": services.server.pid, "worker": services.worker.pid, "flow": None}
    said = ""
    while True:
        time.sleep(POLL_S)
        if not (services.server.alive and services.worker.alive):
            say("a service ended: `uvmap up` once more")
            services = _up(out, cpus)
            processes |= {"server": services.server.pid, "worker": services.worker.pid}
        if path.exists():
            record = read_record(path)
            processes["flow"] = record.owner.pid
            if record.headline() != said:
                said = record.headline()
                say(said)
            meter.look(processes)
            if record.state != "running" or record.owner.alive() is False:
                break
        elif _ended(services, run.id):
            break
        meter.look(processes)
    if not path.exists():
        raise RunError(f"run {run.id} ended before it began; {out / 'home' / 'logs' / 'worker.log'} says why")
    return read_record(path)


def _ended(services: Any, run: Any) -> bool:
    from flows.service.setup import api

    with api(services) as client:
        state = client.read_flow_run(run).state
    return state is not None and state.is_final()


@contextmanager
def _services(out: Path, cpus: int, say: Callable[[str], None]) -> Iterator[Any]:
    """Server and worker under a home in ``out``: those of the user are not touched."""
    say("starting a server and a worker of its own")
    try:
        yield _up(out, cpus)
    finally:
        _uvmap(out, "down", "--force")


def _up(out: Path, cpus: int) -> Any:
    """`uvmap up`, which starts what does not run."""
    from flows.service.processes import read_services

    done = _uvmap(out, "up", "--cpus", str(cpus))
    if done.returncode != 0:
        raise RunError(f"uvmap up: {done.stderr.strip().splitlines()[-1]}")
    return read_services()


def _uvmap(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    home = out / "home"
    (home / "user").mkdir(parents=True, exist_ok=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    env |= {"UVMAP_HOME": str(home), "PREFECT_HOME": str(home / "user")}
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, check=False)


def _assess(mapped: Sequence[str], out: Path, campaign: str, training: Path | None) -> tuple[dict[str, Any], float]:
    """Tables of the nation; draw cities and points, let the truth of the synthetic cities answer, and estimate."""
    import pandas as pd

    from regions.registry import find_city

    sample, products = out / "sample", out / "products"
    sample.mkdir(parents=True, exist_ok=True)
    frame = sample / "frame.csv"
    rows = [{"adcode": code, "region": find_city(code).region} for code in mapped]
    regions = pd.Series([r["region"] for r in rows]).value_counts()
    pd.DataFrame(rows).to_csv(frame, index=False)
    drawn = [f"{region}={min(CITIES_PER_REGION, n)}" for region, n in sorted(regions.items())]
    asked: list[Finished] = []

    def uvmap(*arguments: object) -> dict[str, Any]:
        words = [str(a) for a in arguments]
        asked.append(run_isolated({"kind": "command", "arguments": words}, what=words[0], log=lambda _: None))
        return asked[-1].result

    tables = uvmap(
        "tables", "--campaign", campaign, "--products", products, "--cluster", "none", "--out", out / "tables"
    )
    totals = uvmap("sample", "totals", "--products", products, "--frame", frame, "--out", sample)
    counts = [word for region in drawn for word in ("--region-count", region)]
    uvmap("sample", "cities", "--frame", frame, "--seed", SEED, *counts, "--out", sample / "cities.csv")
    points = uvmap(
        "sample", "points", "--cities", sample / "cities.csv", "--products", products, "--seed", SEED, "--out", sample,
        "--mapped", 10, "--candidate", 10, "--rest", 20,
    )  # fmt: skip
    _answer(sample / "points_design.parquet", out / "data", sample / "labelled.parquet")
    report = uvmap(
        "assess", "sample", sample / "labelled.parquet", "--psu-selection", "probability",
        "--second-stage-stratum", "map_stratum", "--lonely-psu", "certainty", "--replicates", 200,
        "--map-totals", sample / "map_totals.csv", "--city-totals", sample / "city_totals.csv",
        "--out", out / "assessment", "--survey", sample / "survey.json",
        "--publish", out / "reference-set", *(() if training is None else ("--training", training)),
    )  # fmt: skip
    figures = {
        "villages": tables["villages"],
        "provinces": tables["provinces"],
        "tables": str(out / "tables"),
        "cities_assessed": len(points["cities"]),
        "points": points["points"],
        "mapped_km2": round(sum(row["km2"] for row in totals["totals"] if row["map"] == 1), 3),
        "estimates": len(report["estimates"]),
        "report": str(out / "assessment" / "report.html"),
        "reference_set": str(out / "reference-set"),
    }
    return figures, sum(one.cpu_s for one in asked)


def _answer(design: Path, data: Path, target: Path) -> None:
    """Label every point of a sample by the synthetic city's own truth."""
    import geopandas as gpd
    import pandas as pd

    points = gpd.read_parquet(design)
    answered = []
    for code, own in points.groupby("city"):
        truth = gpd.read_file(data / str(code) / "labels" / "uv.gpkg")
        inside = own.to_crs(truth.crs).geometry.within(truth.union_all())
        answered.append(own.assign(ref=inside.astype(int).to_numpy()))
    pd.concat(answered).to_parquet(target)


def _own_bytes(process: psutil.Process) -> int:
    """Memory of a process without what it shares with its nursery."""
    info = process.memory_info()
    return int(info.rss - info.shared)


def _since(start: float) -> float:
    return time.monotonic() - start
