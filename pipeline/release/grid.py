"""The 100 m grid of the nation: the cities' cells together, as a table and as a raster, band by band.

A cell at the border of two cities holds the village of both. In the raster, ground that was predicted and holds no
village is 0, ground that was not predicted is `NOT_MAPPED`: a cell counts as predicted where the pixel at its middle
does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window as RasterWindow

from pipeline.files import replacing
from pipeline.national.products import CityProduct
from pipeline.product.density_grid import CELL_M
from pipeline.release.geoparquet import geo_metadata, write_groups
from pipeline.release.tables import BOX
from regions.raster.equal_area import CHINA_ALBERS
from regions.raster.gdal_cache import bounded_gdal_cache
from regions.raster.grid import Grid
from regions.raster.profiles import BLOCK_PX, cog_options, tiled_profile
from regions.raster.scores import NOT_PREDICTED

NOT_MAPPED = 65535
"""Cell of the raster without a prediction; all others hold their square metres of village, 0 to 10,000."""


@dataclass(frozen=True)
class GridPart:
    """One city's cells.

    Attributes:
        cells: Parquet with ``cell_x``, ``cell_y``, ``uv_area_m2``, by row, then column.
        mapped: NumPy file: bool (rows, columns), whether a cell was predicted; the first row is the northernmost.
        first_x: Column of the national grid of its first column.
        last_y: Row (northwards) of the national grid of its first row.
        rows: Rows.
        columns: Columns.
    """

    cells: Path
    mapped: Path
    first_x: int
    last_y: int
    rows: int
    columns: int


def write_grid_part(product: CityProduct, folder: Path) -> GridPart:
    """Write the cells of a city and where it was predicted."""
    cells = pq.read_table(product.density, columns=["cell_x", "cell_y", "uv_area_m2"])
    path, mapped = folder / f"{product.adcode}_cells.parquet", folder / f"{product.adcode}_mapped.npy"
    with replacing(path, sweep=False) as temporary:
        pq.write_table(cells.sort_by([("cell_y", "ascending"), ("cell_x", "ascending")]), temporary)
    with bounded_gdal_cache(), rasterio.open(product.mask) as mask:
        west, south, east, north = transform_bounds(mask.crs, CHINA_ALBERS.to_wkt(), *mask.bounds, densify_pts=51)
        first_x, last_y = int(np.floor(west / CELL_M)), int(np.ceil(north / CELL_M)) - 1
        last_x, first_y = int(np.ceil(east / CELL_M)) - 1, int(np.floor(south / CELL_M))
        if len(cells):  # an outline may reach a few metres beyond the ground that was predicted
            x, y = (cells[name].to_numpy() for name in ("cell_x", "cell_y"))
            first_x, last_x = min(first_x, int(x.min())), max(last_x, int(x.max()))
            first_y, last_y = min(first_y, int(y.min())), max(last_y, int(y.max()))
        columns, rows = last_x - first_x + 1, last_y - first_y + 1
        place = Affine(CELL_M, 0, first_x * CELL_M, 0, -CELL_M, (last_y + 1) * CELL_M)
        with WarpedVRT(
            mask,
            crs=CHINA_ALBERS.to_wkt(),
            transform=place,
            width=columns,
            height=rows,
            resampling=Resampling.nearest,
            nodata=NOT_PREDICTED,
        ) as view:
            seen = view.read(1) != NOT_PREDICTED
    with replacing(mapped, sweep=False) as temporary:
        np.save(temporary, seen)
    return GridPart(path, mapped, first_x, last_y, rows, columns)


def write_grid_table(parts: Sequence[GridPart], path: Path) -> int:
    """GeoParquet of all cells that hold village, by row from the south, then column; returns their number."""
    bounds = _bounds(parts)
    schema = pa.schema(
        [
            ("cell_id", pa.string()),
            ("cell_x", pa.int64()),
            ("cell_y", pa.int64()),
            ("uv_area_m2", pa.float64()),
            ("uv_share", pa.float64()),
            ("geometry", pa.binary()),
            ("bbox", pa.struct([(name, pa.float64()) for name in BOX])),
        ],
        geo_metadata(CHINA_ALBERS, kinds=["Polygon"] if bounds else [], bounds=bounds),
    )
    with replacing(path) as temporary:
        return write_groups(temporary, schema, (_table(*band, schema) for band in _bands(parts)))


def write_grid_raster(parts: Sequence[GridPart], path: Path, *, work: Path) -> Grid:
    """COG of the square metres of village per cell, uint16; returns its grid."""
    left, top = min(p.first_x for p in parts), max(p.last_y for p in parts)
    right = max(p.first_x + p.columns for p in parts)
    bottom = min(p.last_y - p.rows + 1 for p in parts)
    grid = Grid(CHINA_ALBERS.to_wkt(), CELL_M, left, -top - 1, top - bottom + 1, right - left)
    flat = work / "density.flat.tif"
    profile = tiled_profile(grid, dtype="uint16", nodata=NOT_MAPPED, SPARSE_OK="TRUE", ZLEVEL=1)
    try:
        with bounded_gdal_cache(), replacing(path) as temporary:
            with rasterio.open(flat, "w", **profile) as sink:
                for row in range(0, grid.height_px, BLOCK_PX):
                    height = min(BLOCK_PX, grid.height_px - row)
                    _write_band(parts, sink, corner=(left, top), row=row, height=height)
                sink.set_band_description(1, "square metres of urban village per 100 m cell")
            rasterio.shutil.copy(flat, temporary, **cog_options(), SPARSE_OK="TRUE")
    finally:
        flat.unlink(missing_ok=True)
    return grid


def _write_band(
    parts: Sequence[GridPart], sink: rasterio.io.DatasetWriter, *, corner: tuple[int, int], row: int, height: int
) -> None:
    """Write the blocks of one row of blocks that a city reaches into; the others stay holes of the file."""
    left, top = corner[0], corner[1] - row
    near = [p for p in parts if p.last_y > top - height and p.last_y - p.rows < top]
    if not near:
        return
    values = np.full((height, sink.width), NOT_MAPPED, np.uint16)
    for part in near:
        skipped, first = max(0, top - part.last_y), max(0, part.last_y - top)
        seen = np.load(part.mapped, mmap_mode="r")[first : first + height - skipped]
        start = part.first_x - left
        values[skipped : skipped + len(seen), start : start + part.columns][seen] = 0
    x, y, area = _summed(near, top - height + 1, top + 1)
    values[top - y, x - left] = np.rint(np.minimum(area, CELL_M**2)).astype(np.uint16)
    for col in range(0, sink.width, BLOCK_PX):
        block = values[:, col : col + BLOCK_PX]
        if (block != NOT_MAPPED).any():
            sink.write(block, 1, window=RasterWindow(col, row, block.shape[1], height))


def _bands(parts: Sequence[GridPart]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Cells with village, a band of rows at a time from the south."""
    if not parts:
        return
    low, high = min(p.last_y - p.rows + 1 for p in parts), max(p.last_y for p in parts) + 1
    for start in range(low - 2, high + 2, BLOCK_PX):
        near = [p for p in parts if p.last_y + 2 >= start and p.last_y - p.rows - 2 < start + BLOCK_PX]
        if near:
            yield _summed(near, start, start + BLOCK_PX)


def _summed(
    parts: Sequence[GridPart], low: int, high: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Column, row and square metres of the cells in rows [low, high), by row, then column, each cell once."""
    tables = [pq.read_table(p.cells, filters=[("cell_y", ">=", low), ("cell_y", "<", high)]) for p in parts]
    whole = pa.concat_tables(tables)
    x, y, area = (whole[n].to_numpy() for n in ("cell_x", "cell_y", "uv_area_m2"))
    keys, owner = np.unique(np.column_stack((y, x)).reshape(-1, 2), axis=0, return_inverse=True)
    total = np.bincount(owner.ravel(), weights=area, minlength=len(keys))
    return keys[:, 1].astype(np.int64), keys[:, 0].astype(np.int64), total.astype(np.float64)


def _table(x: NDArray[np.int64], y: NDArray[np.int64], area: NDArray[np.float64], schema: pa.Schema) -> pa.Table:
    corners = (x * CELL_M, y * CELL_M, (x + 1) * CELL_M, (y + 1) * CELL_M)
    return pa.table(
        [
            pa.array([f"E{i}N{j}" for i, j in zip(x.tolist(), y.tolist(), strict=True)], pa.string()),
            pa.array(x),
            pa.array(y),
            pa.array(area),
            pa.array(np.minimum(area / CELL_M**2, 1.0)),
            pa.array(shapely.to_wkb(shapely.box(*corners), flavor="iso"), pa.binary()),
            pa.StructArray.from_arrays([pa.array(c) for c in corners], list(BOX)),
        ],
        schema=schema,
    )


def _bounds(parts: Sequence[GridPart]) -> tuple[float, float, float, float] | None:
    """Bounds of the cells in the CRS of the grid."""
    boxes = []
    for part in parts:
        table = pq.read_table(part.cells, columns=["cell_x", "cell_y"])
        if len(table):
            x, y = table["cell_x"].to_numpy(), table["cell_y"].to_numpy()
            boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
    if not boxes:
        return None
    left, bottom, right, top = (CELL_M * f(b[k] for b in boxes) for k, f in enumerate((min, min, max, max)))
    return float(left), float(bottom), float(right), float(top)
