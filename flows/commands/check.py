"""`uvmap check`: a city's data looked at before any model time is spent."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import options as opt
from flows.console import JsonFlag, say, show


def check(
    city: opt.CityArg = None,
    *,
    campaign: Annotated[str | None, typer.Option(help="A campaign's name or file; its sources are fetched.")] = None,
    data_root: opt.DataRoot = Path("data/china"),
    out: Annotated[Path, typer.Option(help="Folder whose .work/{adcode}/ holds the result.")] = Path("out/china"),
    imagery: opt.Imagery = None,
    vectors: opt.Vectors = None,
    aoi: opt.Aoi = None,
    imagery_crs: opt.ImageryCrs = None,
    resolution_m: opt.ResolutionM = None,
    json: JsonFlag = False,
) -> None:
    """Coverage, dates, CRS, nodata, clouds, completeness of the map and its offset, as table, picture and JSON.

    Example: uvmap check 440300 --campaign delta.yaml
    """
    from flows.secret_blocks import provide_secrets
    from pipeline.city.ground import ground_of
    from pipeline.city.job import CityJob
    from pipeline.city.stages import stage_result_of
    from pipeline.city.steps.check import PAGE_NAME, PICTURE_NAME, rows_of
    from pipeline.fetch.declared import needs_fetch
    from pipeline.fetch.run import fetch_city
    from regions.campaign import load_campaign
    from regions.registry import find_city

    settings = None if campaign is None else load_campaign(campaign)
    if settings is not None:
        if city is None:
            raise opt.OptionError("name a city of the campaign")
        one = find_city(city)
        if needs_fetch(settings, one):
            say(f"{one.adcode}: its sources are fetched first")
            provide_secrets(settings.sources_of(one.adcode))
            fetch_city(settings, one)
        ground = ground_of(settings, one)
        out = settings.out_root
    else:
        sources = opt.sources_from(
            city, data_root=data_root, imagery=imagery, vectors=vectors, aoi=aoi, imagery_crs=imagery_crs
        )
        ground = opt.ground_from(sources, work=out / ".work", grid=opt.grid_of(resolution_m=resolution_m))
    # without a model the graph reaches as far as tiles of the default size see
    model = settings.checkpoint if settings is not None and settings.checkpoint.exists() else Path()
    job = CityJob(ground=ground, checkpoint=model, out=out / ground.adcode)
    result = stage_result_of("check", job, progress=not json)
    facts = result.summary
    files = {"picture": str(result.folder / PICTURE_NAME), "page": str(result.folder / PAGE_NAME)}
    rows = rows_of(facts)
    width = max(len(a) for a, _ in rows)
    lines = [f"{a:<{width}}  {b}" for a, b in rows] + [f"next: open {files['page']}"]
    show(facts | files, text="\n".join(lines), as_json=json)
    for warning in facts["warnings"]:
        say(f"warning: {warning}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)
