"""The stage `scores`: the model's probabilities as a COG, block by block through the ledger."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

from tqdm import tqdm

from models.segmentation.predictor import SegmentationPredictor
from pipeline.city.stage_store import StageResult
from pipeline.city.stage_table import CityRun
from pipeline.city.steps.adapt import look_shares, statistics_of
from pipeline.city.tag_text import tag_text_of
from pipeline.files import digest_of
from pipeline.graph import CityGraph
from pipeline.inference import Progress, ScoreResult, predict_scores
from pipeline.inference.halving import halving
from pipeline.inference.look_model import LookModel
from pipeline.inference.protocols import TileModel
from pipeline.inference.uncertainty import SymmetryEnsemble
from regions.raster.grid import Tiling

_LOG = logging.getLogger(__name__)
LINE_EVERY_S = 10.0
"""A line of progress at most this often; who runs the stage may read how far it is from it."""


def score_stage(run: CityRun, done: Mapping[str, StageResult]) -> StageResult:
    """The score COG; blocks that are done are found again through the ledger in the work folder."""
    job, ground = run.job, run.job.ground
    city_graph = CityGraph.load(done["graph"].folder / "graph")
    text = tag_text_of(job.checkpoint, job.text, work=ground.work)
    statistics = statistics_of(done["adapt"])
    folder = ground.work / "scores"

    def at(batch_size: int | None) -> SegmentationPredictor:
        return SegmentationPredictor.load(
            job.checkpoint,
            city_graph.tag_sets,
            batch_size=batch_size,
            text_encoder=text,
            compiled=job.compiled,
            scenes=statistics,
        )

    result = halving(lambda size: _scored(run, done, at(size), city_graph, folder), asked=job.batch_size, folder=folder)
    summary = _summary(result) | {"resolution_m": run.extent.grid.resolution_m}
    return StageResult(folder, result.digest, summary, reused=not result.assembled)


def _scored(
    run: CityRun,
    done: Mapping[str, StageResult],
    model: SegmentationPredictor,
    city_graph: CityGraph,
    folder: Path,
) -> ScoreResult:
    job, ground, settings = run.job, run.job.ground, run.job.ground.grid
    statistics = statistics_of(done["adapt"])
    single: TileModel = model
    if statistics is not None and len(statistics) > 1:
        looked = LookModel(model, look_shares(run), digest_of([model.digest, done["adapt"].key]))
        single = cast(TileModel, looked)  # asked with corners, as its `needs_corners` says
    asked = single if settings.symmetries == 1 else SymmetryEnsemble(single, symmetries=range(settings.symmetries))
    with ground.open() as city, _ScoreBar(job.adcode, shown=run.progress) as bar:
        return predict_scores(
            city.imagery,
            asked,
            city_graph if model.uses_graphs else None,
            grid=run.extent.grid,
            tiling=Tiling(model.tile_px, min(settings.stride_px, model.tile_px)),
            aoi=run.extent.aoi,
            block_px=settings.block_px,
            readers=job.readers,
            out=folder / "scores.tif",
            work=folder,
            progress=bar.update,
        )


def _summary(result: ScoreResult) -> dict[str, Any]:
    """What of a score raster does not depend on how often the run was interrupted."""
    return {
        "blocks": result.blocks_total,
        "blocks_skipped": result.blocks_skipped,
        "predicted_px": result.predicted_px,
        "not_predicted_px": result.not_predicted_px,
        "sha256": result.digest,
    }


class _ScoreBar:
    """Progress in square kilometres: a bar on standard error, or where none is wanted a line now and then."""

    def __init__(self, adcode: str, *, shown: bool) -> None:
        self._name, self._shown, self._last = f"scores {adcode}", shown, time.monotonic()
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
        if not self._shown and time.monotonic() - self._last > LINE_EVERY_S:
            self._last = time.monotonic()
            _LOG.info("%s: %.2f of %.2f km2", self._name, state.km2_done, state.km2_total)
