"""Imagery below the polygons, of invented cities alone: scenes of real ground are not ours to publish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from pipeline.city.sources import is_invented
from pipeline.formats import RASTER_SUFFIXES
from pipeline.imagery.opening import opened

MAX_SIDE_PX = 2048
WEB_MERCATOR = "EPSG:3857"
QUALITY = 85


def demo_pictures(adcodes: Sequence[str], data_root: Path, out: Path) -> Iterator[dict[str, Any]]:
    """Write a picture of the imagery of each invented city that has some.

    Args:
        adcodes: Cities of the release.
        data_root: Of the campaign: a folder per adcode, with `imagery/`.
        out: Folder that receives `imagery_{adcode}.jpg`.

    Yields:
        ``adcode``, ``file`` and ``corners`` (longitude and latitude, from the upper left, clockwise).
    """
    for adcode in sorted(adcodes):
        folder = data_root / adcode / "imagery"
        if not is_invented(adcode, data_root) or not folder.is_dir():
            continue
        scenes = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in RASTER_SUFFIXES]
        if scenes:
            name = f"imagery_{adcode}.jpg"
            yield {"adcode": adcode, "file": name, "corners": _write(scenes, out / name)}


def _write(scenes: Sequence[Path], path: Path) -> list[list[float]]:
    """Scenes one over the other, later ones on top, in web Mercator."""
    boxes, finest = [], np.inf
    for scene in scenes:
        with opened(scene) as source:
            box = transform_bounds(source.crs, WEB_MERCATOR, *source.bounds)
            boxes.append(box)
            finest = min(finest, (box[2] - box[0]) / source.width)
    west, south = min(b[0] for b in boxes), min(b[1] for b in boxes)
    east, north = max(b[2] for b in boxes), max(b[3] for b in boxes)
    pixel = max(finest, max(east - west, north - south) / MAX_SIDE_PX)
    width, height = max(1, round((east - west) / pixel)), max(1, round((north - south) / pixel))
    shown = np.full((height, width, 3), 238, np.uint8)
    place = from_bounds(west, south, east, north, width, height)
    for scene in scenes:
        with (
            rasterio.open(scene) as source,
            WarpedVRT(
                source,
                crs=WEB_MERCATOR,
                transform=place,
                width=width,
                height=height,
                resampling=Resampling.average,
                add_alpha=True,
            ) as warped,
        ):
            bands = (1, 2, 3) if source.count >= 3 else (1, 1, 1)
            pixels = np.moveaxis(warped.read(bands), 0, -1)
            valid = warped.read(warped.count) > 0  # alpha: outside the scene, and where it has no data, nothing
            shown[valid] = pixels[valid]
    Image.fromarray(shown).save(path, quality=QUALITY)
    to_degrees = pyproj.Transformer.from_crs(WEB_MERCATOR, "EPSG:4326", always_xy=True)
    corners = ((west, north), (east, north), (east, south), (west, south))
    return [[round(v, 7) for v in to_degrees.transform(x, y)] for x, y in corners]
