"""The two scenes of a demo city as GeoTIFF files: different days, sun, haze and colour, one slanting seam."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from regions.demo.frame import Frame
from regions.demo.layout import Layout
from regions.demo.render import Renderer, SceneLook
from regions.demo.view import TILE_PX
from regions.raster.gdal_cache import bounded_gdal_cache
from regions.raster.grid import Window
from regions.raster.profiles import tiled_profile

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scene:
    """One image file of a city.

    Attributes:
        name: File name.
        look: Day, sun, haze and colour.
        col_px: First column within the city.
        width_px: Number of columns.
        seam_px: Column of the seam at the northern and at the southern edge of the city.
        keeps_west: Whether the scene has data west of the seam, or east of it.
    """

    name: str
    look: SceneLook
    col_px: int
    width_px: int
    seam_px: tuple[float, float]
    keeps_west: bool


def plan_scenes(layout: Layout) -> tuple[Scene, Scene]:
    """Two scenes side by side: the western one ends in a slanting edge, some tens of metres under the eastern one."""
    rng = np.random.default_rng([layout.seed, 9])
    side = layout.side_m
    middle = side * float(rng.uniform(0.46, 0.56))
    slant = side * 0.02
    seam = (middle - slant, middle + slant)
    overlap = 40.0
    west_stop = int(np.ceil(middle + slant + overlap / 2))
    east_start = int(middle - slant - overlap / 2)
    west = SceneLook(
        1, "2023-03-12", float(rng.uniform(138, 148)), float(rng.uniform(50, 55)), 0.10, (176.0, 184.0, 196.0),
        (1.03, 1.0, 0.97),
    )  # fmt: skip
    east = SceneLook(
        2, "2023-10-28", float(rng.uniform(150, 160)), float(rng.uniform(47, 52)), 0.24, (190.0, 192.0, 192.0),
        (0.95, 0.98, 0.99),
    )  # fmt: skip
    moved = (seam[0] + overlap / 2, seam[1] + overlap / 2), (seam[0] - overlap / 2, seam[1] - overlap / 2)
    return (
        Scene("scene_west.tif", west, 0, west_stop, moved[0], True),
        Scene("scene_east.tif", east, east_start, side - east_start, moved[1], False),
    )


def valid_mask(
    scene: Scene, layout: Layout, *, left_px: int, top_px: int, height: int, width: int
) -> NDArray[np.bool_]:
    """Where a scene has data (height, width), for a window given in city pixels.

    The western scene lacks the city's north-western corner, a triangle of a twentieth of the side.
    """
    side = layout.side_m
    rows = np.arange(top_px, top_px + height)[:, None] + 0.5
    cols = np.arange(left_px, left_px + width)[None, :] + 0.5
    seam = scene.seam_px[0] + (scene.seam_px[1] - scene.seam_px[0]) * rows / side
    inside = (rows < side) & (cols < side)
    if scene.keeps_west:
        return np.asarray(inside & (cols < seam) & (rows + cols > side / 20))
    return np.asarray(inside & (cols >= seam))


def tiles(layout: Layout, scene: Scene) -> Iterator[tuple[int, int, NDArray[np.uint8], NDArray[np.bool_]]]:
    """The tiles of a scene in row order: row and column in the scene, pixels (3, h, w), validity (h, w)."""
    renderer = Renderer(layout, scene.look)
    for row in range(0, layout.side_m, TILE_PX):
        for col in range(0, scene.width_px, TILE_PX):
            height, width = min(TILE_PX, layout.side_m - row), min(TILE_PX, scene.width_px - col)
            left = scene.col_px + col
            valid = valid_mask(scene, layout, left_px=left, top_px=row, height=height, width=width)
            if valid.any():
                pixels = renderer.tile(left, row)[:, :height, :width] * valid
            else:
                pixels = np.zeros((3, height, width), np.uint8)
            yield row, col, pixels, valid


def write_scene(layout: Layout, frame: Frame, scene: Scene, folder: Path, *, progress: Progress | None = None) -> Path:
    """Write a scene as a tiled GeoTIFF: RGB uint8 at 1 m, blocks of 512, DEFLATE, internal mask.

    Args:
        layout: Plan of the city.
        frame: Its place.
        scene: Which scene.
        folder: Existing folder to write to.
        progress: Called with (tiles done, all tiles).

    Returns:
        Path of the file.
    """
    path = folder / scene.name
    grid = frame.grid[Window(0, scene.col_px, layout.side_m, scene.width_px)]
    profile = tiled_profile(
        grid, dtype="uint8", nodata=None, count=3, blockxsize=TILE_PX, blockysize=TILE_PX,
        zlevel=6, predictor=2, interleave="pixel", photometric="RGB",
    )  # fmt: skip
    total = -(-layout.side_m // TILE_PX) * -(-scene.width_px // TILE_PX)
    path.unlink(missing_ok=True)
    with (
        bounded_gdal_cache(GDAL_TIFF_INTERNAL_MASK=True, GDAL_NUM_THREADS="1"),
        rasterio.open(path, "w", **profile) as out,
    ):
        day = scene.look.date
        out.update_tags(TIFFTAG_DATETIME=f"{day.replace('-', ':')} 03:10:00", TIFFTAG_SOFTWARE="uvmap demo city")
        out.update_tags(ns="IMAGERY", ACQUISITIONDATETIME=f"{day}T03:10:00Z", SATELLITEID="DEMO-1")
        for done, (row, col, pixels, valid) in enumerate(tiles(layout, scene), start=1):
            window = RasterWindow(col, row, pixels.shape[2], pixels.shape[1])
            out.write(pixels, window=window)
            out.write_mask(valid, window=window)
            if progress is not None:
                progress(done, total)
    return path
