"""`uvmap estimate`: accuracy with standard errors from a table of labelled points."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.console import JsonFlag, say, show, table
from flows.sample_options import (
    By,
    Calibrated,
    CityTotals,
    CorrectReference,
    Interval,
    Level,
    LonelyPsu,
    MapColumn,
    MapTotals,
    NoAnswer,
    PositiveClass,
    PsuPopulation,
    PsuProbability,
    PsuSampled,
    RefColumn,
    SecondStage,
    Seed,
    SsuPopulation,
    SsuSampled,
    UnitArea,
    Weight,
    read_totals,
)


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
    second_stage_stratum: SecondStage = None,
    map_column: MapColumn = "map",
    ref_column: RefColumn = "ref",
    positive: PositiveClass = None,
    no_answer: NoAnswer = None,
    psu_population: PsuPopulation = "N_city",
    psu_sampled: PsuSampled = "n_city",
    ssu_population: SsuPopulation = "M_pix",
    ssu_sampled: SsuSampled = "m_pts",
    weight: Weight = None,
    psu_probability: PsuProbability = "pi_city",
    by: By = None,
    compare_with: Annotated[
        str | None, typer.Option(help="Column of a second map: shows --map less it, with the errors of differences.")
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Every class of the map against the rest.")] = False,
    correct_reference: CorrectReference = False,
    map_totals: MapTotals = None,
    calibrate: Calibrated = "areas",
    unit_area: UnitArea = "pixel_m2",
    city_totals: CityTotals = None,
    frame: Annotated[
        Path | None, typer.Option(help="Table of all cells of the drawn cities; one without a point is an error.")
    ] = None,
    lonely_psu: LonelyPsu = "fail",
    interval: Interval = "logit_t",
    level: Level = 0.95,
    replicates: Annotated[
        int, typer.Option(help="Bootstrap replicates, as a check; adds bootstrap and jackknife.")
    ] = 0,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Estimate accuracy from labelled points, with standard errors that follow the sampling design.

    Prints every measure under each variance (two_stage, with_replacement, cities_fixed) for the whole and for each
    stratum.

    Example: uvmap estimate points.csv --stratum region --psu city --ssu point_id
    --second-stage-stratum map_stratum --psu-selection probability --json
    """
    from accuracy.choices import choose
    from accuracy.estimation.calibration import CALIBRATED_MEASURES
    from accuracy.estimation.interpreters import InterpreterPanel
    from accuracy.estimation.options import EstimateOptions
    from accuracy.estimation.variance import LONELY_RULES
    from accuracy.intervals import INTERVAL_KINDS
    from accuracy.survey.design import PSU_SELECTIONS, SamplingDesign
    from accuracy.survey.design_checks import require_frame
    from accuracy.survey.sample import ReferenceSample
    from accuracy.tables import read_table

    design = SamplingDesign(
        psu_selection=choose(psu_selection, PSU_SELECTIONS, "--psu-selection"),
        stratum=stratum,
        psu=psu,
        ssu=ssu,
        second_stage_strata=tuple(second_stage_stratum or ()),
        psu_population=psu_population,
        psu_sampled=psu_sampled,
        ssu_population=ssu_population,
        ssu_sampled=ssu_sampled,
        weight=weight,
        unit_area=unit_area,
        psu_probability=psu_probability,
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
    options = EstimateOptions(
        interval_kind=choose(interval, INTERVAL_KINDS, "--interval"),
        level=level,
        lonely_psu=choose(lonely_psu, LONELY_RULES, "--lonely-psu"),
        interpreters=None if per_class else InterpreterPanel.of(sample),
    )
    if per_class:
        _show_classes(sample, options, as_json=as_json)
        return
    if compare_with is not None:
        _show_difference(sample, options, compare_with, as_json=as_json)
        return
    if correct_reference:
        _show_corrected(sample, options, as_json=as_json)
        return
    if city_totals is not None:
        _show_ground(sample, options, city_totals, as_json=as_json)
        return
    totals = read_totals(map_totals, sample)
    known = {"calibrate_to": totals, "calibrated": choose(calibrate, CALIBRATED_MEASURES, "--calibrate")}
    _show_estimates(sample, options, by=tuple(by or ()), known=known, replicates=replicates, seed=seed, as_json=as_json)


def _show_estimates(
    sample: Any,
    options: Any,
    *,
    by: tuple[str, ...],
    known: dict[str, Any],
    replicates: int,
    seed: int,
    as_json: bool,
) -> None:
    from accuracy.estimation.table_estimates import estimate_replicated, estimate_table, name_whole

    result = estimate_table(sample, options, by=by, **known)
    data: dict[str, Any] = result.nested()
    if replicates:
        again = estimate_replicated(sample, options, by=by, replicates=replicates, seed=seed, **known)
        for row in again.to_dict("records"):
            cell = data.setdefault(row["variance"], {}).setdefault(row["value"], {})
            shown = ("estimate", "se", "ci_low", "ci_high", "se_interpreters")
            cell[row["measure"]] = {k: _plain(row[k]) for k in shown}
    if options.interpreters is not None:
        say("note: standard errors hold what interpreters differ in (column `readings`), beside sampling")
    for note in result.notes:
        say(f"note: {note}")
    show(data, text=_text(data, options.level, name_whole(sample.design)), as_json=as_json)


def _show_difference(sample: Any, options: Any, other: str, *, as_json: bool) -> None:
    """The two maps on the same points, under the variance that the design calls for."""
    from dataclasses import replace

    from accuracy.estimation.difference import compare_maps
    from accuracy.estimation.table_estimates import primary_variance

    primary = primary_variance(sample)
    got = compare_maps(sample, replace(options, variance=primary), map_a=sample.map_column, map_b=other)
    rows = [{str(k): _plain(v) for k, v in row.items()} for row in got.to_dict("records")]
    columns = {"measure": "measure", "a": sample.map_column, "b": other, "difference": "difference", "se": "se"}
    text = table(rows, columns | {"ci_low": "from", "ci_high": "to"})
    data = {"variance": primary, "map": sample.map_column, "compare_with": other, "measures": rows}
    show(data, text=f"{text}\nvariance {primary}", as_json=as_json)


def _show_ground(sample: Any, options: Any, path: Path, *, as_json: bool) -> None:
    """Urban village in km²: of the whole and regions by design, of every city by a model."""
    from dataclasses import replace

    from accuracy.estimation.city_ground import MODEL_NOTE, estimate_nation_ground
    from accuracy.estimation.table_estimates import primary_variance
    from accuracy.tables import read_table

    primary = primary_variance(sample)
    got = estimate_nation_ground(sample, read_table(path), replace(options, variance=primary), source=str(path))
    rows = _plain_rows(got.ground)
    columns = {"value": "where", "method": "method", "km2": "km²", "se": "se", "ci_low": "from", "ci_high": "to"}
    text = table(rows, columns | {"mapped_km2": "mapped"}) + f"\nvariance {primary}; ratio is the one to quote"
    data: dict[str, Any] = {"variance": primary, "headline": "ratio", "ground": rows}
    if got.cities is None:
        say(f"note: no estimates of single cities: {got.reason}")
    else:
        own = _plain_rows(got.cities)
        columns = {"city": "city", "sampled": "sampled", "km2": "km²", "rmse": "rmse", "ci_low": "from"}
        text += "\n\n" + table(own, columns | {"ci_high": "to", "mapped_km2": "mapped"}) + f"\n{MODEL_NOTE}"
        data |= {"cities": own, "cities_note": MODEL_NOTE}
    show(data, text=text, as_json=as_json)


def _show_corrected(sample: Any, options: Any, *, as_json: bool) -> None:
    """The whole, by the answers used and corrected for interpreters' errors, and how often these err."""
    from dataclasses import replace

    from accuracy.estimation.reference_correction import CORRECTION_NOTE, correct_reference
    from accuracy.estimation.table_estimates import primary_variance

    primary = primary_variance(sample)
    kind = "two_stage" if sample.design.psu is None else primary
    got = correct_reference(sample, replace(options, variance=kind))
    rows, readers, shares = (_plain_rows(t) for t in (got.frame, got.interpreters, got.shares))
    columns = {"measure": "measure", "uncorrected": "as answered", "estimate": "corrected", "se": "se"}
    text = table(rows, columns | {"ci_low": "from", "ci_high": "to"}) + f"\nvariance {kind}; {CORRECTION_NOTE}"
    columns = {"interpreter": "interpreter", "zone": "where", "sensitivity": "of villages seen"}
    text += "\n\n" + table(readers, columns | {"false_positive": "of other ground taken for it", "shared": "shared"})
    data = {"variance": kind, "basis": "model", "note": CORRECTION_NOTE, "measures": rows}
    show(data | {"interpreters": readers, "shares": shares}, text=text, as_json=as_json)


def _plain_rows(frame: Any) -> list[dict[str, Any]]:
    return [{str(k): _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _show_classes(sample: Any, options: Any, *, as_json: bool) -> None:
    """Every class against the rest, under the variance that the design calls for."""
    from dataclasses import replace

    from accuracy.estimation.error_matrix import estimate_per_class
    from accuracy.estimation.table_estimates import primary_variance

    primary = primary_variance(sample)
    kind = "two_stage" if sample.design.psu is None else primary
    got = estimate_per_class(sample, replace(options, variance=kind))
    rows = [{str(k): _plain(v) for k, v in row.items()} for row in got.to_dict("records")]
    columns = {"class": "class", "measure": "measure", "estimate": "estimate", "se": "se"}
    if got["se_interpreters"].notna().any():
        say("note: standard errors hold what interpreters differ in (column `readings`), beside sampling")
        columns["se_interpreters"] = "of interpreters"
    text = table(rows, columns)
    show({"variance": kind, "classes": rows}, text=f"{text}\nvariance {kind}", as_json=as_json)


def _plain(value: Any) -> Any:
    return None if value != value else value  # noqa: PLR0124 - only NaN differs from itself


def _text(data: dict[str, Any], level: float, whole: str) -> str:
    from accuracy.estimation.describe import FLAG_TEXT
    from accuracy.estimation.estimation import WHOLE
    from accuracy.reporting.wording import write_estimate

    blocks, seen = [], set()
    for variance, domains in data.items():
        rows = []
        for domain, measures in domains.items():
            shown = whole if domain == WHOLE else domain
            rows.append({"domain": shown, **{name: write_estimate(cell) for name, cell in measures.items()}})
            seen |= {flag for cell in measures.values() for flag in cell.get("flags", ())}
        columns = {"domain": variance} | {name: name for name in next(iter(domains.values()))}
        blocks.append(table(rows, columns))
    legend = [f"{flag}: {FLAG_TEXT[flag]}" for flag in sorted(seen)]
    head = f"estimate [{level:.0%} interval]; >= and <= are one-sided bounds; flags in the JSON"
    return "\n\n".join([head, *blocks, "\n".join(legend)]).rstrip()


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("estimate")(estimate)
