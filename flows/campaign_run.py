"""A campaign's run inside a flow: preflight, plan, the cities, the account at the end."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefect import runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from pydantic import ValidationError

from flows.choice import Order, chosen, in_order
from flows.errors import RunError
from flows.failures import one_line
from flows.finished import find_finished
from flows.orders import Orders, chosen_stages
from flows.process import warm_up
from flows.progress import Watch, publish
from flows.record import CityEntry, Owner, RunRecord, StageEntry, now, read_record, record_path
from flows.run_pages import account, plan_page
from flows.slots import CPU_LIMIT, GPU_LIMIT
from flows.stages import MAX_WIDTH, drive, needs_demo_data, plan_cities
from pipeline.city.job import job_of
from pipeline.city.sources import MissingSourcesError
from pipeline.errors import PipelineError
from pipeline.fetch.declared import needs_fetch
from regions.campaign import Campaign, CampaignError, load_campaign
from regions.errors import RegionsError
from regions.registry import City
from regions.settings import faults_of


@dataclass(frozen=True)
class Request:
    """What is asked of a run beside its campaign.

    Attributes:
        orders: What is to be done with every city.
        order: In which order the cities are taken up.
        dry: Whether the run ends with its plan.
        all_must_exist: Whether a city without data fails the run.
    """

    orders: Orders = field(default_factory=Orders)
    order: Order = "large first"
    dry: bool = False
    all_must_exist: bool = False


def run_named(
    campaign: str,
    cities: Sequence[str | int] | None,
    *,
    provinces: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    stages: Sequence[str] | None = None,
    request: Request | None = None,
    **given: Any,
) -> State[Any]:
    """`run_campaign` from a flow's parameters; a mistake in them fails the run with one line.

    Args:
        campaign: Name or path of the campaign.
        cities: Adcodes or names; None for all of the campaign.
        provinces: Only cities in these.
        regions: Only cities in these.
        stages: Only these stages and what they need; None for all.
        request: What else is asked.
        given: What `configured` takes.
    """
    request = request or Request()
    try:
        settings = configured(campaign, **given)
        selected = chosen(settings, cities, provinces=provinces, regions=regions)
        orders = replace(request.orders, stages=chosen_stages(stages))
    except (RegionsError, PipelineError) as error:
        get_run_logger().error("%s", one_line(error))
        return Failed(message=one_line(error))
    return run_campaign(settings, selected, replace(request, orders=orders))


def configured(
    campaign: str,
    *,
    data_root: str | None,
    out_root: str | None,
    checkpoint: str | None,
    version: str | None = None,
    max_parallel_cities: int | None = None,
    failure_tolerance: float | None = None,
) -> Campaign:
    """The campaign with what the run's parameters set in its place; roots and checkpoint as absolute paths.

    Raises:
        CampaignError: no such campaign, or a value that does not fit.
    """
    loaded = load_campaign(campaign)
    given: dict[str, Any] = {
        "data_root": Path(data_root or loaded.data_root).expanduser().resolve(),
        "out_root": Path(out_root or loaded.out_root).expanduser().resolve(),
        "checkpoint": Path(checkpoint or loaded.checkpoint).expanduser().resolve(),
        "max_parallel_cities": max_parallel_cities or loaded.max_parallel_cities,
        "failure_tolerance": loaded.failure_tolerance if failure_tolerance is None else failure_tolerance,
        "version": version or loaded.version,
    }
    try:
        return Campaign.model_validate({**loaded.model_dump(), **given})
    except ValidationError as error:
        raise CampaignError(f"campaign {loaded.name} with this run's parameters: {faults_of(error)}") from error


def run_campaign(campaign: Campaign, cities: Sequence[City], request: Request | None = None) -> State[Any]:
    """Run ``cities`` of ``campaign``; call it inside a flow and return its state.

    Args:
        campaign: Configuration with absolute paths.
        cities: What to map.
        request: What else is asked.
    """
    logger = get_run_logger()
    request = request or Request()
    record = _opened(campaign, cities)
    to_do = _entered(record, campaign, cities, request.orders)
    record.save()
    try:
        slots = _preflight(record, campaign, to_do, request)
    except RunError as error:
        logger.error("%s", one_line(error))  # noqa: TRY400 - a user's mistake: one line, no traceback
        return _closed(record, str(error), failed=True)
    if to_do:
        warm_up()
    _plan(record, campaign, to_do)
    if request.dry:
        return _closed(record, f"dry run: {len(to_do)} cities would be mapped; {record.headline()}", failed=False)
    watch = Watch(record)
    drive(
        record=record,
        campaign=campaign,
        cities=in_order(to_do, request.order, {c.adcode: record.cities[c.adcode].plan for c in to_do}),
        orders=request.orders,
        width=min(campaign.max_parallel_cities or sum(slots.values()) + 1, MAX_WIDTH),
        slots=slots,
        watch=watch,
    )
    for code, city in record.of_state("failed").items():
        logger.error("failed: %s %s: %s", code, city.name, city.reason)
    if record.of_state("missing"):
        logger.warning("missing: %s", ", ".join(record.of_state("missing")))
    message = record.headline()
    if record.too_many_failed:
        message += f": more than the tolerated share {record.failure_tolerance:g} of {record.with_data} with data"
    return _closed(record, message, failed=record.too_many_failed)


def _opened(campaign: Campaign, cities: Sequence[City]) -> RunRecord:
    """A new record, or that of the attempt before with this process as its owner."""
    run = str(runtime.flow_run.id)
    path = record_path(campaign.out_root, run)
    if path.exists():
        before = read_record(path)
        kept = {c.adcode: before.cities[c.adcode] for c in cities if c.adcode in before.cities}
        update = {
            "attempt": before.attempt + 1,
            "owner": Owner.me(),
            "state": "running",
            "cities": kept,
            "resumed": now(),
        }
        return before.model_copy(update=update)
    return RunRecord(
        run=run,
        name=str(runtime.flow_run.name),
        flow=str(runtime.flow_run.flow_name),
        campaign=campaign.name,
        version=campaign.version,
        data_root=campaign.data_root,
        out_root=campaign.out_root,
        checkpoint=campaign.checkpoint,
        failure_tolerance=campaign.failure_tolerance,
        owner=Owner.me(),
        started=now(),
        updated=now(),
    )


def _entered(record: RunRecord, campaign: Campaign, cities: Sequence[City], orders: Orders) -> list[City]:
    """Enter every city into the record; those that have data and were not finished before, as marks on disk say."""
    to_do: list[City] = []
    for city in cities:
        entry = CityEntry(name=f"{city.name_en} {city.name_zh}")
        before = record.cities.get(city.adcode)
        record.cities[city.adcode] = entry
        try:
            job = None if needs_demo_data(campaign, city) or needs_fetch(campaign, city) else job_of(campaign, city)
        except MissingSourcesError as error:
            entry.state, entry.reason = "missing", one_line(error)
            continue
        except (PipelineError, RegionsError, OSError) as error:
            entry.state, entry.reason = "failed", one_line(error)
            continue
        found = find_finished(job) if job is not None and orders.makes_products else None
        resumed = before is not None and before.state == "done"
        if found is None or (orders.anew and not resumed):
            to_do.append(city)
        elif before is not None and resumed:
            record.cities[city.adcode] = before
        else:
            stages = {name: StageEntry(seconds=0.0, summary=said) for name, said in found[1].items()}
            entry.state, entry.stamp, entry.stages, entry.found = "done", found[0], stages, True
    return to_do


def _preflight(record: RunRecord, campaign: Campaign, to_do: list[City], request: Request) -> dict[str, int]:
    """Find at once what would fail every city; slots of each limit.

    Raises:
        RunError: no city has data, there is no checkpoint, or the server lacks a limit.
    """
    missing = record.of_state("missing")
    if missing and (request.all_must_exist or len(missing) == len(record.cities)):
        first = next(iter(missing.values()))
        raise RunError(f"none of {len(missing)} cities has data under {campaign.data_root}: {first.reason}")
    if to_do and not campaign.checkpoint.exists():
        raise RunError(f"{campaign.checkpoint}: no such checkpoint; train a model or give the run's `checkpoint`")
    slots: dict[str, int] = {}
    with get_client(sync_client=True) as client:
        for name in (GPU_LIMIT, CPU_LIMIT):
            try:
                slots[name] = client.read_global_concurrency_limit_by_name(name).limit
            except ObjectNotFound as error:
                raise RunError(f"the server has no concurrency limit '{name}'; `uvmap up` creates it") from error
            if slots[name] < 1:
                raise RunError(f"the limit '{name}' has no slot; `uvmap up` sets it")
    return slots


def _plan(record: RunRecord, campaign: Campaign, to_do: list[City]) -> None:
    """Say what is ahead: cities, missing ones, and the estimated work of those whose data are there."""
    logger = get_run_logger()
    jobs = [
        job_of(campaign, c).model_dump(mode="json")
        for c in to_do
        if not (needs_demo_data(campaign, c) or needs_fetch(campaign, c))
    ]
    if jobs:
        state = plan_cities(jobs, return_state=True)
        if state.is_completed():
            plans: dict[str, Any] = state.result()  # type: ignore[assignment]
            for code, plan in plans.items():
                record.cities[code].plan = plan
        else:
            logger.warning("no estimate of the work: %s", state.message)
    record.save()
    missing = record.of_state("missing")
    logger.info(
        "plan: %d cities to map, %d done before, %d missing%s; record %s",
        len(to_do),
        record.counts()["done"],
        len(missing),
        f" ({', '.join(missing)})" if missing else "",
        record.path,
    )
    publish(
        create_markdown_artifact, key=f"{record.flow}-plan", markdown=plan_page(record), description="What is ahead"
    )


def _closed(record: RunRecord, message: str, *, failed: bool) -> State[Any]:
    """Close the record, publish the table of cities, and give the run's final state."""
    record.state = "failed" if failed else "completed"
    record.save()
    publish(create_markdown_artifact, key=f"{record.flow}-cities", markdown=account(record), description=message)
    get_run_logger().info("%s; record %s", record.headline(), record.path)
    return (Failed if failed else Completed)(message=message)
