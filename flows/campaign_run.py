"""A campaign's run inside a flow: preflight, plan, the cities, the account at the end."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import runtime
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from flows.errors import RunError
from flows.failures import one_line
from flows.record import CityEntry, Owner, RunRecord, now, read_record, record_path, stamp_of
from flows.stages import CPU_LIMIT, GPU_LIMIT, MAX_WIDTH, drive, needs_demo_data, plan_cities
from pipeline.city.job import job_of
from pipeline.city.sources import MissingSourcesError
from pipeline.errors import PipelineError
from regions.campaign import Campaign, load_campaign
from regions.errors import RegionsError
from regions.registry import City, find_city


def run_named(
    campaign: str, cities: Iterable[str | int] | None, *, all_must_exist: bool = False, **given: Any
) -> State[Any]:
    """`run_campaign` from a flow's parameters; a mistake in them fails the run with one line.

    Args:
        campaign: Name or path of the campaign.
        cities: Adcodes or names; None for all of the campaign.
        all_must_exist: Whether a city without data fails the run.
        given: What `configured` takes.
    """
    try:
        settings = configured(campaign, **given)
        selected = chosen(settings, cities)
    except RegionsError as error:
        get_run_logger().error("%s", one_line(error))
        return Failed(message=one_line(error))
    return run_campaign(settings, selected, all_must_exist=all_must_exist)


def configured(
    campaign: str,
    *,
    data_root: str | None,
    out_root: str | None,
    checkpoint: str | None,
    max_parallel_cities: int | None = None,
    failure_tolerance: float | None = None,
) -> Campaign:
    """The campaign with what the run's parameters set in its place; roots and checkpoint as absolute paths."""
    loaded = load_campaign(campaign)
    given: dict[str, Any] = {
        "data_root": Path(data_root or loaded.data_root).expanduser().resolve(),
        "out_root": Path(out_root or loaded.out_root).expanduser().resolve(),
        "checkpoint": Path(checkpoint or loaded.checkpoint).expanduser().resolve(),
        "max_parallel_cities": max_parallel_cities or loaded.max_parallel_cities,
        "failure_tolerance": loaded.failure_tolerance if failure_tolerance is None else failure_tolerance,
    }
    return loaded.model_copy(update=given)


def chosen(campaign: Campaign, cities: Iterable[str | int] | None) -> list[City]:
    """The cities of a run in order of adcode: those asked for by adcode or name, else all of the campaign."""
    if cities is None:
        return campaign.selected()
    return sorted({find_city(str(key)) for key in cities}, key=lambda c: c.adcode)


def run_campaign(campaign: Campaign, cities: list[City], *, all_must_exist: bool = False) -> State[Any]:
    """Run ``cities`` of ``campaign``; call it inside a flow and return its state.

    Args:
        campaign: Configuration with absolute paths.
        cities: What to map.
        all_must_exist: Whether a city without data fails the run.
    """
    logger = get_run_logger()
    record = _opened(campaign, cities)
    to_do = _entered(record, campaign, cities)
    record.save()
    try:
        _preflight(record, campaign, to_do, all_must_exist=all_must_exist)
    except RunError as error:
        logger.error("%s", one_line(error))  # noqa: TRY400 - a user's mistake: one line, no traceback
        return _closed(record, str(error), failed=True)
    _plan(record, campaign, to_do)
    progress = _Progress(record)
    drive(
        record=record,
        campaign=campaign,
        cities=to_do,
        width=min(campaign.max_parallel_cities, MAX_WIDTH),
        on_change=progress.update,
    )
    for code, city in record.of_state("failed").items():
        logger.error("failed: %s %s: %s", code, city.name, city.reason)
    if record.of_state("missing"):
        logger.warning("missing: %s", ", ".join(record.of_state("missing")))
    message = record.headline()
    if record.too_many_failed:
        message += f": more than the tolerated share {record.failure_tolerance:g} of {record.with_data} with data"
    return _closed(record, message, failed=record.too_many_failed)


def _opened(campaign: Campaign, cities: list[City]) -> RunRecord:
    """A new record, or that of the attempt before with this process as its owner."""
    run = str(runtime.flow_run.id)
    path = record_path(campaign.out_root, run)
    if path.exists():
        before = read_record(path)
        kept = {c.adcode: before.cities[c.adcode] for c in cities if c.adcode in before.cities}
        update = {"attempt": before.attempt + 1, "owner": Owner.me(), "state": "running", "cities": kept}
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


def _entered(record: RunRecord, campaign: Campaign, cities: list[City]) -> list[City]:
    """Enter every city into the record; those that have data and are not done by an attempt before."""
    to_do: list[City] = []
    for city in cities:
        before = record.cities.get(city.adcode)
        if before is not None and _still_done(before, campaign, city):
            continue
        entry = CityEntry(name=f"{city.name_en} {city.name_zh}")
        record.cities[city.adcode] = entry
        try:
            if not needs_demo_data(campaign, city):
                job_of(campaign, city)
            to_do.append(city)
        except MissingSourcesError as error:
            entry.state, entry.reason = "missing", one_line(error)
        except (PipelineError, RegionsError, OSError) as error:
            entry.state, entry.reason = "failed", one_line(error)
    return to_do


def _still_done(entry: CityEntry, campaign: Campaign, city: City) -> bool:
    if entry.state != "done" or not (campaign.product_folder(city.adcode) / "manifest.json").exists():
        return False
    try:
        return stamp_of(job_of(campaign, city)) == entry.stamp
    except (PipelineError, RegionsError, OSError):
        return False


def _preflight(record: RunRecord, campaign: Campaign, to_do: list[City], *, all_must_exist: bool) -> None:
    """Find at once what would fail every city.

    Raises:
        RunError: no city has data, there is no checkpoint, or the server lacks a limit.
    """
    missing = record.of_state("missing")
    if missing and (all_must_exist or len(missing) == len(record.cities)):
        first = next(iter(missing.values()))
        raise RunError(f"none of {len(missing)} cities has data under {campaign.data_root}: {first.reason}")
    if to_do and not campaign.checkpoint.exists():
        raise RunError(f"{campaign.checkpoint}: no such checkpoint; train a model or give the run's `checkpoint`")
    if not to_do:
        return
    with get_client(sync_client=True) as client:
        for name in (GPU_LIMIT, CPU_LIMIT):
            try:
                client.read_global_concurrency_limit_by_name(name)
            except ObjectNotFound as error:
                raise RunError(f"the server has no concurrency limit '{name}'; `uvmap up` creates it") from error


def _plan(record: RunRecord, campaign: Campaign, to_do: list[City]) -> None:
    """Say what is ahead: cities, missing ones, and the estimated work of those whose data are there."""
    logger = get_run_logger()
    jobs = [job_of(campaign, c).model_dump(mode="json") for c in to_do if not needs_demo_data(campaign, c)]
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
    _publish(
        create_markdown_artifact, key=f"{record.flow}-plan", markdown=plan_page(record), description="What is ahead"
    )


def plan_page(record: RunRecord) -> str:
    """The plan as a page: the figures of every city that has data, and the list of those that have none."""
    planned = {code: c.plan for code, c in record.cities.items() if c.plan}
    columns = list(dict.fromkeys(k for p in planned.values() for k, v in p.items() if isinstance(v, int | float | str)))
    lines = [f"# Plan of {record.flow}, campaign {record.campaign} {record.version}", "", record.headline(), ""]
    if planned:
        lines += [f"| city | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
        lines += [f"| {code} | {' | '.join(_cell(p.get(k)) for k in columns)} |" for code, p in planned.items()]
    missing = record.of_state("missing")
    if missing:
        lines += ["", f"No data under `{record.data_root}` for {len(missing)} cities:", "", ", ".join(missing)]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else "" if value is None else str(value)


class _Progress:
    """The run's progress bar on the server."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._id: UUID | None = _publish(
            create_progress_artifact, progress=0.0, key=f"{record.flow}-progress", description=record.headline()
        )

    def update(self) -> None:
        """Show where the record stands."""
        if self._id is not None:
            share = round(100.0 * self._record.progress, 1)
            _publish(update_progress_artifact, self._id, progress=share, description=self._record.headline())


def _closed(record: RunRecord, message: str, *, failed: bool) -> State[Any]:
    """Close the record, publish the table of cities, and give the run's final state."""
    record.state = "failed" if failed else "completed"
    record.save()
    _publish(create_markdown_artifact, key=f"{record.flow}-cities", markdown=record.markdown(), description=message)
    get_run_logger().info("%s; record %s", record.headline(), record.path)
    return (Failed if failed else Completed)(message=message)


def _publish(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Show something on the server; a server that does not answer must not cost a run."""
    try:
        return call(*args, **kwargs)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        get_run_logger().warning("the server did not take an artifact: %s", one_line(error))
        return None
