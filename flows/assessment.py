"""A city's product against complete reference: the figures and tables that go into its manifest and report."""

from pathlib import Path
from typing import Any

import geopandas as gpd

from accuracy.comparison.reliability import score_reliability
from accuracy.comparison.wall_to_wall import AreaComparison, compare_wall_to_wall
from pipeline.city.extent import CityExtent
from pipeline.city.job import CityJob
from pipeline.product.build import add_assessment
from pipeline.product.files import polygon_paths, scores_path
from pipeline.product.mask import write_polygon_mask
from pipeline.reference.areas import read_polygons
from pipeline.refinement.measures import compare_outlines

MEASURES = ("iou", "f1", "precision", "recall")
ROLE_UNSEEN = "assess"


def assess_wall_to_wall(job: CityJob, extent: CityExtent, *, threshold: float = 0.5) -> dict[str, Any]:
    """Compare a mapped city with its reference, by district where there are districts, and write it to the product.

    Args:
        job: The city, with reference; districts may say which areas no training saw (role `assess`).
        extent: Its extent.
        threshold: Probability from which a pixel of the score raster counts.

    Returns:
        ``figures``: for the polygons (the product) and for the scores, on the unseen areas together, on those
        with and without a map; ``tables``: for the report page.
    """
    reference = read_polygons(job.sources.reference, crs=extent.grid.crs, raster_crs=job.sources.notes.imagery_crs)
    areas = _areas(job, extent)
    polygons = gpd.read_parquet(polygon_paths(job.out, job.adcode)[0])
    scores = scores_path(job.out, job.adcode)
    mask = write_polygon_mask(scores, polygons, job.work / "polygon_mask.tif")
    figures: dict[str, Any] = {}
    rows: list[tuple[Any, ...]] = []
    for label, where in _groups(areas):
        for what, path, cut in (("polygons", mask, None), ("scores", scores, threshold)):
            total = compare_wall_to_wall(path, reference, areas=where, threshold=cut).total
            rows.append((label, what, *_cells(total)))
            name = label.replace(" ", "_")
            figures |= {f"{m}_{name}_{what}": getattr(total.confusion, m) for m in MEASURES}
            figures[f"reference_share_{name}"] = _reference_share(total)
    per_area = compare_wall_to_wall(mask, reference, areas=areas, threshold=None) if areas is not None else None
    tables = [
        {
            "title": "Accuracy against complete reference",
            "columns": ["areas", "what", "IoU", "F1", "precision", "recall", "pixels", "not predicted"],
            "rows": rows,
            "note": "A census of the pixels of these areas, no sample: no sampling error. `unseen`: areas that neither "
            "training nor validation read. F1 and IoU come from one confusion; pixels not predicted are in none.",
        }
    ]
    if per_area is not None:
        tables.append(
            {
                "title": "Accuracy by district (polygons)",
                "columns": ["district", "what", "IoU", "F1", "precision", "recall", "pixels", "not predicted"],
                "rows": [(a.name, "polygons", *_cells(a)) for a in per_area.areas],
                "note": "Districts with role train were learnt from; their figures flatter.",
            }
        )
    if job.refinement.refiner != "none" and len(polygons):
        tables.append(_refinement_table(job, extent, polygons, reference))
    reliability = score_reliability(scores, reference, areas=_groups(areas)[0][1])
    figures["expected_calibration_error"] = reliability.expected_calibration_error()
    result = {"figures": figures, "tables": tables, "reliability": reliability.bins()}
    add_assessment(job, extent, result)
    return result


def _refinement_table(
    job: CityJob, extent: CityExtent, polygons: gpd.GeoDataFrame, reference: gpd.GeoDataFrame
) -> dict[str, Any]:
    """Outlines before and after refinement against the reference, over the whole grid."""
    from pipeline.city.stages import run_stage

    before = gpd.read_parquet(Path(run_stage("polygons", job)["folder"]) / "villages.parquet")
    figures = {
        name: compare_outlines(found.geometry, reference.geometry, grid=extent.grid)
        for name, found in (("before", before), ("after", polygons))
    }
    measures = list(figures["before"])
    return {
        "title": "Boundaries before and after refinement",
        "columns": ["outlines", *measures],
        "rows": [(name, *(values[m] for m in measures)) for name, values in figures.items()],
        "note": "Boundary F1: share of outlines within the tolerance of each other; boundary IoU: of bands along them.",
    }


def _areas(job: CityJob, extent: CityExtent) -> gpd.GeoDataFrame | None:
    if job.sources.districts is None:
        return None
    areas = read_polygons([Path(job.sources.districts)], crs=extent.grid.crs)
    if {"name", "role"} <= set(areas.columns):
        areas["name"] = areas["name"].astype(str) + " (" + areas["role"].astype(str) + ")"
    return areas


def _groups(areas: gpd.GeoDataFrame | None) -> list[tuple[str, gpd.GeoDataFrame | None]]:
    """Groups of areas to report together: unseen, unseen with and without a map; or all."""
    if areas is None or "role" not in areas.columns or ROLE_UNSEEN not in set(areas["role"]):
        return [("all", areas)]
    unseen = areas[areas["role"] == ROLE_UNSEEN]
    groups = [("unseen", unseen)]
    if "has_osm" in areas.columns:
        mapped = unseen["has_osm"].astype(bool)
        groups += [("with osm", unseen[mapped]), ("no osm", unseen[~mapped])]
    return [(label, where) for label, where in groups if len(where)]


def _cells(comparison: AreaComparison) -> tuple[Any, ...]:
    c = comparison.confusion
    pixels = round(c.tp + c.fp + c.fn + c.tn)
    return (c.iou, c.f1, c.precision, c.recall, pixels, comparison.not_predicted_px)


def _reference_share(comparison: AreaComparison) -> float | None:
    """Share of urban village among the compared pixels: the IoU of calling all of them a village."""
    c = comparison.confusion
    total = c.tp + c.fp + c.fn + c.tn
    return (c.tp + c.fn) / total if total else None
