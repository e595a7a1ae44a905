"""`uvmap release build`: the products of a campaign as one dataset."""

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    _ = app
