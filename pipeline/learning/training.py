"""Training of a segmentation model from the files of cities, scenes and chips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import shapely

from models.geolink.text import TagTextEncoder
from models.segmentation.config import SIZES, SegmentationConfig, Size
from models.segmentation.encoder_start import encoder_config_of
from models.segmentation.trainer import TrainResult, train_segmenter
from models.tiles.samples import SampleSet
from models.training import TrainingConfig
from pipeline.city.ground import TILE_PX, CityGround
from pipeline.city.reference import read_city_reference
from pipeline.errors import PipelineError
from pipeline.learning.chips import read_via_chips
from pipeline.learning.samples import cut_samples
from pipeline.reference.areas import read_polygons
from regions.raster.grid import Tiling

HELD_OUT_EVERY = 5
"""Without districts, every fifth column of tiles is kept for validation."""

Progress = Callable[[Iterable[Any]], Iterable[Any]]


class TrainingDataError(PipelineError):
    """The sources cannot teach a model."""


@dataclass(frozen=True)
class LabelledTiles:
    """Samples to learn from and samples that choose the model."""

    train: SampleSet
    validation: SampleSet


def labelled_tiles(ground: CityGround, *, stride_px: int, progress: Progress = iter) -> LabelledTiles:
    """Samples of a city: its districts say which are learnt from; those with another role are never read.

    Args:
        ground: The city.
        stride_px: Distance between training tiles.
        progress: Wraps the tiles to show progress.

    Raises:
        TrainingDataError: no reference, or districts without the role `train`.
        NoSamplesError: no tile has enough labelled pixels.
    """
    sources = ground.sources
    if not sources.reference:
        raise TrainingDataError(
            f"{sources.imagery[0].parent}: no reference for {ground.adcode}; add labels/uv.gpkg or give --reference"
        )
    with ground.open() as city:
        grid = city.extent.grid
        reference = read_city_reference(sources, crs=grid.crs, bounds_m=grid.bounds_m)

        def cut(area: shapely.Geometry | None, stride: int) -> SampleSet:
            return cut_samples(
                city.imagery,
                reference.polygons,
                unlabelled=reference.unlabelled,
                grid=grid,
                tiling=Tiling(TILE_PX, stride),
                area=area,
                city_map=city.city_map,
                source=city.name,
                progress=progress,
            )

        areas = _areas(sources.districts, grid.crs)
        if areas:
            train = cut(areas["train"], stride_px)
            return LabelledTiles(train, cut(areas["validation"], TILE_PX) if "validation" in areas else train)
        strips = _strips(grid.bounds_m, TILE_PX * grid.resolution_m)
        return LabelledTiles(cut(strips[0], stride_px), cut(strips[1], TILE_PX))


def train_model(  # noqa: PLR0913 -- a command's worth of choices, each with a default
    grounds: Sequence[CityGround],
    *,
    out: Path,
    chips: Path | None = None,
    chip_scale: float = 1.0,
    size: str = "tiny",
    stride_px: int = 112,
    max_seconds: float | None = None,
    epochs: int | None = None,
    pretrained: Path | None = None,
    text_encoder: TagTextEncoder | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a model on cities, scenes and chips, and write its checkpoint.

    Args:
        grounds: Cities or scenes with reference.
        out: Folder of the checkpoint.
        chips: Folder of plain images with VIA JSON polygons: further samples to learn from.
        chip_scale: Factor that brings chips to the pixel size of the scenes.
        size: Preset of the model.
        stride_px: Distance between training tiles.
        max_seconds: End of training by time; `epochs` by rounds.
        epochs: Rounds over the samples.
        pretrained: Checkpoint whose encoder to start from.
        text_encoder: Text model of the map's tags; None takes the hashed one.
        seed: Seed of all that is random.
        progress: Wraps what takes long; None for silence.

    Raises:
        TrainingDataError: nothing to learn from.
    """
    show: Progress = progress or iter
    parts = [labelled_tiles(ground, stride_px=stride_px, progress=show) for ground in grounds]
    train = [p.train for p in parts]
    validation = [p.validation for p in parts]
    if chips is not None:
        every = read_via_chips(chips, tile_px=TILE_PX, scale=chip_scale, progress=show)
        train.append(every)
        if not validation:
            held = np.arange(len(every)) % HELD_OUT_EVERY == 0
            train, validation = [every.select(np.flatnonzero(~held))], [every.select(np.flatnonzero(held))]
    if not train:
        raise TrainingDataError("nothing to learn from: name cities with labels, give --imagery, or --chips")
    return train_segmenter(
        SampleSet.concat(train),
        SampleSet.concat(validation),
        segmentation_config(size, pretrained=pretrained),
        out=out,
        training=training_config(size, max_seconds=max_seconds, epochs=epochs),
        seed=seed,
        pretrained=pretrained,
        text_encoder=text_encoder,
        progress=progress is not None,
    )


def segmentation_config(size: str, *, classes: int = 2, pretrained: Path | None = None) -> SegmentationConfig:
    """The preset of a size.

    Args:
        size: Its name.
        classes: Classes that are told apart.
        pretrained: Checkpoint to start from. Where its encoder is of that size, its switches are taken (the published
            encoder differs from ours in some); one of another size is left to the trainer to refuse.

    Raises:
        TrainingDataError: no such size.
        CheckpointError: ``pretrained`` has no encoder.
    """
    if size not in SIZES:
        raise TrainingDataError(f"no model size '{size}'; the sizes are {', '.join(SIZES)}")
    preset = SegmentationConfig.of_size(cast(Size, size), classes=classes)
    if pretrained is None:
        return preset
    start, wanted = encoder_config_of(pretrained), preset.encoder
    if (start.width, start.depth, start.stem) != (wanted.width, wanted.depth, wanted.stem):
        return preset
    return SegmentationConfig.of_size(cast(Size, size), classes=classes, encoder=start)


def training_config(size: str, *, max_seconds: float | None, epochs: int | None) -> TrainingConfig:
    """How a size is trained unless told otherwise: a transformer of full size wants a lower rate than the tiny one."""
    changes: dict[str, Any] = (
        {"max_seconds": max_seconds} if size == "tiny" else {"max_seconds": max_seconds, "learning_rate": 3e-4}
    )
    if epochs is not None:
        changes["epochs"] = epochs
    return TrainingConfig(**changes)


def _areas(path: Path | None, crs: str) -> dict[str, shapely.Geometry]:
    if path is None:
        return {}
    table = read_polygons([path], crs=crs)
    if "role" not in table.columns or "train" not in set(table["role"]):
        known = sorted(set(table.get("role", [])))
        raise TrainingDataError(
            f"{path}: needs a column `role` with the value train; found {known or 'no such column'}"
        )
    return {str(role): shapely.union_all(rows.geometry.to_numpy()) for role, rows in table.groupby("role")}


def _strips(bounds_m: tuple[float, float, float, float], width_m: float) -> tuple[shapely.Geometry, shapely.Geometry]:
    """Strips to learn from and strips to validate on: every fifth, or the last fifth of a small area."""
    left, bottom, right, top = bounds_m
    count = max(HELD_OUT_EVERY, round((right - left) / width_m))
    edges = np.linspace(left, right, count + 1)
    boxes = shapely.box(edges[:-1], bottom, edges[1:], top)
    held = np.arange(count) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    return shapely.union_all(boxes[~held]), shapely.union_all(boxes[held])
