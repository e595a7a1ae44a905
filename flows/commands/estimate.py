"""`uvmap estimate`: accuracy with standard errors from a table of labelled points."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.console import JsonFlag, say, show


def estimate(
    points: Annotated[Path, typer.Argument(help="Labelled points: CSV, GeoPackage, GeoJSON or Parquet.")],
    *,
    psu_selection: Annotated[
        str, typer.Option(help="How the cities were chosen: probability, pps, purposive or census. No default.")
    ],
    stratum: Annotated[str | None, typer.Option(help="Column of first-stage strata, such as region.")] = None,
    psu: Annotated[
        str | None, typer.Option(help="Column of primary units, such as city; none: single-stage sample.")
    ] = None,
    ssu: Annotated[str | None, typer.Option(help="Column of point ids; checked for repeats.")] = None,
    second_stage_stratum: Annotated[
        list[str] | None, typer.Option(help="Column that cuts a city into strata; repeat for several.")
    ] = None,
    map_column: Annotated[str, typer.Option("--map", help="Column of what the map says.")] = "map",
    ref_column: Annotated[str, typer.Option("--ref", help="Column of what the reference says.")] = "ref",
    positive: Annotated[
        str | None, typer.Option(help="Class that is urban village, where map and ref hold class names.")
    ] = None,
    no_answer: Annotated[
        list[str] | None, typer.Option(help="Further value of the reference that means no answer.")
    ] = None,
    psu_population: Annotated[str, typer.Option(help="Column: cities of the region in the frame.")] = "N_city",
    psu_sampled: Annotated[str, typer.Option(help="Column: cities drawn in the region.")] = "n_city",
    ssu_population: Annotated[str, typer.Option(help="Column: pixels of city x stratum.")] = "M_pix",
    ssu_sampled: Annotated[str, typer.Option(help="Column: points drawn there.")] = "m_pts",
    weight: Annotated[str | None, typer.Option(help="Column of weights, in place of the sizes; needed by pps.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="Further domain column; repeat for several.")] = None,
    map_totals: Annotated[
        Path | None, typer.Option(help="Table of known sizes (stratum, map class, size) to calibrate to.")
    ] = None,
    frame: Annotated[
        Path | None, typer.Option(help="Table of all cells of the drawn cities; one without a point is an error.")
    ] = None,
    lonely_psu: Annotated[
        str, typer.Option(help="A single unit in a stratum: fail, certainty, adjust or average.")
    ] = "fail",
    interval: Annotated[
        str, typer.Option(help="logit_t, wald_t, korn_graubard, wilson, clopper_pearson, likelihood or asin.")
    ] = "logit_t",
    level: Annotated[float, typer.Option(help="Confidence level.")] = 0.95,
    replicates: Annotated[
        int, typer.Option(help="Bootstrap replicates, as a check; adds bootstrap and jackknife.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Estimate accuracy from labelled points, with standard errors that follow the sampling design.

    Prints every measure under each variance (two_stage, with_replacement, cities_fixed) for the whole and for each
    stratum.

    Example: uvmap estimate points.csv --stratum region --psu city --ssu point_id
    --second-stage-stratum map_stratum --psu-selection probability --json
    """
    from accuracy.choices import choice
    from accuracy.estimation.intervals import INTERVAL_KINDS
    from accuracy.estimation.table_estimates import estimate_table, read_map_totals, replicated_estimates
    from accuracy.estimation.variance import LONELY_RULES
    from accuracy.survey.design import PSU_SELECTIONS, SamplingDesign
    from accuracy.survey.design_checks import require_frame
    from accuracy.survey.sample import ReferenceSample
    from accuracy.tables import read_table

    design = SamplingDesign(
        psu_selection=choice(psu_selection, PSU_SELECTIONS, "--psu-selection"),
        stratum=stratum,
        psu=psu,
        ssu=ssu,
        second_stage_strata=tuple(second_stage_stratum or ()),
        psu_population=psu_population,
        psu_sampled=psu_sampled,
        ssu_population=ssu_population,
        ssu_sampled=ssu_sampled,
        weight=weight,
    )
    sample = ReferenceSample(
        table=read_table(points),
        design=design,
        map_column=map_column,
        reference_column=ref_column,
        positive=positive,
        unanswered=frozenset(no_answer or ()),
    )
    if frame is not None:
        require_frame(design, sample.table, read_table(frame))
    totals = None
    if map_totals is not None:
        totals = read_map_totals(read_table(map_totals), [*([stratum] if stratum else []), map_column])
    result = estimate_table(
        sample,
        by=tuple(by or ()),
        calibrate_to=totals,
        interval_kind=choice(interval, INTERVAL_KINDS, "--interval"),
        level=level,
        lonely_psu=choice(lonely_psu, LONELY_RULES, "--lonely-psu"),
    )
    data: dict[str, Any] = result.nested()
    if replicates:
        again = replicated_estimates(
            sample, by=tuple(by or ()), replicates=replicates, seed=seed, calibrate_to=totals, level=level
        )
        for row in again.to_dict("records"):
            cell = data.setdefault(row["variance"], {}).setdefault(row["value"], {})
            cell[row["measure"]] = {
                k: None if row[k] != row[k] else row[k] for k in ("estimate", "se", "ci_low", "ci_high")
            }
    for note in result.notes:
        say(f"note: {note}")
    show(data, text=_text(data, level), as_json=as_json)


def _text(data: dict[str, Any], level: float) -> str:
    from accuracy.reporting.describe import FLAG_TEXT
    from accuracy.reporting.wording import in_words
    from flows.console import table

    blocks, seen = [], set()
    for variance, domains in data.items():
        rows = []
        for domain, measures in domains.items():
            rows.append({"domain": domain, **{name: in_words(cell) for name, cell in measures.items()}})
            seen |= {flag for cell in measures.values() for flag in cell.get("flags", ())}
        columns = {"domain": variance} | {name: name for name in next(iter(domains.values()))}
        blocks.append(table(rows, columns))
    legend = [f"{flag}: {FLAG_TEXT[flag]}" for flag in sorted(seen)]
    head = f"estimate [{level:.0%} interval]; >= and <= are one-sided bounds; flags in the JSON"
    return "\n\n".join([head, *blocks, "\n".join(legend)]).rstrip()


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("estimate")(estimate)
