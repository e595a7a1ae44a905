"""Features of labelled tiles, made once: what the classifier of a frozen pyramid learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.checkpoints import CheckpointConfig
from models.encoders.pyramid import cells_with_data, tile_moments
from models.encoders.statistics import TileMoments
from models.segmentation.pyramid_model import PyramidSegmenter
from models.tiles.batches import normalised
from models.tiles.samples import IGNORE
from models.tiles.sharded import Samples
from models.tiles.shards import SampleError

BATCH_TILES = 8
MAX_TILES = 4096
"""Tiles whose features are held, over all places: 0.8 GB at 496 channels and tiles of 224 px."""
LEAST_KNOWN = 0.5
"""Least share of a cell's pixels that must be labelled."""


@dataclass(frozen=True)
class PlaceFeatures:
    """What is known of one place.

    Attributes:
        name: The place.
        features: float16 (N, C, h, w), not standardised.
        labels: float32 (N, classes, h, w): share of each class among the labelled pixels of a cell.
        known: bool (N, h, w): cells that are labelled and hold data.
        moments: Moments of the N tiles.
        share: float64 (N,): share of the second class on each tile.
        tiles: int64 (N,): the tiles, rows of the samples.
        weight: Part of the cells of a training step that come from here, relative to the other places.
    """

    name: str
    features: Tensor
    labels: Tensor
    known: Tensor
    moments: TileMoments
    share: NDArray[np.float64]
    tiles: NDArray[np.int64]
    weight: float = 1.0


def place_features(
    samples: Samples,
    model: PyramidSegmenter,
    checkpoint: CheckpointConfig,
    *,
    seed: int,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[PlaceFeatures]:
    """Features of all tiles, or of as many of each place as memory allows, chosen by ``seed``.

    Args:
        samples: Labelled tiles.
        model: Its encoder makes the features.
        checkpoint: Says how images are normalised, and the classes.
        seed: Chooses the tiles where there are too many.
        progress: Wraps the batches.

    Raises:
        SampleError: no place has a labelled cell.
    """
    found = []
    names = [k for k in range(len(samples.places)) if (samples.place == k).any()]
    work = []
    for k in names:
        tiles = np.flatnonzero(samples.place == k)
        most = max(1, MAX_TILES // len(names))
        if len(tiles) > most:
            tiles = np.sort(np.random.default_rng([seed, k]).choice(tiles, most, replace=False))
        work.append((k, tiles))
    batches = [(k, part) for k, tiles in work for part in np.array_split(tiles, -(-len(tiles) // BATCH_TILES))]
    parts: dict[int, list[tuple[Tensor, Tensor, Tensor, TileMoments]]] = {k: [] for k in names}
    for k, tiles in progress(batches):
        parts[k].append(_batch(samples, tiles, model, checkpoint))
    for k, tiles in work:
        features, labels, known = (torch.cat([p[i] for p in parts[k]]) for i in range(3))  # type: ignore[misc]
        moments = TileMoments.concat([p[3] for p in parts[k]])
        weight = known.double()
        share = (labels[:, 1].double() * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1)
        if known.any() and moments.count.sum() > 0:
            found.append(PlaceFeatures(samples.places[k], features, labels, known, moments, share.numpy(), tiles))
    if not found:
        raise SampleError("no tile has a labelled cell with imagery: check that labels and imagery overlap")
    return found


@torch.inference_mode()
def _batch(
    samples: Samples, tiles: NDArray[np.int64], model: PyramidSegmenter, checkpoint: CheckpointConfig
) -> tuple[Tensor, Tensor, Tensor, TileMoments]:
    read = [samples.tile(int(t)) for t in tiles]
    images = torch.from_numpy(np.stack([image for image, _, _ in read]))
    labels = torch.from_numpy(np.stack([label for _, label, _ in read]))
    features = model.encoder.grid_features(normalised(images, checkpoint.mean, checkpoint.std))
    side = images.shape[-1] // features.shape[-1]
    hot = torch.stack([(labels == c).float() for c in range(len(checkpoint.classes))], dim=1)
    share = functional.avg_pool2d(hot, side)
    labelled = functional.avg_pool2d((labels != IGNORE).float()[:, None], side)[:, 0]
    known = (labelled >= LEAST_KNOWN) & cells_with_data(images, features.shape[-1])
    return features.half(), share / labelled.clamp(min=1e-6)[:, None], known, tile_moments(features, images)
