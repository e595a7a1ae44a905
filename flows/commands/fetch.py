"""`uvmap fetch`: the sources of a city or of a campaign, brought here once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.console import JsonFlag, say, show, table
from pipeline.errors import PipelineError
from regions.campaign import load_campaign
from regions.registry import find_cities


def fetch(
    city: Annotated[
        list[str] | None, typer.Argument(help="Adcodes or names; all cities of the campaign without.")
    ] = None,
    *,
    campaign: Annotated[str, typer.Option(help="A campaign's name or file, with `sources`.")],
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the cities' data, in place of the campaign's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what and how much, bring nothing.")] = False,
    refresh: Annotated[bool, typer.Option(help="Ask tile servers whether tiles changed.")] = False,
    json: JsonFlag = False,
) -> None:
    """Bring imagery, map features and area of interest of cities into their data folders.

    What is there is not brought again; a killed run goes on where it stopped. One city's failure leaves the others.

    Example: uvmap fetch 440300 --campaign my-campaign.yaml --dry-run
    """
    from tqdm import tqdm

    from flows.secret_blocks import provide_secrets
    from pipeline.fetch.confidential import public
    from pipeline.fetch.run import fetch_city, plan_fetch

    settings = load_campaign(campaign)
    if data_root is not None:
        settings = settings.model_copy(update={"data_root": data_root})
    cities = find_cities(city) if city else settings.selected()
    rows: list[dict[str, Any]] = []
    with tqdm(unit="B", unit_scale=True, desc="fetch", disable=dry_run, dynamic_ncols=True) as bar:

        def tell(what: str, size: int) -> None:
            bar.set_description(what, refresh=False)
            bar.update(size)

        for one in cities:
            try:
                provide_secrets(settings.sources_of(one.adcode))
                if dry_run:
                    plan = plan_fetch(settings, one)
                    size = plan.bytes_to_come
                    rows.append({"adcode": one.adcode, "status": "planned", "area_km2": plan.area_km2, "bytes": size})
                    rows[-1]["sources"] = list(plan.rows)
                else:
                    found = fetch_city(settings, one, refresh=refresh, progress=tell)
                    size = sum(f["bytes"] for f in found.files)
                    rows.append({"adcode": one.adcode, "status": "here", "files": list(found.files), "bytes": size})
                    rows[-1]["reused"] = list(found.reused)
            except PipelineError as error:
                rows.append({"adcode": one.adcode, "status": f"failed: {public(str(error))}", "bytes": 0})
                say(f"{one.adcode} {one.name_en}: {public(str(error))}")
    failed = [r for r in rows if r["status"].startswith("failed")]
    data = {"campaign": settings.name, "cities": rows, "bytes": sum(r["bytes"] for r in rows), "failed": len(failed)}
    show(data, text=_text(rows, dry_run=dry_run), as_json=json)
    if failed:
        raise typer.Exit(1)


def _text(rows: list[dict[str, Any]], *, dry_run: bool) -> str:
    lines = []
    for row in rows:
        if row["status"].startswith("failed"):
            continue
        if dry_run:
            lines.append(f"{row['adcode']}: {row['area_km2']:.1f} km2")
            lines.append(
                table(row["sources"], {"source": "source", "what": "what", "bytes": "bytes", "licence": "licence"})
            )
        else:
            lines.append(f"{row['adcode']}: {len(row['files'])} files, {row['bytes'] / 1e6:.1f} MB")
            shown = [f | {"reused": "yes" if f["name"] in row["reused"] else "no"} for f in row["files"]]
            lines.append(table(shown, {"file": "file", "what": "what", "bytes": "bytes", "reused": "was here"}))
    failed = [r for r in rows if r["status"].startswith("failed")]
    lines.append(f"{len(rows) - len(failed)} cities {'planned' if dry_run else 'here'}, {len(failed)} failed")
    if not failed and not dry_run:
        lines.append("next: `uvmap check CITY`, then `uvmap map CITY` or the campaign's run")
    return "\n".join(lines)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(fetch)
