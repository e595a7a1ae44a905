"""`uvmap analyze`: shares, clustering, building form, villages and SDG 11.1.1 of many cities."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.console import JsonFlag, show


def analyze(
    *,
    campaign: Annotated[str, typer.Option(help="A campaign's name or file, such as china.")] = "china",
    out: Annotated[Path, typer.Option(help="Folder of report, tables and figures; replaced in one step.")],
    products: Annotated[
        Path | None, typer.Option(help="Folder of the cities' products; the campaign's out_root.")
    ] = None,
    assessment: Annotated[
        Path | None, typer.Option(help="report.json of `uvmap assess sample` (or its folder): error-adjusted areas.")
    ] = None,
    built_up: Annotated[
        Path | None, typer.Option(help="Built-up land: raster or polygons of the nation, or a folder with {adcode}*.")
    ] = None,
    built_up_value: Annotated[
        list[int] | None, typer.Option(help="Value of the raster that is built-up; may be given again. All above 0.")
    ] = None,
    population: Annotated[Path | None, typer.Option(help="Raster of people per cell, for SDG 11.1.1.")] = None,
    boundaries: Annotated[
        Path | None, typer.Option(help="Polygons of the cities with a column adcode, for weights of contiguity.")
    ] = None,
    previous: Annotated[
        Path | None, typer.Option(help="Products of the release before, for villages that are gone.")
    ] = None,
    form: Annotated[
        bool, typer.Option(help="Building form from the map features of the campaign's work folder.")
    ] = True,
    claim: Annotated[
        list[str] | None, typer.Option(help="Region that is claimed to hold the clusters; again. Central and South.")
    ] = None,
    neighbours: Annotated[int, typer.Option(min=1, help="k of the nearest-neighbour weights.")] = 6,
    distance_km: Annotated[float, typer.Option(min=1, help="Reach of the distance weights.")] = 250.0,
    least_villages: Annotated[
        int, typer.Option(min=5, help="Cities of fewer villages get no pattern within the city.")
    ] = 20,
    permutations: Annotated[int, typer.Option(min=99, help="Permutations of every test.")] = 19999,
    seed: Annotated[int, typer.Option(min=0, help="Seed of permutations, simulations and resamples.")] = 1,
    skip_broken: Annotated[
        bool, typer.Option(help="Go on without products that are not whole, and name them.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Analyse the products of a campaign: what the published study reports, with its uncertainty.

    Example: uvmap analyze --campaign china --assessment out/assessment --built-up ghs_built.tif --out out/analysis
    """
    from flows.analysis import AnalysisRequest, run_analysis
    from pipeline.analysis.options import AnalysisOptions
    from regions.registry import REGIONS

    if strange := sorted(set(claim or ()) - set(REGIONS)):
        raise typer.BadParameter(f"{strange[0]} is none of {', '.join(REGIONS)}", param_hint="--claim")
    given: dict[str, Any] = {} if claim is None else {"claimed_regions": tuple(claim)}
    if boundaries is not None:
        given["weights"] = ("knn", "distance", "contiguity")
    request = AnalysisRequest(
        campaign=campaign,
        out=out,
        products=products,
        assessment=assessment,
        built_up=built_up,
        built_up_values=tuple(built_up_value or ()),
        population=population,
        boundaries=boundaries,
        previous=previous,
        form=form,
        skip_broken=skip_broken,
        options=AnalysisOptions(
            seed=seed,
            permutations=permutations,
            neighbours=neighbours,
            distance_km=distance_km,
            least_villages=least_villages,
            **given,
        ),
    )
    record, lines = run_analysis(request)
    show(record | {"out": str(out), "report": str(out / "report.html")}, text="\n".join(lines), as_json=json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(analyze)
