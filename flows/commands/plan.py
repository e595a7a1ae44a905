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
    json: JsonFlag = False,
) -> None:
    """Tiles, pixels, bytes and time at the measured throughput, for a city or for a whole campaign.

    Example: uvmap plan --campaign china
    """
    from pipeline.city.plan import measure_throughput, plan_city

    rows: list[dict[str, Any]] = []
    batch_size: int | None = None
    grounds: list[CityGround] = []
    if campaign is not None:
        settings = load_campaign(campaign)
        checkpoint, batch_size = checkpoint or settings.checkpoint, settings.batch_size
        for one in settings.selected() if city is None else find_cities([city]):
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
    if checkpoint is not None and checkpoint.exists() and grounds:
        speed = measure_throughput(checkpoint, batch_size=batch_size)
    for ground in grounds:
        try:
            row = asdict(plan_city(ground, throughput=speed)) | {"status": "ready"}
        except PipelineError as error:
            row = {"adcode": ground.adcode, "status": f"faulty: {error}"}
        rows.append(row | {"name": None if ground.city is None else ground.city.name_en})
    rows.sort(key=lambda r: str(r["adcode"]))
    data = {"cities": rows, "total": _total(rows), "throughput": None if speed is None else asdict(speed)}
    show(data, text=_text(rows, data), as_json=json)
    if not any(r["status"] == "ready" for r in rows):
        raise typer.Exit(1)


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
    speed = data["throughput"]
    time = (
        f"{total['seconds']:.0f} s of model time at {speed['tiles_per_s']:.1f} tiles/s on this machine"
        if speed and total["seconds"] is not None
        else "time unknown: give --checkpoint, and the throughput is measured"
    )
    return (
        f"{head}\n{total['ready']} cities ready, {total['no_data']} without data, {total['faulty']} faulty; "
        f"{total['area_km2']:.1f} km2, {total['pixels'] / 1e6:.1f} Mpx, {total['tiles']} tiles, "
        f"{total['read_bytes'] / 1e6:.1f} MB to read, about {total['write_bytes'] / 1e6:.1f} MB to write\n{time}"
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)
