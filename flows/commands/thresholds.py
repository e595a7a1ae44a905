"""`uvmap thresholds`: choose the thresholds of a map on validation ground, and show the curve."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import options as opt
from flows.console import JsonFlag, say, show, table


def thresholds(
    product: Annotated[Path, typer.Argument(help="Folder of a product, or a score raster.")],
    *,
    reference: Annotated[Path, typer.Option(help="Reference villages, complete on the validation ground.")],
    districts: Annotated[
        Path | None,
        typer.Option(help="Areas with a column `role`: validation is judged, assess must lie elsewhere."),
    ] = None,
    layer: opt.Layer = None,
    positive: opt.Positive = None,
    imagery_crs: opt.ReferenceRasterCrs = None,
    role: Annotated[str, typer.Option(help="Role of the areas to judge; never `assess`.")] = "validation",
    min_area_m2: opt.MinAreaM2 = opt.POLYGONS.min_area_m2,
    close_gap_m: opt.CloseGapM = opt.POLYGONS.close_gap_m,
    page: Annotated[Path | None, typer.Option(help="HTML page that receives the curve.")] = None,
    json: JsonFlag = False,
) -> None:
    """Try all pairs of grow and seed probabilities on validation ground and name the pair with the highest F1.

    Ground with the role `assess` is never looked at: thresholds chosen on it would flatter the accuracy.

    Example: uvmap thresholds out/china/440300 --reference data/china/440300/labels/uv.gpkg
    --districts data/china/440300/labels/districts.gpkg
    """
    from pipeline.polygons.scores import grid_of_scores
    from pipeline.polygons.threshold_page import read_validation_areas, write_curve_page
    from pipeline.polygons.thresholds import choose_thresholds
    from pipeline.product.files import read_manifest, scores_path
    from pipeline.reference.reader import ReferenceHints, frame_of_raster, read_reference

    path = scores_path(product, read_manifest(product)["adcode"]) if product.is_dir() else product
    grid = grid_of_scores(path)
    if districts is None:
        say("no --districts: the whole raster is judged; keep such thresholds away from ground that is assessed")
    hints = ReferenceHints(layer, tuple(positive or ()), imagery_crs, (frame_of_raster(path),))
    villages = read_reference([reference], crs=grid.crs, bounds_m=grid.bounds_m, hints=hints)
    for warning in villages.warnings:
        say(f"warning: {warning}")
    judged, kept = read_validation_areas(districts, grid=grid, role=role)
    choice = choose_thresholds(
        path,
        grid=grid,
        reference=villages.polygons.geometry,
        validation=judged.map(villages.labelled_part),
        assessment=kept,
        config=opt.polygons_of(min_area_m2=min_area_m2, close_gap_m=close_gap_m),
    )
    best = choice.best_per_grow()
    rows = best.assign(curve=["#" * round(40 * f1) for f1 in best["f1"]]).to_dict("records")
    cells = [{str(key): value for key, value in row.items()} for row in rows]
    columns = {"grow": "grow", "seed": "best seed", "precision": "precision", "recall": "recall", "f1": "F1"}
    lines = [
        table(cells, {**columns, "iou": "IoU", "villages": "villages", "curve": "curve"}),
        f"best: --grow {choice.grow_probability} --seed {choice.seed_probability}",
        f"judged on {choice.pixels} pixels; {choice.not_predicted_px} without a score left out",
    ]
    if page is not None:
        write_curve_page(choice, page, title=path.name)
        lines.append(f"curve: {page}")
    data = {
        "grow": choice.grow_probability,
        "seed": choice.seed_probability,
        "pixels": choice.pixels,
        "not_predicted_px": choice.not_predicted_px,
        "curve": choice.curve.to_dict("records"),
        "page": None if page is None else str(page),
    }
    show(data, text="\n".join(lines), as_json=json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(thresholds)
