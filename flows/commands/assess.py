"""`uvmap assess`: the accuracy report, from a labelled sample or from complete reference of named areas."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands import assess_attributes
from flows.commands import options as opt
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
    Psu,
    PsuPopulation,
    PsuProbability,
    PsuSampled,
    RefColumn,
    SecondStage,
    Seed,
    Selection,
    Ssu,
    SsuPopulation,
    SsuSampled,
    Stratum,
    Survey,
    UnitArea,
    Weight,
    block_design,
    build_sample,
    read_totals,
)

Out = Annotated[Path, typer.Option(help="Folder that receives report.html, report.json and tables.")]
Title = Annotated[str, typer.Option(help="Title of the report.")]
DEFAULT_OUT = Path("out/assessment")
DEFAULT_TITLE = "Accuracy of the urban village map"

app = typer.Typer(
    no_args_is_help=True,
    help="Report a map's accuracy: from a labelled sample, against complete reference, or of its attributes.\n\n"
    "Example: uvmap assess sample --help",
)


@app.command("sample")
def assess_sample(
    labelled: Annotated[Path, typer.Argument(help="Labelled sample of `uvmap label merge`.")],
    *,
    psu_selection: Selection,
    out: Out = DEFAULT_OUT,
    stratum: Stratum = "region",
    psu: Psu = "city",
    ssu: Ssu = "point_id",
    second_stage_stratum: SecondStage = None,
    map_column: MapColumn = "map",
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
    by: By = None,
    map_totals: MapTotals = None,
    calibrate: Calibrated = "areas",
    city_totals: CityTotals = None,
    correct_reference: CorrectReference = False,
    survey: Survey = None,
    response_design: Annotated[
        Path | None, typer.Option(help="Text file: what interpreters were told (definition, mixed pixels, imagery).")
    ] = None,
    publish: Annotated[
        Path | None, typer.Option(help="Folder that receives the reference set: points, weights, replicate weights.")
    ] = None,
    replicate_weights: Annotated[int, typer.Option(min=0, help="With --publish: replicate weights.")] = 200,
    training: Annotated[
        Path | None, typer.Option(help="Everything that shaped the model (places, ids, cities, label sources).")
    ] = None,
    min_distance_m: Annotated[float, typer.Option(help="Least distance to training places.")] = 1000.0,
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Interpreters' tables, for their agreement; else the sample's own column `readings`."),
    ] = None,
    blocks: Annotated[Path | None, typer.Option(help="blocks_design.parquet of `uvmap sample blocks`.")] = None,
    digitised: Annotated[Path | None, typer.Option(help="Villages digitised in the blocks.")] = None,
    polygons: Annotated[list[Path] | None, typer.Option(help="The products' polygons, for the blocks.")] = None,
    resolution_m: Annotated[float, typer.Option(help="Pixel of the block comparison.")] = 2.0,
    pixel_m: Annotated[float | None, typer.Option(help="Side of a pixel of the sizes, to show km².")] = None,
    map_date: Annotated[str, typer.Option(help="Date of the map's imagery; else the sample's column `map_date`.")] = "",
    product: Annotated[str, typer.Option(help="Name and version of the map.")] = "",
    lonely_psu: LonelyPsu = "fail",
    interval: Interval = "logit_t",
    level: Level = 0.95,
    replicates: Annotated[int, typer.Option(min=0, help="Bootstrap replicates; 0 for none.")] = 1000,
    seed: Seed = 0,
    title: Title = DEFAULT_TITLE,
    as_json: JsonFlag = False,
) -> None:
    """Report accuracy with intervals from a labelled sample, whose map is the published polygons.

    Example: uvmap assess sample labelled.parquet --psu-selection probability --second-stage-stratum map_stratum
    --out out/assessment
    """
    from accuracy.choices import choose
    from accuracy.estimation.autocorrelation import measure_autocorrelation
    from accuracy.estimation.calibration import CALIBRATED_MEASURES
    from accuracy.estimation.options import EstimateOptions
    from accuracy.estimation.variance import LONELY_RULES
    from accuracy.intervals import INTERVAL_KINDS
    from accuracy.reporting.assessment import Context
    from accuracy.reporting.assessment import assess as run
    from accuracy.reporting.reference_set import write_reference_set
    from accuracy.reporting.report import tell_response, write_report
    from accuracy.survey.record import read_survey
    from accuracy.tables import read_table

    units = read_table(labelled)
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
            "map_column": map_column,
            "reference_column": ref_column,
            "positive": positive,
            "unanswered": frozenset(no_answer or ()),
        },
    )
    options = EstimateOptions(
        interval_kind=choose(interval, INTERVAL_KINDS, "--interval"),
        level=level,
        lonely_psu=choose(lonely_psu, LONELY_RULES, "--lonely-psu"),
    )
    say(f"estimate {len(units)} units")
    record = None if survey is None else read_survey(survey)
    context = Context(
        product=product or _name_product(record),
        response=_read_text(response_design),
        map_date=map_date,
        survey=record,
        names=_names(units, psu, record),
        unit_area_m2=None if pixel_m is None else pixel_m**2,
        calibrated=choose(calibrate, CALIBRATED_MEASURES, "--calibrate"),
        agreements=_agreements(labels),
        leakage=_leakage(units, training, min_distance_m, ssu),
        autocorrelation=measure_autocorrelation(sample, options, seed=seed) if psu else None,
        city_totals=None if city_totals is None else read_table(city_totals),
        corrects=correct_reference,
    )
    result = run(
        sample,
        options,
        by=tuple(by or ()),
        calibrate_to=read_totals(map_totals, sample),
        blocks=_compare_blocks(blocks, digitised, polygons, resolution_m, psu_selection),
        context=context,
        replicates=replicates,
        seed=seed,
    )
    files = write_report(result, out, title=title)
    if publish is not None:
        files |= write_reference_set(
            sample,
            publish,
            title=f"Reference set: {title}",
            response="\n".join(tell_response(result)),
            replicates=replicate_weights,
            seed=seed,
            map_sha256="" if record is None else record.map_sha256,
        )
    for warning in result.warnings:
        say(f"warning: {warning}")
    show(
        {"report": str(files["report.html"]), "files": [str(f) for f in files.values()], **_headline(result)},
        text=_headline_text(result) + f"\nnext: open {files['report.html']}",
        as_json=as_json,
    )


@app.command("map")
def assess_map(
    product: Annotated[Path, typer.Argument(help="Product folder of `uvmap map`.")],
    *,
    reference: Annotated[list[Path], typer.Option(help="Reference polygons or mask raster; repeat for several.")],
    layer: opt.Layer = None,
    positive: opt.Positive = None,
    imagery_crs: opt.ReferenceRasterCrs = None,
    areas: Annotated[Path | None, typer.Option(help="Areas where the reference is complete.")] = None,
    role: Annotated[str | None, typer.Option(help="Only areas with this value in column `role`.")] = None,
    judged: Annotated[
        str, typer.Option("--map", help="What is judged: polygons (the published map) or scores (a diagnostic).")
    ] = "polygons",
    threshold: Annotated[
        float | None, typer.Option(help="With --map scores: probability that counts as mapped; 0.5 if not given.")
    ] = None,
    gallery: opt.Gallery = True,
    imagery: Annotated[
        list[Path] | None, typer.Option(help="Scenes of the product, for the gallery's pictures.")
    ] = None,
    out: Out = DEFAULT_OUT,
    title: Title = DEFAULT_TITLE,
    as_json: JsonFlag = False,
) -> None:
    """Compare a product pixel by pixel with reference that is complete in named areas: a census, no sample.

    The published polygons are judged. `--map scores` judges the raw scores instead: it says what the model knows, not
    what is published, and tables name it a diagnostic.

    Example: uvmap assess map out/demo/990001 --reference truth.gpkg --areas districts.gpkg --role assess
    """
    from accuracy.choices import choose
    from accuracy.comparison.reliability import measure_reliability
    from accuracy.errors import ComparisonError
    from accuracy.reporting.census import write_census_report
    from flows.assessment import JUDGED_MAPS, compare_product, find_rasters, name_map, read_areas, read_reference
    from pipeline.reference.reader import ReferenceHints

    if not product.is_dir():
        raise ComparisonError(
            f"{product} is no product folder: give the folder that `uvmap map` wrote; a labelled sample goes to"
            " `uvmap assess sample`"
        )
    what = choose(judged, JUDGED_MAPS, "--map")
    if threshold is not None and what == "polygons":
        raise ComparisonError(
            f"--threshold {threshold:g} cuts scores, and the published polygons are judged: leave it out, or give"
            " --map scores"
        )
    cut = 0.5 if threshold is None else threshold
    rasters = find_rasters(product)
    hints = ReferenceHints(layer, tuple(positive or ()), imagery_crs)
    villages = read_reference(reference, rasters, hints=hints)
    for warning in villages.warnings:
        say(f"warning: {warning}")
    where = read_areas(areas, role)
    result = compare_product(
        rasters,
        villages,
        areas=where,
        maps=(what,),
        threshold=cut,
    )[what]
    label = name_map(what, cut)
    page = None
    if gallery and what == "polygons":
        page = _write_gallery(product, villages, where, out, imagery=imagery, crs=imagery_crs, title=title)
    files = write_census_report(result, out, title=title, judged=label, gallery=page)
    columns = {"map": "map", "area": "area", "IoU": "IoU", "F1": "F1", "precision": "precision", "recall": "recall"}
    rows = [{"map": label, **a.as_dict()} for a in (*result.areas, result.total)]
    text = table(rows, columns | {"not_predicted_px": "not predicted"})
    reliability = measure_reliability(rasters.scores, villages.polygons, areas=where, unlabelled=villages.unlabelled)
    ece = reliability.expected_calibration_error()
    data = {"report": str(files["report.html"]), "files": [str(f) for f in files.values()], "map": label}
    data |= result.as_dict() | {"ece": ece, "reliability": reliability.bins()}
    text += "" if ece is None else f"\nexpected calibration error of the scores: {ece:.3f}"
    show(data, text=f"{text}\nnext: open {files['report.html']}", as_json=as_json)


def _write_gallery(
    product: Path, labels: Any, areas: Any, out: Path, *, imagery: list[Path] | None, crs: str | None, title: str
) -> str:
    """Write the gallery beside the report; its file name."""
    from flows.assessment import find_polygons, find_rasters
    from flows.gallery import GalleryGround, imagery_of_product, write_product_gallery
    from pipeline.product.city_report import GALLERY_NAME

    rasters = find_rasters(product)
    ground = GalleryGround(
        reference=labels, areas=areas, where="all ground with labels" if areas is None else "the areas named"
    )
    with imagery_of_product(rasters, imagery or (), crs=crs) as scenes:
        write_product_gallery(
            rasters, find_polygons(product), ground, out / GALLERY_NAME, title=f"{title}: gallery", imagery=scenes
        )
    return GALLERY_NAME


def _names(units: Any, psu: str, record: Any) -> dict[str, str]:
    """What people call the cities: as the record of the draw says, or the sample's column `city_name`."""
    if record is not None:
        return dict(record.names)
    if not psu or not {psu, "city_name"} <= set(units.columns):
        return {}
    from accuracy.survey.design import as_text

    known = units.assign(key=as_text(units[psu]))[["key", "city_name"]].dropna().drop_duplicates("key")
    return {str(k): str(v) for k, v in zip(known["key"], known["city_name"], strict=True)}


def _read_text(path: Path | None) -> str:
    if path is None:
        return ""
    from accuracy.errors import AccuracyError

    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise AccuracyError(f"--response-design {path} is not in UTF-8: save it as UTF-8") from error


def _name_product(record: Any) -> str:
    """The releases of the map that was drawn from, where the record says them."""
    releases = [] if record is None else sorted({c.release for c in record.cities if c.release})
    return "release " + ", ".join(releases) if releases else ""


def _agreements(labels: list[Path] | None) -> tuple[Any, ...]:
    if not labels:
        return ()
    from accuracy.survey.agreement import measure_agreements
    from accuracy.survey.labels import read_labels

    return tuple(measure_agreements([read_labels(path, with_dates=False) for path in labels]))


def _leakage(units: Any, training: Path | None, min_distance_m: float, ssu: str) -> Any:
    if training is None:
        return None
    from accuracy.survey.leakage import check_leakage
    from accuracy.tables import read_table

    return check_leakage(units, read_table(training), min_distance_m=min_distance_m, id_column=ssu)


def _compare_blocks(
    blocks: Path | None,
    digitised: Path | None,
    polygons: list[Path] | None,
    resolution_m: float,
    psu_selection: str,
) -> Any:
    """The blocks compared with the map, or None where no blocks were given."""
    if blocks is None:
        return None
    import geopandas as gpd
    import pandas as pd

    from accuracy.comparison.block_objects import BlockRules, BlockSurvey, compare_blocks
    from accuracy.errors import ComparisonError
    from accuracy.tables import read_places

    if digitised is None or not polygons:
        raise ComparisonError(f"{blocks}: blocks need --digitised (what was drawn in them) and --polygons (the map's)")
    frame, truth = read_places(blocks), read_places(digitised)
    if "crs" not in frame.columns:
        raise ComparisonError(f"{blocks} has no column 'crs': give blocks_design.parquet of `uvmap sample blocks`")
    parts = [read_places(p) for p in polygons]
    mapped = gpd.GeoDataFrame(pd.concat([part.to_crs("EPSG:4326")[["geometry"]] for part in parts], ignore_index=True))
    rules = BlockRules(resolution_m=resolution_m)
    counts = [compare_blocks(part.to_crs(crs), truth, mapped, rules) for crs, part in frame.groupby("crs")]
    return BlockSurvey(counts=pd.concat(counts, ignore_index=True), design=block_design(psu_selection), rules=rules)


def _headline(result: Any) -> dict[str, Any]:
    from accuracy.reporting.cells import make_plain_cell

    rows = result.headline[result.headline["value"] == "all"].to_dict("records")
    return {
        "variance": result.primary,
        "estimates": {row["measure"]: make_plain_cell(row) for row in rows},
        "warnings": list(result.warnings),
    }


def _headline_text(result: Any) -> str:
    from accuracy.measures import MEASURES
    from accuracy.reporting.wording import write_estimate

    cells = _headline(result)["estimates"]
    return "\n".join(f"{MEASURES[name].label:<34} {write_estimate(cell)}" for name, cell in cells.items())


app.command("attributes")(assess_attributes.assess_attributes)


def register(main: typer.Typer) -> None:
    """Add the commands."""
    main.add_typer(app, name="assess")
