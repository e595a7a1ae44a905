"""The report page of a city's product, before and after it was assessed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from pipeline.city.extent import CityExtent
from pipeline.city.job import CityJob
from pipeline.city.reference import read_city_reference
from pipeline.files import write_json
from pipeline.imagery import ImageSource
from pipeline.product.files import polygon_paths, read_manifest, write_manifest, write_report
from pipeline.product.report_page import MAX_SIDE_PX, ReportChart, ReportPage, ReportTable, reliability_figure
from regions.raster.grid import Window

ASSESSMENT_NAME = "accuracy.json"
GALLERY_NAME = "gallery.html"
GALLERY_TEXT = "Gallery: the map beside image and reference, with its errors by kind"


@dataclass(frozen=True)
class ReportFacts:
    """What the page says beside its map.

    Attributes:
        figures: Of the product, by name.
        model_version: Start of the checkpoint's digest.
        remarks: Lines under the map: how the outlines came about, and warnings of the sources.
        assessment: ``figures``, ``tables`` and, where there are scores, ``reliability`` and ``reliability_before``
            (without the calibration); None where not assessed.
    """

    figures: dict[str, Any]
    model_version: str
    remarks: tuple[str, ...]
    assessment: dict[str, Any] | None = None


def remarks_of(polygons: dict[str, Any], warnings: Sequence[str]) -> tuple[str, ...]:
    """How the outlines came about, and what was to be warned of in the inputs and in the outcome."""
    return (str(polygons["note"]), *(f"Warning: {text}" for text in warnings))


def overview_path(job: CityJob) -> Path:
    """Where the overview of the imagery is kept, so that the page can be written again after an assessment."""
    return job.ground.work / "overview.npy"


def write_city_report(
    folder: Path,
    job: CityJob,
    extent: CityExtent,
    table: gpd.GeoDataFrame,
    facts: ReportFacts,
    *,
    image: NDArray[np.uint8] | None,
) -> None:
    """Write the report page of a product, with its accuracy where it was assessed."""
    figures, assessment = facts.figures, facts.assessment
    outlines = [("urban villages", table, "#d7191c")]
    if job.ground.sources.reference:
        reference = read_city_reference(job.ground.sources, crs=extent.grid.crs)
        outlines.append(("reference", reference.polygons, "#ffffbf"))
    tables = [ReportTable("Figures", ("figure", "value"), tuple((k, v) for k, v in figures.items()))]
    if assessment is not None:
        tables = [*(ReportTable(t["title"], tuple(t["columns"]), tuple(map(tuple, t["rows"])), t["note"])
                    for t in assessment["tables"]), *tables]  # fmt: skip
    charts = []
    if assessment is not None and assessment.get("reliability"):
        charts.append(
            ReportChart(
                "Reliability of the scores",
                reliability_figure(assessment["reliability"], before=assessment.get("reliability_before", ())),
                "On the dotted line a score is the share of such pixels that are urban village: above it scores"
                " promise too little, below it too much. Bars: pixels of each bin, on a logarithmic scale. Before: the"
                " same scores with the model's calibration undone. Expected calibration error "
                + _calibration_error(assessment["figures"]),
            )
        )
    notes = [
        f"Scores are probabilities (0 to 1); grey: not predicted. Model {facts.model_version}; release {job.version}.",
        *facts.remarks,
    ]
    page = ReportPage(
        title=f"Urban villages of {job.title}",
        subtitle=f"{figures['villages']} villages, {figures['uv_area_m2'] / 1e6:.3f} km2",
        tables=tables,
        charts=charts,
        notes=notes,
        links=[(GALLERY_TEXT, GALLERY_NAME)] if (folder / GALLERY_NAME).exists() else [],
    )
    write_report(folder, page, adcode=job.adcode, grid=extent.grid, image=image, outlines=outlines)


def _calibration_error(figures: dict[str, Any]) -> str:
    after, before = figures.get("ece"), figures.get("ece_before")
    text = "not known" if after is None else f"{after:.3f}"
    return text + ("." if before is None else f" (before: {before:.3f}).")


def add_assessment(job: CityJob, extent: CityExtent, assessment: dict[str, Any]) -> dict[str, Any]:
    """Put an assessment into a product: `accuracy.json`, the report page, and the figures of the manifest.

    Args:
        job: The city, mapped before.
        extent: Its extent.
        assessment: ``figures`` (flat, JSON-able), ``tables`` (title, columns, rows, note) and, where there are scores,
            ``reliability`` (bins), ``reliability_before`` where the model is calibrated.
    """
    manifest = read_manifest(job.out)
    table = gpd.read_parquet(polygon_paths(job.out, job.adcode)[0])
    write_json(job.out / ASSESSMENT_NAME, assessment)
    picture = overview_path(job)
    image = np.load(picture) if picture.exists() else None
    own = {k: v for k, v in manifest["figures"].items() if k != "accuracy"}
    facts = ReportFacts(
        own,
        str(manifest["inputs"]["lineage"]["model_version"]),
        remarks_of(manifest["counts"]["polygons"], manifest["warnings"]),
        assessment,
    )
    write_city_report(job.out, job, extent, table, facts, image=image)
    return write_manifest(
        job.out,
        adcode=job.adcode,
        inputs=manifest["inputs"],
        parameters=manifest["parameters"],
        figures=own | {"accuracy": assessment["figures"]},
        counts=manifest["counts"],
        warnings=manifest["warnings"],
    )


def overview(imagery: ImageSource) -> NDArray[np.uint8]:
    """uint8 (h, w, 3) view of the imagery, at most `MAX_SIDE_PX` on a side, by picking every n-th pixel."""
    grid = imagery.grid
    step = max(1, math.ceil(max(grid.height_px, grid.width_px) / MAX_SIDE_PX))
    picture = np.zeros((math.ceil(grid.height_px / step), math.ceil(grid.width_px / step), 3), np.uint8)
    for block in grid.blocks(step * max(1, 2048 // step)):
        pixels, _ = imagery.read(Window(block.row_px, block.col_px, block.height_px, block.width_px))
        part = pixels[:3, ::step, ::step].transpose(1, 2, 0)
        row, col = block.row_px // step, block.col_px // step
        picture[row : row + part.shape[0], col : col + part.shape[1]] = part
    return picture
