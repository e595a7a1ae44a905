"""`uvmap change`: what changed between two dates, tile by tile."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import options as opt
from flows.console import JsonFlag, show


def change(
    *,
    checkpoint: opt.Checkpoint,
    before: Annotated[Path, typer.Option(help="Folder of tiles of the first date.")],
    after: Annotated[Path, typer.Option(help="Folder of tiles of the second date, of the same names.")],
    out: Annotated[Path, typer.Option(help="Folder that receives a score PNG per tile: 0 to 250 for 0 to 1.")],
    json: JsonFlag = False,
) -> None:
    """Write the probability of change of pairs of tiles, with a model of `uvmap train --task change`.

    Example: uvmap change --checkpoint out/change/checkpoint --before tiles/2022 --after tiles/2024 --out out/changed
    """
    from pipeline.learning.tasks import write_change

    written = write_change(checkpoint, before, after, out)
    show({"files": [str(p) for p in written]}, text=f"{len(written)} tiles written to {out}", as_json=json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(change)
