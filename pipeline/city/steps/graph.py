"""The stage `graph`: features and city graph of the area that tiles can see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models.checkpoints import load_config
from pipeline.city.ground import REACH_PX
from pipeline.city.opening import ground_graph
from pipeline.city.stage_store import StageResult
from pipeline.city.stage_table import CityRun


def graph_stage(run: CityRun, _done: Mapping[str, StageResult]) -> StageResult:
    """The city's graph, with a margin of at least two tiles of the model."""
    no_model = run.job.checkpoint == Path()  # a check before there is one
    reach_px = REACH_PX if no_model else max(REACH_PX, 2 * load_config(run.job.checkpoint).tile_px)
    return ground_graph(run.job.ground, run.extent, reach_px=reach_px)
