"""`uvmap status`: the services of this machine, or how far a run is."""

import sys
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.console import JsonFlag, show, table

SHOWN_RUNS = 10
SHOWN_SLOW = 5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(
    run: Annotated[
        str | None, typer.Argument(help="Id, start of an id, or name of a run; the services if left out.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="List every city, also those done and missing.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again until the run has ended.")] = False,
    every_s: Annotated[float, typer.Option("--every", min=0.1, help="With --watch: seconds between.")] = 5.0,
    as_json: JsonFlag = False,
) -> None:
    """Show the services and the last runs, or one run city by city; works while the server is down, too.

    Example: uvmap status 3f2a --watch
    """
    if run is None:
        data = _services()
        show(data, text=_services_text(data), as_json=as_json)
        return
    from flows.record import find_run

    record = find_run(run)
    while watch and record.state == "running" and record.owner.alive() is not False:
        if as_json:
            show(_data(record), text="", as_json=True)
        else:  # the whole screen anew
            show(
                {},
                text=("\x1b[2J\x1b[H" if sys.stdout.isatty() else "") + _run_text(record, every=every),
                as_json=False,
            )
        time.sleep(every_s)
        record = find_run(record.run)
    show(_data(record), text=_run_text(record, every=every), as_json=as_json)


def _data(record: Any) -> dict[str, Any]:
    from flows.figures import failures, figures_of, slowest

    return {
        **record.model_dump(mode="json"),
        "counts": record.counts(),
        "alive": record.owner.alive(),
        "figures": asdict(figures_of(record)),
        "slowest": slowest(record),
        "failures": failures(record),
    }


def _run_text(record: Any, *, every: bool) -> str:
    from flows.figures import difference, failures, figures_of, slowest

    cities = record.cities if every else record.of_state("running", "waiting", "failed")
    rows = [
        {"city": code, "name": c.name, "state": c.state, "step": c.step, "stages": ", ".join(c.stages)}
        | {"reason": c.reason, "seconds": round(c.seconds), "km2": c.km2}
        for code, c in cities.items()
    ]
    figures = figures_of(record)
    lines = [
        f"{record.flow} {record.run} ({record.name}), campaign {record.campaign} {record.version}: {_state(record)}",
        f"{record.headline()}, {record.progress:.0%}; attempt {record.attempt}, started {record.started}",
        f"{figures.line()}; {figures.cpu_s:.0f} CPU-s of stages, largest {figures.peak_bytes / 1e9:.1f} GB",
        f"record {record.path}",
    ]
    lines += [f"{code} {difference(c.diff)}" for code, c in record.cities.items() if c.diff]
    slow = ", ".join(f"{code} {stage} {seconds:.0f} s" for code, stage, seconds in slowest(record, SHOWN_SLOW))
    lines += [f"slowest: {slow}"] if slow else []
    lines += [f"{len(codes)} failed ({', '.join(codes[:5])}): {why}" for why, codes in failures(record).items()]
    columns = {"city": "city", "name": "name", "state": "state", "step": "step", "km2": "km2", "seconds": "seconds"}
    columns |= {"stages": "stages done", "reason": "reason"}
    return "\n".join([*lines, table(rows, columns)] if rows else lines)


def _state(record: Any) -> str:
    if record.state == "running" and record.owner.alive() is False:
        return f"dead (its process {record.owner.pid} is gone): uvmap resume {record.run[:8]}"
    return str(record.state)


def _services() -> dict[str, Any]:
    from flows.errors import RunError
    from flows.home import uvmap_home
    from flows.record import known_runs, read_record
    from flows.service.processes import read_services

    services = read_services()
    runs: list[dict[str, Any]] = []
    for run, path in list(known_runs().items())[-SHOWN_RUNS:]:
        try:
            record = read_record(path)
            runs.append({"run": run, "flow": record.flow, "state": _state(record), "cities": record.headline()})
        except RunError as error:
            runs.append({"run": run, "flow": None, "state": "unreadable", "cities": str(error)})
    return {
        "home": str(uvmap_home()),
        "url": f"http://127.0.0.1:{services.port}" if services.port else None,
        "server": _server_state(services),
        "worker": "running" if services.worker is not None and services.worker.alive else "stopped",
        "gpus": services.gpus,
        "cpus": services.cpus,
        "runs": runs,
    }


def _server_state(services: Any) -> str:
    if services.server is None or not services.server.alive:
        return "stopped"
    from flows.service.setup import healthy

    return "healthy" if healthy(services) else "running, but does not answer"


def _services_text(data: dict[str, Any]) -> str:
    lines = [
        f"home    {data['home']}",
        f"server  {data['server']}" + (f" at {data['url']}" if data["url"] else ""),
        f"worker  {data['worker']}",
        f"limits  {data['gpus']} on an accelerator, {data['cpus']} others" if data["gpus"] else "limits  none yet",
    ]
    columns = {"run": "run", "flow": "flow", "state": "state", "cities": "cities"}
    return "\n".join([*lines, "", table(data["runs"], columns)] if data["runs"] else lines)
