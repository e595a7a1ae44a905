"""`uvmap release diff`: what became of the villages between two releases, or against a published map."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import JsonFlag, say, show, table


def diff(
    old: Annotated[Path, typer.Argument(help="Folder of the older release, or polygons of a map that is not ours.")],
    new: Annotated[Path, typer.Argument(help="The newer one; one of the two is a release.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder that receives page, figure, tables and events.")] = Path(
        "out/release-diff"
    ),
    across: Annotated[
        list[str] | None,
        typer.Option(help="Difference that is known and shall be said, not refused: grid, definition, outlines."),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of a foreign file that has several.")] = None,
    margin_m: Annotated[
        float, typer.Option(min=0, help="Foreign polygons farther from a city's villages' bounds are left out.")
    ] = 2000.0,
    as_json: JsonFlag = False,
) -> None:
    """Match villages by overlap: new, gone, grown, shrunk, split, merged, by city and province, with signed areas.

    Releases with other grids or definitions are refused until --across says that it is known.

    Example: uvmap release diff out/release-1.0.0 out/release-1.1.0 --out out/diff-1.1.0
    """
    from pipeline.release.diff.run import DIFF_FILE, EVENTS_FILE, PAGE_FILE, DiffRequest, diff_releases

    request = DiffRequest(old=old, new=new, out=out, across=tuple(across or ()), layer=layer, margin_m=margin_m)
    result = diff_releases(request, tell=say)
    for difference in result["differences"]:
        say(f"{difference['kind']}: {difference['text']}")
    for side, codes in result["cities_not_compared"].items():
        if codes:
            say(f"{side}: {len(codes)} cities are not compared: {', '.join(codes[:5])}")
    total = result["total"]
    events = [
        {"event": e, "count": total.get(e, 0), "km2": f"{total.get(f'change_{e}_m2', 0.0) / 1e6:+.4f}"}
        for e in result["events"]
    ]
    events.append({"event": "all", "count": "", "km2": f"{total.get('change_m2', 0.0) / 1e6:+.4f}"})
    text = table(events, {"event": "event", "count": "count", "km2": "change, km2"})
    files = {"page": str(out / PAGE_FILE), "events_file": str(out / EVENTS_FILE), "figures": str(out / DIFF_FILE)}
    show(result | files, text=f"{text}\nnext: open {out / PAGE_FILE}", as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("diff")(diff)
