"""A product against complete reference: the published polygons first, the raw scores as a diagnostic."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.features

from accuracy.comparison.error_kinds import REACH_M, tabulate_kinds
from accuracy.comparison.reliability import Reliability, measure_reliability
from accuracy.comparison.wall_to_wall import AreaComparison, WallToWallComparison, compare_wall_to_wall
from accuracy.errors import ComparisonError
from accuracy.survey.map_strata import MapRasters
from accuracy.tables import read_places
from flows.gallery import GalleryGround, write_product_gallery
from pipeline.city.extent import CityExtent
from pipeline.city.job import CityJob
from pipeline.city.reference import read_city_reference
from pipeline.product.city_report import GALLERY_NAME, add_assessment
from pipeline.product.files import mask_path, polygon_paths, scores_path
from pipeline.reference.areas import read_polygons
from pipeline.reference.reader import Reference, ReferenceHints, frame_of_raster
from pipeline.reference.reader import read_reference as read_labels
from pipeline.refinement.measures import compare_outlines
from regions.raster.scores import SCORE_SCALE

JudgedMap = Literal["polygons", "scores"]
JUDGED_MAPS: tuple[JudgedMap, ...] = get_args(JudgedMap)
MEASURES = ("iou", "f1", "precision", "recall")
ROLE_UNSEEN = "assess"


def name_map(judged: JudgedMap, threshold: float) -> str:
    """How tables name what was judged: the scores are never mistaken for the published map."""
    return "polygons" if judged == "polygons" else f"scores >= {threshold:g} (diagnostic)"


def find_rasters(folder: Path) -> MapRasters:
    """The mask and the scores of a product folder.

    Raises:
        ComparisonError: The folder does not hold one of each.
    """
    found = {}
    for pattern, what in (("*_uv_mask.tif", "mask of the published polygons"), ("*_scores.tif", "score raster")):
        files = sorted(folder.glob(pattern))
        if len(files) != 1:
            raise ComparisonError(
                f"{folder} holds {len(files)} files {pattern} ({what}), one is needed: give a product folder of"
                " `uvmap map`; products of before the mask was shipped must be mapped again"
            )
        found[pattern] = files[0]
    return MapRasters(mask=found["*_uv_mask.tif"], scores=found["*_scores.tif"])


def find_polygons(folder: Path) -> Path:
    """The polygons of a product folder, GeoParquet.

    Raises:
        ComparisonError: The folder does not hold one such file.
    """
    files = sorted(folder.glob("*_uv.parquet"))
    if len(files) != 1:
        raise ComparisonError(f"{folder} holds {len(files)} files *_uv.parquet, one is needed: give a product folder")
    return files[0]


def read_reference(paths: Sequence[Path], rasters: MapRasters, *, hints: ReferenceHints | None = None) -> Reference:
    """Reference villages in the CRS of a product, and the ground of which the reference says nothing.

    Args:
        paths: Polygon files, or mask rasters; one without georeference may lie on the product's grid.
        rasters: The product.
        hints: What the user says of the files.

    Raises:
        AreaError: A file cannot be read, or none meets the product.
    """
    hints = hints or ReferenceHints()
    with rasterio.open(rasters.mask) as mask:
        crs, bounds = mask.crs.to_string(), tuple(mask.bounds)
    frames = (*hints.frames, frame_of_raster(rasters.mask))
    return read_labels(paths, crs=crs, bounds_m=bounds, hints=replace(hints, frames=frames))


def compare_product(
    rasters: MapRasters,
    reference: Reference,
    *,
    areas: gpd.GeoDataFrame | None = None,
    maps: Sequence[JudgedMap] = ("polygons",),
    threshold: float = 0.5,
) -> dict[JudgedMap, WallToWallComparison]:
    """Compare a product with reference polygons that are complete inside areas.

    Args:
        rasters: Mask and scores of the product.
        reference: Urban villages; ground of which it says nothing is left out.
        areas: Where the reference is complete; None for the whole raster.
        maps: What is judged: ``polygons``, the published map, or ``scores``, a diagnostic of the model.
        threshold: Probability from which a score counts as mapped.

    Raises:
        ComparisonError: Rasters, reference and areas do not fit each other.
    """
    files: Mapping[JudgedMap, tuple[Path, float | None]] = {
        "polygons": (rasters.mask, None),
        "scores": (rasters.scores, threshold),
    }
    return {
        judged: compare_wall_to_wall(
            files[judged][0],
            reference.polygons,
            unlabelled=reference.unlabelled,
            areas=areas,
            threshold=files[judged][1],
        )
        for judged in maps
    }


def read_areas(areas: Path | None, role: str | None) -> gpd.GeoDataFrame | None:
    """The areas in which a reference is complete, or None for everywhere.

    Raises:
        ComparisonError: A role without areas, or one that none of them has.
        SampleTableError: A file that holds no areas.
    """
    if areas is None:
        if role is not None:
            raise ComparisonError(f"--role {role} without --areas: give the areas whose column `role` is meant")
        return None
    where = read_places(areas)
    if role is None:
        return where
    if "role" not in where.columns:
        raise ComparisonError(f"{areas} has no column 'role': leave --role out")
    chosen = where[where["role"] == role]
    if chosen.empty:
        known = ", ".join(sorted(set(where["role"].astype(str))))
        raise ComparisonError(f"{areas} has no area with role {role!r} (it has {known}): choose another --role")
    return chosen


def assess_wall_to_wall(
    job: CityJob, extent: CityExtent, *, threshold: float = 0.5, with_gallery: bool = True
) -> dict[str, Any]:
    """Compare a mapped city with its reference, by district where there are districts, and write it to the product.

    Args:
        job: The city, with reference; districts may say which areas no training saw (role `assess`).
        extent: Its extent.
        threshold: Probability from which a pixel of the score raster counts in the diagnostic rows.
        with_gallery: Write `gallery.html` too: the map beside imagery and reference, on the unseen areas.

    Returns:
        ``figures``: for the polygons (the product) and for the scores, on the unseen areas together, on those
        with and without a map; ``tables``: for the report page.
    """
    areas = _areas(job, extent)
    rasters = MapRasters(mask=mask_path(job.out, job.adcode), scores=scores_path(job.out, job.adcode))
    reference = read_city_reference(job.ground.sources, crs=extent.grid.crs, bounds_m=extent.grid.bounds_m)
    figures: dict[str, Any] = {}
    rows: list[tuple[Any, ...]] = []
    for label, where in _groups(areas):
        name = label.replace(" ", "_")
        compared = compare_product(rasters, reference, areas=where, maps=JUDGED_MAPS, threshold=threshold)
        for judged, comparison in compared.items():
            total = comparison.total
            rows.append((label, name_map(judged, threshold), *_cells(total)))
            figures |= {f"{m}_{name}_{judged}": getattr(total.confusion, m) for m in MEASURES}
            figures[f"reference_share_{name}"] = _reference_share(total)
    tables = [
        {
            "title": "Accuracy against complete reference",
            "columns": ["areas", "map", "IoU", "F1", "precision", "recall", "pixels", "not predicted"],
            "rows": rows,
            "note": "A census of the pixels of these areas, no sample: no sampling error. `polygons`: the published "
            "map; rows of scores are a diagnostic of the model. `unseen`: areas that neither training nor validation "
            "read. F1 and IoU come from one confusion; pixels not predicted are in none.",
        }
    ]
    if areas is not None:
        per_area = compare_product(rasters, reference, areas=areas)["polygons"]
        tables.append(
            {
                "title": "Accuracy by district (polygons)",
                "columns": ["district", "map", "IoU", "F1", "precision", "recall", "pixels", "not predicted"],
                "rows": [(a.name, "polygons", *_cells(a)) for a in per_area.areas],
                "note": "Districts with role train were learnt from; their figures flatter.",
            }
        )
    polygons = gpd.read_parquet(polygon_paths(job.out, job.adcode)[0])
    if job.refinement.refiner != "none" and len(polygons):
        tables.append(_refinement_table(job, extent, polygons, reference.polygons))
    reliability = measure_reliability(
        rasters.scores, reference.polygons, areas=_groups(areas)[0][1], unlabelled=reference.unlabelled
    )
    figures["ece"] = reliability.expected_calibration_error()
    result = {"figures": figures, "tables": tables, "reliability": reliability.bins()}
    before = _before_calibration(job, reliability)
    if before is not None:
        figures["ece_before"] = before.expected_calibration_error()
        result["reliability_before"] = before.bins()
    if with_gallery:
        kinds = _write_city_gallery(job, rasters, reference, _groups(areas)[0])
        figures |= {f"{row['kind']}_error_m2": row["area_m2"] for row in kinds}
        tables.append(_kind_table(kinds))
    else:
        (job.out / GALLERY_NAME).unlink(missing_ok=True)  # one of an earlier reference would not fit
    add_assessment(job, extent, result)
    return result


def _write_city_gallery(
    job: CityJob, rasters: MapRasters, reference: Reference, group: tuple[str, gpd.GeoDataFrame | None]
) -> list[dict[str, Any]]:
    """Write the gallery into the product; errors by kind."""
    label, areas = group
    where = "areas that neither training nor validation read" if label == "unseen" else "all ground with labels"
    with job.ground.open() as city:
        written = write_product_gallery(
            rasters,
            polygon_paths(job.out, job.adcode)[0],
            GalleryGround(reference=reference, areas=areas, where=where),
            job.out / GALLERY_NAME,
            title=f"Urban villages of {job.title}: map and reference",
            imagery=city.imagery,
        )
    return tabulate_kinds(written.census)


def _kind_table(kinds: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "title": "Errors by kind (polygons)",
        "columns": ["kind", "regions", "omitted pixels", "committed pixels", "area, m2"],
        "rows": [tuple(row[c] for c in ("kind", "regions", "omitted_px", "committed_px", "area_m2")) for row in kinds],
        "note": f"On the ground of the first rows above. Boundary: village of the reference within {REACH_M:g} m of a "
        "mapped one, or mapped within that of one of the reference; missed and false: beyond. The gallery shows them.",
    }


def _before_calibration(job: CityJob, reliability: Reliability) -> Reliability | None:
    """The same pixels without the checkpoint's calibration, undone level by level; None where it has none.

    Exact where one tile gave the score; where tiles overlap, the mean of calibrated scores is taken for one score.
    """
    from models.checkpoints import load_config

    calibration = load_config(job.checkpoint).calibration
    if not calibration.is_fitted:
        return None
    return reliability.read_as(calibration.undone(np.arange(SCORE_SCALE + 1) / SCORE_SCALE))


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
    if job.ground.sources.districts is None:
        return None
    areas = read_polygons([Path(job.ground.sources.districts)], crs=extent.grid.crs)
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
