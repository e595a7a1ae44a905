"""Profiles of the raster files that we write: tiled, compressed, and a COG where people will open them."""

from __future__ import annotations

from typing import Any

from regions.raster.grid import Grid

BLOCK_PX = 512


def tiled_profile(grid: Grid, *, dtype: str, nodata: float | None, count: int = 1, **changes: Any) -> dict[str, Any]:
    """Profile of a tiled GeoTIFF on a grid, for `rasterio.open(path, "w", **profile)`.

    Args:
        grid: Where the pixels lie.
        dtype: Type of the pixels.
        nodata: Value that says nothing is known; None for none.
        count: Bands.
        changes: Further creation options, which go before ours.
    """
    return {
        "driver": "GTiff",
        "dtype": dtype,
        "count": count,
        "height": grid.height_px,
        "width": grid.width_px,
        "crs": grid.crs,
        "transform": grid.affine,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "compress": "DEFLATE",
        "predictor": 3 if dtype.startswith("float") else 1,
        "bigtiff": "IF_SAFER",
    } | changes


def cog_options(*, predictor: bool = False, resampling: str = "nearest") -> dict[str, Any]:
    """Creation options of the COG driver: blocks, compression and overviews as all our COGs have them."""
    return {
        "driver": "COG",
        "compress": "DEFLATE",
        "predictor": "YES" if predictor else "NO",
        "blocksize": BLOCK_PX,
        "overview_resampling": resampling,
        "bigtiff": "IF_SAFER",
    }
