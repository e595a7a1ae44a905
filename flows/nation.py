"""The flow `uv-map`: all cities of a campaign, each through all stages."""

from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.campaign_run import Request, run_named
from flows.choice import Order
from flows.orders import Orders
from flows.stages import MAX_WIDTH

RUNNER: Any = ThreadPoolTaskRunner(max_workers=MAX_WIDTH)  # Any: its class is invariant in the type of its futures
Region = Literal["North", "Northeast", "East", "Central", "South", "Southwest", "Northwest"]


@flow(name="uv-map", task_runner=RUNNER)
def uv_map(  # noqa: PLR0913, PLR0917 - parameters of a deployment are given by name
    campaign: str = "china",
    cities: list[int | str] | None = None,
    provinces: list[int | str] | None = None,
    regions: list[Region] | None = None,
    stages: list[str] | None = None,
    order: Order = "large first",
    force: bool = False,
    dry_run: bool = False,
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] | None = None,
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
        provinces: Only cities in these provinces, by English name or the first two digits of the adcode.
        regions: Only cities in these of the seven regions.
        stages: Only these stages and those they need, such as ["scores"]; all where left out.
        order: "large first", so that no long city is left for the end, or "as given" in cities.
        force: Make the results of these stages anew although they are there; the same inputs give the same bytes.
        dry_run: End with the plan: what is there, what is missing, what it will take.
        version: Version of the products, in place of the campaign's, such as 1.2.0.
        data_root: Folder of the cities' data, in place of the campaign's.
        out_root: Folder of the products, in place of the campaign's.
        checkpoint: Folder of the model, in place of the campaign's.
        max_parallel_cities: Cities in hand at once, in place of the campaign's.
        failure_tolerance: Share of the cities with data that may fail, in place of the campaign's.

    Returns:
        Completed, or Failed where more cities failed than tolerated; the message counts them.
    """
    return run_named(
        campaign,
        cities,
        provinces=None if provinces is None else [str(p) for p in provinces],
        regions=regions,
        stages=stages,
        request=Request(orders=Orders(anew=force), order=order, dry=dry_run),
        data_root=data_root,
        out_root=out_root,
        checkpoint=checkpoint,
        version=version,
        max_parallel_cities=max_parallel_cities,
        failure_tolerance=failure_tolerance,
    )
