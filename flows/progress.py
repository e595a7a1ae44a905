"""How far a run is, and telling it: to the server as artifacts, to files as JSON lines and for Prometheus."""

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging import get_run_logger

from flows.failures import one_line
from flows.record import CityEntry, RunRecord, now

EVERY_S = 5.0
"""The server is told at most this often: every word costs it a write."""
SHOWN = 10
_KM2 = re.compile(r"scores \d{6}: ([\d.]+) of ([\d.]+) km2")


@dataclass(frozen=True)
class Figures:
    """Where a run stands.

    Attributes:
        done: Cities done, with those found finished.
        failed: Cities that failed.
        with_data: Cities that have data.
        km2_done: Area of the cities done, as far as it is known.
        km2_total: Area of all cities with data, as far as it is known.
        km2_per_s: Area done in this attempt by the time since its start; None before the first city.
        seconds_left: Estimate from the share of cities still to do, or of area where it is known of all.
        cpu_s: CPU seconds of all stages.
        peak_bytes: Largest memory of a stage.
    """

    done: int
    failed: int
    with_data: int
    km2_done: float
    km2_total: float
    km2_per_s: float | None
    seconds_left: float | None
    cpu_s: float
    peak_bytes: int

    def line(self) -> str:
        """One line for people."""
        text = f"{self.done + self.failed} of {self.with_data} cities, {self.km2_done:.1f} of {self.km2_total:.1f} km2"
        if self.km2_per_s is not None:
            text += f", {self.km2_per_s:.4g} km2/s"
        if self.seconds_left is not None:
            text += f", about {self.seconds_left / 60:.0f} min left"
        return text + (f", {self.failed} failed" if self.failed else "")


def figures_of(record: RunRecord, *, at: datetime | None = None) -> Figures:
    """The figures of a run at a moment: now while it runs, else when its record was last changed."""
    end = at or (datetime.now(UTC) if record.state == "running" else datetime.fromisoformat(record.updated))
    elapsed_s = (end - datetime.fromisoformat(record.resumed or record.started)).total_seconds()
    counts = record.counts()
    with_data = {c: e for c, e in record.cities.items() if e.state != "missing"}
    ended = [e for e in with_data.values() if e.state in {"done", "failed"}]
    open_ = [e for e in with_data.values() if e.state in {"waiting", "running"}]
    made = [e for e in ended if not e.found]
    known = [e.km2 for e in with_data.values() if e.km2 is not None]
    mean = sum(known) / len(known) if known else 0.0

    def size(entries: Iterable[CityEntry]) -> float:
        return sum(mean if e.km2 is None else e.km2 for e in entries)

    part = sum(e.step_km2 or 0.0 for e in open_)
    rate = (size(made) + part) / elapsed_s if made and elapsed_s > 0 else None
    stages = [s for e in with_data.values() for s in e.stages.values() if not e.found]
    return Figures(
        done=counts["done"],
        failed=counts["failed"],
        with_data=len(with_data),
        km2_done=round(size(e for e in ended if e.state == "done"), 3),
        km2_total=round(size(with_data.values()), 3),
        km2_per_s=rate,
        seconds_left=max(0.0, size(open_) - part) / rate if rate and open_ else None,
        cpu_s=round(sum(s.cpu_s for s in stages), 2),
        peak_bytes=max((s.peak_bytes for s in stages), default=0),
    )


def slowest(record: RunRecord, count: int = SHOWN) -> list[tuple[str, str, float]]:
    """Adcode, stage and seconds of the stages that took longest, longest first."""
    rows = [(c, name, s.seconds) for c, e in record.cities.items() if not e.found for name, s in e.stages.items()]
    return sorted(rows, key=lambda row: (-row[2], row[0]))[:count]


def failures(record: RunRecord) -> dict[str, list[str]]:
    """Adcodes by reason of failure, the reason that most cities share first."""
    by_reason: dict[str, list[str]] = {}
    for code, entry in record.of_state("failed").items():
        by_reason.setdefault((entry.reason or "").replace(code, "{adcode}"), []).append(code)
    return dict(sorted(by_reason.items(), key=lambda item: -len(item[1])))


class Watch:
    """Tells the server and the files of a run how it goes; may be called from the threads of its tasks."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._told = time.monotonic()
        self._log = record.path.with_suffix(".jsonl")
        self._city: dict[str, UUID | None] = {}
        self._id: UUID | None = publish(
            create_progress_artifact, progress=0.0, key=f"{record.flow}-progress", description=record.headline()
        )

    def update(self, *, last: bool = False) -> None:
        """Show where the record stands, unless that was done a moment ago."""
        if not last and time.monotonic() - self._told < EVERY_S:
            return
        self._told = time.monotonic()
        figures = figures_of(self._record)
        write_metrics(self._record, figures)
        if self._id is not None:
            share = round(100.0 * self._record.progress, 1)
            publish(update_progress_artifact, self._id, progress=share, description=figures.line())
        for code, artifact in list(self._city.items()):
            entry = self._record.cities[code]
            if artifact is not None and entry.km2:
                done = entry.km2 if entry.state == "done" else entry.step_km2 or 0.0
                text = f"{code} {entry.name}, {entry.step}: {done:.1f} of {entry.km2:.1f} km2"
                publish(update_progress_artifact, artifact, progress=100 * done / entry.km2, description=text)
            if entry.state in {"done", "failed"}:
                del self._city[code]

    def line(self, adcode: str, step: str, text: str) -> None:
        """A line that a stage has written; lines of progress move the city's own bar, which long cities have."""
        self.event(adcode, step, "line", text=text)
        found = _KM2.search(text)
        if found:
            entry = self._record.cities[adcode]
            entry.step_km2 = float(found[1])
            if adcode not in self._city:
                self._city[adcode] = publish(
                    create_progress_artifact, progress=0.0, key=f"{self._record.flow}-{adcode}", description=entry.name
                )

    def event(self, adcode: str, step: str, event: str, **more: Any) -> None:
        """One line of JSON: when, which city and stage, what."""
        row = {"time": now(), "run": self._record.run, "city": adcode, "stage": step, "event": event, **more}
        with self._lock, self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_metrics(record: RunRecord, figures: Figures) -> None:
    """The figures for Prometheus' textfile collector, where ``UVMAP_METRICS_FILE`` names a file ending in .prom."""
    target = os.environ.get("UVMAP_METRICS_FILE")
    if not target:
        return
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()
    names = ("flow", "campaign", "run")
    values = (record.flow, record.campaign, record.run)
    for name, value in asdict(figures).items():
        if value is not None:
            Gauge(f"uvmap_{name}", f"{name} of the run", names, registry=registry).labels(*values).set(value)
    cities = Gauge("uvmap_cities", "cities by state", (*names, "state"), registry=registry)
    for state, count in record.counts().items():
        cities.labels(*values, state).set(count)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(target, registry)


def publish(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Show something on the server; a server that does not answer must not cost a run."""
    try:
        return call(*args, **kwargs)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        get_run_logger().warning("the server did not take an artifact: %s", one_line(error))
        return None


def remember_step(entry: CityEntry, step: str) -> None:
    """A city has begun a step."""
    entry.state, entry.step, entry.step_km2 = "running", step, None
