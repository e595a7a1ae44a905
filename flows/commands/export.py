"""`uvmap export`: the image encoder of a checkpoint for programs that know timm."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import options as opt
from flows.console import JsonFlag, show


def export(
    *,
    checkpoint: opt.Checkpoint,
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    json: JsonFlag = False,
) -> None:
    """Write the image encoder as a plain timm vision transformer: its weights, and the arguments that build it.

    Example: uvmap export --checkpoint out/pretrained/checkpoint --out out/encoder.safetensors
    """
    from models.tasks.timm_file import export_timm
    from pipeline.files import replacing

    with replacing(out) as temporary:
        arguments = export_timm(checkpoint, temporary)
    text = f"weights    {out}\nbuild with timm.create_model('vit_base_patch16_224', **{arguments})"
    show({"weights": str(out), "model": "vit_base_patch16_224", "arguments": arguments}, text=text, as_json=json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)
