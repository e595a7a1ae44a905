"""Chips: plain labelled images without georeference, polygons in pixels in the VIA JSON format.

VIA (the VGG Image Annotator) writes one JSON object whose values name a file and list regions with
``all_points_x`` and ``all_points_y``.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, UnidentifiedImageError

from models.tiles.samples import IGNORE, SampleSet
from pipeline.errors import PipelineError

Progress = Callable[[Iterable[Any]], Iterable[Any]]


class ChipError(PipelineError):
    """A chip folder cannot be used."""


def read_via_chips(
    folder: Path,
    *,
    tile_px: int = 224,
    scale: float = 1.0,
    progress: Progress = iter,
) -> SampleSet:
    """Samples of all chips of a folder; arguments as for `cut_via_chips`.

    Returns:
        Image-only samples, in the order of the file names.

    Raises:
        ChipError: as `cut_via_chips`, or no chip is large enough for a tile.
    """
    parts = list(cut_via_chips(folder, tile_px=tile_px, scale=scale, progress=progress))
    if not parts:
        raise ChipError(f"{folder}: no chip fills a quarter of a tile of {tile_px} px: give a larger scale")
    return SampleSet.concat(parts)


def cut_via_chips(
    folder: Path,
    *,
    tile_px: int = 224,
    scale: float = 1.0,
    progress: Progress = iter,
) -> Iterator[SampleSet]:
    """Samples of a folder with one VIA JSON file and the images that it names, chip by chip.

    Args:
        folder: Holds ``*.json`` and the images; it is one place, named by it and the folder above.
        tile_px: Side of the samples; a chip is cut into tiles, the rest of it is padded and ignored.
        scale: Factor on the chip's size, to bring it to the pixel size of the other samples (0.4 for chips of
            0.4 m beside imagery of 1 m).
        progress: Wraps the chips to show progress.

    Yields:
        Image-only samples of one chip, in the order of the file names; a chip smaller than a quarter tile has none.

    Raises:
        ChipError: no JSON file, not VIA, or an image that is missing or cannot be read.
    """
    found = sorted(folder.glob("*.json"))
    if len(found) != 1:
        raise ChipError(f"{folder}: expected one VIA JSON file, found {len(found)}: {[p.name for p in found]}")
    entries = _entries(found[0])
    source, place = f"{folder.name}: {len(entries)} chips", place_of_chips(folder)
    for name in progress(sorted(entries)):
        tiles = list(_tiles(*_chip(folder / name, entries[name], scale), tile_px))
        if tiles:
            images, labels = zip(*tiles, strict=True)
            yield SampleSet.image_only(np.stack(images), np.stack(labels), source=source, place=place)


def place_of_chips(folder: Path) -> str:
    """Name of a folder of chips as a place: it and the folder above, since many are called ``train``."""
    whole = folder.resolve()
    return f"{whole.parent.name}/{whole.name}"


def _entries(path: Path) -> dict[str, list[NDArray[np.float64]]]:
    """Rings in pixels (N, 2) per file name."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        values = data.get("_via_img_metadata", data).values()
        result = {}
        for entry in values:
            regions = entry["regions"]
            shapes = [r["shape_attributes"] for r in (regions.values() if isinstance(regions, dict) else regions)]
            rings = [np.column_stack([s["all_points_x"], s["all_points_y"]]) for s in shapes if "all_points_x" in s]
            result[str(entry["filename"])] = rings
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ChipError(f"{path}: not a VIA annotation file ({type(error).__name__}: {error})") from error
    if not result:
        raise ChipError(f"{path}: annotates no image")
    return result


def _chip(path: Path, rings: list[NDArray[np.float64]], scale: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise ChipError(f"{path}: cannot be read as an image: {error}") from error
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    mask = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(mask)
    for ring in rings:
        if len(ring) >= 3:
            draw.polygon([(float(x), float(y)) for x, y in ring], fill=1)
    small = image.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    return np.asarray(small).transpose(2, 0, 1), np.asarray(mask.resize(size, Image.Resampling.NEAREST))


def _tiles(
    pixels: NDArray[np.uint8], mask: NDArray[np.uint8], side: int
) -> Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    _, height, width = pixels.shape
    for row in range(0, height, side):
        for col in range(0, width, side):
            part = pixels[:, row : row + side, col : col + side]
            if part.shape[1] * part.shape[2] < side * side / 4:
                continue  # a sliver teaches nothing
            image = np.zeros((3, side, side), np.uint8)
            label = np.full((side, side), IGNORE, np.uint8)
            image[:, : part.shape[1], : part.shape[2]] = part
            label[: part.shape[1], : part.shape[2]] = mask[row : row + side, col : col + side]
            yield image, label
