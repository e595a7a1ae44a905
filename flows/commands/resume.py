"""`uvmap resume`: take up a run whose worker died, or whose cities failed."""

from typing import Annotated

import typer

from flows.console import JsonFlag, show


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("resume")(resume)


def resume(
    run: Annotated[str, typer.Argument(help="Id, start of an id, or name of the run.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Even if it ran on another machine.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Schedule a dead or failed run again; finished cities stay, the others go on where they stopped.

    Example: uvmap resume 3f2a && uvmap status 3f2a
    """
    from flows.service.processes import read_services
    from flows.service.runs import resume as take_up

    record = take_up(run, read_services(), force=force)
    text = f"run {record.run} is scheduled again: {record.headline()}"
    show({"run": record.run, "counts": record.counts(), "record": str(record.path)}, text=text, as_json=as_json)
