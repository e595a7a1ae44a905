"""`uvmap cities`: list and search the registry."""

from dataclasses import asdict
from typing import Annotated

import typer

from flows.console import JsonFlag, show, table
from regions.registry import load_registry, search_cities


def cities(
    text: Annotated[str, typer.Argument(help="Start of an adcode, or part of a Chinese or English name.")] = "",
    *,
    national: Annotated[bool, typer.Option("--national", help="Only the 342 of the campaign `china`.")] = False,
    region: Annotated[str | None, typer.Option(help="Only one region, such as South.")] = None,
    json: JsonFlag = False,
) -> None:
    """List cities, or find some by adcode, Chinese or English name.

    Example: uvmap cities 深圳
    """
    found = [c for c in search_cities(text) if (c.national or not national) and region in (None, c.region)]
    rows = [asdict(c) | {"crs": c.crs} for c in found]
    columns = {"adcode": "adcode", "name_zh": "name", "name_en": "English", "province": "province"}
    text_out = table(rows, columns | {"region": "region", "crs": "CRS"}) if rows else "no city matches"
    summary = f"{len(rows)} of {len(load_registry())} cities"
    show({"cities": rows, "count": len(rows)}, text=f"{text_out}\n{summary}", as_json=json)
    if not rows:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(cities)
