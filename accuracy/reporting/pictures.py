"""Small pictures for pages: images, scores and errors as data URIs, outlines as SVG paths."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image

from accuracy.comparison.error_kinds import (
    BOUNDARY_COMMITTED,
    BOUNDARY_OMITTED,
    FALSE,
    MISSED,
    RIGHT_OTHER,
    RIGHT_VILLAGE,
    UNJUDGED,
)
from regions.raster.scores import NOT_PREDICTED, SCORE_SCALE

PICTURE_PX = 288
"""Side of a picture at most."""
JPEG_QUALITY = 80
SCORE_LEVELS = 25
"""Steps of the score's colours: 0.04 each, so that pictures stay small."""
SCORE_RAMP = ((13, 8, 60), (92, 20, 120), (186, 54, 85), (241, 132, 60), (252, 245, 160))
"""Colours of scores 0, 0.25, 0.5, 0.75 and 1: dark to bright, also without colour vision."""
NOT_PREDICTED_COLOUR = (150, 150, 150)
ERROR_COLOURS: dict[int, tuple[int, int, int, int]] = {
    UNJUDGED: (90, 90, 90, 170),
    RIGHT_OTHER: (0, 0, 0, 0),
    RIGHT_VILLAGE: (0, 158, 115, 110),
    MISSED: (213, 60, 0, 215),
    FALSE: (60, 120, 240, 215),
    BOUNDARY_OMITTED: (245, 200, 40, 215),
    BOUNDARY_COMMITTED: (245, 200, 40, 215),
}
"""Colours with opacity of the codes of `accuracy.comparison.error_kinds`; the hues differ for the colour-blind too."""


def draw_image(pixels: NDArray[np.uint8]) -> str:
    """uint8 (3, H, W) as a JPEG of at most `PICTURE_PX` on a side."""
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return _uri(_shrunk(picture, Image.Resampling.BOX), "jpeg", quality=JPEG_QUALITY)


def draw_scores(scores: NDArray[np.uint8]) -> str:
    """uint8 (H, W) scores as a PNG: `SCORE_RAMP`, grey where not predicted."""
    level = np.round(scores.astype(float) * SCORE_LEVELS / SCORE_SCALE).astype(np.uint8)
    level[scores == NOT_PREDICTED] = SCORE_LEVELS + 1
    stops, shares = np.linspace(0, 1, len(SCORE_RAMP)), np.linspace(0, 1, SCORE_LEVELS + 1)
    ramp = np.stack([np.interp(shares, stops, channel) for channel in zip(*SCORE_RAMP, strict=True)], axis=1)
    return _indexed(level, np.vstack([ramp, NOT_PREDICTED_COLOUR]).round().astype(np.uint8))


def draw_errors(codes: NDArray[np.uint8]) -> str:
    """uint8 (H, W) codes of `classify_errors` as a PNG to lay over the image: `ERROR_COLOURS`."""
    colours = np.array([ERROR_COLOURS[code] for code in range(len(ERROR_COLOURS))], np.uint8)
    return _indexed(codes, colours)


def draw_outlines(shapes: NDArray[np.object_], bounds_m: tuple[float, float, float, float]) -> str:
    """The ``d`` of an SVG path: rings of polygons inside a square frame, which is 0 to `PICTURE_PX` on both axes.

    Args:
        shapes: Polygons, in the CRS of the frame.
        bounds_m: Frame (left, bottom, right, top); shapes are cut a little outside, so that its edge is no outline.
    """
    left, _, right, top = bounds_m
    scale = PICTURE_PX / (right - left)
    frame = shapely.buffer(shapely.box(*bounds_m), 8 / scale, join_style="mitre")
    near = shapes[shapely.intersects(shapes, frame)]
    cut = shapely.intersection(near, frame)
    rings = shapely.get_rings(shapely.get_parts(shapely.simplify(cut, 0.3 / scale)))
    path = []
    for ring in rings:
        points = (shapely.get_coordinates(ring)[:-1] - (left, top)) * (scale, -scale)
        path.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z")
    return "".join(path)


def _indexed(values: NDArray[np.uint8], colours: NDArray[np.uint8]) -> str:
    """A palette PNG of values, whose colours are uint8 (n, 3), or (n, 4) with opacity."""
    picture = Image.fromarray(np.ascontiguousarray(values), mode="P")
    picture.putpalette(colours[:, :3].ravel().tolist())
    options: dict[str, Any] = {"optimize": True}
    if colours.shape[1] == 4:
        options["transparency"] = bytes(colours[:, 3].tolist())
    return _uri(_shrunk(picture, Image.Resampling.NEAREST), "png", **options)


def _shrunk(picture: Image.Image, how: Image.Resampling) -> Image.Image:
    longest = max(picture.size)
    if longest <= PICTURE_PX:
        return picture
    width, height = (max(1, round(side * PICTURE_PX / longest)) for side in picture.size)
    return picture.resize((width, height), how)


def _uri(picture: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
