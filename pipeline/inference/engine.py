"""The engine: readers, packer, model and writer work at the same time, each waiting for the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from pipeline.inference.area import AreaOfInterest
from pipeline.inference.block_file import encode_block
from pipeline.inference.blocks import BlockId, BlockPlan
from pipeline.inference.errors import ModelMismatchError
from pipeline.inference.packing import Batch, batches
from pipeline.inference.progress import Progress
from pipeline.inference.protocols import (
    GraphSource,
    Imagery,
    OneAtATime,
    TensorTileModel,
    TileModel,
    count_outputs,
    describe_model,
)
from pipeline.inference.reading import Block, BlockReader, read_ahead
from pipeline.inference.sums import BlockSums, DeviceSums, HostSums, check_output
from pipeline.inference.threads import Ahead, Sink
from pipeline.ledger import Entry, Ledger

T = TypeVar("T")
BATCHES_AHEAD = 2
ANSWERS_BEHIND = 2
GPU_ANSWERS_BEHIND = 4


@dataclass
class BlocksDone:
    """What a pass over the blocks did.

    Attributes:
        entries: Entries of all blocks that hold scores.
        total: Blocks of the grid.
        done: Blocks computed.
        reused: Blocks that the ledger had.
        skipped: Blocks without anything to score.
        tiles: Tiles scored, padding not counted.
        seconds: Working seconds per phase ("read" over all readers), waiting left out.
    """

    entries: dict[BlockId, Entry] = field(default_factory=dict)
    total: int = 0
    done: int = 0
    reused: int = 0
    skipped: int = 0
    tiles: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("read", "pack", "model", "blend", "write"), 0.0)
    )


def predict_blocks(
    imagery: Imagery,
    model: TileModel,
    graphs: GraphSource | None,
    *,
    plan: BlockPlan,
    area: AreaOfInterest,
    ledger: Ledger,
    readers: int,
    progress: Callable[[Progress], None] | None,
) -> BlocksDone:
    """Score the blocks that the ledger does not hold yet.

    Args:
        imagery: Imagery on the plan's grid.
        model: The model.
        graphs: Source of tile graphs; used where the model uses graphs.
        plan: How the city is cut.
        area: Where to predict.
        ledger: An open ledger.
        readers: Threads that read.
        progress: Called after each block.

    Raises:
        ModelMismatchError: model, imagery and tiling do not fit each other.
        ModelOutputError: the model gave no probabilities.
        DiskFullError: no space for a block; those before it are kept.
        ImageryError: a file cannot be read.
    """
    check_fit(imagery, model, plan)
    source = OneAtATime(graphs) if graphs is not None and model.uses_graphs else None
    blocks = list(plan.blocks())
    result = BlocksDone(total=len(blocks))
    facts = describe_model(model)
    reader = BlockReader(plan=plan, imagery=imagery, graphs=source, area=area, ledger=ledger, describe_model=facts)
    writer = _Writer(plan, model, ledger, result, _Tracker(plan, blocks, result, progress))
    on_device = blends_on_device(model)
    read = read_ahead(reader, blocks, readers=readers)
    packed = batches(
        _read_times(read, result),
        plan=plan,
        bands=model.bands,
        batch_size=model.batch_size,
        prepare=getattr(model, "prepare", None),
    )
    behind = GPU_ANSWERS_BEHIND if on_device else ANSWERS_BEHIND
    with (
        closing(read),  # last of the three to end: no thread may read once the imagery can be closed
        Ahead(_timed(packed, result, "pack"), depth=BATCHES_AHEAD, name="packer") as ahead,
        Sink(writer, depth=behind, name="writer") as sink,
    ):
        for batch in ahead:
            answer = None
            if batch.images is not None:
                start = time.perf_counter()
                answer = _ask_model(model, batch, on_device=on_device)
                result.seconds["model"] += time.perf_counter() - start
            sink.put((batch, answer))
    return result


def check_fit(imagery: Imagery, model: TileModel, plan: BlockPlan) -> None:
    """Check that model, imagery and tiling fit.

    Raises:
        ModelMismatchError: naming both values.
    """
    if model.tile_px != plan.tiling.tile_px:
        raise ModelMismatchError(
            f"the model takes tiles of {model.tile_px} px, the tiling gives {plan.tiling.tile_px} px: "
            "set the tiling's tile_px to the model's"
        )
    if model.bands != imagery.bands:
        raise ModelMismatchError(
            f"the model takes {model.bands} bands, the imagery is opened with {imagery.bands}: "
            "open it with bands= or band_indexes= as the model was trained"
        )
    if imagery.grid != plan.grid:
        raise ModelMismatchError(
            f"the imagery was opened on grid {imagery.grid}, scores are asked for on {plan.grid}: open it with grid="
        )


def blends_on_device(model: TileModel) -> bool:
    """Whether answers stay on the model's device: where that is not the CPU, whose blend NumPy does faster."""
    return isinstance(model, TensorTileModel) and str(model.device).split(":")[0] not in {"", "cpu"}


def _ask_model(model: TileModel, batch: Batch, *, on_device: bool) -> Any:
    outputs = count_outputs(model)
    where = (batch.corners(model.batch_size),) if getattr(model, "needs_corners", False) else ()
    if on_device and isinstance(model, TensorTileModel):
        import torch  # noqa: PLC0415 -- only where a model's answers stay on its device

        images = torch.from_numpy(batch.images)
        if torch.device(model.device).type == "cuda":
            images = images.pin_memory()
        values = model.predict_tensor(images, batch.graphs, *where)
        return values[:, None] if values.ndim == 3 else values
    if batch.images is None:
        return None
    values = model.predict(batch.images, batch.graphs, *where)
    return check_output(values, tiles=model.batch_size, outputs=outputs, tile_px=model.tile_px)


class _Writer:
    """Blends answers into the open blocks and commits those that are complete."""

    def __init__(
        self, plan: BlockPlan, model: TileModel, ledger: Ledger, result: BlocksDone, tracker: _Tracker
    ) -> None:
        self._plan, self._ledger, self._result, self._tracker = plan, ledger, result, tracker
        self._outputs = count_outputs(model)
        self._device = getattr(model, "device", None) if blends_on_device(model) else None
        self._open: dict[BlockId, BlockSums] = {}

    def __call__(self, item: tuple[Batch, Any]) -> None:
        batch, answer = item
        start = time.perf_counter()
        first = 0
        for _, run in groupby(batch.slots, key=lambda slot: slot[0].id):
            slots = list(run)
            block = slots[0][0]
            corners = np.array([(row, col) for _, row, col in slots], np.int64)
            sums = self._open.get(block.id)
            if sums is None:
                sums = self._open[block.id] = self._new_sums(block)
            corner = self._plan.footprint(block.id)
            sums.add(answer[first : first + len(corners)], corners - np.array([corner.row_px, corner.col_px], np.int64))
            first += len(corners)
        self._result.tiles += len(batch.slots)
        self._result.seconds["blend"] += time.perf_counter() - start
        for block in batch.finished:
            self._finish(block)

    def _new_sums(self, block: Block) -> BlockSums:
        footprint = self._plan.footprint(block.id)
        shape = (self._outputs, footprint.height_px, footprint.width_px)
        if self._device is None:
            return HostSums(shape, self._plan.tiling)
        return DeviceSums(shape, self._plan.tiling, self._device)

    def _finish(self, block: Block) -> None:
        result = self._result
        entry = block.entry
        if block.outcome == "compute":
            start = time.perf_counter()
            predicted = block.predicted if block.predicted is not None else np.zeros((0, 0), np.bool_)
            data, pixels = encode_block(self._plan, block.id, self._open.pop(block.id).total(), predicted)
            entry = self._ledger.commit(
                block.id.name, data, key=block.key, stamp=block.stamp, suffix="npz", note={"predicted_px": pixels}
            )
            result.seconds["write"] += time.perf_counter() - start
            result.done += 1
        elif block.outcome == "reused":
            result.reused += 1
        else:
            if block.outcome == "blank":
                self._ledger.commit(block.id.name, None, key=block.key, stamp=block.stamp)
            result.skipped += 1
        if entry is not None and entry.path:
            result.entries[block.id] = entry
        self._tracker.after(block, is_blank=entry is not None and not entry.path)


class _Tracker:
    """Keeps account of areas and reports the progress."""

    def __init__(
        self,
        plan: BlockPlan,
        blocks: Sequence[BlockId],
        result: BlocksDone,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._plan, self._result, self._progress = plan, result, progress
        self._start = time.perf_counter()
        self._blocks = len(blocks)
        self._total_km2 = sum(self._km2(b) for b in blocks)
        self._done_km2 = self._computed_km2 = 0.0

    def _km2(self, block: BlockId) -> float:
        own = self._plan.core(block).intersection(self._plan.grid.window)
        return own.height_px * own.width_px * self._plan.grid.resolution_m**2 / 1e6

    def after(self, block: Block, *, is_blank: bool) -> None:
        """Count a block as handled."""
        if block.outcome == "reused" and is_blank:
            self._result.reused -= 1
            self._result.skipped += 1
        km2 = self._km2(block.id)
        self._done_km2 += km2
        self._computed_km2 += km2 if block.outcome == "compute" else 0.0
        if self._progress is None:
            return
        seconds = time.perf_counter() - self._start
        rate = self._computed_km2 / seconds if seconds > 0 else 0.0
        left = (self._total_km2 - self._done_km2) / rate if rate > 0 else None
        self._progress(
            Progress(
                stage="blocks",
                blocks_total=self._blocks,
                blocks_done=self._result.done,
                blocks_reused=self._result.reused,
                blocks_skipped=self._result.skipped,
                km2_total=self._total_km2,
                km2_done=self._done_km2,
                km2_per_s=rate,
                seconds=seconds,
                seconds_left=left,
            )
        )


def _read_times(blocks: Iterable[Block], result: BlocksDone) -> Iterator[Block]:
    """Note the readers' own seconds; what the packer waits for them is not its work."""
    for block, waited in _with_wait(blocks):
        result.seconds["read"] += block.read_s
        result.seconds["pack"] -= waited
        yield block


def _timed(items: Iterable[T], result: BlocksDone, phase: str) -> Iterator[T]:
    for item, seconds in _with_wait(items):
        result.seconds[phase] += seconds
        yield item


def _with_wait(items: Iterable[T]) -> Iterator[tuple[T, float]]:
    """Items, each with the seconds that it took to come."""
    source = iter(items)
    while True:
        start = time.perf_counter()
        try:
            item = next(source)
        except StopIteration:
            return
        yield item, time.perf_counter() - start
