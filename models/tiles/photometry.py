"""Colours of other sensors, seasons, hazes and compressions: strong changes of a tile's pixels, by torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Photometry:
    """Strong changes of colour; shares are of tiles, amounts on the scale 0 to 1.

    Attributes:
        gain: Least and most factor on all bands, and again half as strong on each band by itself.
        bias: Largest amount added to or taken from each band by itself.
        contrast: Least and most factor on the distance from the mean of the pixels with data.
        saturation: Least and most factor on the distance from grey.
        grey: Share of tiles without any colour.
        gamma: Least and most exponent.
        haze: Share of tiles under haze, which covers up to 0.4 of what is seen by a bright, bluish veil.
        shadow: Share of tiles with a shadow across: half of the light or more stays, soft at its edge.
        blur: Share of tiles blurred by a Gaussian of 0.4 to 1.6 px.
        noise: Largest standard deviation of added noise.
        jpeg: Share of tiles compressed as JPEG at quality 35 to 90.
    """

    gain: Range = (0.7, 1.4)
    bias: float = 0.08
    contrast: Range = (0.6, 1.5)
    saturation: Range = (0.3, 1.7)
    grey: float = 0.1
    gamma: Range = (0.65, 1.5)
    haze: float = 0.25
    shadow: float = 0.25
    blur: float = 0.25
    noise: float = 0.03
    jpeg: float = 0.3


def recoloured(image: NDArray[np.uint8], config: Photometry, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change the colours of a tile strongly; the same ``rng`` state gives the same result.

    Args:
        image: uint8 (3, T, T), 0 in all bands where there is no data.
        config: What to change, and how much.
        rng: Source of chance.

    Returns:
        uint8 (3, T, T); what pixels without data become has no meaning.
    """
    # paid where tiles are varied, not by all who read batches
    from torchvision.transforms.v2 import functional as vision  # noqa: PLC0415

    valid = image.any(axis=0)
    x = torch.from_numpy(image.astype(np.float32) / 255)
    gain = _factor(config.gain, rng) * np.array([_factor(config.gain, rng) ** 0.5 for _ in range(3)])
    x = x * _per_band(gain) + _per_band(rng.uniform(-config.bias, config.bias, 3))
    # numpy's mean: torch's depends on the number of threads
    centre = x.numpy()[:, valid].mean(axis=1) if valid.any() else np.zeros(3)
    x = (x - _per_band(centre)) * _factor(config.contrast, rng) + _per_band(centre)
    saturation = 0.0 if rng.uniform() < config.grey else _factor(config.saturation, rng)
    x = vision.adjust_saturation(x.clamp(0, 1), saturation)
    x = vision.adjust_gamma(x, _factor(config.gamma, rng))
    if rng.uniform() < config.haze:
        veil = _per_band(rng.uniform(0.75, 0.95) + np.array([0.0, 0.02, 0.05]))
        thick = float(rng.uniform(0.05, 0.4))
        x = x * (1 - thick) + veil * thick
    if rng.uniform() < config.shadow:
        x = x * _shadow(image.shape[-1], rng)
    if rng.uniform() < config.blur:
        x = vision.gaussian_blur(x, [7, 7], [float(rng.uniform(0.4, 1.6))])
    sigma = np.float32(rng.uniform(0, config.noise))
    x = x + torch.from_numpy(rng.standard_normal(image.shape, np.float32) * sigma)
    pixels = (x * 255).round().clamp(0, 255).to(torch.uint8)
    found: NDArray[np.uint8] = pixels.numpy()
    return _compressed(found, int(rng.integers(35, 91))) if rng.uniform() < config.jpeg else found


def _compressed(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """What JPEG leaves of pixels uint8 (3, T, T)."""
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file)).transpose(2, 0, 1)


def _factor(limits: Range, rng: np.random.Generator) -> float:
    """A factor within limits, as likely below 1 as above where they are each other's inverse."""
    low, high = np.log(limits)
    return float(np.exp(rng.uniform(low, high)))


def _per_band(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))[:, None, None]


def _shadow(side: int, rng: np.random.Generator) -> Tensor:
    """Share of light that reaches each pixel (T, T): less within a slanted strip, soft over some pixels."""
    rows, cols = np.mgrid[0:side, 0:side] / side - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * cols + np.sin(angle) * rows
    start, width = rng.uniform(-0.6, 0.4), rng.uniform(0.1, 0.6)
    soft = rng.uniform(0.005, 0.05)
    inside = np.clip((along - start) / soft, 0, 1) * np.clip((start + width - along) / soft, 0, 1)
    return torch.from_numpy((1 - inside * rng.uniform(0.2, 0.5)).astype(np.float32))
