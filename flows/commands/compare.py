"""`uvmap compare`: several maps on the same labelled points, with paired differences."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.console import JsonFlag, say, show, table
from flows.sample_options import (
    Level,
    LonelyPsu,
    NoAnswer,
    PositiveClass,
    Psu,
    PsuPopulation,
    PsuProbability,
    PsuSampled,
    RefColumn,
    SecondStage,
    Selection,
    Ssu,
    SsuPopulation,
    SsuSampled,
    Stratum,
    UnitArea,
    Weight,
    build_sample,
)


def compare(
    labelled: Annotated[Path, typer.Argument(help="Labelled sample of `uvmap label merge`, with places.")],
    *,
    other: Annotated[
        list[str] | None,
        typer.Option("--map", help="NAME=PATH of a map: product folder, folder of products, or polygons; repeat."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Column of the table that holds another map's answers; repeat.")
    ] = None,
    psu_selection: Selection,
    out: Annotated[Path, typer.Option(help="Folder that receives report.html, report.json and tables.")] = Path(
        "out/comparison"
    ),
    uncovered: Annotated[
        str, typer.Option(help="Points where a map says nothing: fail, not_village or leave_out (for all maps).")
    ] = "fail",
    drawn_from: Annotated[
        str, typer.Option(help="Column of the map that the sample was drawn from; '' leaves it out of the comparison.")
    ] = "map",
    stratum: Stratum = "region",
    psu: Psu = "city",
    ssu: Ssu = "point_id",
    second_stage_stratum: SecondStage = None,
    ref_column: RefColumn = "ref",
    positive: PositiveClass = None,
    no_answer: NoAnswer = None,
    psu_population: PsuPopulation = "N_city",
    psu_sampled: PsuSampled = "n_city",
    ssu_population: SsuPopulation = "M_pix",
    ssu_sampled: SsuSampled = "m_pts",
    unit_area: UnitArea = "pixel_m2",
    weight: Weight = None,
    psu_probability: PsuProbability = "pi_city",
    lonely_psu: LonelyPsu = "fail",
    level: Level = 0.95,
    title: Annotated[str, typer.Option(help="Title of the report.")] = "Maps of urban villages on the same points",
    as_json: JsonFlag = False,
) -> None:
    """Compare maps on the same labelled points: releases, or another product given as polygons.

    Each map gets its precision, recall, F1 and IoU with intervals, each pair the differences with their own errors.

    Example: uvmap compare labelled.parquet --map v2=out/china-v2 --map theirs=published.gpkg
    --psu-selection probability --out out/comparison
    """
    from accuracy.choices import choose
    from accuracy.comparison.maps_on_points import UNCOVERED, compare_on_points
    from accuracy.errors import ComparisonError
    from accuracy.estimation.options import EstimateOptions
    from accuracy.estimation.table_estimates import primary_variance
    from accuracy.estimation.variance import LONELY_RULES
    from accuracy.reporting.maps_report import write_maps_report
    from accuracy.tables import read_table

    units = read_table(labelled)
    names = [*([drawn_from] if drawn_from else []), *(column or [])]
    missing = [n for n in names if n not in units.columns]
    if missing:
        raise ComparisonError(
            f"{labelled} has no column {missing[0]!r} (it has {', '.join(map(str, units.columns))}): name maps of the"
            " table with --column, and the one it was drawn from with --drawn-from"
        )
    units, read = _with_maps(units, labelled, other or [])
    names += read
    repeated = [n for n in names if names.count(n) > 1]
    if repeated:
        raise ComparisonError(f"two maps are called {repeated[0]!r}: give each its own name")
    sample = build_sample(
        units,
        psu_selection=psu_selection,
        columns={
            "stratum": stratum,
            "psu": psu,
            "ssu": ssu,
            "second_stage_strata": second_stage_stratum,
            "psu_population": psu_population,
            "psu_sampled": psu_sampled,
            "ssu_population": ssu_population,
            "ssu_sampled": ssu_sampled,
            "unit_area": unit_area,
            "weight": weight,
            "psu_probability": psu_probability,
        },
        answers={
            "map_column": names[0] if names else "map",
            "reference_column": ref_column,
            "positive": positive,
            "unanswered": frozenset(no_answer or ()),
        },
    )
    variance = primary_variance(sample)
    options = EstimateOptions(
        variance=variance, level=level, lonely_psu=choose(lonely_psu, LONELY_RULES, "--lonely-psu")
    )
    result = compare_on_points(sample, options, names, uncovered=choose(uncovered, UNCOVERED, "--uncovered"))
    design = {
        "points": f"{len(units)}, of which {int(sample.responded.sum())} answered",
        "sample": str(labelled.name),
        "cities": f"{sample.table[psu].nunique()}, {psu_selection}" if psu else "none: a single-stage sample",
    }
    notes = _notes(sample, drawn_from)
    files = write_maps_report(result, out, title=title, variance=variance, design=design, notes=notes)
    for note in notes:
        say(f"note: {note}")
    rows = [{str(k): _plain(v) for k, v in r.items()} for r in result.differences.to_dict("records")]
    maps = [{str(k): _plain(v) for k, v in r.items()} for r in result.maps.to_dict("records")]
    text = table(maps, {"map": "map", "measure": "measure", "estimate": "estimate", "ci_low": "from", "ci_high": "to"})
    columns = {"map": "map", "less": "less", "measure": "measure", "difference": "difference", "se": "se"}
    text += "\n\n" + table(rows, columns | {"ci_low": "from", "ci_high": "to"})
    data = {
        "report": str(files["report.html"]),
        "files": [str(f) for f in files.values()],
        "variance": variance,
        "maps": maps,
        "differences": rows,
        "left_out": result.left_out,
    }
    show(data, text=f"{text}\nnext: open {files['report.html']}", as_json=as_json)


def _with_maps(units: Any, source: Path, texts: list[str]) -> tuple[Any, list[str]]:
    """The table with a column per map, and their names."""
    import geopandas as gpd

    from accuracy.errors import ComparisonError
    from flows.other_maps import read_at_points

    names = []
    for text in texts:
        if not isinstance(units, gpd.GeoDataFrame):
            raise ComparisonError(f"{source} holds no places, which --map needs: give Parquet or GeoPackage of `uvmap`")
        name, said = read_at_points(text, units)
        if name in units.columns:
            raise ComparisonError(f"--map {text!r}: the table has a column {name!r} already; give another name")
        units = units.assign(**{name: said})
        names.append(name)
    return units, names


def _notes(sample: Any, drawn_from: str) -> tuple[str, ...]:
    notes = []
    if sample.design.psu_selection == "purposive":
        notes.append("The cities were chosen on purpose: the figures speak for them alone.")
    if drawn_from and sample.design.second_stage_strata:
        notes.append(
            f"The points were drawn in strata of {drawn_from!r}. Villages that another map shows where that one shows"
            " none meet few points of large weight, so the other map's errors are larger, not biased."
        )
    return tuple(notes)


def _plain(value: Any) -> Any:
    from accuracy.reporting.cells import make_plain

    return make_plain(value)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare)
