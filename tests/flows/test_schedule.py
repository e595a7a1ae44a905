"""The schedule of a run, against a simulation: slots are never exceeded nor left idle, cities end in their order."""

import logging
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.artifacts import create_markdown_artifact, update_progress_artifact
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed, Failed

from flows.choice import in_order
from flows.errors import StageFailedError
from flows.figures import failures, figures_of, slowest
from flows.progress import publish
from flows.record import CityEntry, Owner, RunRecord, StageEntry
from flows.retries import Retries
from flows.schedule import Schedule, Step
from regions.registry import find_city

STEPS = st.lists(st.sampled_from([Step("a", "cpu"), Step("b", "gpu"), Step("c", "cpu")]), max_size=4)


@given(
    cities=st.lists(STEPS, max_size=12),
    width=st.integers(1, 6),
    slots=st.fixed_dictionaries({"cpu": st.integers(1, 3), "gpu": st.integers(1, 2)}),
    data=st.data(),
)
def test_every_step_runs_once_in_order_within_the_slots(cities, width, slots, data):  # noqa: C901 - a simulation
    steps = {f"c{k:02}": own for k, own in enumerate(cities)}
    schedule = Schedule(steps, width=width, slots=slots)
    running: dict[str, Step] = {}
    ran = {city: [] for city in steps}
    begun: list[str] = []
    broken: set[str] = set()
    postponed: set[str] = set()
    retries_left = data.draw(st.integers(0, 5))
    for _ in range(200):
        for city in [c for c in sorted(postponed) if data.draw(st.booleans()) or not running]:
            postponed.remove(city)
            schedule.resume(city)
        for city, step in schedule.take():
            assert city not in running
            if not ran[city] and city not in begun:
                begun.append(city)
            running[city] = step
            ran[city].append(step)
        busy = Counter(s.slot for s in running.values())
        assert all(busy[s] <= slots[s] for s in slots)
        assert (schedule.running, schedule.postponed) == (len(running), len(postponed))
        assert len(running) + len(postponed) <= width
        assert schedule.take() == []  # all that could start has
        if not running and not postponed:
            break
        assert not schedule.idle
        if not running:
            continue
        city = data.draw(st.sampled_from(sorted(running)))
        del running[city]
        if retries_left and data.draw(st.booleans()):  # tried again later, from the same step on
            retries_left -= 1
            ran[city].pop()
            postponed.add(city)
            schedule.postpone(city)
            continue
        well = data.draw(st.booleans()) or data.draw(st.booleans())
        if not well:
            broken.add(city)
        ended = schedule.ended(city, well=well)
        assert ended == (city in broken or ran[city] == steps[city])
    assert schedule.idle
    for slot in slots:  # taken up in the order given, as far as they ask for the same
        same = [c for c in begun if steps[c][0].slot == slot]
        assert same == sorted(same)
    for city, own in steps.items():
        assert ran[city] == own or city in broken


def test_a_postponed_step_holds_no_slot_and_comes_first_when_due():
    steps = {city: [Step("graph", "cpu"), Step("scores", "gpu")] for city in ("x", "y", "z")}
    schedule = Schedule(steps, width=2, slots={"cpu": 1, "gpu": 1})
    assert schedule.take() == [("x", Step("graph", "cpu"))]
    schedule.postpone("x")
    assert schedule.take() == [("y", Step("graph", "cpu"))]
    schedule.resume("x")
    schedule.ended("y", well=False)
    assert schedule.take() == [("x", Step("graph", "cpu"))]
    assert (schedule.running, schedule.postponed) == (1, 0)


def test_what_may_go_away_by_itself_is_tried_again_later_and_not_for_ever():
    transient = Failed(data=StageFailedError("440300 graph: source down", transient=True), message="x")
    retries = Retries(delays_s=(0.0, 0.05))
    assert retries.postpone("440300", "graph", transient) == 0.0
    assert (retries.take_due(), retries.take_due()) == (["440300"], [])
    assert retries.postpone("440300", "graph", transient) == 0.05
    assert retries.take_due() == []
    time.sleep(0.06)
    assert retries.take_due() == ["440300"]
    assert retries.postpone("440300", "graph", transient) is None
    assert retries.postpone("440300", "scores", transient) == 0.0  # each step has its own tries
    for state in (
        Failed(data=StageFailedError("440300 graph: damaged file"), message="x"),
        Failed(message="a failure without its error"),
        Failed(data=ValueError("not the network"), message="x"),
        Completed(data={"seconds": 1.0}),
    ):
        assert retries.postpone("440100", "graph", state) is None
    assert retries.postpone("440100", "graph", Failed(data=ConnectionError("server away"), message="x")) == 0.0


def test_a_stage_that_waits_for_a_gpu_keeps_no_processor_idle():
    steps = {city: [Step("graph", "cpu"), Step("scores", "gpu"), Step("polygons", "cpu")] for city in ("x", "y", "z")}
    schedule = Schedule(steps, width=3, slots={"cpu": 1, "gpu": 1})
    assert schedule.take() == [("x", Step("graph", "cpu"))]
    schedule.ended("x", well=True)
    assert schedule.take() == [("x", Step("scores", "gpu")), ("y", Step("graph", "cpu"))]  # side by side
    schedule.ended("y", well=True)
    assert schedule.take() == [("z", Step("graph", "cpu"))]
    schedule.ended("x", well=True)
    assert schedule.take() == [("y", Step("scores", "gpu"))]
    schedule.ended("z", well=True)
    assert schedule.take() == [("x", Step("polygons", "cpu"))]  # what is begun goes before what is not


def test_large_cities_go_first_where_their_size_is_known():
    cities = [find_city(c) for c in ("110000", "120000", "440300", "440100")]
    plans = {"110000": {"tiles": 3}, "120000": None, "440300": {"tiles": 1, "seconds": 50.0}, "440100": {"tiles": 9}}
    assert [c.adcode for c in in_order(cities, "large first", plans)] == ["440300", "440100", "110000", "120000"]
    assert in_order(cities, "as given", plans) == cities


def entry(state, km2, seconds=0.0, **more):
    stages = {"graph": StageEntry(seconds=seconds, cpu_s=seconds / 2, peak_bytes=int(seconds), summary={})}
    return CityEntry(name="x", state=state, plan={"area_km2": km2}, stages=stages if seconds else {}, **more)


def test_figures_of_a_run(tmp_path):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    record = RunRecord(
        run="r", name="calm-crane", flow="uv-map", campaign="china", version="1.0.0", data_root=tmp_path,
        out_root=tmp_path, checkpoint=tmp_path, failure_tolerance=0.5, owner=Owner.me(), started=start.isoformat(),
        updated=start.isoformat(),
        cities={
            "110000": entry("done", 10.0, 40.0),
            "120000": entry("done", 90.0, 70.0, found=True),  # of a run before: no work of this one
            "440100": entry("running", 20.0, 30.0, step="scores", step_km2=5.0),
            "440300": entry("waiting", 15.0),
            "500000": entry("failed", 5.0, reason="graph: 500000 is damaged"),
            "510100": entry("failed", 5.0, reason="graph: 510100 is damaged"),
            "310000": CityEntry(name="x", state="missing"),
        },
    )  # fmt: skip
    figures = figures_of(record, at=start + timedelta(seconds=100))
    assert (figures.done, figures.failed, figures.with_data) == (2, 2, 6)
    assert (figures.km2_done, figures.km2_total) == (100.0, 145.0)
    assert figures.km2_per_s == pytest.approx((10 + 5 + 5 + 5) / 100)
    assert figures.seconds_left == pytest.approx((20 - 5 + 15) / 0.25)
    assert (figures.cpu_s, figures.peak_bytes) == (35.0, 40)
    assert figures.line() == "4 of 6 cities, 100.0 of 145.0 km2, 0.25 km2/s, about 2 min left, 2 failed"
    assert slowest(record) == [("110000", "graph", 40.0), ("440100", "graph", 30.0)]
    assert failures(record) == {"graph: {adcode} is damaged": ["500000", "510100"]}


def test_a_server_that_is_away_does_not_hold_up_a_run(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("prefect.client.base.time.sleep", slept.append)
    monkeypatch.setattr("flows.progress.get_run_logger", lambda: logging.getLogger("test"))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 10}):
        assert publish(update_progress_artifact, uuid4(), retries=0, progress=1.0) is None
        assert sum(slept) < 2  # the transport's own three attempts at a connection
        assert publish(create_markdown_artifact, key="uv-map-plan", markdown="#") is None
    assert 2 < sum(slept) < 30  # not the half hour that Prefect's client waits for a stage's state


def test_metrics_are_written_for_the_textfile_collector(tmp_path, monkeypatch):
    from flows.progress import write_metrics

    now = datetime.now(UTC).isoformat()
    record = RunRecord(
        run="r", name="n", flow="uv-map", campaign="china", version="1.0.0", data_root=tmp_path, out_root=tmp_path,
        checkpoint=tmp_path, failure_tolerance=0.5, owner=Owner.me(), started=now, updated=now,
        cities={"110000": entry("done", 10.0, 40.0)},
    )  # fmt: skip
    write_metrics(record, figures_of(record))  # not asked for
    monkeypatch.setenv("UVMAP_METRICS_FILE", str(tmp_path / "m" / "uvmap.prom"))
    write_metrics(record, figures_of(record))
    text = (tmp_path / "m" / "uvmap.prom").read_text()
    assert 'uvmap_km2_done{campaign="china",flow="uv-map",run="r"} 10.0' in text
    assert 'uvmap_cities{campaign="china",flow="uv-map",run="r",state="done"} 1.0' in text
