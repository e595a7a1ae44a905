"""Which bands of a scene are the picture, in which order, and which one is a mask.

What a file declares decides: bands that are declared red, green and blue are taken by colour, wherever they stand.
Where nothing is declared, or only a part, the first bands are taken in the file's order. A band counts as alpha only
if it behaves like a mask: GDAL calls the fourth band of many files "alpha" by default, also where it is near infrared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window
from scipy import ndimage

from pipeline.imagery.errors import BandCountError, UnreadableImageryError
from pipeline.imagery.opening import opened

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
ALPHA_BETWEEN_SHARE = 0.02
"""Share of pixels between transparent and opaque above which a band called alpha is data: masks are soft at edges."""
COLLAR_SHARE = 0.01
"""Share of black pixels at the edge from which they are worth a warning."""
SAMPLE_PX = 1024
"""Side of the largest raster that is sampled whole."""
SAMPLE_WINDOWS = 8
"""Windows along each side of a larger one."""


@dataclass(frozen=True)
class BandRoles:
    """The roles of a scene's bands.

    Attributes:
        picture: 1-based bands that hold data, in the order to take them: red, green, blue first where declared.
        alpha: 1-based band that masks, or None.
        warnings: What the user must know, without the name of the file.
    """

    picture: tuple[int, ...]
    alpha: int | None
    warnings: tuple[str, ...] = ()


def band_roles(dataset: DatasetReader, *, bands: int) -> BandRoles:
    """Read the roles of the bands of an open raster.

    Args:
        dataset: The raster.
        bands: Bands that will be read.

    Raises:
        BandCountError: pixels are indexes into a colour table.
    """
    colors = dataset.colorinterp
    if ColorInterp.palette in colors and bands > 1:
        raise BandCountError(
            f"{dataset.name}: its pixels are indexes into a colour table, {bands} bands are needed: expand them with "
            "`gdal_translate -expand rgb`"
        )
    alpha = colors.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in colors else None
    if alpha is None and dataset.count == bands + 1 and MaskFlags.alpha in dataset.mask_flag_enums[0]:
        alpha = dataset.count
    warnings = []
    if alpha is not None:
        between = _share_between(sampled(dataset.name, (alpha,))[0])
        if between > ALPHA_BETWEEN_SHARE:
            warnings.append(
                f"band {alpha} is declared alpha, but {between:.0%} of its pixels are neither transparent nor opaque: "
                "taken for data (near infrared, say), not for a mask; clear it with `gdal_edit.py -colorinterp_"
                f"{alpha} undefined`, or give the scene a mask of its own"
            )
            alpha = None
    others = [b for b in range(1, dataset.count + 1) if b != alpha]
    declared = [colors.index(c) + 1 for c in RGB if colors.count(c) == 1]
    if bands == len(RGB) == len(declared) and all(b != alpha for b in declared):
        if declared != sorted(declared):
            warnings.append(
                f"bands are declared red, green and blue in the order {', '.join(map(str, declared))}: taken by colour"
            )
        others = declared + [b for b in others if b not in declared]
    return BandRoles(tuple(others), alpha, tuple(warnings))


def sampled(path: Path | str, indexes: tuple[int, ...]) -> NDArray[np.uint8 | np.uint16]:
    """Pixels of a raster at full resolution: all of a small one, else windows spread over it, side by side.

    Overviews are not looked at: whoever wrote the file averaged or resampled them, so percentiles and masks read off
    them are others. `SAMPLE_WINDOWS` windows a side, the outer ones at the raster's edges, are read of a large raster,
    so that few of its blocks are decoded.

    Args:
        path: The raster.
        indexes: 1-based bands; 0 stands for the file's mask.

    Returns:
        (bands, h, w), at most `SAMPLE_PX` on a side.

    Raises:
        UnreadableImageryError: pixels that cannot be decoded, with their place.
    """
    with opened(path) as dataset:
        rows, cols = (_sample_starts(n) for n in (dataset.height, dataset.width))
        strips = [np.concatenate([_read(dataset, indexes, r, c) for c in cols], axis=2) for r in rows]
    return np.concatenate(strips, axis=1)


def _sample_starts(size_px: int) -> list[tuple[int, int]]:
    """First pixel and length of the windows along one side.

    10,000 px: 8 windows of 128 px at 0, 1410, 2821, ..., 9872.
    """
    if size_px <= SAMPLE_PX:
        return [(0, size_px)]
    side = SAMPLE_PX // SAMPLE_WINDOWS
    return [(round(k * (size_px - side) / (SAMPLE_WINDOWS - 1)), side) for k in range(SAMPLE_WINDOWS)]


def _read(
    dataset: DatasetReader, indexes: tuple[int, ...], rows: tuple[int, int], cols: tuple[int, int]
) -> NDArray[np.uint8 | np.uint16]:
    window = Window(cols[0], rows[0], cols[1], rows[1])
    try:
        values = dataset.read_masks(1, window=window)[None] if indexes == (0,) else dataset.read(indexes, window=window)
    except RasterioError as error:
        raise UnreadableImageryError(
            f"{dataset.name}: rows {rows[0]}..{sum(rows)}, columns {cols[0]}..{sum(cols)} cannot be decoded "
            f"({str(error.__cause__ or error).splitlines()[0]}): the file is damaged or cut off; copy or download it "
            "again"
        ) from error
    return np.asarray(values)


def collar_warnings(path: Path | str, indexes: tuple[int, ...]) -> tuple[str, ...]:
    """A warning where black ground at the edge may be missing data that the file does not declare."""
    black: NDArray[np.bool_] = np.equal(sampled(path, indexes).max(axis=0), 0)
    edge = np.concatenate([black[0], black[-1], black[:, 0], black[:, -1]])
    labels, _ = ndimage.label(black)
    sizes = np.bincount(labels.ravel())
    large = np.flatnonzero(sizes >= COLLAR_SHARE * black.size)
    share = float(np.isin(labels, large[large > 0]).mean())
    if not edge.any() or share < COLLAR_SHARE:
        return ()
    text = (
        f"about {share:.0%} of its pixels are 0 in all bands, also at its edge, and it declares no nodata: they are "
        "mapped as ground; if they are a collar without data, declare it with `gdal_edit.py -a_nodata 0`"
    )
    return (text,)


def _share_between(alpha: NDArray[np.uint8 | np.uint16]) -> float:
    if alpha.dtype.kind not in "ui":
        return 1.0
    # 16-bit files may hold 255 or 65535 for opaque: what lies between 0 and the largest value found counts
    return float(((alpha > 0) & (alpha < alpha.max())).mean()) if alpha.size else 0.0
