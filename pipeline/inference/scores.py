"""From a city's sources to its score raster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shapely.geometry.base import BaseGeometry

from pipeline.files import digest_of
from pipeline.inference.area import AreaOfInterest
from pipeline.inference.assembly import ASSEMBLY_VERSION, assemble, tags_of
from pipeline.inference.blocks import BlockPlan
from pipeline.inference.engine import BlocksDone, check_fit, predict_blocks
from pipeline.inference.errors import InferenceError
from pipeline.inference.progress import JsonLinesProgress, Progress
from pipeline.inference.protocols import GraphSource, Imagery, TileModel, count_outputs
from pipeline.inference.reading import STAGE_VERSION
from pipeline.ledger import Ledger
from regions.raster.gdal_cache import bounded_gdal_cache
from regions.raster.grid import Grid, Tiling
from regions.raster.scores import SCORE_ENCODING, SCORE_TAG

DEFAULT_BLOCK_PX = 2048
"""GDAL would take a twentieth of the machine's memory for decoded blocks; neighbouring reads need only this."""


@dataclass(frozen=True)
class ScoreResult:
    """What `predict_scores` did.

    Attributes:
        path: The score raster: uint8, 0 to 250 for probability 0 to 1, 255 = not predicted; a second band holds
            the disagreement where the model gives one.
        blocks_total: Blocks of the grid.
        blocks_done: Computed in this run.
        blocks_reused: Taken from the ledger.
        blocks_skipped: Without imagery or outside the area of interest.
        tiles: Tiles scored in this run.
        predicted_px: Pixels with a score.
        not_predicted_px: Pixels without.
        assembled: Whether the raster was written in this run (False: it was there and whole).
        seconds: Working seconds per phase: read, pack, model, blend, write, assemble; and "all", wall clock.
        digest: SHA-256 of the raster's bytes.
        key: Digest of all that shaped it.
    """

    path: Path
    blocks_total: int
    blocks_done: int
    blocks_reused: int
    blocks_skipped: int
    tiles: int
    predicted_px: int
    not_predicted_px: int
    assembled: bool
    seconds: dict[str, float]
    digest: str
    key: str


def predict_scores(  # noqa: PLR0913 -- what is scored, how it is cut, where it goes: each is the caller's to choose
    imagery: Imagery,
    model: TileModel,
    graphs: GraphSource | None,
    *,
    grid: Grid,
    tiling: Tiling,
    out: Path,
    work: Path,
    aoi: BaseGeometry | None = None,
    block_px: int = DEFAULT_BLOCK_PX,
    readers: int = 2,
    progress: Callable[[Progress], None] | None = None,
) -> ScoreResult:
    """Score a city and write its raster, continuing whatever an earlier run left in ``work``.

    The score of a pixel depends on the imagery, the vectors and the model alone: not on ``block_px``, ``readers``,
    the grid's extent, or where an earlier run was cut off.

    Args:
        imagery: Imagery on ``grid``.
        model: The model.
        graphs: Source of tile graphs, or None.
        grid: The city's grid.
        tiling: Tiles of the model's size, and their stride.
        out: The raster to write.
        work: Folder of the ledger; keep it to redo only what changes, remove it to forget.
        aoi: Where to predict, in the grid's CRS; everywhere where None.
        block_px: Side of what is read at once; memory grows with its square.
        readers: Threads that read and decode.
        progress: Called after each block; ``work/progress.jsonl`` holds the states of this run in any case.

    Raises:
        PipelineError: bad imagery, a model that does not fit, a full disk, or a work folder in use.
    """
    start = time.perf_counter()
    if readers < 1:
        raise InferenceError(f"readers must be at least 1, got {readers}")
    plan = BlockPlan.of_size(grid, tiling, block_px=block_px)
    check_fit(imagery, model, plan)
    area = AreaOfInterest(aoi, grid)
    with Ledger(work) as ledger, bounded_gdal_cache():
        (work / "progress.jsonl").unlink(missing_ok=True)
        record = JsonLinesProgress(work / "progress.jsonl")

        def report(state: Progress) -> None:
            record(state)
            if progress is not None:
                progress(state)

        done = predict_blocks(
            imagery, model, graphs,
            plan=plan, area=area, ledger=ledger, readers=readers, progress=report,
        )  # fmt: skip
        assembling = time.perf_counter()
        key = _raster_key(plan, done, model)
        name = f"raster_{digest_of(str(out.resolve()))[:16]}"
        entry = ledger.find(name, key=key)
        assembled = entry is None
        if entry is None:
            files = {block: ledger.path(e) for block, e in done.entries.items()}
            tags = {**tags_of({"model": model.digest}), SCORE_TAG: SCORE_ENCODING}
            counts = assemble(plan, files, out, work=work, outputs=count_outputs(model), tags=tags)
            entry = ledger.register(name, out, key=key, note=counts)
        seconds = done.seconds | {"assemble": time.perf_counter() - assembling}
    return ScoreResult(
        path=out,
        blocks_total=done.total,
        blocks_done=done.done,
        blocks_reused=done.reused,
        blocks_skipped=done.skipped,
        tiles=done.tiles,
        predicted_px=entry.note["predicted"],
        not_predicted_px=entry.note["not_predicted"],
        assembled=assembled,
        seconds=seconds | {"all": time.perf_counter() - start},
        digest=entry.sha256,
        key=key,
    )


def _raster_key(plan: BlockPlan, done: BlocksDone, model: TileModel) -> str:
    g = plan.grid
    return digest_of(
        {
            "stage": ["score raster", ASSEMBLY_VERSION, STAGE_VERSION],
            "grid": [g.crs, g.resolution_m, g.first_row, g.first_col, g.height_px, g.width_px],
            "model": model.digest,
            "blocks": [[b.row, b.col, done.entries[b].key] for b in sorted(done.entries)],
        }
    )
