"""Whether a city's data are fit to be mapped: coverage, dates, clouds, completeness of the map, offset; as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.city.extent import CityExtent
from pipeline.imagery import ImageSource
from pipeline.inference.area import AreaOfInterest
from regions.raster.grid import Window

BLOCK_PX = 2048
MOST_BLOCKS = 400
"""Of larger cities so many blocks are read, spread evenly: the page says so."""
CELL_PX = 16
LITTLE_COVERED = 0.98
MUCH_CLOUD = 0.05
CLOUD_LEVEL, CLOUD_SPREAD = 205, 14
"""A cell looks like cloud where its darkest colour is at least this bright, and its pixels hardly differ."""
HAZE_LEVEL = 110
"""A cell looks hazy where nothing in it is darker: clear ground has shadows and dark roofs (dark channel prior)."""
SPARSE_BUILDINGS_PER_KM2 = 150.0
"""Built-up land with fewer mapped buildings is mapped in part: dense Chinese districts have 800 to 3,000."""
PICTURE_PX = 1000


@dataclass
class Looked:
    """What one pass over the imagery found.

    Attributes:
        asked_px: Pixels of the area of interest that were looked at.
        valid_px: Those with imagery.
        cells: Cells of `CELL_PX` with imagery.
        cloud_cells: Those that look like cloud.
        haze_cells: Those that look hazy.
        blocks: Blocks read.
        all_blocks: Blocks of the grid.
        picture: uint8 (h, w, 3), ground without imagery in red.
        step: Pixels of the grid per pixel of the picture.
    """

    asked_px: int = 0
    valid_px: int = 0
    cells: int = 0
    cloud_cells: int = 0
    haze_cells: int = 0
    blocks: int = 0
    all_blocks: int = 0
    picture: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((1, 1, 3), np.uint8))
    step: int = 1

    @property
    def covered(self) -> float:
        """Share of the area of interest with imagery."""
        return self.valid_px / self.asked_px if self.asked_px else 0.0

    @property
    def cloud(self) -> float:
        """Share of cells that look like cloud."""
        return self.cloud_cells / self.cells if self.cells else 0.0

    @property
    def haze(self) -> float:
        """Share of cells that look hazy, clouds left out."""
        return self.haze_cells / self.cells if self.cells else 0.0


def look_at(imagery: ImageSource, extent: CityExtent) -> Looked:
    """One pass over the imagery of a city's area of interest."""
    grid = extent.grid
    found = Looked(step=max(1, math.ceil(max(grid.height_px, grid.width_px) / PICTURE_PX)))
    found.picture = np.zeros(
        (math.ceil(grid.height_px / found.step), math.ceil(grid.width_px / found.step), 3), np.uint8
    )
    side = found.step * max(1, BLOCK_PX // found.step)
    blocks = list(grid.blocks(side))
    every = max(1, math.ceil(len(blocks) / MOST_BLOCKS))
    found.all_blocks = len(blocks)
    area = AreaOfInterest(extent.aoi, grid)
    for window in blocks[::every]:
        inside = area.mask(window)
        if not inside.any():
            continue
        pixels, valid = imagery.read(window)
        found.blocks += 1
        found.asked_px += int(inside.sum())
        found.valid_px += int((valid & inside).sum())
        _count_cells(pixels, valid & inside, found)
        _draw(pixels, valid, inside, window, found)
    return found


def _count_cells(pixels: NDArray[np.uint8], valid: NDArray[np.bool_], found: Looked) -> None:
    """Clouds are bright, grey and even; haze lifts the darkest pixels."""
    rows, cols = valid.shape[0] // CELL_PX, valid.shape[1] // CELL_PX
    if not rows or not cols:
        return
    cut = (slice(0, rows * CELL_PX), slice(0, cols * CELL_PX))
    shape = (rows, CELL_PX, cols, CELL_PX)
    whole = valid[cut].reshape(shape).all(axis=(1, 3))
    dark = pixels[:3, cut[0], cut[1]].min(axis=0).reshape(shape)
    darkest = dark.min(axis=(1, 3))
    spread = dark.astype(np.float32).std(axis=(1, 3))
    cloud = whole & (darkest >= CLOUD_LEVEL) & (spread <= CLOUD_SPREAD)
    # roofs and squares are bright too: a cloud is larger than a few cells
    cloud = ndimage.binary_opening(cloud, np.ones((3, 3)))
    found.cells += int(whole.sum())
    found.cloud_cells += int(cloud.sum())
    around = ndimage.minimum_filter(darkest, size=5)
    found.haze_cells += int((whole & ~cloud & (around >= HAZE_LEVEL)).sum())


def _draw(
    pixels: NDArray[np.uint8], valid: NDArray[np.bool_], inside: NDArray[np.bool_], window: Window, found: Looked
) -> None:
    step = found.step
    part = pixels[:3, ::step, ::step].transpose(1, 2, 0).copy()
    part[~inside[::step, ::step]] //= 3
    part[(inside & ~valid)[::step, ::step]] = (220, 30, 30)
    row, col = window.row_px // step, window.col_px // step
    found.picture[row : row + part.shape[0], col : col + part.shape[1]] = part


def completeness(features: gpd.GeoDataFrame, extent: CityExtent, built_share: float | None) -> dict[str, Any]:
    """How much the map says of the area of interest.

    Args:
        features: In the grid's CRS, canonical tags.
        extent: Where.
        built_share: Share of the area that is built-up; None where nothing says so.
    """
    area_km2 = extent.area_m2 / 1e6
    if not len(features):
        return {
            "features": 0, "buildings_per_km2": 0.0, "roads_km_per_km2": 0.0, "built_share": built_share,
            "buildings_per_built_km2": None,
        }  # fmt: skip
    area = extent.aoi if extent.aoi is not None else shapely.box(*extent.grid.bounds_m)
    shapely.prepare(area)
    tags = features["tags"]
    buildings = features[tags.str.contains('"building":', regex=False)]
    roads = features[tags.str.contains('"highway":', regex=False) & (shapely.get_dimensions(features.geometry) == 1)]
    inside = int(shapely.contains_xy(area, *shapely.get_coordinates(shapely.centroid(buildings.geometry)).T).sum())
    length_m = float(shapely.length(shapely.intersection(roads.geometry.to_numpy(), area)).sum()) if len(roads) else 0.0
    return {
        "features": len(features),
        "buildings_per_km2": round(inside / area_km2, 1),
        "roads_km_per_km2": round(length_m / 1000 / area_km2, 2),
        "built_share": built_share,
        "buildings_per_built_km2": round(inside / area_km2 / built_share, 1) if built_share else None,
    }


def warnings_of(facts: dict[str, Any]) -> list[str]:
    """What the user must know before model time is spent."""
    found = []
    imagery, vectors = facts["imagery"], facts["map"]
    if imagery["covered"] < LITTLE_COVERED:
        found.append(
            f"imagery covers {imagery['covered']:.1%} of the area of interest: the rest will not be predicted; add "
            "scenes, or make the area smaller"
        )
    if imagery["cloud"] > MUCH_CLOUD:
        found.append(f"{imagery['cloud']:.0%} of the imagery looks like cloud: take other dates, or a mask of clouds")
    per_built = vectors["buildings_per_built_km2"]
    if per_built is not None and per_built < SPARSE_BUILDINGS_PER_KM2:
        found.append(
            f"the map has {per_built:.0f} buildings per km2 of built-up land: it is mapped in part, so the model sees "
            "mostly imagery; add footprints"
        )
    offset = facts["offset"]
    if offset is not None and offset.get("warning"):
        found.append(str(offset["warning"]))
    return found
