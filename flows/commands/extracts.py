"""`uvmap extracts`: one national OpenStreetMap PBF cut into the extracts of all cities."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.console import JsonFlag, say, show, table

_SHOWN = 12


def extracts(
    pbf: Annotated[Path, typer.Argument(help="National file, such as china-latest.osm.pbf.")],
    *,
    areas: Annotated[
        Path, typer.Option(help="Areas of the cities: folder of `uvmap areas`, or polygons with a column adcode.")
    ] = Path("out/areas"),
    city: Annotated[list[str] | None, typer.Option(help="Only these adcodes; repeatable.")] = None,
    margin_m: Annotated[float, typer.Option(help="Ground around each area that is cut out with it.")] = 1000.0,
    out: Annotated[Path, typer.Option(help="Folder of the extracts; it is replaced as a whole.")] = Path(
        "out/extracts"
    ),
    scratch: Annotated[Path | None, typer.Option(help="Folder for temporary files, 28 bytes for each node.")] = None,
    json: JsonFlag = False,
) -> None:
    """Cut a national PBF into one extract per city, in one run and in bounded memory.

    Ways and multipolygons are complete at the cut, as with `osmium extract -s smart`. The same inputs give the same
    bytes; what is there already is not cut again.

    Example: uvmap extracts china-latest.osm.pbf --areas out/areas --out out/extracts
    """
    from pipeline.boundaries.table import boxes_of, read_areas
    from pipeline.extracts import cut_extracts

    named = read_areas(areas)
    if city:
        unknown = sorted(set(city) - set(named["adcode"].astype(str)))
        if unknown:
            raise typer.BadParameter(f"{areas} has no area of {', '.join(unknown)}", param_hint="--city")
        named = named[named["adcode"].astype(str).isin(city)]
    begun = time.monotonic()
    found = cut_extracts(
        pbf,
        boxes_of(named, margin_m),
        out,
        scratch=scratch,
        progress=lambda what, done: say(f"extracts: {done:,} {what}, {time.monotonic() - begun:.0f} s"),
    )
    rows = [asdict(e) | {"mb": e.size_bytes / 1e6} for e in found]
    empty = [e.name for e in found if e.is_empty]
    size = sum(e.size_bytes for e in found)
    data = {"source": str(pbf), "out": str(out), "extracts": rows, "empty": empty, "size_bytes": size}
    columns = {"name": "adcode", "nodes": "nodes", "ways": "ways", "relations": "relations", "mb": "MB"}
    largest = sorted(rows, key=lambda r: -int(r["size_bytes"]))[:_SHOWN]
    lines = [table(largest, columns)]
    if len(rows) > _SHOWN:
        lines.append(f"and {len(rows) - _SHOWN} smaller ones")
    lines.append(f"{len(found)} extracts, {size / 1e6:.1f} MB, in {out}")
    if empty:
        lines.append(f"nothing of the file lies in {len(empty)} of them: {', '.join(empty[:20])}")
    show(data, text="\n".join(lines), as_json=json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(extracts)
