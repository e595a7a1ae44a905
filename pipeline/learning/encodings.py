"""Dense encodings of a city: one feature vector per patch, as a GeoTIFF of many bands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from models.checkpoints import load_config
from models.geolink.text import TagTextEncoder
from models.tasks.encodings import TileEncoder
from pipeline.city.ground import CityGround
from pipeline.city.opening import OpenCity
from pipeline.errors import PipelineError
from pipeline.files import replacing
from regions.raster.grid import Grid, Tiling, Window
from regions.raster.profiles import tiled_profile
from regions.settings import BATCH_SIZE

BLOCK_PX = 64


class EncodingError(PipelineError):
    """A model that cannot encode what it is given."""


def encode_city(
    ground: CityGround,
    checkpoint: Path,
    out: Path,
    *,
    batch_size: int = BATCH_SIZE,
    image_only: bool = False,
    text_encoder: TagTextEncoder | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Write the encodings of a city's ground, from image and map or from the image alone.

    Cells are the model's patches (16 px), anchored to the origin of the CRS as tiles are; a cell without any valid
    pixel is NaN. Tiles do not overlap here: a cell's vector is what the model says of its patch in its own tile.

    Args:
        ground: The city.
        checkpoint: Folder of the trained or pretrained model.
        out: The GeoTIFF: float32, one band per channel, cells of ``patch_px * resolution_m``.
        batch_size: Tiles per batch of the model.
        image_only: Leave the map out.
        text_encoder: The tag text encoder of the training; None takes the hashed one.
        progress: Wraps the rows of tiles to show progress.

    Returns:
        JSON-able summary: path, channels, cells, cell size in metres, encoded and blank cells.

    Raises:
        EncodingError: a map for a model that does not know the meaning of tags.
        PipelineError: sources that cannot be used.
        CheckpointError: no encoder there.
    """
    with ground.open() as city:
        if city.city_map is not None and not image_only and load_config(checkpoint).tag_encoder is None:
            raise EncodingError(
                f"{checkpoint} does not say with which tag vectors it was trained (published weights, or a model that "
                "never saw a map), so it cannot read the map: give --image-only, or import published weights with "
                "--text-encoder"
            )
        tags = city.city_map.tag_sets if city.city_map is not None else []
        encoder = TileEncoder.load(checkpoint, tags, batch_size=batch_size, text_encoder=text_encoder)
        cells = cell_grid(city.extent.grid, encoder.patch_px)
        tiling = Tiling(encoder.tile_px, encoder.tile_px)
        profile = tiled_profile(
            cells, dtype="float32", nodata=float("nan"), count=encoder.channels,
            blockxsize=BLOCK_PX, blockysize=BLOCK_PX, interleave="pixel",
        )  # fmt: skip
        encoded = 0
        with replacing(out) as temporary, rasterio.open(temporary, "w", **profile) as sink:
            tiles = tiling.tiles_touching(city.extent.grid, city.extent.grid.window)
            for row in progress(sorted({i for i, _ in tiles})):
                band = [t for t in tiles if t[0] == row]
                values, place = _encode_row(city, encoder, tiling, band, cells, image_only=image_only)
                encoded += int(np.isfinite(values[0]).sum())
                sink.write(values, window=RasterWindow(place.col_px, place.row_px, place.width_px, place.height_px))
            sink.update_tags(encoder=encoder.digest, map="no" if image_only or city.city_map is None else "yes")
    total = cells.height_px * cells.width_px
    return {
        "path": str(out),
        "channels": encoder.channels,
        "cells": total,
        "cell_m": cells.resolution_m,
        "encoded": encoded,
        "blank": total - encoded,
    }


def cell_grid(grid: Grid, patch_px: int) -> Grid:
    """The grid of patches that covers a pixel grid; its lattice is that of the CRS, every ``patch_px`` pixels."""
    first_row, first_col = grid.first_row // patch_px, grid.first_col // patch_px
    stop_row = -(-(grid.first_row + grid.height_px) // patch_px)
    stop_col = -(-(grid.first_col + grid.width_px) // patch_px)
    return Grid(
        grid.crs, grid.resolution_m * patch_px, first_col, first_row, stop_row - first_row, stop_col - first_col
    )


def _encode_row(
    city: OpenCity,
    encoder: TileEncoder,
    tiling: Tiling,
    tiles: list[tuple[int, int]],
    cells: Grid,
    *,
    image_only: bool,
) -> tuple[NDArray[np.float32], Window]:
    """Encodings (channels, h, w) of one row of tiles, and their place on the grid of cells."""
    grid, patch = city.extent.grid, encoder.patch_px
    windows = [tiling.window(grid, t) for t in tiles]
    read = [city.imagery.read(w) for w in windows]
    graphs = None
    if city.city_map is not None and not image_only:
        graphs = city.city_map.tile_graphs(np.array([grid.window_bounds_m(w) for w in windows]))
    features = encoder.encode_tiles(np.stack([pixels[:3] for pixels, _ in read]), graphs)
    side = tiling.tile_px // patch
    valid = np.stack([v.reshape(side, patch, side, patch).any(axis=(1, 3)) for _, v in read])
    features[~np.broadcast_to(valid[:, None], features.shape)] = np.nan
    strip = np.concatenate(list(features), axis=2)
    own = Window(tiles[0][0] * side - cells.first_row, tiles[0][1] * side - cells.first_col, side, side * len(tiles))
    place = own.intersection(Window(0, 0, cells.height_px, cells.width_px))
    rows, cols = place.slices_in(own)
    return np.ascontiguousarray(strip[:, rows, cols], np.float32), place
