"""`uvmap down`: stop what `uvmap up` started."""

from typing import Annotated

import typer

from flows.console import JsonFlag, say, show


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("down")(down)


def down(
    *,
    force: Annotated[bool, typer.Option("--force", help="Stop although runs are in progress.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Stop worker and server, and go back to the Prefect profile of before.

    Example: uvmap down --force && uvmap up && uvmap resume 3f2a
    """
    from flows.service.setup import take_down

    services = take_down(say=say, force=force)
    show(services.model_dump(mode="json"), text="down", as_json=as_json)
