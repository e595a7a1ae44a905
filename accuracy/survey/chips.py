"""Image chips about points, as data that a page can hold."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
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
        shows_pixel: Whether it covers the whole square that is judged.
    """

    data_uri: str
    covered: float
    shows_pixel: bool


@dataclass(frozen=True, kw_only=True)
class ChipSize:
    """How much ground a chip shows.

    Attributes:
        half_side_m: Half the side of the chip.
        pixel_m: Side of the square in its middle: the pixel that is judged.
        side_px: Pixels of the picture's side.
    """

    half_side_m: float = 100.0
    pixel_m: float = 10.0
    side_px: int = CHIP_PX

    def __post_init__(self) -> None:
        if not 0 < self.pixel_m <= 2 * self.half_side_m:
            raise LabelError(
                f"--pixel-m {self.pixel_m:g} and --half-side-m {self.half_side_m:g}: the pixel that is judged must be"
                " above 0 and fit into the chip"
            )


def cut_chips(points: gpd.GeoDataFrame, imagery: Path | str, size: ChipSize | None = None) -> list[Chip | None]:
    """A chip about every point, north up, from the red, green and blue bands of uint8 imagery (or its only band).

    Returns:
        A chip per point; None where the imagery does not show the pixel that is judged.

    Raises:
        LabelError: The imagery cannot be read, has no CRS on earth, no uint8 bands or a colour table.
    """
    size = size or ChipSize()
    with _opened(imagery) as dataset:
        index = _picture_bands(dataset)
        metric = dataset.crs if dataset.crs.is_projected else points.estimate_utm_crs()
        with WarpedVRT(dataset, crs=metric, resampling=Resampling.bilinear, add_alpha=_needs_alpha(dataset)) as view:
            places = points.geometry.to_crs(metric)
            chips = (_chip(view, index, p.x, p.y, size) for p in places)
            return [chip if chip is not None and chip.shows_pixel else None for chip in chips]


def choose_chips(
    points: gpd.GeoDataFrame, imagery: Sequence[Path | str], size: ChipSize | None = None
) -> tuple[list[Chip | None], list[int]]:
    """The chip of the raster that shows most of each point's surroundings; of equals the first given.

    Returns:
        A chip per point, None where no raster shows the pixel that is judged; and the raster's number (-1: none).

    Raises:
        LabelError: As `cut_chips`, or none of the rasters shows any of the points.
    """
    best: list[Chip | None] = [None] * len(points)
    source = [-1] * len(points)
    for number, path in enumerate(imagery):
        wanted = [k for k, chip in enumerate(best) if chip is None or chip.covered < 1]
        if not wanted:
            break
        for k, chip in zip(wanted, cut_chips(points.iloc[wanted], path, size), strict=True):
            known = best[k]
            if chip is not None and (known is None or chip.covered > known.covered):
                best[k], source[k] = chip, number
    if not any(best):
        names = ", ".join(str(p) for p in imagery[:3]) + (" …" if len(imagery) > 3 else "")
        raise LabelError(f"{names} covers none of the {len(points)} points: check that it is of their city")
    return best, source


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


def _chip(view: Any, index: list[int], x: float, y: float, size: ChipSize) -> Chip | None:
    """The chip about a place; None where it lies off the raster."""
    side_px, half = size.side_px, size.half_side_m
    window = from_bounds(x - half, y - half, x + half, y + half, transform=view.transform)
    whole = Window(0, 0, view.width, view.height)
    if not (np.isfinite([x, y]).all() and rasterio.windows.intersect(window, whole)):
        return None
    part = window.intersection(whole)
    scale_x, scale_y = side_px / window.width, side_px / window.height
    left = min(side_px - 1, round((part.col_off - window.col_off) * scale_x))
    top = min(side_px - 1, round((part.row_off - window.row_off) * scale_y))
    width = max(1, min(side_px - left, round(part.width * scale_x)))
    height = max(1, min(side_px - top, round(part.height * scale_y)))
    read = {"window": part, "out_shape": (height, width), "resampling": Resampling.bilinear}
    seen = np.zeros((side_px, side_px), dtype=bool)
    seen[top : top + height, left : left + width] = view.dataset_mask(window=part, out_shape=(height, width)) > 0
    out = np.zeros((3, side_px, side_px), dtype=np.uint8)
    out[:, top : top + height, left : left + width] = np.stack([view.read(b, **read) for b in index])
    out *= seen
    judged = max(1, round(side_px * size.pixel_m / (2 * half)))
    first = (side_px - judged) // 2
    centre = seen[first : first + judged, first : first + judged]
    return Chip(data_uri=_jpeg(out), covered=float(seen.mean()), shows_pixel=bool(centre.all()))


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    with MemoryFile() as memory:
        with memory.open(
            driver="JPEG", width=pixels.shape[2], height=pixels.shape[1], count=3, dtype="uint8", QUALITY=85
        ) as dst:
            dst.write(pixels)
        return "data:image/jpeg;base64," + base64.b64encode(memory.read()).decode()
