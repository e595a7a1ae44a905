"""The flow `uv-map-city`: one city of a campaign, through the same stages as the nation's run."""

from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.campaign_run import Request, configured, run_campaign
from flows.choice import chosen
from flows.failures import one_line
from flows.figures import difference
from flows.orders import Orders
from flows.process import run_isolated
from flows.progress import publish
from flows.record import read_record, record_path
from flows.variant import Overrides, beside
from pipeline.errors import PipelineError
from pipeline.files import replacing_folder
from pipeline.product.files import polygon_paths
from regions.campaign import Campaign
from regions.errors import RegionsError
from regions.registry import City

RUNNER: Any = ThreadPoolTaskRunner(max_workers=1)  # Any: its class is invariant in the type of its futures


@flow(name="uv-map-city", task_runner=RUNNER)
def uv_map_city(  # noqa: PLR0913, PLR0917 - parameters of a deployment are given by name
    city: int | str,
    campaign: str = "china",
    data_root: str | None = None,
    out_root: str | None = None,
    checkpoint: str | None = None,
    polygons: dict[str, Any] | None = None,
    imagery: list[str] | None = None,
    name: str | None = None,
    force: bool = False,
) -> State[Any]:
    """Map one city anew: whatever changed since its last product (data, model, settings, code) is redone.

    With a checkpoint, thresholds or imagery of its own, or a name, the new product stands beside the old one, in
    `regenerated/NAME` of the campaign's products, and what is not touched by them is taken over. Either way the
    difference to the product of before is told: villages unchanged, grown, shrunk, new and gone, and areas.

    Args:
        city: Adcode or name.
        campaign: Name of a campaign, or path of its YAML file.
        data_root: Folder of the cities' data, in place of the campaign's.
        out_root: Folder of the products, in place of the campaign's.
        checkpoint: Folder of another model.
        polygons: Thresholds in place of the campaign's, such as {"seed": 0.6, "min_area_m2": 5000}.
        imagery: Scenes in place of those in the city's folder.
        name: What the new product is called; made from the settings where left out.
        force: Make all results anew although they are there; the same inputs give the same bytes.

    Returns:
        Completed, or Failed with the reason.
    """
    logger = get_run_logger()
    overrides = Overrides(
        polygons=polygons,
        imagery=tuple(Path(i).expanduser().resolve() for i in imagery or ()),
        checkpoint=None if checkpoint is None else Path(checkpoint).expanduser().resolve(),
    )
    try:
        settings = configured(campaign, data_root=data_root, out_root=out_root, checkpoint=None, failure_tolerance=0.0)
        (one,) = chosen(settings, [city])
        before = _kept(settings, one)
        if before is None and name is None and overrides.only_checkpoint:  # nothing that it could stand beside
            settings = settings.model_copy(update={"checkpoint": overrides.checkpoint})
        elif overrides or name is not None:
            settings = beside(settings, one, overrides, name=name)
    except (PipelineError, RegionsError, OSError, ValueError) as error:
        logger.error("%s", one_line(error))  # noqa: TRY400 - a user's mistake: one line, no traceback
        return Failed(message=one_line(error))
    state = run_campaign(settings, [one], Request(orders=Orders(anew=force), all_must_exist=True))
    if state.is_completed() and before is not None:
        try:
            _tell_difference(settings, one, before)
        except (PipelineError, OSError) as error:
            logger.warning("the difference to the product of before: %s", one_line(error))
    return state


def _kept(campaign: Campaign, city: City) -> Path | None:
    """A copy of the villages of the product that stands there, kept until the difference is told; None without one."""
    villages = polygon_paths(campaign.product_folder(city.adcode), city.adcode)[0]
    if not villages.exists():
        return None
    folder = campaign.out_root / ".work" / city.adcode / "before"
    with replacing_folder(folder) as made:
        (made / villages.name).write_bytes(villages.read_bytes())
    return folder / villages.name


def _tell_difference(campaign: Campaign, city: City, before: Path) -> None:
    """Write tables and a page beside the product, the figures into the record, and an artifact."""
    folder = campaign.out_root / f"diff-{city.adcode}"
    after = polygon_paths(campaign.product_folder(city.adcode), city.adcode)[0]
    request = {"kind": "diff", "old": str(before), "new": str(after), "out": str(folder)}
    figures = run_isolated(request, what=f"{city.adcode} diff", log=get_run_logger().info).result
    record = read_record(record_path(campaign.out_root, str(runtime.flow_run.id)))
    record.cities[city.adcode].diff = figures
    record.save()
    rows = "\n".join(f"| {k} | {v:.4f} |" if isinstance(v, float) else f"| {k} | {v} |" for k, v in figures.items())
    text = f"# {city.adcode} {city.name_en}: before and after\n\n| | |\n|---|---|\n{rows}\n\n`{folder / 'diff.html'}`\n"
    publish(create_markdown_artifact, key=f"uv-diff-{city.adcode}", markdown=text, description=difference(figures))
    get_run_logger().info("%s; %s", difference(figures), folder / "diff.html")
