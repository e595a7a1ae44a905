"""One city from sources to product, stage by stage.

Every stage is a plain function of a job and the results of the stages before it. The command line, a notebook and
the flows all call `run_stage` or `map_city`, so regenerating one city gives the same bytes as the nation's run. A
result is kept in the job's work folder under the key of its inputs: what is there is not made again, and what no
longer fits is not used.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, Self

import geopandas as gpd
import shapely
from tqdm import tqdm

from models.checkpoints import load_config
from pipeline.city.extent import CityExtent, city_extent
from pipeline.city.job import STAGE_NAMES, CityJob, job_of
from pipeline.city.stage_store import StageResult, stage_result
from pipeline.city.vectors import read_city_vectors
from pipeline.errors import PipelineError
from pipeline.files import sha256_of, source_digest
from pipeline.graph import CityGraph, graph_key
from pipeline.imagery import open_imagery, prepare_imagery
from pipeline.inference import Progress, ScoreResult, predict_scores
from pipeline.polygons import find_villages
from pipeline.polygons.barriers import barrier_shapes, exclusion_shapes
from pipeline.product.build import build_product
from pipeline.refinement import (
    choose_refiner,
    refine_villages,
    refinement_summary,
    unrefined,
)
from regions.raster.grid import Tiling

__all__ = ["STAGE_NAMES", "CityJob", "UnknownStageError", "job_of", "map_city", "run_stage"]

GRAPH_VERSION = 2
POLYGONS_VERSION = 2
REFINEMENT_VERSION = 2


class UnknownStageError(PipelineError):
    """No stage has this name."""


def run_stage(name: str, job: CityJob, *, progress: bool = False) -> dict[str, Any]:
    """Run one stage of a city and those before it that are not done; find what is done.

    Args:
        name: One of `STAGE_NAMES`.
        job: The city.
        progress: Show progress bars on standard error.

    Returns:
        JSON-able summary of the stage.

    Raises:
        UnknownStageError: no such stage.
        PipelineError: what the sources or the model do not allow, naming file, values and mend.
    """
    if name not in STAGE_NAMES:
        raise UnknownStageError(f"no stage '{name}'; the stages are {', '.join(STAGE_NAMES)}")
    extent = city_extent(job)
    graph = graph_stage(job, extent)
    if name == "graph":
        return _told(graph)
    scores = score_stage(job, extent, graph, progress=progress)
    if name == "scores":
        return _told(scores)
    polygons = polygon_stage(job, extent, graph, scores)
    if name == "polygons":
        return _told(polygons)
    refined = refinement_stage(job, extent, graph, scores, polygons)
    if name == "refinement":
        return _told(refined)
    return build_product(job, extent, graph=graph, scores=scores, polygons=refined)


def map_city(job: CityJob, *, progress: bool = False) -> dict[str, Any]:
    """All stages of a city; the summary of its product."""
    return run_stage(STAGE_NAMES[-1], job, progress=progress)


def graph_stage(job: CityJob, extent: CityExtent) -> StageResult:
    """The city graph and the feature table of the area that tiles can see."""
    sources = job.sources
    tiling_px = 2 * load_config(job.checkpoint).tile_px
    reach = extent.grid.window_bounds_m(extent.grid.window.padded(tiling_px))
    inputs = {
        "version": GRAPH_VERSION,
        "graph": graph_key(""),
        "vectors": [source_digest(p) for p in sources.vectors],
        "crs": extent.grid.crs,
        "bounds_m": reach,
        "notes": sources.notes.model_dump(include={"vectors_crs", "vectors_encoding", "vectors_id", "default_tags"}),
    }

    def build(folder: Path) -> dict[str, Any]:
        features = read_city_vectors(sources, crs=extent.grid.crs, bounds_m=reach)
        features.table.to_parquet(folder / "features.parquet", compression="zstd", index=False)
        CityGraph.build(folder / "features.parquet", folder=folder / "graph")
        return {"features": len(features.table), "counts": features.counts, "warnings": list(features.warnings)}

    return stage_result(job.work, "graph", inputs, build)


def score_stage(job: CityJob, extent: CityExtent, graph: StageResult, *, progress: bool) -> StageResult:
    """The score COG; blocks that are done are found again through the ledger in the work folder."""
    city_graph = CityGraph.load(graph.folder / "graph")
    sources = job.sources
    ingested = job.work / "imagery.tif"
    paths = prepare_imagery(sources.imagery, grid=extent.grid, out=ingested, crs=sources.notes.imagery_crs)
    # half of all imports by time, which only this stage needs: in a nation's run every stage is a process
    from models.segmentation.predictor import SegmentationPredictor  # noqa: PLC0415
    from pipeline.inference.uncertainty import SymmetryEnsemble  # noqa: PLC0415

    model = SegmentationPredictor.load(job.checkpoint, city_graph.tag_sets, batch_size=job.batch_size)
    tiling = Tiling(model.tile_px, min(job.grid.stride_px, model.tile_px))
    asked = model if job.grid.symmetries == 1 else SymmetryEnsemble(model, symmetries=range(job.grid.symmetries))
    with (
        open_imagery(paths, grid=extent.grid, crs=sources.notes.imagery_crs) as imagery,
        _ScoreBar(job.adcode, shown=progress) as bar,
    ):
        result = predict_scores(
            imagery,
            asked,
            city_graph if model.uses_graphs else None,
            grid=extent.grid,
            tiling=tiling,
            aoi=extent.aoi,
            block_px=job.grid.block_px,
            out=job.work / "scores" / "scores.tif",
            work=job.work / "scores",
            progress=bar.update,
        )
    return StageResult(job.work / "scores", result.digest, _score_summary(result), reused=not result.assembled)


def polygon_stage(job: CityJob, extent: CityExtent, graph: StageResult, scores: StageResult) -> StageResult:
    """Urban villages from scores, before attributes."""
    inputs = {
        "version": POLYGONS_VERSION,
        "scores": sha256_of(scores.folder / "scores.tif"),
        "graph": graph.key,
        "settings": job.polygons.model_dump(mode="json", exclude={"block_px"}),
    }

    def build(folder: Path) -> dict[str, Any]:
        vectors = gpd.read_parquet(graph.folder / "features.parquet")
        found = find_villages(scores.folder / "scores.tif", grid=extent.grid, config=job.polygons, vectors=vectors)
        found.villages.to_parquet(folder / "villages.parquet", compression="zstd", index=False)
        found.removed.to_parquet(folder / "removed.parquet", compression="zstd", index=False)
        return found.counts

    return stage_result(job.work, "polygons", inputs, build)


def refinement_stage(
    job: CityJob, extent: CityExtent, graph: StageResult, scores: StageResult, polygons: StageResult
) -> StageResult:
    """Outlines drawn anew from the imagery where the acceptance rule takes them; without a refiner, a note."""
    settings, sources = job.refinement, job.sources
    weights = sorted(settings.sam_weights.rglob("*")) if settings.sam_weights is not None else []
    inputs = {
        "version": REFINEMENT_VERSION,
        "polygons": polygons.key,
        "settings": settings.model_dump(mode="json", exclude={"sam_weights", "batch_windows"}),
        "sam_weights": [sha256_of(p) for p in weights if p.is_file()],
    }

    def build(folder: Path) -> dict[str, Any]:
        villages = gpd.read_parquet(polygons.folder / "villages.parquet")
        refiner, note = choose_refiner(settings.refiner, sam_weights=settings.sam_weights)
        if refiner is None or len(villages) == 0:
            refined = unrefined(villages, note)
        else:
            paths = prepare_imagery(
                sources.imagery, grid=extent.grid, out=job.work / "imagery.tif", crs=sources.notes.imagery_crs
            )
            with open_imagery(paths, grid=extent.grid, crs=sources.notes.imagery_crs) as imagery:
                refined = refine_villages(
                    villages,
                    scores=scores.folder / "scores.tif",
                    imagery=imagery,
                    grid=extent.grid,
                    refiner=refiner,
                    config=settings,
                    polygons=job.polygons,
                    forbidden=_forbidden(job, extent, graph),
                )
        refined.to_parquet(folder / "villages.parquet", compression="zstd", index=False)
        shutil.copyfile(polygons.folder / "removed.parquet", folder / "removed.parquet")
        return {**polygons.summary, "note": note, **refinement_summary(refined)}

    return stage_result(job.work, "refinement", inputs, build)


def _forbidden(job: CityJob, extent: CityExtent, graph: StageResult) -> gpd.GeoSeries:
    """Ground that a refined outline may not reach into: what cuts villages, and what excludes them."""
    config = job.polygons
    vectors = gpd.read_parquet(graph.folder / "features.parquet")
    shapes: list[shapely.Geometry] = []
    if config.barriers is not None:
        shapes += list(barrier_shapes(vectors, config.barriers))
    if config.exclusions is not None:
        shapes += list(exclusion_shapes(vectors, config.exclusions).geometry)
    return gpd.GeoSeries(shapes, crs=extent.grid.crs)


def _told(result: StageResult) -> dict[str, Any]:
    return {**result.summary, "folder": str(result.folder), "key": result.key, "reused": result.reused}


def _score_summary(result: ScoreResult) -> dict[str, Any]:
    """What of a score raster does not depend on how often the run was interrupted."""
    return {
        "blocks": result.blocks_total,
        "blocks_skipped": result.blocks_skipped,
        "predicted_px": result.predicted_px,
        "not_predicted_px": result.not_predicted_px,
        "sha256": result.digest,
    }


class _ScoreBar:
    """A progress bar in square kilometres on standard error."""

    def __init__(self, adcode: str, *, shown: bool) -> None:
        self._bar = tqdm(desc=f"scores {adcode}", unit="km2", disable=not shown, file=sys.stderr, total=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, state: Progress) -> None:
        """Show the state after a block."""
        self._bar.total = round(state.km2_total, 3)
        self._bar.n = round(state.km2_done, 3)
        self._bar.set_postfix_str(f"{state.blocks_skipped} blocks skipped, {state.blocks_reused} reused")
