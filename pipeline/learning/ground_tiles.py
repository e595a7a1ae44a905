"""Labelled tiles of a ground: which of its areas are learnt from, which choose the model, and their cutting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import shapely

from models.tiles.samples import SampleSet
from pipeline.city.ground import TILE_PX, CityGround
from pipeline.city.opening import OpenCity
from pipeline.city.reference import read_city_reference
from pipeline.errors import PipelineError
from pipeline.imagery.scene import inspect
from pipeline.learning.held_out import held_out_strips
from pipeline.learning.samples import LabelledGround, NoSamplesError, cut_parts, no_samples
from pipeline.reference.areas import read_polygons
from regions.raster.grid import Tiling

Progress = Callable[[Iterable[Any]], Iterable[Any]]
Use = Literal["train", "validation"]
NO_AREA = shapely.Polygon()


class TrainingDataError(PipelineError):
    """The sources cannot teach a model."""


@dataclass(frozen=True)
class Part:
    """Ground for one use.

    Attributes:
        use: What for.
        place: Name of the place.
        area: Where, in the grid's CRS; None for everywhere.
    """

    use: Use
    place: str
    area: shapely.Geometry | None


def ground_tiles(
    ground: CityGround,
    *,
    stride_px: int,
    validate_on: str | None = None,
    held_elsewhere: bool = False,
    progress: Progress = iter,
) -> Iterator[tuple[Use, SampleSet]]:
    """Samples of a ground, a few at a time, and what they are for.

    Districts say which ground is learnt from and which validates; those with another role are never read. Without
    districts for validation, strips of what would be learnt from are kept for it, at a distance.

    Args:
        ground: The city or the scenes.
        stride_px: Distance between training tiles; validation tiles lie side by side.
        validate_on: This ground, or one of its scenes by file name, is the place to validate on: it teaches nothing.
        held_elsewhere: Another place is validated on: this one only teaches.
        progress: Wraps the tiles to show progress.

    Yields:
        ``train`` or ``validation``, and at most 64 samples.

    Raises:
        TrainingDataError: no reference, districts without the role `train`, or ground too small to hold strips out.
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
        for part in _parts(city, validate_on=validate_on, held_elsewhere=held_elsewhere):
            tiling = Tiling(TILE_PX, stride_px if part.use == "train" else TILE_PX)
            labelled = LabelledGround(reference.polygons, unlabelled=reference.unlabelled, area=part.area)
            count = 0
            for samples in cut_parts(
                city.imagery,
                labelled,
                grid=grid,
                tiling=tiling,
                city_map=city.city_map,
                source=city.name,
                place=part.place,
                progress=progress,
            ):
                count += len(samples)
                yield part.use, samples
            if not count:
                raise NoSamplesError(f"{part.use}: {no_samples(part.place, tiling)}")


def scenes_named(ground: CityGround, name: str) -> list[Path]:
    """Scenes of a ground whose file or stem has that name."""
    return [p for p in ground.sources.imagery if name in {p.name, p.stem, str(p)}]


def _parts(city: OpenCity, *, validate_on: str | None, held_elsewhere: bool) -> list[Part]:
    ground, grid = city.ground, city.extent.grid
    areas = _areas(ground.sources.districts, grid.crs)
    teaching = areas.get("train") if areas else None
    judging = areas.get("validation", NO_AREA) if areas else NO_AREA
    if held_elsewhere:
        return [Part("train", city.name, teaching)]
    scenes = [] if validate_on is None else scenes_named(ground, validate_on)
    if validate_on is not None and (not scenes or len(ground.sources.imagery) == 1):
        return [Part("validation", city.name, None if teaching is None else shapely.union(teaching, judging))]
    everywhere = shapely.box(*grid.bounds_m)
    labelled = everywhere if teaching is None else teaching
    if scenes:
        crs = ground.sources.notes.imagery_crs
        held = shapely.union_all([shapely.box(*inspect(p, crs=crs).bounds_in(grid.crs)) for p in scenes])
        rest = [p for p in ground.sources.imagery if p not in scenes]
        return [
            Part("train", _place(ground, rest), labelled.difference(held)),
            Part("validation", _place(ground, scenes), shapely.union(labelled, judging).intersection(held)),
        ]
    if judging.is_empty:
        teaching, judging = held_out_strips(labelled, tile_m=TILE_PX * grid.resolution_m)
        if teaching.is_empty or judging.is_empty:
            raise TrainingDataError(
                f"{city.name}: the ground to learn from is too small to keep strips of it for validation: give "
                "districts with the role `validation`, or another place by --validate-on"
            )
    return [Part("train", city.name, teaching), Part("validation", city.name, judging)]


def _place(ground: CityGround, scenes: list[Path]) -> str:
    return f"{ground.adcode} ({', '.join(p.name for p in scenes)})"


def _areas(path: Path | None, crs: str) -> dict[str, shapely.Geometry]:
    """Ground of each role; where districts overlap, ``assess`` goes before ``validation`` before ``train``."""
    if path is None:
        return {}
    table = read_polygons([path], crs=crs)
    if "role" not in table.columns or "train" not in set(table["role"]):
        known = sorted(set(table.get("role", [])))
        raise TrainingDataError(
            f"{path}: needs a column `role` with the value train; found {known or 'no such column'}"
        )
    areas = {str(role): shapely.union_all(rows.geometry.to_numpy()) for role, rows in table.groupby("role")}
    others = shapely.union_all([area for role, area in areas.items() if role not in {"train", "validation"}])
    judging = _without(areas.get("validation", NO_AREA), others)
    return {"train": _without(_without(areas["train"], others), judging), "validation": judging}


def _without(area: shapely.Geometry, other: shapely.Geometry) -> shapely.Geometry:
    """The difference; districts that only touch stay as they are."""
    return area if shapely.intersection(area, other).area == 0 else shapely.difference(area, other)
