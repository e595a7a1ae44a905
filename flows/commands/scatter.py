"""`uvmap scatter`: a campaign as several runs, for workers on several machines."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import JsonFlag, show, table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("scatter")(scatter)


def scatter(
    *,
    campaign: Annotated[str, typer.Option(help="A campaign's name or file; every machine must find it.")] = "china",
    runs: Annotated[int, typer.Option(min=1, help="Runs to cut it into: some for each worker.")] = 8,
    checkpoint: Annotated[Path | None, typer.Option(help="Folder of the model, in place of the campaign's.")] = None,
    batch: Annotated[str, typer.Option(help="Names this scattering; the same name starts nothing twice.")] = "1",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the shares and start nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Cut a campaign into runs of about equal size that the workers of one pool draw, each when it is free.

    Example: uvmap scatter --campaign china --runs 40
    """
    from flows.scatter import shares, sized, submit
    from flows.service.processes import read_services
    from regions.campaign import load_campaign

    settings = load_campaign(campaign)
    found, missing = sized(settings, settings.selected())
    parts = shares(found, runs)
    weights = dict(found)
    parameters = {"campaign": campaign} | ({} if checkpoint is None else {"checkpoint": str(checkpoint.resolve())})
    ids = [] if dry_run else submit(read_services(), parts, name=f"{settings.name}-{batch}", parameters=parameters)
    rows = [
        {"run": run, "cities": len(part), "mb": sum(weights[c] for c in part) / 1e6, "first": part[0]}
        for run, part in zip(ids or ["-"] * len(parts), parts, strict=True)
    ]
    data = {"runs": ids, "shares": parts, "missing": missing}
    columns = {"run": "run", "cities": "cities", "mb": "MB", "first": "first"}
    text = f"{len(parts)} runs of {len(found)} cities, {len(missing)} without data\n{table(rows, columns)}"
    show(data, text=text, as_json=as_json)
    if not parts:
        raise typer.Exit(1)
