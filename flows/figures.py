"""The figures of a run, from its record alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flows.record import CityEntry, RunRecord

SHOWN = 10


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


def difference(figures: dict[str, Any]) -> str:
    """The difference in one line."""
    km2 = {k: figures[k] / 1e6 for k in ("area_old_m2", "area_new_m2")}
    words = ", ".join(f"{figures[k]} {k}" for k in ("unchanged", "grown", "shrunk", "new", "gone"))
    return f"villages: {words}; {km2['area_old_m2']:.3f} to {km2['area_new_m2']:.3f} km2, IoU {figures['iou']:.3f}"
