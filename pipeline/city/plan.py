"""What a city will cost, before anything runs: tiles, pixels, bytes, and time at the measured throughput."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import shapely

from models.geolink.graph import TileGraphs
from models.segmentation.predictor import SegmentationPredictor
from pipeline.city.ground import TILE_PX, CityGround
from pipeline.files import write_json
from regions.raster.grid import Tiling

SCORE_BYTES_PER_PX = 0.15
"""Bytes of a compressed score pixel, about; measured on demo cities."""


@dataclass(frozen=True)
class Throughput:
    """How fast a model runs on a machine.

    Attributes:
        tiles_per_s: Tiles a second.
        machine: Processor and system.
        batch_size: Tiles per batch.
    """

    tiles_per_s: float
    machine: str
    batch_size: int


@dataclass(frozen=True)
class CityPlan:
    """What mapping a city means.

    Attributes:
        adcode: The city.
        area_km2: Area asked for.
        pixels: Pixels of the grid.
        tiles: Tiles of the model.
        blocks: Blocks of reading and resuming.
        read_bytes: Bytes of the sources.
        write_bytes: Bytes of the score raster, about.
        seconds: Time of the model at the measured throughput; None where it was not measured.
    """

    adcode: str
    area_km2: float
    pixels: int
    tiles: int
    blocks: int
    read_bytes: int
    write_bytes: int
    seconds: float | None


def plan_city(ground: CityGround, *, tile_px: int = TILE_PX, throughput: Throughput | None = None) -> CityPlan:
    """The plan of a city; opens its sources, reads no pixels.

    Raises:
        PipelineError: sources that could not be mapped, so that the fault shows before the run.
    """
    extent = ground.extent()
    tiling = Tiling(tile_px, min(ground.grid.stride_px, tile_px))
    indices = tiling.tiles_touching(extent.grid, extent.grid.window)
    tiles = len(indices)
    if extent.aoi is not None:
        boxes = np.array([extent.grid.window_bounds_m(tiling.window(extent.grid, t)) for t in indices])
        shapely.prepare(extent.aoi)
        tiles = int(shapely.intersects(extent.aoi, shapely.box(*boxes.T)).sum())
    pixels = extent.grid.height_px * extent.grid.width_px
    return CityPlan(
        adcode=ground.adcode,
        area_km2=extent.area_m2 / 1e6,
        pixels=pixels,
        tiles=tiles,
        blocks=sum(1 for _ in extent.grid.blocks(ground.grid.block_px)),
        read_bytes=ground.sources.size_bytes,
        write_bytes=round(pixels * SCORE_BYTES_PER_PX),
        seconds=None if throughput is None else tiles / throughput.tiles_per_s,
    )


def measure_throughput(checkpoint: Path, *, batch_size: int | None, batches: int = 3) -> Throughput:
    """Run a model on blank tiles for a few batches and remember the result beside the checkpoint.

    The first batch warms up and is not counted. What was measured on this machine before is taken over.

    Raises:
        CheckpointError: no model there, or a damaged one.
    """
    machine = f"{platform.machine()} {platform.system()} {platform.node()}"
    memory = checkpoint / "throughput.json"
    if memory.exists():
        known = Throughput(**json.loads(memory.read_text(encoding="utf-8")))
        if known.machine == machine and batch_size in {None, known.batch_size}:
            return known
    model = SegmentationPredictor.load(checkpoint, [], batch_size=batch_size)
    batch_size = model.batch_size
    images = np.zeros((batch_size, model.bands, model.tile_px, model.tile_px), np.uint8)
    graphs = TileGraphs.empty(batch_size) if model.uses_graphs else None
    model.predict(images, graphs)
    start = time.perf_counter()
    for _ in range(batches):
        model.predict(images, graphs)
    result = Throughput(batches * batch_size / (time.perf_counter() - start), machine, batch_size)
    write_json(memory, asdict(result))
    return result
