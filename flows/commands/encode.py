"""`uvmap encode`: dense encodings of a city as a GeoTIFF of features."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import options as opt
from flows.console import JsonFlag, progress, show


def encode(
    city: opt.CityArg = None,
    *,
    checkpoint: opt.Checkpoint,
    out: Annotated[Path, typer.Option(help="The GeoTIFF to write.")],
    data_root: opt.DataRoot = Path("data/china"),
    imagery: opt.Imagery = None,
    vectors: opt.Vectors = None,
    imagery_crs: opt.ImageryCrs = None,
    default_tag: opt.DefaultTag = None,
    vectors_crs: opt.VectorsCrs = None,
    vectors_encoding: opt.VectorsEncoding = None,
    vectors_id: opt.VectorsId = None,
    resolution_m: opt.ResolutionM = None,
    image_only: Annotated[bool, typer.Option("--image-only", help="Leave the map out.")] = False,
    text_encoder: opt.TextEncoder = None,
    text_weights: opt.TextWeights = None,
    json: JsonFlag = False,
) -> None:
    """Write what the encoder says of every 16 px patch: for neighbours, clustering and models of your own.

    Example: uvmap encode 440300 --checkpoint out/pretrained/checkpoint --out out/440300_features.tif
    """
    from pipeline.city.tag_text import tag_text_of
    from pipeline.learning.encodings import encode_city
    from regions.settings import TextConfig

    work = out.parent / ".work"
    choice = TextConfig(encoder=text_encoder, weights=text_weights)
    text = None if image_only else tag_text_of(checkpoint, choice, work=work)
    sources = opt.sources_from(
        city,
        data_root=data_root,
        imagery=imagery,
        vectors=vectors,
        imagery_crs=imagery_crs,
        default_tag=default_tag,
        vectors_crs=vectors_crs,
        vectors_encoding=vectors_encoding,
        vectors_id=vectors_id,
    )
    grid = opt.grid_of(resolution_m=resolution_m)
    ground = opt.ground_from(sources, work=work, grid=grid)
    summary = encode_city(
        ground, checkpoint, out, image_only=image_only, text_encoder=text, progress=iter if json else progress
    )
    show(summary, text="\n".join(f"{key:<12} {value}" for key, value in summary.items()), as_json=json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(encode)
