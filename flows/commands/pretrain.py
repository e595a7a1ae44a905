"""`uvmap pretrain`: pretrain a GeoLink encoder on image and map pairs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands import options as opt
from flows.console import JsonFlag, progress, show

IMPORT_OPTIONS = {"from_official", "text_encoder", "text_weights", "out", "json"}
"""What `--from-official` uses."""


def pretrain(
    context: typer.Context,
    cities: Annotated[list[str] | None, typer.Argument(help="Cities with data under --data-root.")] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder that receives pairs/ and checkpoint/.")],
    data_root: opt.DataRoot = Path("data/china"),
    imagery: opt.Imagery = None,
    vectors: opt.Vectors = None,
    imagery_crs: opt.ImageryCrs = None,
    default_tag: opt.DefaultTag = None,
    vectors_crs: opt.VectorsCrs = None,
    vectors_encoding: opt.VectorsEncoding = None,
    vectors_id: opt.VectorsId = None,
    resolution_m: opt.ResolutionM = None,
    size: Annotated[str, typer.Option(help="Size of the model: tiny, small, base or large.")] = "tiny",
    stride_px: Annotated[int, typer.Option(help="Distance between tiles of 224 px.")] = 224,
    epochs: Annotated[int | None, typer.Option(help="Passes over the pairs.")] = None,
    max_seconds: Annotated[
        float | None, typer.Option(help="Time limit; the result then depends on the machine.")
    ] = None,
    from_official: Annotated[
        Path | None, typer.Option(help="Published GeoLink weights (.pth): make them a checkpoint, train nothing.")
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(
            help="Text model of tags: hashed (if none), minilm, clip or table; of --from-official clip or table."
        ),
    ] = None,
    text_weights: opt.TextWeights = None,
    seed: Annotated[int, typer.Option(help="Seed of all that is random.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Write pairs from cities' imagery and maps, and pretrain an encoder on them; no labels are needed.

    Pairs that are in --out already are used as they are. Give the result to `uvmap train --pretrained`.

    Example: uvmap pretrain 440300 440100 --data-root data/china --out out/pretrained

    Example: uvmap pretrain --from-official weights/geolink.pth --out out/official
    """
    if from_official is not None:
        opt.refuse_unused(context, used=IMPORT_OPTIONS, what="--from-official")
        tags = (text_encoder, text_weights) if text_encoder else None
        _import_official(from_official, out / "checkpoint", tags, as_json=json)
        return
    from models.pretraining.trainer import PRETRAINING
    from models.pretraining.trainer import pretrain as run_pretraining
    from pipeline.city.tag_text import tag_text_of
    from pipeline.learning.pairs import write_pairs
    from pipeline.learning.training import segmentation_config
    from regions.settings import TextConfig

    # before the pairs: what is missing is said at once
    tag_text = tag_text_of(None, TextConfig(encoder=text_encoder, weights=text_weights), work=out / ".work")
    wanted: list[tuple[str | None, list[Path] | None]] = [(c, None) for c in cities or []] or [(None, imagery)]
    grounds = [
        opt.ground_from(
            opt.sources_from(
                city,
                data_root=data_root,
                imagery=scenes,
                vectors=vectors,
                imagery_crs=imagery_crs,
                default_tag=default_tag,
                vectors_crs=vectors_crs,
                vectors_encoding=vectors_encoding,
                vectors_id=vectors_id,
            ),
            work=out / ".work",
            grid=opt.grid_of(resolution_m=resolution_m),
        )
        for city, scenes in wanted
    ]
    pairs = out / "pairs"
    if not (pairs / "pairs.json").exists():
        write_pairs(grounds, pairs, stride_px=stride_px, progress=iter if json else progress)
    changes: dict[str, Any] = {k: v for k, v in {"epochs": epochs, "max_seconds": max_seconds}.items() if v is not None}
    result = run_pretraining(
        pairs,
        segmentation_config(size).geolink,
        out=out,
        training=PRETRAINING.model_copy(update=changes),
        text_encoder=tag_text,
        seed=seed,
        progress=not json,
    )
    figures = {
        "checkpoint": str(result.checkpoint),
        **{f"{name}_before": value for name, value in result.before.items()},
        **{f"{name}_after": value for name, value in result.after.items()},
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
    }
    text = "\n".join(f"{k:<24} {v:.4f}" if isinstance(v, float) else f"{k:<24} {v}" for k, v in figures.items())
    show(figures, text=f"{text}\nnext: uvmap train CITY --pretrained {result.checkpoint} --out out/model", as_json=json)


def _import_official(file: Path, out: Path, text_encoder: tuple[str, Path | None] | None, *, as_json: bool) -> None:
    from models.geolink.text_encoders import named_text_encoder
    from models.pretraining.official_start import import_official
    from models.tiles.semantics import tag_encoder_id

    tags, options = None, "--image-only"
    if text_encoder is not None:
        name, weights = text_encoder
        tags = tag_encoder_id(named_text_encoder(name, path=weights))
        options = f"--text-encoder {name} --text-weights {weights}"
    digest = import_official(file, out, tag_encoder=tags)
    following = f"uvmap encode CITY --checkpoint {out} {options} --out out/features.tif"
    text = f"checkpoint {out}\ndigest     {digest}\nnext: {following}"
    show({"checkpoint": str(out), "digest": digest}, text=text, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(pretrain)
