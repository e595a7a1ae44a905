"""From a campaign's name to its analysis: which products, on which cluster, with what beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.console import progress, say
from pipeline.analysis.adjustment import read_assessed
from pipeline.analysis.built_up import BuiltUp
from pipeline.analysis.city_tables import CityTables, CityTask
from pipeline.analysis.errors import AnalysisError
from pipeline.analysis.options import AnalysisOptions
from pipeline.analysis.report import sentences
from pipeline.analysis.run import analyse, gather, write_analysis
from pipeline.city.ground import ground_of
from pipeline.errors import PipelineError
from pipeline.national.cluster import open_cluster
from pipeline.national.products import CityProduct, survey_products
from regions.campaign import Campaign, load_campaign
from regions.registry import City, find_city

if TYPE_CHECKING:
    import geopandas as gpd

LITTLE_BYTES = 100_000_000
"""Less than this is read in this process: a cluster starts slower than it is read."""
FORM_CPU_S = 1.2e-4
"""CPU seconds per map feature that building form takes (`benchmarks/analysis.py`)."""


@dataclass(frozen=True, kw_only=True)
class AnalysisRequest:
    """What an analyst asks for; paths are None where nothing is given.

    Attributes:
        campaign: Name or file of the campaign.
        out: Folder of the result.
        products: Folder of the products, in place of the campaign's ``out_root``.
        assessment: Report of the assessment.
        built_up: Built-up land.
        built_up_values: Its values, empty for all above 0.
        population: People per cell.
        boundaries: Polygons with ``adcode``.
        previous: Products of the release before.
        form: Whether building form is measured.
        skip_broken: Go on without products that are not whole.
        options: Settings.
    """

    campaign: str
    out: Path
    products: Path | None = None
    assessment: Path | None = None
    built_up: Path | None = None
    built_up_values: tuple[int, ...] = ()
    population: Path | None = None
    boundaries: Path | None = None
    previous: Path | None = None
    form: bool = True
    skip_broken: bool = False
    options: AnalysisOptions = field(default_factory=AnalysisOptions)


def run_analysis(request: AnalysisRequest) -> tuple[dict[str, Any], list[str]]:
    """Analyse and write; the record of `analysis.json` and what to tell people.

    Raises:
        PipelineError: a product, raster or report cannot be used.
        RegionsError: no such campaign.
    """
    campaign = load_campaign(request.campaign)
    root = request.products or campaign.out_root
    built_up = None if request.built_up is None else BuiltUp(request.built_up, request.built_up_values)
    assessed = None if request.assessment is None else read_assessed(request.assessment)
    borders = None if request.boundaries is None else read_borders(request.boundaries)
    survey = survey_products(root)
    wanted = {c.adcode: c for c in campaign.selected()}
    broken = {a: why for a, why in survey.problems.items() if a in wanted}
    if broken and not request.skip_broken:
        first = next(iter(broken.items()))
        raise AnalysisError(
            f"{root}: {len(broken)} products are not whole, first {first[0]}: {first[1]}; map these cities again, or"
            " leave them out by --skip-broken"
        )
    chosen = [p for p in survey.products if p.adcode in wanted]
    if not chosen:
        raise AnalysisError(
            f"{root}: no product of any of the campaign's {len(wanted)} cities; `uvmap map` writes them"
        )
    notes = list(_coverage(wanted, chosen, broken))
    tasks = [_task(request, campaign, p, wanted[p.adcode], built_up) for p in chosen]
    if planned := plan_form(tasks):
        say(planned)
    read: list[CityTables] = []
    with _client(campaign, tasks) as client:
        read = list(progress(gather(tasks, client=client), total=len(tasks), unit="city", label="cities"))
    analysis = analyse(
        read,
        request.options,
        title=f"Urban villages: campaign {campaign.name} {campaign.version}",
        built_up=built_up,
        assessed=assessed,
        borders=borders,
        notes=tuple(notes),
        tell=say,
    )
    say("tables, figures, report")
    record = write_analysis(analysis, request.out)
    lines = [*sentences(analysis), *(f"note: {n}" for n in analysis.notes), f"report: {request.out / 'report.html'}"]
    return record, lines


def plan_form(tasks: list[CityTask]) -> str:
    """How long building form will take, in words; empty where none is measured."""
    import pyarrow.parquet as pq

    features = [pq.read_metadata(t.features).num_rows for t in tasks if t.features is not None]
    if not features:
        return ""
    cpu_s = sum(features) * FORM_CPU_S
    took = f"{cpu_s / 60:.0f} CPU minutes" if cpu_s >= 120 else f"{cpu_s:.0f} CPU seconds"
    return (
        f"building form of {len(features)} cities with {sum(features):,} map features: about {took} the first time,"
        " kept beside the map features; --no-form leaves it out"
    )


def read_borders(path: Path) -> gpd.GeoSeries:
    """Polygons of cities by adcode.

    Raises:
        BoundaryError: the file is missing, unreadable, or has no column adcode or no CRS.
        AnalysisError: an adcode stands there twice.
    """
    import geopandas as gpd

    from pipeline.boundaries.table import read_areas as read_polygons

    frame = read_polygons(path)
    codes = frame["adcode"].astype(str)
    if codes.duplicated().any():
        raise AnalysisError(f"{path}: {codes[codes.duplicated()].iloc[0]} occurs twice; dissolve the parts of a city")
    return gpd.GeoSeries(frame.geometry.to_numpy(), index=codes, crs=frame.crs)


def _coverage(wanted: dict[str, City], chosen: list[CityProduct], broken: dict[str, str]) -> Iterator[str]:
    missing = sorted(set(wanted) - {p.adcode for p in chosen} - set(broken))
    if missing:
        names = ", ".join(f"{a} {find_city(a).name_en}" for a in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        yield f"{len(chosen)} of {len(wanted)} cities have a product; without: {names}{more}"
    for adcode, why in sorted(broken.items()):
        yield f"{adcode} was left out: {why}"
    models = sorted({p.model_version for p in chosen})
    if len(models) > 1:
        yield f"the products come from {len(models)} models ({', '.join(models)}): differences of cities may be theirs"
    releases = sorted({p.release for p in chosen})
    if len(releases) > 1:
        yield f"the products carry {len(releases)} releases ({', '.join(releases)})"


def _task(
    request: AnalysisRequest, campaign: Campaign, product: CityProduct, city: City, built_up: BuiltUp | None
) -> CityTask:
    features: Path | None = None
    heights: tuple[Path, ...] = ()
    if request.form:
        work = campaign.out_root if request.products is None else request.products
        found = sorted((work / ".work" / city.adcode).glob("graph-*/features.parquet"))
        features = found[0] if found else None
        if features is not None:
            try:
                heights = ground_of(campaign, city).sources.heights
            except PipelineError:
                heights = ()  # the sources are elsewhere: heights come from the tags of the features alone
    before = None
    if request.previous is not None:
        path = request.previous / city.adcode / f"{city.adcode}_uv.parquet"
        before = path if path.exists() else None
    return CityTask(
        product=product,
        city=city,
        options=request.options,
        built_up=built_up,
        population=request.population,
        features=features,
        heights=tuple(heights),
        previous=before,
    )


@contextmanager
def _client(campaign: Campaign, tasks: list[CityTask]) -> Iterator[Any | None]:
    files = [p for t in tasks for p in (t.product.polygons, t.product.mask, t.features) if p is not None]
    if sum(p.stat().st_size for p in files) < LITTLE_BYTES:
        yield None
        return
    with open_cluster(campaign.cluster) as client:
        yield client
