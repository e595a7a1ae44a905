"""The stage `adapt`: what the model's features look like on this city's imagery, look by look, without labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.checkpoints import load_config
from models.encoders.statistics import SceneStatistics, TileMoments
from models.segmentation.adaptation import SceneAdapter
from models.segmentation.config import SegmentationConfig
from pipeline.city.looks import Looks, LookShares, looks_of
from pipeline.city.opening import OpenCity
from pipeline.city.stage_store import StageResult, stage_result
from pipeline.city.stage_table import CityRun
from pipeline.inference.area import AreaOfInterest
from regions.raster.grid import Tiling, Window

ADAPT_VERSION = 2
STATISTICS_NAME = "statistics.npz"
MOST_TILES = 256
"""Tiles sampled per look at most."""
LEAST_DATA_TILES = 8.0
"""A look with data on fewer tiles' worth of cells takes the statistics of the whole city, a city those of training."""
NOTED_LEVEL = -0.25
"""Log-odds that are lowered by more than this are worth a warning."""
UNSURE_RISE = 0.8
"""So is a rise above this that stays: real places with their villages had 0.8 at most, those without 1.1 or more."""
PURE = 0.9
"""Share of a tile from which on it speaks for a look."""


@dataclass(frozen=True)
class _Sampled:
    """Tiles of the sample: corners int64 (N, 2) and shares float32 (N, looks)."""

    corners: NDArray[np.int64]
    shares: NDArray[np.float32]


def adapt_stage(run: CityRun, _done: Mapping[str, StageResult]) -> StageResult:
    """``statistics.npz``, where the model adapts and is asked to; the summary says what was done and what not."""
    job, ground = run.job, run.job.ground
    config = load_config(job.checkpoint)
    model = SegmentationConfig.model_validate(config.model)
    if not (model.adapts and job.adapt):
        reason = "not asked for" if model.adapts else "the model does not adapt"
        return stage_result(
            ground.work, "adapt", {"version": ADAPT_VERSION, "adapts": False, "reason": reason},
            lambda _: {"adapted": False, "reason": reason, "warnings": []},
        )  # fmt: skip
    notes = ground.sources.notes
    looks = looks_of(ground.sources.imagery, crs=notes.imagery_crs)
    shares = LookShares(ground.sources.imagery, looks, grid=run.extent.grid, crs=notes.imagery_crs)
    with ground.open() as city:
        sample = _sample(city, run, config.tile_px, shares)
        inputs = {
            "version": ADAPT_VERSION,
            "adapts": True,
            "checkpoint": config.digest,
            "looks": [looks.names, looks.scene_look],
            "shares": hashlib.sha256(sample.shares.tobytes()).hexdigest(),
            "tiles": sample.corners.tolist(),
            "imagery": [city.imagery.stamp(_window(c, config.tile_px)) for c in sample.corners],
        }

        def build(folder: Path) -> dict[str, Any]:
            bar = tqdm(desc=f"adapt {job.adcode}", unit="batch", disable=not run.progress)
            with bar:
                adapter = SceneAdapter.load(job.checkpoint)
                read = (city.imagery.read(_window(corner, adapter.tile_px))[0] for corner in sample.corners)
                moments = adapter.moments(read, progress=bar_of(bar))
                return _build(folder, adapter, moments, sample, looks)

        return stage_result(ground.work, "adapt", inputs, build)


def bar_of(bar: Any) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """Wraps batches so that ``bar`` moves with them."""

    def wrap(items: Iterable[Any]) -> Iterable[Any]:
        for item in items:
            yield item
            bar.update(1)

    return wrap


def look_shares(run: CityRun) -> LookShares:
    """Which looks the tiles of a run show."""
    sources = run.job.ground.sources
    looks = looks_of(sources.imagery, crs=sources.notes.imagery_crs)
    return LookShares(sources.imagery, looks, grid=run.extent.grid, crs=sources.notes.imagery_crs)


def _window(corner: NDArray[np.int64], tile_px: int) -> Window:
    return Window(int(corner[0]), int(corner[1]), tile_px, tile_px)


def _sample(city: OpenCity, run: CityRun, tile_px: int, shares: LookShares) -> _Sampled:
    """Tiles side by side in the area of interest, at most `MOST_TILES` of each look, drawn by their own place."""
    grid = run.extent.grid
    tiling = Tiling(tile_px, tile_px)
    windows = [tiling.window(grid, tile) for tile in tiling.tiles_touching(grid, grid.window)]
    corners = np.array([(w.row_px, w.col_px) for w in windows], np.int64).reshape(-1, 2)
    bounds = np.array([grid.window_bounds_m(w) for w in windows], np.float64).reshape(-1, 4)
    kept = AreaOfInterest(run.extent.aoi, grid).touches(bounds) if windows else np.zeros(0, np.bool_)
    kept = kept & np.array([city.imagery.may_have_data(w) for w in windows], np.bool_)
    corners, bounds = corners[kept], bounds[kept]
    # by place on the ground: another extent of the same city draws the same tiles where it has them
    draw = np.array([hashlib.sha256(repr((grid.crs, *b[:2])).encode()).digest()[:8] for b in bounds])
    order = np.argsort(draw, kind="stable")
    share = shares(corners, tile_px)
    look = share.argmax(1)
    chosen = np.sort(np.concatenate([order[look[order] == k][:MOST_TILES] for k in range(share.shape[1])]))
    return _Sampled(corners[chosen], share[chosen])


def _build(
    folder: Path,
    adapter: SceneAdapter,
    moments: TileMoments,
    sample: _Sampled,
    looks: Looks,
) -> dict[str, Any]:
    warnings: list[str] = []
    cells = adapter.cells_per_tile
    if not len(sample.corners) or moments.count.sum() < LEAST_DATA_TILES * cells:
        text = (
            f"the model is not adapted to this imagery: {moments.count.sum() / cells:.1f} tiles hold data, "
            f"{LEAST_DATA_TILES:g} are needed; scores are on the level of the training ground: map a larger area"
        )
        return {"adapted": False, "reason": "too little imagery", "tiles": len(sample.corners), "warnings": [text]}
    pooled, rows = moments.pooled(), []
    for k, name in enumerate(looks.names):
        own = moments.at(sample.shares[:, k] >= PURE)
        if own.count.sum() >= LEAST_DATA_TILES * cells:
            rows.append(own.pooled())
        else:
            rows.append(pooled)
            if len(looks) > 1:
                warnings.append(
                    f"too few tiles show only the scenes of '{name}' to adapt to them alone: "
                    "they take the statistics of the whole city"
                )
    statistics = adapter.bounded(
        SceneStatistics(
            mean=np.stack([m for m, _ in rows]),
            std=np.stack([s for _, s in rows]),
            level=np.zeros(len(rows), np.float32),
        )
    )
    rises = adapter.rises(statistics)
    shares_found = adapter.village_shares(statistics, sample.shares)
    statistics = adapter.levelled(statistics, shares_found)
    found = zip(looks.names, statistics.level, shares_found, rises, strict=True)
    for name, level, share, rise in found:
        if level < NOTED_LEVEL:
            warnings.append(
                f"few-villages: scenes of '{name}' look like ground with few villages (estimated share {share:.2f}, "
                f"training {adapter.source_share:.2f}; adaptation adds {rise.log_odds:.2f} log-odds): their log-odds "
                f"are lowered by {-float(level):.2f}; imagery that is hazier or less sharp than that of the training "
                "looks the same: compare with --no-adapt"
            )
        elif rise.log_odds > UNSURE_RISE:
            warnings.append(
                f"few-villages-or-season: adaptation adds {rise.log_odds:.2f} log-odds to the scores of '{name}'; "
                "another season or sensor needs that, ground with few villages does not, and the imagery alone does "
                "not tell which it is: compare with --no-adapt"
            )
    statistics.save(folder / STATISTICS_NAME)
    return {
        "adapted": True,
        "looks": list(looks.names),
        "tiles": len(sample.corners),
        "estimated_share": [round(float(s), 4) for s in shares_found],
        "rise": [round(r.log_odds, 4) for r in rises],
        "alignment": [round(r.alignment, 4) for r in rises],
        "level": [round(float(v), 4) for v in statistics.level],
        "sha256": statistics.digest,
        "warnings": warnings,
    }


def statistics_of(done: StageResult) -> SceneStatistics | None:
    """The statistics that the stage wrote; None where the model is used as it was trained."""
    return SceneStatistics.load(done.folder / STATISTICS_NAME) if done.summary["adapted"] else None
