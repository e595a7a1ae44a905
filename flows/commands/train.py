"""`uvmap train`: train a segmentation model on cities, scenes or chips."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands import options as opt
from flows.console import JsonFlag, progress, say, show

FROZEN_OPTIONS = {"task", "tiles", "frozen", "pretrained", "out", "json"}
TASK_OPTIONS = FROZEN_OPTIONS | {"size", "epochs", "max_seconds", "seed"}
"""What `--task zones`, `scenes` and `change` use; `--frozen` trains nothing."""


def train(
    context: typer.Context,
    cities: Annotated[list[str] | None, typer.Argument(help="Cities with labels under --data-root.")] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder that receives the checkpoint.")],
    data_root: opt.DataRoot = Path("data/china"),
    imagery: opt.Imagery = None,
    vectors: opt.Vectors = None,
    reference: opt.Reference = None,
    layer: opt.Layer = None,
    positive: opt.Positive = None,
    districts: opt.Districts = None,
    imagery_crs: opt.ImageryCrs = None,
    resolution_m: opt.ResolutionM = None,
    default_tag: opt.DefaultTag = None,
    vectors_crs: opt.VectorsCrs = None,
    vectors_encoding: opt.VectorsEncoding = None,
    vectors_id: opt.VectorsId = None,
    task: Annotated[
        str, typer.Option(help="villages; or zones, scenes or change, which learn from --tiles.")
    ] = "villages",
    tiles: Annotated[Path | None, typer.Option(help="Folder of tiles of a task; its layout: docs/models.md.")] = None,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Scenes: judge the encoder of --pretrained as it is, train nothing.")
    ] = False,
    chips: Annotated[Path | None, typer.Option(help="Folder of plain images with VIA JSON polygons.")] = None,
    chip_scale: Annotated[float, typer.Option(help="Factor that brings chips to the imagery's pixel size.")] = 1.0,
    size: Annotated[str, typer.Option(help="Size of the model: tiny, small, base or large.")] = "tiny",
    stride_px: Annotated[int, typer.Option(help="Distance between training tiles of 224 px.")] = 112,
    max_seconds: Annotated[float | None, typer.Option(help="Stop training after this time.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Stop training after this many epochs.")] = None,
    pretrained: Annotated[Path | None, typer.Option(help="Checkpoint whose encoder to start from.")] = None,
    text_encoder: opt.TextEncoder = None,
    text_weights: opt.TextWeights = None,
    seed: Annotated[int, typer.Option(help="Seed of all that is random.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Train a model; areas with role `train` are learnt from, those with role `validation` choose the model.

    Without areas, every fifth column of tiles is kept for validation. Areas with role `assess` are never read.

    Example: uvmap train 440300 440100 --data-root data/china --out out/model

    Example: uvmap train --task zones --tiles tiles/zones --pretrained out/pretrained/checkpoint --out out/zones
    """
    if task != "villages" or tiles is not None:
        opt.refuse_unused(context, used=FROZEN_OPTIONS if frozen else TASK_OPTIONS, what=f"--task {task}")
        how = {"out": out, "size": size, "epochs": epochs, "pretrained": pretrained, "seed": seed}
        _train_task(task, tiles, how | {"max_seconds": max_seconds}, frozen=frozen, as_json=json)
        return
    opt.refuse_unused(context, used={*context.params} - {"frozen"}, what="--task villages")
    from pipeline.city.check import check_city
    from pipeline.city.tag_text import tag_text_of
    from pipeline.learning.training import train_model
    from regions.settings import TextConfig

    # before the tiles: what is missing is said at once
    tags = tag_text_of(pretrained, TextConfig(encoder=text_encoder, weights=text_weights), work=out.parent / ".work")
    wanted: list[tuple[str | None, list[Path] | None]] = [(c, None) for c in cities or []]
    if not wanted and (imagery or chips is None):
        wanted = [(None, imagery)]
    grounds = []
    for city, scenes in wanted:
        sources = opt.sources_from(
            city,
            data_root=data_root,
            imagery=scenes,
            vectors=vectors,
            reference=reference,
            reference_layer=layer,
            reference_positive=positive,
            districts=districts,
            imagery_crs=imagery_crs,
            default_tag=default_tag,
            vectors_crs=vectors_crs,
            vectors_encoding=vectors_encoding,
            vectors_id=vectors_id,
        )
        grid = opt.grid_of(resolution_m=resolution_m)
        ground = opt.ground_from(sources, work=out.parent / ".work", grid=grid)
        for warning in check_city(ground).warnings:
            say(f"warning: {warning}")
        grounds.append(ground)
    result = train_model(
        grounds,
        out=out,
        chips=chips,
        chip_scale=chip_scale,
        size=size,
        stride_px=stride_px,
        max_seconds=max_seconds,
        epochs=epochs,
        pretrained=pretrained,
        text_encoder=tags,
        seed=seed,
        progress=None if json else progress,
    )
    figures = {"checkpoint": str(result.checkpoint), **result.figures}
    text = "\n".join(f"{key:<20} {_short(value)}" for key, value in figures.items())
    show(figures, text=f"{text}\nnext: uvmap map CITY --checkpoint {result.checkpoint}", as_json=json)


def _train_task(task: str, tiles: Path | None, how: dict[str, Any], *, frozen: bool, as_json: bool) -> None:
    from pipeline.learning.tasks import TASKS, TaskRun, TaskTilesError, probe_scenes, train_task

    if tiles is None or task not in TASKS:
        raise TaskTilesError(f"--task {task} with --tiles {tiles}: give both, the task one of {', '.join(TASKS)}")
    if frozen:
        pretrained = how["pretrained"]
        if pretrained is None or task != "scenes":
            raise TaskTilesError(
                f"--frozen judges an encoder on scenes: give --task scenes (not {task}) and --pretrained"
            )
        figures: dict[str, Any] = {"checkpoint": str(pretrained), **probe_scenes(tiles, pretrained)}
    else:
        result = train_task(task, TaskRun(tiles, **how, progress=not as_json))
        figures = {"checkpoint": str(result.checkpoint), **result.figures}
    show(figures, text="\n".join(f"{key:<20} {_short(value)}" for key, value in figures.items()), as_json=as_json)


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)
