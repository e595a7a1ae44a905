"""The flow `uv-map`: all cities of a campaign, each through all stages."""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.campaign_run import run_named
from flows.stages import MAX_WIDTH

RUNNER: Any = ThreadPoolTaskRunner(max_workers=MAX_WIDTH)  # Any: its class is invariant in the type of its futures


@flow(name="uv-map", task_runner=RUNNER)
def uv_map(  # noqa: PLR0917 - parameters of a deployment are given by name
    campaign: str = "china",
    cities: list[int | str] | None = None,
    data_root: str | None = None,
    out_root: str | None = None,
    checkpoint: str | None = None,
    max_parallel_cities: Annotated[int, Field(gt=0)] | None = None,
    failure_tolerance: Annotated[float, Field(ge=0, le=1)] | None = None,
) -> State[Any]:
    """Map all cities of a campaign that have data; report those that have none and those that failed.

    Args:
        campaign: Name of a campaign, or path of its YAML file.
        cities: Only these, by adcode or name.
        data_root: Folder of the cities' data, in place of the campaign's.
        out_root: Folder of the products, in place of the campaign's.
        checkpoint: Folder of the model, in place of the campaign's.
        max_parallel_cities: Cities worked on at once, in place of the campaign's.
        failure_tolerance: Share of the cities with data that may fail, in place of the campaign's.

    Returns:
        Completed, or Failed where more cities failed than tolerated; the message counts them.
    """
    return run_named(
        campaign,
        cities,
        data_root=data_root,
        out_root=out_root,
        checkpoint=checkpoint,
        max_parallel_cities=max_parallel_cities,
        failure_tolerance=failure_tolerance,
    )
