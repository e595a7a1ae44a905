"""`uvmap train`: train a segmentation model on cities, scenes or chips."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands import options as opt
from flows.console import JsonFlag, progress, say, show

FROZEN_OPTIONS = {"task", "tiles", "frozen", "pretrained", "out", "json"}
HOW = {"epochs", "max_seconds", "batch_size", "learning_rate", "encoder_rate", "patience", "validate_every"}
WHERE = {"precision", "accelerator", "devices", "workers", "ema"}
TASK_OPTIONS = FROZEN_OPTIONS | {"size", "seed"} | HOW | WHERE
"""What `--task zones`, `scenes` and `change` use; `--frozen` trains nothing."""
NOT_OF_A_BACKBONE = {
    "frozen",
    "size",
    "augment",
    "balance",
    "label_smoothing",
    "ignore_band_px",
    "bootstrap",
    "pretrained",
}
"""What `--encoder` has no use for, beside the schedule of a GeoLink model."""


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
    chips: Annotated[
        list[Path] | None, typer.Option("--chips", help="Folder of plain images with VIA JSON polygons; repeatable.")
    ] = None,
    chip_scale: Annotated[float, typer.Option(help="Factor that brings chips to the imagery's pixel size.")] = 1.0,
    validate_on: Annotated[
        str | None, typer.Option(help="Place to validate on, never learnt from: a city, a scene's file, or chips.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Model: tiny, small, base or large; that of --pretrained, else tiny.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Image encoder of timm instead of a size, such as efficientnet_lite0.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Weights of --encoder: imagenet (from its package), or a file.")
    ] = "imagenet",
    self_train: Annotated[
        str | None,
        typer.Option(help="City or folder of scenes to be mapped: learn from sure answers there too. With --encoder."),
    ] = None,
    stride_px: Annotated[int, typer.Option(help="Distance between training tiles of 224 px.")] = 112,
    augment: Annotated[str, typer.Option(help="How tiles are varied: plain, or strong for other ground.")] = "plain",
    balance: Annotated[bool, typer.Option("--balance", help="All places give as many tiles to an epoch.")] = False,
    label_smoothing: Annotated[float, typer.Option(help="Share of each label that is spread over all classes.")] = 0.0,
    ignore_band_px: Annotated[int, typer.Option(help="Leave out pixels this near to another class.")] = 0,
    bootstrap: Annotated[float, typer.Option(help="Share of each label taken from what the model itself says.")] = 0.0,
    max_seconds: Annotated[float | None, typer.Option(help="Stop training after this time.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Stop training after this many epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Tiles per step and device; the size's own.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the learning rate; the size's own.")] = None,
    encoder_rate: Annotated[float | None, typer.Option(help="Factor on it for the encoder, such as 0.1.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after this many validations without a better one; keep the best.")
    ] = None,
    validate_every: Annotated[int | None, typer.Option(help="Epochs between validations.")] = None,
    ema: Annotated[
        float | None, typer.Option(help="Share of the past in the averaged weights that are kept; 0 for the last.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="32-true, bf16-mixed, 16-mixed or bf16-true; bf16-mixed on a GPU.")
    ] = None,
    accelerator: Annotated[str | None, typer.Option(help="auto, cpu or gpu.")] = None,
    devices: Annotated[int | None, typer.Option(help="GPUs of this machine to train on.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that prepare batches.")] = None,
    tiles_in_memory_gb: Annotated[
        float, typer.Option(help="Tiles of more than this are kept on disk while training.")
    ] = 2.0,
    pretrained: Annotated[Path | None, typer.Option(help="Checkpoint whose encoder to start from.")] = None,
    text_encoder: opt.TextEncoder = None,
    text_weights: opt.TextWeights = None,
    seed: Annotated[int, typer.Option(help="Seed of all that is random.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Train a model; areas with role `train` are learnt from, those with role `validation` choose the model.

    Without areas for validation, every fifth strip of what is learnt from is kept for it, at a distance. Figures on the
    place that was learnt from say little of other places: --validate-on keeps one back. Areas with role `assess` are
    never read.

    Example: uvmap train 440300 440100 --data-root data/china --out out/model

    --encoder trains a linear classifier on an encoder that somebody else trained, kept as it is; the model adapts to
    the look of each city's imagery when it maps. Where cities have vectors, what the map adds is learnt too, and kept
    if it pays on the tiles for validation. With few labelled neighbourhoods this is the one that travels.

    With --self-train it learns once more, also from what it is itself sure of on the ground that is to be mapped; no
    label of that ground is read.

    Example: uvmap train 440300 --chips chips --chip-scale 0.4 --encoder efficientnet_lite0 --out out/model

    Example: uvmap train 440300 440100 --validate-on 440100 --augment strong --patience 3 --out out/model

    Example: uvmap train --task zones --tiles tiles/zones --pretrained out/pretrained/checkpoint --out out/zones
    """
    how: dict[str, Any] = {
        "epochs": epochs,
        "max_seconds": max_seconds,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "encoder_rate": encoder_rate,
        "patience": patience,
        "validate_every": validate_every,
        "precision": precision,
        "accelerator": accelerator,
        "devices": devices,
        "workers": workers,
        "ema": ema,
    }
    if task != "villages" or tiles is not None:
        opt.refuse_unused(context, used=FROZEN_OPTIONS if frozen else TASK_OPTIONS, what=f"--task {task}")
        run = {"out": out, "size": size, "pretrained": pretrained, "seed": seed, "changes": how}
        _train_task(task, tiles, run, frozen=frozen, as_json=json)
        return
    if encoder is None:
        opt.refuse_unused(context, used={*context.params} - {"frozen", "weights", "self_train"}, what="--task villages")
    else:
        opt.refuse_unused(context, used={*context.params} - NOT_OF_A_BACKBONE - {*how}, what=f"--encoder {encoder}")
    from models.segmentation.loss import LossConfig
    from pipeline.city.check import check_city
    from pipeline.city.tag_text import tag_text_of
    from pipeline.learning.training import Backbone, Grounds, Recipe, train_model
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
    material = Grounds(
        grounds=grounds, chips=chips or (), chip_scale=chip_scale, validate_on=validate_on, stride_px=stride_px
    )
    target = None
    if self_train is not None:
        found = opt.scenes_of(self_train, data_root=data_root, imagery_crs=imagery_crs)
        # a work folder of its own: it may be the city that is learnt from, cut otherwise
        work = out.parent / ".work" / "self-train"
        target = opt.ground_from(found, work=work, grid=opt.grid_of(resolution_m=resolution_m))
    loss = opt.checked(LossConfig, label_smoothing=label_smoothing, ignore_band_px=ignore_band_px, bootstrap=bootstrap)
    result = train_model(
        material,
        out=out,
        size=size,
        recipe=Recipe(augment=augment, balance=balance, loss=loss),
        pretrained=pretrained,
        backbone=None if encoder is None else Backbone(name=encoder, weights=weights),
        self_train=target,
        text_encoder=tags,
        tiles_in_memory_gb=tiles_in_memory_gb,
        seed=seed,
        progress=None if json else progress,
        warn=lambda text: say(f"warning: {text}"),
        **how,
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
