"""The stage `refinement`: outlines drawn anew from the imagery where the rule takes them, and along streets."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from pipeline.city.stage_store import StageResult, stage_result
from pipeline.city.stage_table import CityRun
from pipeline.files import sha256_of
from pipeline.polygons.barriers import select_barriers, select_exclusions
from pipeline.polygons.roads import select_roads, snap_to_roads
from pipeline.refinement import choose_refiner, mark_unrefined, refine_villages, summarise_refinement

REFINEMENT_VERSION = 3


def refinement_stage(run: CityRun, done: Mapping[str, StageResult]) -> StageResult:
    """``villages.parquet`` and ``removed.parquet`` again; without a refiner the outlines stay, with a note."""
    job, settings = run.job, run.job.refinement
    weights = sorted(settings.sam_weights.rglob("*")) if settings.sam_weights is not None else []
    inputs = {
        "version": REFINEMENT_VERSION,
        "polygons": done["polygons"].key,
        "settings": settings.model_dump(mode="json", exclude={"sam_weights", "batch_windows"}),
        "sam_weights": [sha256_of(p) for p in weights if p.is_file()],
    }

    def build(folder: Path) -> dict[str, Any]:
        villages = gpd.read_parquet(done["polygons"].folder / "villages.parquet")
        refiner, note = choose_refiner(
            settings.refiner,
            sam_weights=settings.sam_weights,
            sam_masks=settings.sam_masks,
            resolution_m=run.extent.grid.resolution_m,
        )
        if refiner is None or len(villages) == 0:
            refined = mark_unrefined(villages, note)
        else:
            with job.ground.open() as city:
                refined = refine_villages(
                    villages,
                    scores=done["scores"].folder / "scores.tif",
                    imagery=city.imagery,
                    grid=run.extent.grid,
                    refiner=refiner,
                    config=settings,
                    polygons=job.polygons,
                    forbidden=_forbidden(run, done["graph"]),
                )
        snapped = 0
        if job.polygons.roads is not None:
            before = refined.geometry.to_numpy()
            roads = select_roads(gpd.read_parquet(done["graph"].folder / "features.parquet"), job.polygons.roads)
            forbidden = _forbidden(run, done["graph"]).to_numpy()
            after = snap_to_roads(before, roads, config=job.polygons.roads, forbidden=forbidden)
            snapped = int(np.count_nonzero(~shapely.equals(before, after)))
            refined = refined.set_geometry(gpd.GeoSeries(after, index=refined.index, crs=refined.crs))
        refined.to_parquet(folder / "villages.parquet", compression="zstd", index=False)
        shutil.copyfile(done["polygons"].folder / "removed.parquet", folder / "removed.parquet")
        return {**done["polygons"].summary, "note": note, "snapped_to_roads": snapped, **summarise_refinement(refined)}

    return stage_result(job.ground.work, "refinement", inputs, build)


def _forbidden(run: CityRun, graph: StageResult) -> gpd.GeoSeries:
    """Ground that a refined outline may not reach into: what cuts villages, and what excludes them."""
    config = run.job.polygons
    vectors = gpd.read_parquet(graph.folder / "features.parquet")
    shapes: list[shapely.Geometry] = []
    if config.barriers is not None:
        shapes += list(select_barriers(vectors, config.barriers))
    if config.exclusions is not None:
        shapes += list(select_exclusions(vectors, config.exclusions).geometry)
    return gpd.GeoSeries(shapes, crs=run.extent.grid.crs)
