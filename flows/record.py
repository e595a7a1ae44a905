"""The record of a run: which city is done, missing or failed, why, and what each stage said.

It is the truth about a run beside Prefect: task runs of a killed worker stay "Running" on the server for ever, the
record does not. One JSON file `run-<id>.json` in the campaign's output folder, replaced in one step at every change.
"""

import hashlib
import os
import socket
import time
from collections import Counter
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from flows.errors import RunError
from flows.home import CHECKOUT, run_index
from pipeline.city.job import CityJob
from pipeline.files import digest_of, replacing

NOT_THE_MODEL = frozenset({"throughput.json"})
"""Files in a checkpoint's folder on which no product depends."""
CityState = Literal["waiting", "running", "done", "failed", "missing"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StageEntry(_Model):
    """One finished stage: its seconds on the clock and of processors, its peak memory, and what it returned."""

    seconds: float
    cpu_s: float = 0.0
    peak_bytes: int = 0
    summary: dict[str, Any]


class CityEntry(_Model):
    """One city of a run.

    Attributes:
        name: English and Chinese name, for people.
        state: Where it stands.
        reason: Why it failed or is missing, one line.
        stages: Finished stages by name.
        found: Whether it was finished by a run before, so nothing was started for it.
        step: The step it is at, or last was.
        step_km2: Square kilometres of that step that are done, where the step tells.
        stamp: Digest of what the result depends on, as far as sizes and dates of files tell.
        plan: Estimated work, as `pipeline.city.plan` gives it.
        diff: What became of the villages of the product before, where that was asked for.
    """

    name: str
    state: CityState = "waiting"
    reason: str | None = None
    stages: dict[str, StageEntry] = Field(default_factory=dict)
    found: bool = False
    step: str | None = None
    step_km2: float | None = None
    stamp: str | None = Field(
        default=None, validation_alias=AliasChoices("stamp", "fingerprint")
    )  # its name in older records
    plan: dict[str, Any] | None = None
    diff: dict[str, Any] | None = None

    @property
    def km2(self) -> float | None:
        """Area asked for, from the plan or from what its stages say; None where neither is there."""
        if self.plan and "area_km2" in self.plan:
            return float(self.plan["area_km2"])
        scores = self.stages.get("scores")
        resolution = scores.summary.get("resolution_m") if scores else None
        if scores is None or resolution is None:
            return None
        return float((scores.summary["predicted_px"] + scores.summary["not_predicted_px"]) * resolution**2 / 1e6)

    @property
    def seconds(self) -> float:
        """Seconds on the clock of all its stages."""
        return sum(s.seconds for s in self.stages.values())


class Owner(_Model):
    """The process that works on the run; a run whose owner is gone can be resumed."""

    host: str
    pid: int
    started: float

    @classmethod
    def me(cls) -> "Owner":
        """This process."""
        return cls(host=socket.gethostname(), pid=os.getpid(), started=psutil.Process().create_time())

    def alive(self) -> bool | None:
        """Whether that very process runs; None where it ran on another machine, so nobody here can tell."""
        if self.host != socket.gethostname():
            return None
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class RunRecord(_Model):
    """One run of `uv-map` or `uv-map-city`.

    Attributes:
        run: Id of the flow run.
        name: Its name on the server.
        flow: Name of the flow.
        campaign: Name of the campaign.
        version: Version of the campaign.
        data_root: Where the cities' data lie.
        out_root: Where the products go; the record lies there too.
        checkpoint: The model.
        failure_tolerance: Share of the cities with data that may fail.
        attempt: 1 for the first try, one more for every resume.
        owner: The process at work.
        started: UTC, ISO 8601; of the first attempt.
        resumed: UTC, ISO 8601; of this attempt.
        updated: UTC, ISO 8601; of the last change.
        state: running, completed or failed.
        cities: By adcode, in order.
    """

    run: str
    name: str
    flow: str
    campaign: str
    version: str
    data_root: Path
    out_root: Path
    checkpoint: Path
    failure_tolerance: float
    attempt: int = 1
    owner: Owner
    started: str
    resumed: str | None = None
    updated: str
    state: Literal["running", "completed", "failed"] = "running"
    cities: dict[str, CityEntry] = Field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The record's file."""
        return record_path(self.out_root, self.run)

    def save(self) -> None:
        """Write the record in one step, and list it in this machine's index of runs."""
        self.updated = now()
        with replacing(self.path) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        entry = run_index() / self.run
        if not entry.exists():
            with replacing(entry) as temporary:
                temporary.write_text(f"{self.path}\n", encoding="utf-8")

    def counts(self) -> dict[str, int]:
        """Number of cities by state, all five states present."""
        found = Counter(c.state for c in self.cities.values())
        return {state: found[state] for state in ("done", "running", "waiting", "failed", "missing")}

    @property
    def with_data(self) -> int:
        """Cities that have data: all but the missing ones."""
        return len(self.cities) - self.counts()["missing"]

    @property
    def progress(self) -> float:
        """Share of the cities with data that are done or failed, 0 to 1."""
        counts = self.counts()
        return (counts["done"] + counts["failed"]) / self.with_data if self.with_data else 1.0

    @property
    def too_many_failed(self) -> bool:
        """Whether more of the cities with data failed than the campaign tolerates."""
        return self.counts()["failed"] > self.failure_tolerance * self.with_data

    def headline(self) -> str:
        """One line: how many cities are done, failed and missing."""
        c = self.counts()
        left = f", {c['running'] + c['waiting']} to go" if c["running"] + c["waiting"] else ""
        return f"{c['done']} done, {c['failed']} failed, {c['missing']} missing of {len(self.cities)} cities{left}"

    def of_state(self, *states: CityState) -> dict[str, CityEntry]:
        """The cities in one of these states, by adcode."""
        return {code: city for code, city in self.cities.items() if city.state in states}

    def markdown(self) -> str:
        """The run as a page: a table of the cities that had data, with reasons, then the missing ones."""
        lines = [f"# {self.flow}: {self.headline()}", "", f"Record: `{self.path}`", ""]
        rows = self.of_state("failed", "running", "waiting", "done")
        if rows:
            lines += ["| city | state | seconds | CPU-s | stages | reason |", "|---|---|---|---|---|---|"]
            for code, city in rows.items():
                reason = (city.reason or "found finished" * city.found).replace("|", "\\|")
                cpu_s = sum(s.cpu_s for s in city.stages.values())
                lines.append(
                    f"| {code} {city.name} | {city.state} | {city.seconds:.0f} | {cpu_s:.1f} | "
                    f"{', '.join(city.stages)} | {reason} |"
                )
        missing = self.of_state("missing")
        if missing:
            lines += ["", f"## No data: {len(missing)} cities", "", f"Nothing for them under `{self.data_root}`.", ""]
            lines.append(", ".join(f"{code} {city.name}" for code, city in missing.items()))
        return "\n".join(lines) + "\n"


def record_path(out_root: Path, run: str) -> Path:
    """Where the record of a run lies."""
    return out_root / f"run-{run}.json"


def read_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        RunError: no such file, or one that this version does not understand.
    """
    try:
        return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path}: the run's record is gone; start the run anew, finished work is not redone") from error
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise RunError(f"{path}: not a record of this version (field {where}: {error.errors()[0]['msg']})") from error


def known_runs() -> dict[str, Path]:
    """Records of the runs started on this machine, by run id, newest last."""
    folder = run_index()
    entries = sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime) if folder.is_dir() else []
    return {e.name: Path(e.read_text(encoding="utf-8").strip()) for e in entries if not e.name.startswith(".")}


def find_run(key: str) -> RunRecord:
    """The run with this id, start of an id, or name.

    Raises:
        RunError: none or several fit.
    """
    runs = known_runs()
    fitting = [run for run in runs if run.startswith(key.strip().lower())] if key.strip() else []
    if not fitting:
        fitting = [run for run, path in runs.items() if path.exists() and read_record(path).name == key.strip()]
    if len(fitting) == 1:
        return read_record(runs[fitting[0]])
    if fitting:
        raise RunError(f"'{key}' fits {len(fitting)} runs: {', '.join(fitting)}; give more of the id")
    last = next(reversed(runs), None)
    raise RunError(
        f"no run '{key}' on this machine; " + (f"the last one is {last}" if last else "none was started yet")
    )


def stamp_of(job: CityJob) -> str:
    """Digest of a job, the sizes and dates of its files and the code: tells whether a finished city is still current.

    Cheap on purpose (no file is read): where it differs, the stages run again and their ledger decides.
    """
    model = [p for p in files_of(job.checkpoint) if p.name not in NOT_THE_MODEL]
    folder = job.ground.sources.imagery[0].parent.parent
    inputs = files_of(folder)
    stats = {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in (*inputs, *model)}
    return digest_of({"job": job.model_dump(mode="json"), "files": stats, "code": code_digest()})


def files_of(path: Path) -> list[Path]:
    """The file itself, or all files under a folder, in order."""
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 over the source of the rooms that make products."""
    total = hashlib.sha256()
    for room in ("models", "pipeline", "regions"):
        for path in sorted((CHECKOUT / room).rglob("*.py")):
            total.update(f"{path.relative_to(CHECKOUT)}\0".encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def now() -> str:
    """UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Seconds so far, to the millisecond."""
        return round(time.monotonic() - self._start, 3)
