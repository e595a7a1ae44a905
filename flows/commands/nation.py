"""`uvmap nation`: the nation in miniature, through the real server and worker."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.console import say, show

DEFAULT_OUT = Path("out/nation-demo")


def nation(
    *,
    cities: Annotated[int, typer.Option(min=1, max=342, help="How many of the 342, spread over the registry.")] = 342,
    out: Annotated[Path, typer.Option(help="Folder of data, products, tables and services.")] = DEFAULT_OUT,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Model; without one a `tiny` model with random weights: the same work.")
    ] = None,
    campaign: Annotated[
        str, typer.Option(help="Campaign of synthetic cities (`demo_side_m`), by name or YAML file.")
    ] = "nation-demo",
    previous: Annotated[
        Path | None,
        typer.Option(help="Folder of an earlier nation: villages keep its ids, the version is the next minor one."),
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="Everything that shaped the model, for the assessment's check of leakage.")
    ] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="Stages at once; the cores if left out.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Map synthetic cities of 1 km2 at the places of the 342 by uv-map/china, assess 28 of them, and say what it cost.

    Everything lies in one folder, with a server and a worker of its own; the last line is one JSON object. Stopped and
    started again, it finds what is finished. `campaign.yaml` in the folder names its cities and products: the commands
    that follow (release, analyze, tables) take it as --campaign.

    Example: uvmap nation --cities 20
    """
    import os

    from flows.miniature import run_nation
    from flows.random_model import save_random_model
    from regions.registry import national_set

    out = out.resolve()
    os.environ["UVMAP_HOME"] = str(out / "home")
    everywhere = [c.adcode for c in national_set()]
    chosen = [everywhere[k * len(everywhere) // cities] for k in range(cities)]
    model = checkpoint.resolve() if checkpoint is not None else out / "model"
    if not model.exists():
        say("writing a model with random weights")
        save_random_model(model)
    summary = run_nation(
        chosen,
        out=out,
        checkpoint=model,
        campaign=str(Path(campaign).resolve()) if Path(campaign).suffix else campaign,
        cpus=cpus or os.cpu_count() or 1,
        previous=previous,
        training=training,
        say=(lambda _: None) if json_ else say,
    )
    show(summary, text=json.dumps(summary, ensure_ascii=False), as_json=json_)
    if summary["failed"]:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(nation)
