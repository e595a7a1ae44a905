"""One Prefect task per city and stage, and the loop that drives many cities through them.

The loop keeps a bounded number of cities in hand and submits a city's next stage when the one before has ended, so
no thread ever waits for another task. Tasks carry ids and paths; rasters and tables stay in files. What is done
already is the business of the stages' ledger on disk, not of Prefect's caches.
"""

import queue
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Failed
from prefect.tasks import Task

from flows.errors import StageFailedError
from flows.failures import is_transient, one_line
from flows.process import run_isolated, stop_all
from flows.record import CityEntry, RunRecord, StageEntry, Stopwatch, stamp_of
from pipeline.city.job import job_of
from pipeline.city.stage_table import STAGES, find_stage, stage_names
from pipeline.errors import PipelineError
from regions.campaign import Campaign
from regions.errors import RegionsError
from regions.registry import DEMO_PREFIX, City

GPU_LIMIT = "uvmap-gpu"
CPU_LIMIT = "uvmap-cpu"
MAX_WIDTH = 16
"""Most cities worked on at once, whatever the campaign asks: more writers overload a server on SQLite."""
LEASE_S = 60.0
"""Slots of a killed run come free after this long; the shortest lease that the server grants."""
RETRY_DELAYS_S = (10.0, 60.0)
DEMO_DATA = "demo-data"
"""The step before the stages that generates the data of a demo city where they are missing."""


@dataclass(frozen=True)
class _Done:
    """A finished task: which city, which step of it, and its future."""

    city: City
    step: str
    future: PrefectFuture[Any]


def retry_is_due(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether the failure of a task was transient; Prefect asks before each retry."""
    try:
        state.result(raise_on_failure=True)
    except StageFailedError as error:
        return error.transient
    except Exception as error:  # noqa: BLE001 - whatever the task raised is judged here
        return is_transient(error)
    return False


@task(
    name="stage",
    task_run_name="{adcode}-{step}",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=list(RETRY_DELAYS_S),
    retry_condition_fn=retry_is_due,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def city_stage(adcode: str, step: str, request: dict[str, Any]) -> dict[str, Any] | State[Any]:
    """Run one stage of one city in a process of its own, holding one slot of the GPU or the CPU limit.

    Args:
        adcode: The city.
        step: A stage's name, or `DEMO_DATA`.
        request: What `flows.stage_process` shall do.

    Returns:
        ``{"seconds": float, "summary": dict}``, or a failed state with one line where a retry would not help.
    """
    logger = get_run_logger()
    slot = GPU_LIMIT if step != DEMO_DATA and find_stage(step).uses_model else CPU_LIMIT
    # A server that is away for a while must not kill hours of healthy work: the lock files of `flows.locks`
    # keep two stages off one GPU and off one city even where a lease is lost.
    with concurrency(slot, occupy=1, strict=True, lease_duration=LEASE_S, raise_on_lease_renewal_failure=False):
        watch = Stopwatch()
        try:
            done = run_isolated(request, what=f"{adcode} {step}", log=logger.info)
        except StageFailedError as error:
            if error.transient:
                raise
            return Failed(message=one_line(error))
    return {"seconds": watch.seconds(), "summary": done.result}


@task(name="plan", cache_policy=NO_CACHE, persist_result=False)
def plan_cities(jobs: list[dict[str, Any]]) -> dict[str, Any] | State[Any]:
    """Estimate the work of every city, in one process for all; by adcode. Measures the model's speed where unknown."""
    with concurrency(GPU_LIMIT, occupy=1, strict=True, lease_duration=LEASE_S, raise_on_lease_renewal_failure=False):
        try:
            return run_isolated({"kind": "plan", "jobs": jobs}, what="plan", log=get_run_logger().info).result
        except StageFailedError as error:
            return Failed(message=one_line(error))


def drive(
    *,
    record: RunRecord,
    campaign: Campaign,
    cities: list[City],
    width: int,
    on_change: Callable[[], None],
) -> None:
    """Take ``cities`` through all their stages, at most ``width`` at once; a failed city never stops the others.

    The record tells at every moment where each city stands; it is saved whenever something ends.
    Must be called inside a flow.

    Args:
        record: Has an entry for every city; changed in place.
        campaign: Where the data lie and how they are worked on.
        cities: The cities to do, in this order.
        width: Cities in hand at once.
        on_change: Called after each save.
    """
    waiting = deque(cities)
    finished: queue.SimpleQueue[_Done] = queue.SimpleQueue()
    in_hand = 0
    try:
        while waiting or in_hand:
            while waiting and in_hand < width:
                in_hand += _start(waiting.popleft(), None, record=record, campaign=campaign, finished=finished)
            record.save()
            on_change()
            if in_hand:
                done = finished.get()
                in_hand -= 1
                if _take(done, record.cities[done.city.adcode]):
                    in_hand += _start(done.city, done.step, record=record, campaign=campaign, finished=finished)
    except BaseException:
        stop_all()
        raise
    record.save()
    on_change()


def needs_demo_data(campaign: Campaign, city: City) -> bool:
    """Whether the campaign generates this city's data, and they are not there yet."""
    generated = campaign.demo_side_m is not None and city.adcode.startswith(DEMO_PREFIX)
    return generated and not campaign.data_folder(city.adcode).is_dir()


def _start(
    city: City,
    after: str | None,
    *,
    record: RunRecord,
    campaign: Campaign,
    finished: "queue.SimpleQueue[_Done]",
) -> int:
    """Submit the step that follows ``after``; the number of tasks in flight by it, 0 where the city is at its end."""
    entry = record.cities[city.adcode]
    steps = (DEMO_DATA, *stage_names())
    step = steps[0 if after is None else steps.index(after) + 1 :][0:1]
    if not step:
        entry.state = "done"
        return 0
    if step[0] == DEMO_DATA and not needs_demo_data(campaign, city):
        return _start(city, DEMO_DATA, record=record, campaign=campaign, finished=finished)
    entry.state = "running"
    try:
        request = _request(step[0], city, campaign, entry)
    except (PipelineError, RegionsError, OSError) as error:
        entry.state, entry.reason = "failed", one_line(error)
        return 0
    future = city_stage.submit(city.adcode, step[0], request)
    future.add_done_callback(lambda f: finished.put(_Done(city, step[0], f)))
    return 1


def _request(step: str, city: City, campaign: Campaign, entry: CityEntry) -> dict[str, Any]:
    if step == DEMO_DATA:
        folder = campaign.data_folder(city.adcode)
        return {"kind": DEMO_DATA, "folder": str(folder), "adcode": city.adcode, "side_m": campaign.demo_side_m}
    job = job_of(campaign, city)
    if step == STAGES[0].name:
        entry.stamp = stamp_of(job)
    return {"kind": "stage", "stage": step, "job": job.model_dump(mode="json")}


def _take(done: _Done, entry: CityEntry) -> bool:
    """Enter a finished task into the record; whether the city goes on."""
    try:
        done.future.wait()
        state = done.future.state
        if state.is_completed():
            result: dict[str, Any] = done.future.result()
            entry.stages[done.step] = StageEntry(seconds=result["seconds"], summary=result["summary"])
            return True
        reason = reason_of(state)
    except Exception as error:  # noqa: BLE001 - Prefect could not keep account of this task: the others go on
        reason = one_line(error)
    entry.state, entry.reason = "failed", f"{done.step}: {reason}"
    return False


def reason_of(state: State[Any]) -> str:
    """Why a task is not completed, one line: the error's own words where there is an error."""
    outcome = state.result(raise_on_failure=False) if state.data is not None else None
    if isinstance(outcome, BaseException):
        return one_line(outcome)
    return state.message or state.name or "no reason given"
