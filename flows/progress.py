"""How far a run is, and telling it: to the server as artifacts, to files as JSON lines and for Prometheus."""

import json
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.failures import one_line
from flows.figures import Figures, figures_of
from flows.record import CityEntry, RunRecord, now

PAGE_RETRIES = 2
EVERY_S = 5.0
"""The server is told at most this often: every word costs it a write."""
_KM2 = re.compile(r"scores \d{6}: ([\d.]+) of ([\d.]+) km2")


class Watch:
    """Tells the server and the files of a run how it goes; may be called from the threads of its tasks.

    Attributes:
        stopping: Set when the run ends before its cities are through: no task starts or waits from then on.
    """

    def __init__(self, record: RunRecord) -> None:
        self.stopping = threading.Event()
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
            publish(update_progress_artifact, self._id, retries=0, progress=share, description=figures.line())
        for code, artifact in list(self._city.items()):
            entry = self._record.cities[code]
            if artifact is not None and entry.km2:
                done = entry.km2 if entry.state == "done" else entry.step_km2 or 0.0
                text = f"{code} {entry.name}, {entry.step}: {done:.1f} of {entry.km2:.1f} km2"
                publish(
                    update_progress_artifact, artifact, retries=0, progress=100 * done / entry.km2, description=text
                )
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


def publish(call: Callable[..., Any], *args: Any, retries: int = PAGE_RETRIES, **kwargs: Any) -> Any:
    """Show something on the server; a server that does not answer must not cost a run, nor hold it up.

    Args:
        call: What shows it, such as `prefect.artifacts.create_markdown_artifact`.
        args: Of the call.
        retries: How often it is tried again, after 2, 4, ... seconds: what stages need is tried far longer.
        kwargs: Of the call.
    """
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: retries}):
            return call(*args, **kwargs)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        get_run_logger().warning("the server did not take an artifact: %s", one_line(error))
        return None


def remember_step(entry: CityEntry, step: str) -> None:
    """A city has begun a step."""
    entry.state, entry.step, entry.step_km2 = "running", step, None
