"""One Prefect task per city and stage, and the loop that drives many cities through them.

The loop keeps a bounded number of cities in hand and submits a city's next stage when the one before has ended, so
no thread ever waits for another task. Tasks carry ids and paths; rasters and tables stay in files. What is done
already is the business of the stages' ledger on disk, not of Prefect's caches.
"""

import queue
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Failed

from flows.errors import StageFailedError
from flows.failures import one_line
from flows.finished import forget_finished, mark_finished
from flows.orders import Orders
from flows.process import run_isolated, stop_all
from flows.progress import Watch, remember_step
from flows.record import CityEntry, RunRecord, StageEntry, Stopwatch, stamp_of
from flows.retries import Retries
from flows.schedule import Schedule, Step
from flows.slots import CPU_LIMIT, GPU_LIMIT, slot_of_limit
from pipeline.city.job import job_of
from pipeline.city.stage_table import find_stage
from pipeline.errors import PipelineError
from pipeline.fetch.declared import needs_fetch
from regions.campaign import Campaign
from regions.errors import RegionsError
from regions.registry import City

MAX_WIDTH = 16
"""Most cities worked on at once, whatever the campaign asks: more writers overload a server on SQLite."""
SAVE_EVERY_S = 1.0
_watches: dict[str, Watch] = {}
"""Of the runs of this process, by id: tasks take values only."""
DEMO_DATA = "demo-data"
"""The step before the stages that generates the data of a demo city where they are missing."""
FETCH = "fetch"
"""The step before the stages that brings the sources which the campaign declares, where they are not there yet."""


@dataclass(frozen=True)
class _Done:
    """A finished task: which city, which step of it, and its future."""

    city: City
    step: str
    future: PrefectFuture[Any]


@task(name="stage", task_run_name="{adcode}-{step}", cache_policy=NO_CACHE, persist_result=False)
def city_stage(adcode: str, step: str, request: dict[str, Any], run: str) -> dict[str, Any] | State[Any]:
    """Run one stage of one city in a process of its own, holding one slot.

    A slot of the GPU limit is the server's, since GPUs are shared by all machines of a work pool; a slot for the other
    stages is a lock file of the machine (`flows.locks`), whose cores they use: asking the server for each would cost
    more than a small city's stage.

    Args:
        adcode: The city.
        step: A stage's name, or `DEMO_DATA`.
        request: What `flows.stage_process` shall do.
        run: Id of the run, whose `Watch` hears its lines.

    Returns:
        ``{"seconds", "cpu_s", "peak_bytes", "summary"}``, or a failed state with one line where a retry would not help.

    Raises:
        StageFailedError: the reason may go away by itself; `drive` tries again (`flows.retries`).
    """
    logger, watch = get_run_logger(), _watches[run]

    def hear(line: str) -> None:
        logger.info("%s %s: %s", adcode, step, line)
        watch.line(adcode, step, line)

    with slot_of_limit(GPU_LIMIT, stopping=watch.stopping) if slot_of(step) == GPU_LIMIT else nullcontext():
        stopwatch = Stopwatch()
        watch.event(adcode, step, "start")
        try:
            done = run_isolated(request, what=f"{adcode} {step}", log=hear)
        except StageFailedError as error:
            watch.event(adcode, step, "failed", reason=one_line(error), transient=error.transient)
            if error.transient:
                raise
            return Failed(message=one_line(error))
    seconds, cpu_s = stopwatch.seconds(), round(done.cpu_s, 3)
    watch.event(adcode, step, "done", seconds=seconds, cpu_s=cpu_s, peak_bytes=done.peak_bytes)
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_bytes": done.peak_bytes, "summary": done.result}


def slot_of(step: str) -> str:
    """The limit of which a step holds a slot."""
    return GPU_LIMIT if step not in {DEMO_DATA, FETCH} and find_stage(step).uses_model else CPU_LIMIT


@task(name="plan", cache_policy=NO_CACHE, persist_result=False)
def plan_cities(jobs: list[dict[str, Any]]) -> dict[str, Any] | State[Any]:
    """Estimate the work of every city, in one process for all; by adcode. Measures the model's speed where unknown."""
    with slot_of_limit(GPU_LIMIT):
        try:
            return run_isolated({"kind": "plan", "jobs": jobs}, what="plan", log=get_run_logger().info).result
        except StageFailedError as error:
            return Failed(message=one_line(error))


def drive(
    *,
    record: RunRecord,
    campaign: Campaign,
    cities: Sequence[City],
    orders: Orders,
    width: int,
    slots: dict[str, int],
    watch: Watch,
) -> None:
    """Take ``cities`` through all their stages, at most ``width`` at once; a failed city never stops the others.

    The record tells at every moment where each city stands; it is saved a second after something ended, at the latest.
    Must be called inside a flow.

    Args:
        record: Has an entry for every city; changed in place.
        campaign: Where the data lie and how they are worked on.
        cities: The cities to do, in this order.
        orders: What is to be done with each.
        width: Cities in hand at once.
        slots: Slots of each limit on the server.
        watch: Told of every change.
    """
    by_code = {city.adcode: city for city in cities}
    schedule = Schedule({c.adcode: _steps(c, campaign, orders) for c in cities}, width=width, slots=slots)
    finished: queue.SimpleQueue[_Done] = queue.SimpleQueue()
    saved, dirty = time.monotonic(), True
    retries = Retries()
    _watches[record.run] = watch
    try:
        while True:
            for code in retries.take_due():
                schedule.resume(code)
            for code, step in schedule.take():
                _submit(
                    by_code[code], step.name, record=record, campaign=campaign, orders=orders, finished=finished,
                    schedule=schedule, processors=slots[CPU_LIMIT],
                )  # fmt: skip
            if not schedule.running and not schedule.postponed:
                if not schedule.idle:
                    continue
                break
            if dirty and time.monotonic() - saved >= SAVE_EVERY_S:
                record.save()
                saved, dirty = time.monotonic(), False
            watch.update()
            try:
                done = finished.get(timeout=SAVE_EVERY_S)
            except queue.Empty:
                continue
            dirty = True
            _enter_end(done, record=record, campaign=campaign, orders=orders, schedule=schedule, retries=retries)
    except BaseException:
        watch.stopping.set()
        stop_all()
        record.save()
        raise
    finally:
        del _watches[record.run]
    record.save()
    watch.update(last=True)


def needs_demo_data(campaign: Campaign, city: City) -> bool:
    """Whether the campaign generates data where there are none, and this city has none."""
    return campaign.demo_side_m is not None and not campaign.data_folder(city.adcode).is_dir()


def _steps(city: City, campaign: Campaign, orders: Orders) -> list[Step]:
    names = [stage.name for stage in orders.stages]
    if needs_demo_data(campaign, city):
        names.insert(0, DEMO_DATA)
    elif needs_fetch(campaign, city):
        names.insert(0, FETCH)
    return [Step(name, slot_of(name)) for name in names]


def _submit(
    city: City,
    step: str,
    *,
    record: RunRecord,
    campaign: Campaign,
    orders: Orders,
    processors: int,
    finished: "queue.SimpleQueue[_Done]",
    schedule: Schedule,
) -> None:
    entry = record.cities[city.adcode]
    remember_step(entry, step)
    try:
        request = _request(step, city, campaign, entry, orders=orders, processors=processors)
    except (PipelineError, RegionsError, OSError) as error:
        entry.state, entry.reason = "failed", one_line(error)
        schedule.ended(city.adcode, well=False)
        return
    future = city_stage.submit(city.adcode, step, request, record.run)
    future.add_done_callback(lambda f: finished.put(_Done(city, step, f)))


def _request(
    step: str, city: City, campaign: Campaign, entry: CityEntry, *, orders: Orders, processors: int
) -> dict[str, Any]:
    if step == DEMO_DATA:
        folder = campaign.data_folder(city.adcode)
        return {"kind": DEMO_DATA, "folder": str(folder), "adcode": city.adcode, "side_m": campaign.demo_side_m}
    if step == FETCH:
        return {"kind": FETCH, "campaign": campaign.model_dump(mode="json"), "adcode": city.adcode}
    job = job_of(campaign, city)
    if step == orders.stages[0].name:
        forget_finished(job)
        entry.stamp = stamp_of(job)
    request = {"kind": "stage", "stage": step, "job": job.model_dump(mode="json"), "anew": orders.anew}
    return {**request, "processors": processors}


def _enter_end(
    done: _Done, *, record: RunRecord, campaign: Campaign, orders: Orders, schedule: Schedule, retries: Retries
) -> None:
    """A task has ended: its step is tried again later, or is done, or has failed and its city with it."""
    code = done.city.adcode
    entry = record.cities[code]
    try:
        done.future.wait()
        state = done.future.state
    except Exception as error:  # noqa: BLE001 - Prefect could not keep account of this task: the others go on
        state = Failed(message=one_line(error))
    delay_s = retries.postpone(code, done.step, state)
    if delay_s is not None:
        get_run_logger().warning("%s; once more in %g s", reason_of(state), delay_s)
        schedule.postpone(code)
        return
    well = state.is_completed()
    if well:
        entry.stages[done.step] = StageEntry(**state.result())
    else:
        entry.state, entry.reason = "failed", f"{done.step}: {reason_of(state)}"
    if schedule.ended(code, well=well) and well:
        _close(done.city, entry, campaign, orders)


def _close(city: City, entry: CityEntry, campaign: Campaign, orders: Orders) -> None:
    """A city is through: mark it, so that a later run finds it without starting a process."""
    entry.state = "done"
    if orders.makes_products and entry.stamp:
        summaries = {name: stage.summary for name, stage in entry.stages.items()}
        try:
            mark_finished(job_of(campaign, city), entry.stamp, summaries)
        except (PipelineError, RegionsError, OSError) as error:
            get_run_logger().warning("%s is done, but could not be marked so: %s", city.adcode, one_line(error))


def reason_of(state: State[Any]) -> str:
    """Why a task is not completed, one line: the error's own words where there is an error."""
    outcome = state.result(raise_on_failure=False) if state.data is not None else None
    if isinstance(outcome, BaseException):
        return one_line(outcome)
    return state.message or state.name or "no reason given"
