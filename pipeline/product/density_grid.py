"""The grid view: the share of urban village in each 100 m cell of one national equal-area grid.

Cells are anchored to the origin of `CHINA_ALBERS` (Albers, standard parallels 25 N and 47 N, meridian 105 E,
WGS 84): the same ground is the same cell in every city and release. Cell (i, j) covers x from ``100 i`` and y from
``100 j``. For those whose villages have no sharp edge, and where an outline would tell too much.
"""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from regions.raster.equal_area import CHINA_ALBERS
from regions.raster.grid import Grid
from regions.raster.profiles import tiled_profile

CELL_M = 100.0
NODATA = -1.0
"""Value of the raster's cells outside the area that was mapped."""


class DensityGridError(PipelineError):
    """The grid view cannot be made from these villages."""


def density_cells(villages: gpd.GeoDataFrame, *, area: gpd.GeoSeries | None = None) -> gpd.GeoDataFrame:
    """The cells that hold urban village, or all cells of an area.

    Args:
        villages: Polygons that do not overlap, in any CRS.
        area: The mapped area; None gives only cells that hold village.

    Returns:
        In `CHINA_ALBERS`, by row from the south, then column: ``cell_id`` (for example ``E12N34567``), ``cell_x`` and
        ``cell_y`` (int64), ``uv_area_m2`` and ``uv_share`` (float64; share of the whole cell), ``geometry``. The areas
        sum to the villages' ``area_m2``.

    Raises:
        DensityGridError: The villages overlap, so that a cell would be more than full.
    """
    polygons = villages.geometry.to_crs(CHINA_ALBERS).to_numpy()
    cells, areas = _areas_per_cell(polygons)
    if area is not None:
        wanted, _ = _areas_per_cell(area.to_crs(CHINA_ALBERS).to_numpy())
        cells = np.concatenate((cells, wanted))
        areas = np.concatenate((areas, np.zeros(len(wanted))))
    keys, index = np.unique(cells[:, ::-1], axis=0, return_inverse=True)
    total = np.bincount(index.ravel(), weights=areas, minlength=len(keys))
    fullest = float(total.max(initial=0.0)) / CELL_M**2
    if fullest > 1 + 1e-6:
        raise DensityGridError(f"a cell is {fullest:.3f} full: the villages overlap; dissolve them first")
    y, x = keys[:, 0], keys[:, 1]
    return gpd.GeoDataFrame(
        {
            "cell_id": [f"E{i}N{j}" for i, j in zip(x, y, strict=True)],
            "cell_x": x,
            "cell_y": y,
            "uv_area_m2": total,
            "uv_share": np.minimum(total / CELL_M**2, 1.0),
        },
        geometry=shapely.box(x * CELL_M, y * CELL_M, (x + 1) * CELL_M, (y + 1) * CELL_M),
        crs=CHINA_ALBERS,
    )


def write_density_raster(cells: gpd.GeoDataFrame, path: Path) -> None:
    """Write the cells as a float32 GeoTIFF of shares, `NODATA` where there is no cell.

    Raises:
        DensityGridError: There is no cell.
    """
    if len(cells) == 0:
        raise DensityGridError(f"{path}: no cells to write; give the mapped area to `density_cells`")
    x, y = cells["cell_x"].to_numpy(), cells["cell_y"].to_numpy()
    shares = np.full((int(y.max() - y.min()) + 1, int(x.max() - x.min()) + 1), NODATA, dtype=np.float32)
    shares[y.max() - y, x - x.min()] = cells["uv_share"].to_numpy()
    grid = Grid(CHINA_ALBERS.to_wkt(), CELL_M, int(x.min()), -int(y.max()) - 1, *shares.shape)
    with rasterio.open(path, "w", **tiled_profile(grid, dtype="float32", nodata=NODATA)) as raster:
        raster.write(shares, 1)
        raster.set_band_description(1, "share of urban village per 100 m cell")


def _areas_per_cell(polygons: NDArray[np.object_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Int64 (n, 2) cells as (x, y), each as often as polygons meet it, and float64 (n,) the area of each inside."""
    if len(polygons) == 0:
        return np.zeros((0, 2), dtype=np.int64), np.zeros(0)
    low = np.floor(shapely.bounds(polygons)[:, :2] / CELL_M).astype(np.int64)
    high = np.ceil(shapely.bounds(polygons)[:, 2:] / CELL_M).astype(np.int64)
    size = np.maximum(high - low, 1)
    count = size[:, 0] * size[:, 1]
    owner = np.repeat(np.arange(len(polygons)), count)
    turn = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    x = low[owner, 0] + turn % size[owner, 0]
    y = low[owner, 1] + turn // size[owner, 0]
    boxes = shapely.box(x * CELL_M, y * CELL_M, (x + 1) * CELL_M, (y + 1) * CELL_M)
    shapely.prepare(polygons)
    meets = shapely.intersects(polygons[owner], boxes)
    x, y, owner, boxes = x[meets], y[meets], owner[meets], boxes[meets]
    inside = shapely.contains_properly(polygons[owner], boxes)
    area = np.full(len(boxes), CELL_M**2)
    area[~inside] = shapely.area(shapely.intersection(polygons[owner[~inside]], boxes[~inside]))
    some = area > 0
    return np.column_stack((x, y))[some], area[some]
