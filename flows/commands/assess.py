"""`uvmap assess`: the accuracy report, from a labelled sample or from complete reference of named areas."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.console import JsonFlag, say, show


def assess(
    what: Annotated[Path, typer.Argument(help="Labelled sample table, product folder, or score raster.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder that receives report.html, report.json and tables.")] = Path(
        "out/assessment"
    ),
    psu_selection: Annotated[
        str | None, typer.Option(help="Sample: how the cities were chosen: probability, pps, purposive, census.")
    ] = None,
    stratum: Annotated[str, typer.Option(help="Sample: column of regions; '' for none.")] = "region",
    psu: Annotated[str, typer.Option(help="Sample: column of cities; '' for a single-stage sample.")] = "city",
    ssu: Annotated[str, typer.Option(help="Sample: column of point ids.")] = "point_id",
    second_stage_stratum: Annotated[
        list[str] | None, typer.Option(help="Sample: column that cuts a city into strata.")
    ] = None,
    map_column: Annotated[str, typer.Option("--map", help="Sample: column of the map.")] = "map",
    ref_column: Annotated[str, typer.Option("--ref", help="Sample: column of the reference.")] = "ref",
    weight: Annotated[str | None, typer.Option(help="Sample: column of weights; needed by pps.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="Sample: further domain column.")] = None,
    map_totals: Annotated[Path | None, typer.Option(help="Sample: known map totals to calibrate to.")] = None,
    training: Annotated[
        Path | None, typer.Option(help="Sample: everything that shaped the model (places, ids, cities, label sources).")
    ] = None,
    min_distance_m: Annotated[float, typer.Option(help="Least distance to training places.")] = 1000.0,
    labels: Annotated[
        list[Path] | None, typer.Option(help="Sample: interpreters' tables, for their agreement.")
    ] = None,
    blocks: Annotated[Path | None, typer.Option(help="Sample: blocks_design.parquet of `uvmap sample blocks`.")] = None,
    digitised: Annotated[Path | None, typer.Option(help="Sample: villages digitised in the blocks.")] = None,
    polygons: Annotated[list[Path] | None, typer.Option(help="Sample: the products' polygons, for the blocks.")] = None,
    resolution_m: Annotated[float, typer.Option(help="Pixel of the block comparison.")] = 2.0,
    pixel_m: Annotated[float | None, typer.Option(help="Sample: side of a pixel of the sizes, to show km².")] = None,
    map_date: Annotated[str, typer.Option(help="Sample: date of the map's imagery.")] = "",
    product: Annotated[str, typer.Option(help="Sample: name and version of the map.")] = "",
    lonely_psu: Annotated[str, typer.Option(help="Sample: fail, certainty, adjust or average.")] = "fail",
    replicates: Annotated[int, typer.Option(help="Sample: bootstrap replicates.")] = 1000,
    seed: Annotated[int, typer.Option(help="Sample: seed of the bootstrap.")] = 0,
    reference: Annotated[
        Path | None, typer.Option(help="Map: reference polygons, or a mask raster on the map's grid.")
    ] = None,
    areas: Annotated[Path | None, typer.Option(help="Map: areas where the reference is complete.")] = None,
    role: Annotated[str | None, typer.Option(help="Map: only areas with this value in column `role`.")] = None,
    threshold: Annotated[float, typer.Option(help="Map: probability from which a pixel is urban village.")] = 0.5,
    title: Annotated[str, typer.Option(help="Title of the report.")] = "Accuracy of the urban village map",
    as_json: JsonFlag = False,
) -> None:
    """Report a map's accuracy: from a labelled sample with its design, or against complete reference in named areas.

    Example: uvmap assess labelled.parquet --psu-selection probability --second-stage-stratum map_stratum
    --out out/assessment

    Example: uvmap assess out/demo/990001 --reference truth.gpkg --areas districts.gpkg --role assess
    """
    if what.is_dir() or what.suffix.lower() in {".tif", ".tiff", ".vrt"}:
        data, text = _wall_to_wall(what, reference, areas, role, threshold=threshold, out=out, title=title)
        show(data, text=text, as_json=as_json)
        return
    from accuracy.choices import choice
    from accuracy.errors import DesignError
    from accuracy.estimation.autocorrelation import autocorrelation_report
    from accuracy.estimation.table_estimates import read_map_totals
    from accuracy.estimation.variance import LONELY_RULES
    from accuracy.reporting.assessment import Context
    from accuracy.reporting.assessment import assess as run
    from accuracy.reporting.report import write_report
    from accuracy.survey.design import PSU_SELECTIONS, SamplingDesign
    from accuracy.survey.sample import ReferenceSample
    from accuracy.tables import read_table

    if psu_selection is None:
        raise DesignError(
            f"{what}: say how the cities were chosen with --psu-selection (probability, pps, purposive or census);"
            " the standard errors follow from it"
        )
    table = read_table(what)
    strata = second_stage_stratum
    if strata is None:
        strata = ["map_stratum"] if "map_stratum" in table.columns else []
    design = SamplingDesign(
        psu_selection=choice(psu_selection, PSU_SELECTIONS, "--psu-selection"),
        stratum=stratum or None,
        psu=psu or None,
        ssu=ssu or None,
        second_stage_strata=tuple(strata),
        weight=weight,
    )
    sample = ReferenceSample(table=table, design=design, map_column=map_column, reference_column=ref_column)
    totals = None
    if map_totals is not None:
        totals = read_map_totals(read_table(map_totals), [*([stratum] if stratum else []), map_column])
    rule = choice(lonely_psu, LONELY_RULES, "--lonely-psu")
    say(f"estimate {len(table)} units")
    context = Context(
        product=product,
        map_date=map_date,
        unit_area_m2=None if pixel_m is None else pixel_m**2,
        agreements=_agreements(labels),
        leakage=_leakage(table, training, min_distance_m, ssu),
        autocorrelation=autocorrelation_report(sample, seed=seed, lonely_psu=rule) if psu else None,
    )
    block_parts = _blocks(blocks, digitised, polygons, resolution_m, psu_selection)
    result = run(
        sample,
        by=tuple(by or ()),
        calibrate_to=totals,
        context=context,
        lonely_psu=rule,
        replicates=replicates,
        seed=seed,
        **block_parts,
    )
    files = write_report(result, out, title=title)
    for warning in result.warnings:
        say(f"warning: {warning}")
    show(
        {"report": str(files["report.html"]), "files": [str(f) for f in files.values()], **_headline(result)},
        text=_headline_text(result) + f"\nnext: open {files['report.html']}",
        as_json=as_json,
    )


def _wall_to_wall(
    what: Path,
    reference: Path | None,
    areas: Path | None,
    role: str | None,
    *,
    threshold: float,
    out: Path,
    title: str,
) -> tuple[dict[str, Any], str]:
    from accuracy.comparison.wall_to_wall import compare_wall_to_wall, compare_with_mask
    from accuracy.errors import ComparisonError
    from accuracy.reporting.report import write_wall_to_wall_report
    from accuracy.tables import read_table

    raster = what
    if what.is_dir():
        found = sorted(what.glob("*_scores.tif"))
        if len(found) != 1:
            raise ComparisonError(f"{what} holds {len(found)} files *_scores.tif: give a product folder, or the raster")
        raster = found[0]
    if reference is None:
        raise ComparisonError(f"{what} is a map: give --reference with polygons or a mask, or a labelled sample table")
    where: Any = None if areas is None else read_table(areas)
    if where is not None and role is not None:
        if "role" not in where.columns:
            raise ComparisonError(f"{areas} has no column 'role': leave --role out")
        where = where[where["role"] == role]
        if where.empty:
            raise ComparisonError(f"{areas} has no area with role {role!r}: choose another")
    if reference.suffix.lower() in {".tif", ".tiff", ".vrt"}:
        result = compare_with_mask(raster, reference, areas=where, threshold=threshold)
    else:
        truth: Any = read_table(reference)
        result = compare_wall_to_wall(raster, truth, areas=where, threshold=threshold)
    files = write_wall_to_wall_report(result, out, title=title)
    from flows.console import table

    columns = {"area": "area", "IoU": "IoU", "F1": "F1", "precision": "precision", "recall": "recall"}
    rows = [a.as_dict() for a in (*result.areas, result.total)]
    text = table(rows, columns | {"not_predicted_px": "not predicted"})
    data = {"report": str(files["report.html"]), "files": [str(f) for f in files.values()], **result.as_dict()}
    return data, f"{text}\nnext: open {files['report.html']}"


def _agreements(labels: list[Path] | None) -> tuple[Any, ...]:
    if not labels:
        return ()
    from accuracy.survey.agreement import agreements
    from accuracy.survey.labels import read_labels

    return tuple(agreements([read_labels(path) for path in labels]))


def _leakage(table: Any, training: Path | None, min_distance_m: float, ssu: str) -> Any:
    if training is None:
        return None
    from accuracy.survey.leakage import leakage_report
    from accuracy.tables import read_table

    return leakage_report(table, read_table(training), min_distance_m=min_distance_m, id_column=ssu)


def _blocks(
    blocks: Path | None,
    digitised: Path | None,
    polygons: list[Path] | None,
    resolution_m: float,
    psu_selection: str,
) -> dict[str, Any]:
    if blocks is None:
        return {}
    import geopandas as gpd
    import pandas as pd

    from accuracy.comparison.block_objects import BlockRules, compare_blocks
    from accuracy.errors import ComparisonError
    from accuracy.survey.design import PSU_SELECTIONS, SamplingDesign
    from accuracy.tables import read_table

    if digitised is None or not polygons:
        raise ComparisonError(f"{blocks}: blocks need --digitised (what was drawn in them) and --polygons (the map's)")
    frame: Any = read_table(blocks)
    truth: Any = read_table(digitised)
    if "crs" not in frame.columns:
        raise ComparisonError(f"{blocks} has no column 'crs': give blocks_design.parquet of `uvmap sample blocks`")
    parts: list[Any] = [read_table(p) for p in polygons]
    told = gpd.GeoDataFrame(pd.concat([part.to_crs("EPSG:4326")[["geometry"]] for part in parts], ignore_index=True))
    rules = BlockRules(resolution_m=resolution_m)
    selection = next(s for s in PSU_SELECTIONS if s == psu_selection)
    design = SamplingDesign(
        psu_selection=selection,
        ssu="block_id",
        second_stage_strata=("block_stratum",),
        ssu_population="M_block",
        ssu_sampled="m_block",
    )
    counts = [compare_blocks(part.to_crs(crs), truth, told, rules) for crs, part in frame.groupby("crs")]
    return {
        "blocks": pd.concat(counts, ignore_index=True),
        "block_design": design,
        "block_rules": rules,
    }


def _headline(result: Any) -> dict[str, Any]:
    from accuracy.reporting.report import plain_cell

    rows = result.headline[result.headline["value"] == "all"].to_dict("records")
    return {
        "variance": result.primary,
        "estimates": {row["measure"]: plain_cell(row) for row in rows},
        "warnings": list(result.warnings),
    }


def _headline_text(result: Any) -> str:
    from accuracy.estimation.measures import MEASURES
    from accuracy.reporting.wording import in_words

    cells = _headline(result)["estimates"]
    return "\n".join(f"{MEASURES[name].label:<34} {in_words(cell)}" for name, cell in cells.items())


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("assess")(assess)
