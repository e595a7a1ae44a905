"""`uvmap areas`: boundaries and built-up land to the area of interest of every city of a campaign."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import JsonFlag, say, show, table
from regions.campaign import load_campaign
from regions.datum import DATUMS
from regions.registry import find_cities

_SHOWN = 20


def areas(
    boundaries: Annotated[Path, typer.Argument(help="File of the cities' boundaries, with codes or names.")],
    *,
    campaign: Annotated[str, typer.Option(help="A campaign's name or file: whose cities.")] = "china",
    city: Annotated[list[str] | None, typer.Option(help="Only these cities; repeatable.")] = None,
    datum: Annotated[str, typer.Option(help=f"Datum of the boundaries in truth: {', '.join(DATUMS)}.")] = "wgs84",
    code: Annotated[str | None, typer.Option(help="Column of the codes, where it is not found.")] = None,
    name: Annotated[str | None, typer.Option(help="Column of the names, likewise.")] = None,
    built: Annotated[
        Path | None,
        typer.Option(help="Built-up land: a raster, or polygons. Without it the whole boundary is the area."),
    ] = None,
    built_product: Annotated[str | None, typer.Option(help="What the raster is: ghs-built-s or worldcover.")] = None,
    built_value: Annotated[list[int] | None, typer.Option(help="Class that is built-up; repeatable.")] = None,
    built_at_least: Annotated[float | None, typer.Option(help="Amount from which a pixel is built-up.")] = None,
    fringe_m: Annotated[float, typer.Option(help="Ground this near to built-up land belongs to the area.")] = 1000.0,
    least_km2: Annotated[float, typer.Option(help="Places with less built-up land are left out.")] = 0.5,
    out: Annotated[Path, typer.Option(help="Folder for areas.parquet, areas.json and areas.png.")] = Path("out/areas"),
    json: JsonFlag = False,
) -> None:
    """Give every city its area of interest: the built-up land in its boundary and a fringe around it.

    Cities without one are named with the reason. The boundaries are matched by code, else by name, and what did not
    match is listed.

    Example: uvmap areas prefectures.geojson --datum gcj02 --built GHS_BUILT_S_100m.tif --built-product ghs-built-s
    """
    from pipeline.boundaries.area import AreaRule
    from pipeline.boundaries.choice import open_built
    from pipeline.boundaries.reading import read_boundaries
    from pipeline.boundaries.table import make_areas, write_areas

    if datum not in DATUMS:
        raise typer.BadParameter(f"{datum} is none of {', '.join(DATUMS)}", param_hint="--datum")
    settings = load_campaign(campaign)
    cities = find_cities(city) if city else settings.selected()
    units = read_boundaries(boundaries, datum=datum, code=code, name=name)

    def tell(adcode: str, done: int, of: int) -> None:
        if done % 20 == 0 or done == of:
            say(f"areas: {done} of {of} ({adcode})")

    source = None
    if built is not None:
        source = open_built(built, product=built_product, values=built_value, at_least=built_at_least)
    rule = AreaRule(fringe_m=fringe_m, least_km2=least_km2)
    found = make_areas(cities, units, source, rule, progress=tell)
    write_areas(found, out)
    record = found.record | {"table": str(out / "areas.parquet"), "picture": str(out / "areas.png")}
    lines = [
        f"{record['with_area']} of {record['cities']} cities have an area, {record['area_km2']:.0f} km2 in all",
        f"boundaries matched: {', '.join(f'{n} by {by}' for by, n in record['matched_by'].items()) or 'none'}",
        f"{units.counts['invalid_mended']} invalid ones mended; {len(record['units_not_used'])} units are none",
    ]
    if found.missing:
        lines += [
            "cities without an area:",
            table(list(found.missing[:_SHOWN]), {"adcode": "adcode", "name": "name", "why": "why"}),
        ]
        if len(found.missing) > _SHOWN:
            lines.append(f"and {len(found.missing) - _SHOWN} more, all in {out / 'areas.json'}")
    lines.append(f"next: look at {out / 'areas.png'}, then `uvmap extracts nation.osm.pbf --areas {out}`")
    show(record, text="\n".join(lines), as_json=json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(areas)
