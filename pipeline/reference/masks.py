"""Mask rasters of reference labels: which values are villages, which ground is not labelled, and where the mask lies.

One rule for all commands. 1 is a village, 0 is not, 255 is ground without labels, and so is what the file declares as
nodata or masks out. Where no pixel of any file is 1, a mask of 0 and 255 is taken for a picture: 255 is a village, with
a warning. A declared nodata value of 0 is the background, unless other values than villages stand beside it. Other
values are refused unless the villages among them are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader

from pipeline.imagery.errors import ImageryError
from pipeline.imagery.opening import opened
from pipeline.imagery.place import scene_place
from pipeline.reference.errors import AreaError

VILLAGE, BACKGROUND, NOT_LABELLED = 1, 0, 255
MAX_VALUES = 1000
"""Values of a mask that are told apart; a raster with more is no mask."""


@dataclass(frozen=True)
class Frame:
    """The grid of a raster that a mask without georeference may be drawn on.

    Attributes:
        name: Name of its file, for messages.
        crs: Its CRS.
        transform: From column and row to x and y.
        height_px: Rows.
        width_px: Columns.
    """

    name: str
    crs: str
    transform: tuple[float, float, float, float, float, float]
    height_px: int
    width_px: int


@dataclass(frozen=True)
class MaskHints:
    """What the user says of masks.

    Attributes:
        crs: CRS of rasters that carry none.
        positive: Values of villages; none for the rule of 0, 1 and 255.
        frames: Rasters on whose grid a mask without georeference may lie.
    """

    crs: str | None = None
    positive: tuple[int, ...] = ()
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class MaskPlace:
    """Where a mask lies."""

    crs: str
    transform: Affine
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaskValues:
    """The values of a mask.

    Attributes:
        path: The file.
        found: Values of its pixels, nodata and masked ones left out.
        nodata: Declared value of pixels without data, or None.
    """

    path: Path
    found: frozenset[float]
    nodata: float | None


@dataclass(frozen=True)
class MaskRule:
    """Which values of masks are villages and which say nothing; the others are background."""

    villages: frozenset[float]
    silent: frozenset[float]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaskShapes:
    """A mask as polygons in its own CRS.

    Attributes:
        villages: Polygons of villages.
        labelled: Polygons of the ground of which the mask says anything.
        crs: CRS of both.
        pixel: Length of the longer side of a pixel, in units of the CRS.
    """

    villages: tuple[shapely.Polygon, ...]
    labelled: tuple[shapely.Polygon, ...]
    crs: str
    pixel: float


def is_raster(path: Path) -> bool:
    """Whether GDAL reads a file as a raster."""
    try:
        with opened(path) as dataset:
            return bool(dataset.count > 0)
    except ImageryError:
        return False


def place_of(path: Path, hints: MaskHints) -> MaskPlace:
    """Where a mask lies: by its georeference, by its ground control points, or on the only frame of its size.

    Raises:
        AreaError: it does not say, and no frame or several have its size; or its CRS cannot be used.
    """
    try:
        with opened(path) as dataset:
            if dataset.transform == Affine.identity() and not dataset.gcps[0] and dataset.rpcs is None:
                return _on_a_frame(path, (dataset.height, dataset.width), hints.frames)
            place = scene_place(dataset, assumed_crs=hints.crs)
    except ImageryError as error:
        raise AreaError(str(error)) from error
    return MaskPlace(place.crs, place.transform, tuple(f"{path}: {text}" for text in place.warnings))


def values_of(path: Path) -> MaskValues:
    """The values that a mask holds.

    Raises:
        AreaError: it cannot be read, has several bands that differ, or so many values that it is no mask.
    """
    found: set[float] = set()
    try:
        with opened(path) as dataset:
            nodata = None if dataset.nodata is None else float(dataset.nodata)
            for _, window in dataset.block_windows(1):
                values, valid = _pixels(dataset, path, window)
                found |= {float(v) for v in np.unique(values[valid])}
                if len(found) > MAX_VALUES:
                    raise AreaError(f"{path}: holds more than {MAX_VALUES} values: give a mask, not an image")
    except ImageryError as error:
        raise AreaError(str(error)) from error
    return MaskValues(path, frozenset(v for v in found if v == v), nodata)  # noqa: PLR0124 - NaN is not equal to itself


def rule_of(masks: Sequence[MaskValues], positive: Sequence[int] = ()) -> MaskRule:
    """The rule for the masks of one reference, which are judged together: a tile may lie inside one village.

    Raises:
        AreaError: values that the rule does not know, or named ones that no pixel holds.
    """
    found = frozenset[float]().union(*(m.found for m in masks))
    found |= {0.0 for m in masks if m.nodata == 0}
    names = ", ".join(m.path.name for m in masks[:3]) + (f" and {len(masks) - 3} more" if len(masks) > 3 else "")
    villages = frozenset(float(v) for v in positive)
    if villages:
        missing = sorted(villages - found)
        if missing:
            raise AreaError(
                f"{names}: no pixel has the value {_shown(missing)} that --positive names; there are {_shown(found)}"
            )
        rule = MaskRule(villages, frozenset({255.0}) - villages)
    else:
        rule = _usual_rule(found, names)
    for mask in masks:
        if mask.nodata is not None and mask.nodata in rule.villages:
            raise AreaError(
                f"{mask.path}: declares {mask.nodata:g}, the value of villages, as nodata: take that out with"
                " `gdal_edit.py -unsetnodata`, or say with --positive which value villages have"
            )
    labelled = found - rule.silent
    if labelled and labelled <= rule.villages:
        text = f"{names}: every labelled pixel is a village ({_shown(labelled)})"
        return MaskRule(rule.villages, rule.silent, (*rule.warnings, text))
    return rule


def shapes_of(values: MaskValues, place: MaskPlace, rule: MaskRule) -> MaskShapes:
    """A mask as polygons.

    Raises:
        AreaError: it cannot be read.
    """
    try:
        with opened(values.path) as dataset:
            pixels, valid = _pixels(dataset, values.path, None)
    except ImageryError as error:
        raise AreaError(str(error)) from error
    silent = set(rule.silent)
    background = values.found - rule.villages - rule.silent - {0.0}
    if values.nodata == 0:
        # 0 is the background of masks written with nodata 0; beside another background it says nothing
        valid |= pixels == 0
        silent |= {0.0} if background else set()
    known = valid & ~np.isin(pixels, list(silent))
    labels = np.where(np.isin(pixels, list(rule.villages)), VILLAGE, BACKGROUND).astype(np.uint8)
    return MaskShapes(
        _polygons(known & (labels == VILLAGE), place.transform),
        _polygons(known, place.transform),
        place.crs,
        float(max(np.hypot(place.transform.a, place.transform.d), np.hypot(place.transform.b, place.transform.e))),
    )


def _pixels(
    dataset: DatasetReader, path: Path, window: rasterio.windows.Window | None
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Values (H, W) and whether they say something (H, W)."""
    data = [b for b, c in enumerate(dataset.colorinterp, start=1) if c != ColorInterp.alpha]
    if not data or np.dtype(dataset.dtypes[data[0] - 1]).kind not in "uif":
        raise AreaError(f"{path}: holds {dataset.dtypes[0]}: a mask holds whole numbers")
    bands = dataset.read(data, window=window)
    if len(bands) > 1 and (bands != bands[:1]).any():
        raise AreaError(
            f"{path}: has {len(bands)} bands that differ: a mask has one; take it out with `gdal_translate -b N`"
        )
    values = bands[0]
    flags = dataset.mask_flag_enums[0]
    valid = np.ones(values.shape, np.bool_)
    if MaskFlags.per_dataset in flags:  # a mask of its own, or an alpha band
        valid &= dataset.dataset_mask(window=window) > 0
    if dataset.nodata is not None:
        valid &= values != dataset.nodata
    if values.dtype.kind == "f":
        valid &= np.isfinite(values)
    return values, valid


def _usual_rule(found: frozenset[float], names: str) -> MaskRule:
    strange = found - {0.0, 1.0, 255.0}
    if strange:
        raise AreaError(
            f"{names}: holds the values {_shown(found)}; a mask has 1 (village), 0 (none) and 255 (not labelled): say"
            " which values are villages with --positive (`reference_positive` in sources.yaml), and declare the value"
            " of ground without labels with `gdal_edit.py -a_nodata V`"
        )
    if 1.0 in found or 255.0 not in found:
        return MaskRule(frozenset({1.0}), frozenset({255.0}))
    if 0.0 not in found:
        raise AreaError(
            f"{names}: every pixel is 255, which is a village in a mask of 0 and 255 and ground without labels in one"
            " of 0 and 1: say --positive 255, or declare it with `gdal_edit.py -a_nodata 255`"
        )
    text = (
        f"{names}: no pixel is 1, so 255 is read as village and 0 as none; where 255 is ground without labels, declare"
        " it with `gdal_edit.py -a_nodata 255`"
    )
    return MaskRule(frozenset({255.0}), frozenset(), (text,))


def _on_a_frame(path: Path, shape: tuple[int, int], frames: Sequence[Frame]) -> MaskPlace:
    fits = [f for f in frames if (f.height_px, f.width_px) == shape]
    if len(fits) > 1:
        fits = [f for f in fits if Path(f.name).stem == path.stem]
    if len(fits) != 1:
        sizes = ", ".join(f"{f.name} {f.width_px} x {f.height_px}" for f in frames[:3]) or "none"
        raise AreaError(
            f"{path}: has neither georeference nor world file, and its {shape[1]} x {shape[0]} pixels are not exactly"
            f" those of one raster that it is paired with ({sizes}): add a world file, or write the georeference of the"
            " imagery into it"
        )
    frame = fits[0]
    text = f"{path}: has no georeference; it is taken to lie on the grid of {frame.name}, since it has exactly its size"
    return MaskPlace(frame.crs, Affine(*frame.transform), (text,))


def _polygons(mask: NDArray[np.bool_], transform: Affine) -> tuple[shapely.Polygon, ...]:
    found = rasterio.features.shapes(mask.astype(np.uint8), mask=mask, transform=transform)
    return tuple(shapely.geometry.shape(s) for s, _ in found)


def _shown(values: Iterable[float]) -> str:
    ordered = sorted(values)
    return ", ".join(f"{v:g}" for v in ordered[:8]) + (", ..." if len(ordered) > 8 else "") if ordered else "none"
