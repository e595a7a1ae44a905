"""One check of all inputs of a city before the model runs: the unusable is refused, the doubtful is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import shapely
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from pipeline.city.extent import CityExtent
from pipeline.city.ground import CityGround
from pipeline.city.reference import read_city_reference
from pipeline.city.sources import CitySources
from pipeline.city.stage_store import stage_result
from pipeline.errors import PipelineError
from pipeline.files import source_files
from pipeline.imagery.acquired import date_of_scenes
from pipeline.imagery.bands import collar_warnings
from pipeline.imagery.opening import opened
from pipeline.imagery.place import scene_place, transform_warning
from pipeline.imagery.scene import Scene, inspect
from pipeline.reference.areas import read_polygons
from regions.raster.grid import Grid

CHECK_VERSION = 1
BANDS = 3
"""Bands that the model reads."""
SHOWN = 10
"""Files that one warning names."""


class InputError(PipelineError):
    """Inputs that do not fit each other."""


@dataclass(frozen=True)
class CityCheck:
    """What the check of a city's inputs found.

    Attributes:
        extent: Grid and area of interest.
        warnings: What the user must know, each with the name of a file.
    """

    extent: CityExtent
    warnings: tuple[str, ...]


def check_city(ground: CityGround) -> CityCheck:
    """Check all inputs of a city but its vectors, which the graph reads whole before the model runs.

    The answer is kept in the work folder and found again until a file, its time or a note changes.

    Raises:
        PipelineError: an input that cannot be used, with its file and what to do.
    """
    extent = ground.extent()
    sources = ground.sources
    inputs = {
        "version": CHECK_VERSION,
        "files": [_file_facts(p) for source in sources.files for p in source_files(source)],
        "passed_over": [str(p) for p in sources.passed_over],
        "adcode": sources.adcode,
        "notes": sources.notes.model_dump(),
        "grid": asdict(extent.grid),
    }

    def build(_: Path) -> dict[str, Any]:
        return {"warnings": [_with_short_names(text, sources) for text in _find_warnings(sources, extent)]}

    found = stage_result(ground.work, "inputs", inputs, build).summary
    return CityCheck(extent, tuple(found["warnings"]))


def _find_warnings(sources: CitySources, extent: CityExtent) -> Iterator[str]:
    yield from _passed_over(sources)
    yield from extent.warnings
    crs = sources.notes.imagery_crs
    scenes = [inspect(path, bands=BANDS, crs=crs) for path in sources.imagery]
    for scene in scenes:
        yield from (f"{scene.path}: {text}" for text in _scene_warnings(scene, extent.grid))
    if sources.notes.image_date is None:
        yield from date_of_scenes(sources.imagery)[1]
    for path in sources.heights:
        yield from _height_warnings(path, extent.grid)
    if sources.districts is not None:
        yield from _district_warnings(sources.districts, extent.grid)
    if sources.reference:
        yield from read_city_reference(sources, crs=extent.grid.crs, bounds_m=extent.grid.bounds_m).warnings


def _passed_over(sources: CitySources) -> Iterator[str]:
    names = [f"{p.parent.name}/{p.name}" for p in sources.passed_over]
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield (
            f"{', '.join(names[:SHOWN])}{more}: not read, since neither the layout of the folder nor the table of"
            " formats has them (docs/campaign.md, docs/inputs.md)"
        )


def _scene_warnings(scene: Scene, grid: Grid) -> Iterator[str]:
    yield from scene.warnings
    doubt = transform_warning(scene.crs, grid.crs)
    if doubt is not None:
        yield doubt
    if scene.nodata is None and scene.alpha_band is None and not scene.has_mask:
        yield from collar_warnings(scene.path, scene.picture_bands[:BANDS])


def _height_warnings(path: Path, grid: Grid) -> Iterator[str]:
    with opened(path) as dataset:
        place = scene_place(dataset, assumed_crs=None)
        corners = [(c, r) for c in (0, dataset.width) for r in (0, dataset.height)]
    outline = shapely.MultiPoint([place.transform @ corner for corner in corners]).envelope
    yield from (f"{path}: {text}" for text in place.warnings)
    here = _box_in(outline.bounds, place.crs, grid.crs)
    if not shapely.box(*here).intersects(shapely.box(*grid.bounds_m)):
        raise InputError(
            f"{path}: the height raster {_rounded(here)} does not meet the map {_rounded(grid.bounds_m)} (left, bottom,"
            f" right, top in {grid.crs}): check its CRS, or take it out of the folder"
        )


def _district_warnings(path: Path, grid: Grid) -> Iterator[str]:
    areas = read_polygons([path], crs=grid.crs)
    outside = int((~areas.intersects(shapely.box(*grid.bounds_m))).sum())
    if outside:
        yield f"{path}: {outside} of its {len(areas)} areas do not meet the map"


def _box_in(bounds: tuple[float, ...], source: str, target: str) -> tuple[float, float, float, float]:
    try:
        left, bottom, right, top = transform_bounds(source, target, *bounds)
    except RasterioError as error:
        raise InputError(f"bounds {_rounded(bounds)} in {source} lie nowhere in {target}: check the CRS") from error
    return float(left), float(bottom), float(right), float(top)


def _file_facts(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns]


def _with_short_names(text: str, sources: CitySources) -> str:
    """Warnings name files without their folders, so that they say the same wherever the data lie."""
    for path in sources.files:
        text = text.replace(str(path), path.name)
    return text


def _rounded(bounds: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(round(v) for v in bounds)
