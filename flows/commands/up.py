"""`uvmap up`: the services that `prefect deployment run` needs."""

from typing import Annotated

import typer

from flows.console import JsonFlag, say, show


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up(
    *,
    port: Annotated[
        int | None, typer.Option(help="Port of the server on 127.0.0.1.", envvar="UVMAP_PORT", min=1, max=65_535)
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="Stages on an accelerator at once.", min=1)] = None,
    cpus: Annotated[int | None, typer.Option(help="Other stages at once.", min=1)] = None,
    activate: Annotated[
        bool, typer.Option("--activate", help="Switch to the profile 'uvmap' even from one with a server of its own.")
    ] = False,
    join: Annotated[
        str | None, typer.Option(help="Start a worker alone, for the server of another machine at this address.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(help="Runs of this machine's worker at once; with --join 1, else no limit.", min=1)
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Start or check server, work pool, limits, deployments and worker; run it as often as you like.

    Example: uvmap up && prefect deployment run uv-map/demo --watch
    """
    from flows.service.profile import how_to_point_here
    from flows.service.setup import bring_up
    from flows.service.setup import join as join_server

    if join is not None:
        services = join_server(join, say=say, runs=runs or 1)
    else:
        services = bring_up(say=say, port=port, gpus=gpus, cpus=cpus, activate=activate, runs=runs)
    hint = how_to_point_here(services)
    lines = [f"up: {services.api_url.removesuffix('/api')}", "run: prefect deployment run uv-map/china"]
    lines += [f"note: {hint}"] if hint else []
    show(
        {**services.model_dump(mode="json"), "api_url": services.api_url, "hint": hint},
        text="\n".join(lines),
        as_json=as_json,
    )
