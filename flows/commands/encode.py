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
    text_encoder: opt.TextEncoder = "hashed",
    text_weights: opt.TextWeights = None,
    json: JsonFlag = False,
) -> None:
    """Write what the encoder says of every 16 px patch: for neighbours, clustering and models of your own.

    Example: uvmap encode 440300 --checkpoint out/pretrained/checkpoint --out out/440300_features.tif
    """
    from models.geolink.text_encoders import named_text_encoder
    from pipeline.learning.encodings import encode_city

    # the hashed one takes the width of the checkpoint
    text = None if text_encoder == "hashed" else named_text_encoder(text_encoder, path=text_weights)
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
    ground = opt.ground_from(sources, work=out.parent / ".work", grid=grid)
    summary = encode_city(
        ground, checkpoint, out, image_only=image_only, text_encoder=text, progress=iter if json else progress
    )
    show(summary, text="\n".join(f"{key:<12} {value}" for key, value in summary.items()), as_json=json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(encode)
