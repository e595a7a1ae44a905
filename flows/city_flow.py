"""The flow `uv-map-city`: one city of a campaign, through the same stages as the nation's run."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from flows.campaign_run import run_named

RUNNER: Any = ThreadPoolTaskRunner(max_workers=1)  # Any: its class is invariant in the type of its futures


@flow(name="uv-map-city", task_runner=RUNNER)
def uv_map_city(
    city: int | str,
    campaign: str = "china",
    data_root: str | None = None,
    out_root: str | None = None,
    checkpoint: str | None = None,
) -> State[Any]:
    """Map one city anew: whatever changed since its last product (data, model, settings, code) is redone.

    Args:
        city: Adcode or name.
        campaign: Name of a campaign, or path of its YAML file.
        data_root: Folder of the cities' data, in place of the campaign's.
        out_root: Folder of the products, in place of the campaign's.
        checkpoint: Folder of the model, in place of the campaign's.

    Returns:
        Completed, or Failed with the reason.
    """
    return run_named(
        campaign,
        [city],
        all_must_exist=True,
        data_root=data_root,
        out_root=out_root,
        checkpoint=checkpoint,
        failure_tolerance=0.0,
    )
