"""`uvmap release build`: the products of a campaign as one dataset."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import JsonFlag, show


def build(
    *,
    campaign: Annotated[str, typer.Option(help="Campaign by name, or the path of its YAML file.")],
    version: Annotated[str, typer.Option(help="Version of the release, X.Y.Z.")],
    out: Annotated[Path, typer.Option(help="Folder that receives the release.")],
    scores: Annotated[
        bool, typer.Option("--scores/--no-scores", help="Put the score rasters into the archives.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make one dataset of all products of a campaign: archives, national files, tables, texts, checksums.

    Example: uvmap release build --campaign demo --version 1.0.0 --out out/release-1.0.0
    """
    from pipeline.release.plan import plan_release
    from regions.campaign import load_campaign

    plan = plan_release(load_campaign(campaign), with_scores=scores)
    data = {"version": version, "out": str(out), "cities": len(plan.products), "files": list(plan.files)}
    show(data, text=f"{len(plan.products)} cities, {len(plan.files)} files", as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build")(build)
