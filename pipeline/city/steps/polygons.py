"""The stage `polygons`: urban villages from scores, before attributes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd

from pipeline.city.stage_store import StageResult, stage_result
from pipeline.city.stage_table import CityRun
from pipeline.files import sha256_of
from pipeline.polygons import find_villages

POLYGONS_VERSION = 3


def polygon_stage(run: CityRun, done: Mapping[str, StageResult]) -> StageResult:
    """``villages.parquet`` and ``removed.parquet``."""
    settings, scores = run.job.polygons, done["scores"].folder / "scores.tif"
    inputs = {
        "version": POLYGONS_VERSION,
        "scores": sha256_of(scores),
        "graph": done["graph"].key,
        "settings": settings.model_dump(mode="json", exclude={"block_px"}),
    }

    def build(folder: Path) -> dict[str, Any]:
        vectors = gpd.read_parquet(done["graph"].folder / "features.parquet")
        found = find_villages(scores, grid=run.extent.grid, config=settings, vectors=vectors)
        found.villages.to_parquet(folder / "villages.parquet", compression="zstd", index=False)
        found.removed.to_parquet(folder / "removed.parquet", compression="zstd", index=False)
        return found.counts

    return stage_result(run.job.ground.work, "polygons", inputs, build)
