"""Image chips about points, as data that a page can hold."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window, from_bounds

from accuracy.errors import LabelError

CHIP_PX = 384
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One image.

    Attributes:
        data_uri: JPEG as a data URI.
        covered: Share of the chip that the imagery covers, 0 to 1.
    """

    data_uri: str
    covered: float


def cut_chips(
    points: gpd.GeoDataFrame, imagery: Path | str, *, half_side_m: float, side_px: int = CHIP_PX
) -> list[Chip]:
    """A chip about every point, north up, from the red, green and blue bands of uint8 imagery (or its only band).

    Raises:
        LabelError: The imagery cannot be read, has no CRS on earth, no uint8 bands or a colour table, or covers none
            of the points.
    """
    with _opened(imagery) as dataset:
        index = _picture_bands(dataset)
        metric = dataset.crs if dataset.crs.is_projected else points.estimate_utm_crs()
        with WarpedVRT(dataset, crs=metric, resampling=Resampling.bilinear, add_alpha=_needs_alpha(dataset)) as view:
            places = points.geometry.to_crs(metric)
            chips = [_chip(view, index, p.x, p.y, half_side_m=half_side_m, side_px=side_px) for p in places]
    if not any(c.covered for c in chips):
        raise LabelError(f"{imagery} covers none of the {len(points)} points: check that it is of their city")
    return chips


@contextmanager
def _opened(imagery: Path | str) -> Iterator[Any]:
    try:
        with rasterio.open(imagery) as dataset:
            if dataset.crs is None:
                raise LabelError(f"{imagery} has no CRS: write one, or give imagery that has")
            crs = pyproj.CRS.from_wkt(dataset.crs.to_wkt(version="WKT2_2019"))
            if not (crs.is_projected or crs.is_geographic):
                raise LabelError(
                    f"{imagery} has a local CRS ({crs.name}), which says nothing about the place on earth: write the "
                    "right one into the file with `gdal_edit.py -a_srs EPSG:...`"
                )
            if dataset.dtypes[0] != "uint8":
                raise LabelError(f"{imagery} holds {dataset.dtypes[0]}: give 8-bit imagery for labelling")
            yield dataset
    except RasterioError as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise LabelError(f"{imagery} cannot be read as imagery ({reason}): give another file") from error


def _picture_bands(dataset: Any) -> list[int]:
    """1-based bands of red, green and blue as the file declares them; else the first three, or its only one thrice."""
    colors = dataset.colorinterp
    if ColorInterp.palette in colors:
        raise LabelError(
            f"{dataset.name} holds indexes into a colour table: expand them with `gdal_translate -expand rgb`"
        )
    declared = [colors.index(c) + 1 for c in RGB if colors.count(c) == 1]
    if len(declared) == len(RGB):
        return declared
    return [1, 2, 3] if dataset.count >= len(RGB) else [1, 1, 1]


def _needs_alpha(dataset: Any) -> bool:
    return dataset.nodata is None and "alpha" not in {i.name for i in dataset.colorinterp}


def _chip(view: Any, index: list[int], x: float, y: float, *, half_side_m: float, side_px: int) -> Chip:
    box = (x - half_side_m, y - half_side_m, x + half_side_m, y + half_side_m)
    window = from_bounds(*box, transform=view.transform)
    whole = Window(0, 0, view.width, view.height)
    out = np.zeros((3, side_px, side_px), dtype=np.uint8)
    covered = 0.0
    if rasterio.windows.intersect(window, whole):
        part = window.intersection(whole)
        scale_x, scale_y = side_px / window.width, side_px / window.height
        left, top = round((part.col_off - window.col_off) * scale_x), round((part.row_off - window.row_off) * scale_y)
        width = max(1, min(side_px - left, round(part.width * scale_x)))
        height = max(1, min(side_px - top, round(part.height * scale_y)))
        read = {"window": part, "out_shape": (height, width), "resampling": Resampling.bilinear}
        pixels = np.stack([view.read(b, **read) for b in index])
        mask = view.dataset_mask(window=part, out_shape=(height, width)) > 0
        out[:, top : top + height, left : left + width] = pixels * mask
        covered = float(mask.sum()) / side_px**2
    return Chip(data_uri=_jpeg(out), covered=covered)


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    with MemoryFile() as memory:
        with memory.open(
            driver="JPEG", width=pixels.shape[2], height=pixels.shape[1], count=3, dtype="uint8", QUALITY=85
        ) as dst:
            dst.write(pixels)
        return "data:image/jpeg;base64," + base64.b64encode(memory.read()).decode()
