"""Paired augmentation of pretraining: crop, turn, colour, with image and graph in step."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.geolink.graph import TileGraphs
from models.tiles.augmentation import AugmentationConfig, jittered
from models.tiles.crops import Crop, cropped_graph
from models.tiles.symmetries import symmetric_array, symmetric_graphs


@dataclass(frozen=True, kw_only=True)
class PairAugmentation:
    """How pairs are varied; the shares and strengths are those published, where not said otherwise.

    Attributes:
        area: Least and most of the tile's area that a crop takes.
        aspect: Least and most width over height of a crop. (The released code adds its two bounds up and gets 1.5
            to 2.25 height over width, always taller than wide; this is the range that it names.)
        symmetries: All eight symmetries of the square (the released code mirrors left-right only).
        colour_share: Share of tiles whose colours are varied.
        colour: Strengths of brightness, contrast and saturation, relative to the scale 0 to 1.
    """

    area: tuple[float, float] = (0.4, 0.9)
    aspect: tuple[float, float] = (0.75, 1.5)
    symmetries: bool = True
    colour_share: float = 0.5
    colour: float = 0.4


def draw_crop(config: PairAugmentation, rng: np.random.Generator) -> Crop:
    """A random crop of the configured area and aspect that lies within the tile."""
    area, aspect = rng.uniform(*config.area), rng.uniform(*config.aspect)
    width, height = min(1.0, sqrt(area * aspect)), min(1.0, sqrt(area / aspect))
    return Crop(left=rng.uniform(0, 1 - width), top=rng.uniform(0, 1 - height), width=width, height=height)


def cropped_image(image: NDArray[np.uint8], crop: Crop, side_px: int) -> tuple[NDArray[np.uint8], Crop]:
    """Cut and resize an image.

    Args:
        image: uint8 (3, T, T).
        crop: What to cut; it is moved to whole pixels.
        side_px: Side of the result.

    Returns:
        uint8 (3, side_px, side_px) and the crop as made, on whole pixels: use that one for the graph.
    """
    side = image.shape[-1]
    x0, y0 = round(crop.left * side), round(crop.top * side)
    w, h = max(1, round(crop.width * side)), max(1, round(crop.height * side))
    x0, y0 = min(x0, side - w), min(y0, side - h)
    cut = torch.from_numpy(image[:, y0 : y0 + h, x0 : x0 + w].astype(np.float32))[None]
    if cut.shape[-2:] != (side_px, side_px):
        cut = functional.interpolate(cut, size=(side_px, side_px), mode="bilinear", align_corners=False, antialias=True)
    made = Crop(left=x0 / side, top=y0 / side, width=w / side, height=h / side)
    return cut[0].round().clamp(0, 255).to(torch.uint8).numpy(), made


def augment_pair(
    image: NDArray[np.uint8],
    graph: TileGraphs,
    *,
    side_px: int,
    config: PairAugmentation,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], TileGraphs]:
    """Vary one pair; the same ``rng`` state gives the same result.

    Args:
        image: uint8 (3, T, T).
        graph: Graph of that tile.
        side_px: Side of the result.
        config: What to vary, and how much.
        rng: Source of chance.

    Returns:
        uint8 (3, side_px, side_px) and the graph of that part.
    """
    cut, crop = cropped_image(image, draw_crop(config, rng), side_px)
    seen = cropped_graph(graph, crop)
    if config.symmetries:
        symmetry = int(rng.integers(8))
        cut, seen = symmetric_array(cut, symmetry), symmetric_graphs(seen, symmetry)
    if rng.uniform() < config.colour_share:
        strength = AugmentationConfig(
            brightness=config.colour / 2, contrast=config.colour, saturation=config.colour, noise=0.0
        )
        cut = jittered(cut, strength, rng)
    return np.ascontiguousarray(cut), seen
