"""Augmentation that keeps image, label and graph in step.

Symmetries of the square are applied to the pixels and, by the same rule, to node positions, orientations and edge
bearings; a change of scale to pixels, positions, sizes and distances. Colours change only the image. Dropping the map
of a tile teaches the model to do without.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from models.tiles.crops import draw_view, zoomed_graph, zoomed_pixels
from models.tiles.photometry import Photometry, recoloured
from models.tiles.samples import IGNORE
from models.tiles.symmetries import symmetric_array, symmetric_graphs


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How training tiles are varied.

    Attributes:
        symmetries: Flip and turn.
        scale: Least and most factor by which a tile is seen larger; (1, 1) leaves it.
        photometry: Strong changes of colour, which then take the place of the next five; None for the mild ones.
        brightness: Largest additive change, on the scale 0 to 1.
        contrast: Largest relative change of contrast.
        channel_gain: Largest relative change of a single band (haze and sensors differ by colour).
        saturation: Largest relative change of saturation.
        noise: Largest standard deviation of added noise, on the scale 0 to 1.
        drop_map: Share of tiles that see no map at all.
        drop_nodata: Share of tiles that get a corner without data.
    """

    symmetries: bool = True
    scale: tuple[float, float] = (1.0, 1.0)
    photometry: Photometry | None = None
    brightness: float = 0.1
    contrast: float = 0.25
    channel_gain: float = 0.08
    saturation: float = 0.3
    noise: float = 0.02
    drop_map: float = 0.4
    drop_nodata: float = 0.05


AUGMENTATIONS: dict[str, AugmentationConfig] = {
    "plain": AugmentationConfig(),
    "strong": AugmentationConfig(scale=(0.7, 1.45), photometry=Photometry()),
}
"""By name: ``plain`` for ground that looks like the training ground, ``strong`` for other seasons and sensors."""


def coloured(image: NDArray[np.uint8], config: AugmentationConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Vary the colours of one tile uint8 (3, T, T), strongly where the configuration has a photometry."""
    if config.photometry is None:
        return jittered(image, config, rng)
    return with_data_of(image, recoloured(image, config.photometry, rng))


def jittered(image: NDArray[np.uint8], config: AugmentationConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Vary the colours of one tile.

    Args:
        image: uint8 (3, T, T).
        config: Strengths.
        rng: Source of chance.

    Returns:
        uint8 (3, T, T); pixels that are 0 in all bands (no data) stay so, and no other becomes so. Contrast changes
        about the mean of the pixels with data.
    """
    valid = image.any(axis=0)
    x = image.astype(np.float32)
    gain = 1 + rng.uniform(-1, 1) * config.contrast + rng.uniform(-1, 1, 3) * config.channel_gain
    saturation = np.float32(1 + rng.uniform(-1, 1) * config.saturation)
    offset = np.float32(255 * rng.uniform(-1, 1) * config.brightness)
    centre = x[:, valid].mean(axis=1)[:, None, None] if valid.any() else np.zeros((3, 1, 1), np.float32)
    x = (x - centre) * gain.astype(np.float32)[:, None, None] + centre + offset
    grey = x.mean(axis=0, keepdims=True)
    x = grey + (x - grey) * saturation
    sigma = rng.uniform() * config.noise * 255
    if sigma > 0:
        x += rng.standard_normal(x.shape, np.float32) * np.float32(sigma)
    return with_data_of(image, np.clip(np.rint(x), 0, 255).astype(np.uint8))


def with_data_of(image: NDArray[np.uint8], changed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``changed`` with the no data of ``image``: 0 in all bands there and nowhere else; black ground becomes 1.

    Args:
        image: uint8 (3, T, T).
        changed: uint8 (3, T, T), the same tile in other colours.
    """
    valid = image.any(axis=0)
    black = valid & ~changed.any(axis=0)
    return np.where(valid, np.where(black, np.uint8(1), changed), np.uint8(0))


def without_corner(
    image: NDArray[np.uint8], label: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Blank one side of a slanted line, as at the edge of a scene: image 0, label ignored."""
    side = image.shape[-1]
    rows, cols = np.mgrid[0:side, 0:side] / side - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    gone = np.cos(angle) * cols + np.sin(angle) * rows > rng.uniform(0.1, 0.5)
    return np.where(gone, 0, image).astype(np.uint8), np.where(gone, IGNORE, label).astype(np.uint8)


def augment(
    image: NDArray[np.uint8],
    label: NDArray[np.uint8],
    graph: TileGraphs,
    *,
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], TileGraphs]:
    """Vary one sample; the same ``rng`` state gives the same result.

    Args:
        image: uint8 (3, T, T).
        label: uint8 (T, T).
        graph: Graph of this one tile.
        config: What to vary, and how much.
        rng: Source of chance.
    """
    if config.scale != (1.0, 1.0):
        view = draw_view(config.scale, rng)
        image, label = zoomed_pixels(image, label, view)
        graph = zoomed_graph(graph, view)
    if config.symmetries:
        symmetry = int(rng.integers(8))
        image, label = symmetric_array(image, symmetry), symmetric_array(label, symmetry)
        graph = symmetric_graphs(graph, symmetry)
    if rng.uniform() < config.drop_map:
        graph = TileGraphs.empty(1, rich=graph.is_rich)
    image = coloured(image, config, rng)
    if rng.uniform() < config.drop_nodata:
        image, label = without_corner(image, label, rng)
    return image, label, graph
