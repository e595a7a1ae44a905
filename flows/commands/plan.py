"""`uvmap plan`: what a run will cost, before anything runs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands import options as opt
from flows.console import JsonFlag, show, table
from pipeline.city.ground import CityGround, ground_of
from pipeline.city.sources import MissingSourcesError
from pipeline.errors import PipelineError
from regions.campaign import load_campaign
from regions.registry import find_cities


def plan(
    city: opt.CityArg = None,
    *,
    campaign: Annotated[str | None, typer.Option(help="A campaign's name or file, such as china.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Trained model; its throughput gives the time.")] = None,
    data_root: opt.DataRoot = Path("data/china"),
    imagery: opt.Imagery = None,
    vectors: opt.Vectors = None,
    aoi: opt.Aoi = None,
    imagery_crs: opt.ImageryCrs = None,
    resolution_m: opt.ResolutionM = None,
    stride_px: opt.StridePx = opt.GRID.stride_px,
    block_px: opt.BlockPx = opt.GRID.block_px,
    cores: Annotated[int, typer.Option(min=1, help="CPU cores of the run.")] = 2,
    gpus: Annotated[int, typer.Option(min=0, help="Accelerators of the run; 0 for the model on the cores.")] = 0,
    tiles_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="Tiles a second of one accelerator; else this machine is measured.")
    ] = None,
    core_price: Annotated[float, typer.Option(min=0, help="Price of a core for an hour.")] = 0.0,
    gpu_price: Annotated[float, typer.Option(min=0, help="Price of an accelerator for an hour.")] = 0.0,
    rates: Annotated[
        str | None, typer.Option(help="Id or name of a run whose measured seconds per city and km2 are taken.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Id or name of a run: what was planned against what it took, by city.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Tiles, bytes, hours and cost before a city or a campaign is run; afterwards, plan against what it took.

    Example: uvmap plan --campaign china --cores 32 --gpus 4 --tiles-per-s 1500 --gpu-price 2.5
    """
    if against is not None:
        from flows.plan_review import review, review_text

        found = review(against)
        show(found, text=review_text(found), as_json=json)
        return
    from pipeline.city.plan import CityPlan, measure_throughput, plan_city
    from pipeline.fetch.declared import needs_fetch
    from pipeline.national.budget import RATES, Machines, budget

    views = 1
    rows: list[dict[str, Any]] = []
    batch_size: int | None = None
    grounds: list[CityGround] = []
    if campaign is not None:
        settings = load_campaign(campaign)
        checkpoint, batch_size = checkpoint or settings.checkpoint, settings.batch_size
        views = settings.grid.symmetries
        for one in settings.selected() if city is None else find_cities([city]):
            if needs_fetch(settings, one):
                rows.append({"adcode": one.adcode, "name": one.name_en, "status": "to fetch"})
                continue
            try:
                grounds.append(ground_of(settings, one))
            except MissingSourcesError:
                rows.append({"adcode": one.adcode, "name": one.name_en, "status": "no data"})
    else:
        sources = opt.sources_from(
            city, data_root=data_root, imagery=imagery, vectors=vectors, aoi=aoi, imagery_crs=imagery_crs
        )
        grounds.append(
            opt.ground_from(
                sources,
                work=Path("out/.work"),
                grid=opt.grid_of(resolution_m=resolution_m, stride_px=stride_px, block_px=block_px),
            )
        )
    speed = None
    if tiles_per_s is None and checkpoint is not None and checkpoint.exists() and grounds:
        speed = measure_throughput(checkpoint, batch_size=batch_size)
    plans: list[CityPlan] = []
    for ground in grounds:
        try:
            plans.append(plan_city(ground, throughput=speed))
            row = asdict(plans[-1]) | {"status": "ready"}
        except PipelineError as error:
            row = {"adcode": ground.adcode, "status": f"faulty: {error}"}
        rows.append(row | {"name": None if ground.city is None else ground.city.name_en})
    rows.sort(key=lambda r: str(r["adcode"]))
    machines = Machines(cores=cores, gpus=gpus, core_price=core_price, gpu_price=gpu_price)
    known_speed = tiles_per_s or (None if speed is None else speed.tiles_per_s)
    known_rates = {**RATES, **({} if rates is None else _learnt(rates))}
    whole = budget(plans, machines=machines, tiles_per_s=known_speed, views=views, rates=known_rates)
    data = {
        "cities": rows,
        "total": _total(rows),
        "throughput": None if speed is None else asdict(speed),
        "machines": asdict(machines) | {"tiles_per_s": known_speed},
        "budget": asdict(whole),
    }
    show(data, text=_text(rows, data), as_json=json)
    if not any(r["status"] in {"ready", "to fetch"} for r in rows):
        raise typer.Exit(1)


def _learnt(run: str) -> dict[str, Any]:
    """Rates that a run has measured; of the stage scores none, as its seconds hold those of the model."""
    from flows.plan_review import review
    from pipeline.national.budget import RATES, StageRate

    measured = review(run)["rates"].items()
    return {name: StageRate(**rate) for name, rate in measured if name in RATES and name != "scores"}


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    ready = [r for r in rows if r["status"] == "ready"]
    total: dict[str, Any] = {
        "ready": len(ready),
        "no_data": sum(r["status"] == "no data" for r in rows),
        "faulty": sum(r["status"].startswith("faulty") for r in rows),
    }
    for key in ("area_km2", "pixels", "tiles", "blocks", "read_bytes", "write_bytes"):
        total[key] = sum(r[key] for r in ready)
    timed = [r["seconds"] for r in ready if r["seconds"] is not None]
    total["seconds"] = sum(timed) if timed else None
    return total


def _text(rows: list[dict[str, Any]], data: dict[str, Any]) -> str:
    total = data["total"]
    columns = {"adcode": "adcode", "name": "city", "area_km2": "km2", "tiles": "tiles", "blocks": "blocks"}
    shown = [r for r in rows if r["status"] != "no data"]
    head = table(shown, columns | {"seconds": "seconds", "status": "status"}) if shown else "no city has data"
    whole, machines = data["budget"], data["machines"]
    stages = ", ".join(f"{name} {hours:.2g}" for name, hours in whole["stage_cpu_h"].items())
    time = "time unknown: give --checkpoint, and the throughput is measured, or --tiles-per-s"
    if whole["elapsed_h"] is not None:
        device = f"{machines['gpus']} accelerators" if machines["gpus"] else "the cores"
        time = (
            f"model {whole['model_h']:.3g} h at {machines['tiles_per_s']:.1f} tiles/s of one device; on "
            f"{machines['cores']} cores and {device}: {whole['elapsed_h']:.3g} h by the clock"
        )
        time += f", cost {whole['cost']:,.2f}" if whole["cost"] else ""
    time = (
        f"CPU hours: {stages}\n{time}\nto keep about {whole['store_bytes'] / 1e9:.3g} GB of products; up to "
        f"{whole['work_bytes'] / 1e9:.3g} GB of work folders"
    )
    return (
        f"{head}\n{total['ready']} cities ready, {total['no_data']} without data, {total['faulty']} faulty; "
        f"{total['area_km2']:.1f} km2, {total['pixels'] / 1e6:.1f} Mpx, {total['tiles']} tiles, "
        f"{total['read_bytes'] / 1e6:.1f} MB to read, about {total['write_bytes'] / 1e6:.1f} MB to write\n{time}"
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)
