"""From a city's unlabelled tiles to the statistics that its scenes are standardised by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.checkpoints import Checkpoint, CheckpointError, load_checkpoint
from models.encoders.pyramid import cells_with_data, tile_moments
from models.encoders.rise import SceneRise, bounded_level, scene_rise, spread_of, village_direction
from models.encoders.share import estimated_share
from models.encoders.statistics import SceneStatistics, TileMoments
from models.segmentation.predictor import KIND, segmenter_of
from models.segmentation.pyramid_model import PyramidSegmenter
from models.tiles.batches import normalised

BATCH_TILES = 4


class SceneAdapter:
    """Looks at tiles of a city once and keeps their features, in half precision, for the time of the stage.

    Attributes:
        tile_px: Side of a tile.
        source_share: Share of villages on the training ground.
    """

    def __init__(self, checkpoint: Checkpoint, model: PyramidSegmenter) -> None:
        self._checkpoint, self._model = checkpoint, model
        self.tile_px = checkpoint.config.tile_px
        self.source_share = float(model.source_share)
        self._features: list[Tensor] = []
        self._known: list[Tensor] = []

    @classmethod
    def load(cls, path: Path) -> SceneAdapter:
        """Read a checkpoint.

        Raises:
            CheckpointError: damaged, or of a model that does not adapt.
        """
        read = load_checkpoint(path, kind=KIND)
        model = segmenter_of(read)
        if not isinstance(model, PyramidSegmenter):
            raise CheckpointError(f"{path} holds a model that does not adapt to scenes: map with --no-adapt")
        return cls(read, model)

    @property
    def cells_per_tile(self) -> int:
        """Cells of the grid on one tile."""
        return int((self.tile_px // self._model.pyramid.grid_stride_px) ** 2)

    @torch.inference_mode()
    def moments(
        self, tiles: Iterable[NDArray[np.uint8]], *, progress: Callable[[Iterable[Any]], Iterable[Any]] = iter
    ) -> TileMoments:
        """Moments of the features of tiles uint8 (3, T, T), 0 where there is no data; the features are kept."""
        config, width = self._checkpoint.config, self._model.pyramid.width
        parts = [TileMoments(np.zeros(0), np.zeros((0, width)), np.zeros((0, width)))]
        for part in progress(_batches(tiles)):
            images = torch.from_numpy(np.stack(part))
            missing = BATCH_TILES - len(part)  # batches of one size: what a tile gives does not depend on the others
            filled = torch.cat([images, images.new_zeros((missing, *images.shape[1:]))])
            features = self._model.encoder.grid_features(normalised(filled, config.mean, config.std))[: len(part)]
            parts.append(tile_moments(features, images))
            self._features += list(features.half())
            self._known += list(cells_with_data(images, features.shape[-1]))
        return TileMoments.concat(parts)

    @torch.inference_mode()
    def village_shares(self, statistics: SceneStatistics, shares: NDArray[np.float32]) -> NDArray[np.float64]:
        """Estimated share of villages of each look (`models.encoders.share`).

        Args:
            statistics: Of S looks.
            shares: float32 (N, S), looks of the tiles that `moments` saw, in order.

        Returns:
            float64 (S,); the training's share for a look that no tile shows mostly.
        """
        scores: list[list[NDArray[np.float32]]] = [[] for _ in range(len(statistics))]
        mixed = statistics.mixed(shares)
        for k, (features, known) in enumerate(zip(self._features, self._known, strict=True)):
            mean, std = torch.from_numpy(mixed.mean[k : k + 1]), torch.from_numpy(mixed.std[k : k + 1])
            logits = self._model.cell_logits(features.float()[None], None, None, mean, std)
            probability = self._checkpoint.config.calibration.calibrated(logits).softmax(1)[0, 1]
            scores[int(shares[k].argmax())].append(probability[known].numpy())
        empty = np.zeros(0, np.float32)
        return np.array([estimated_share(np.concatenate([empty, *own]), self.source_share) for own in scores])

    def bounded(self, statistics: SceneStatistics) -> SceneStatistics:
        """The statistics with deviations that stretch no feature too far (`models.encoders.rise.spread_of`)."""
        return replace(statistics, std=spread_of(statistics.std, self._model.encoder.source_std.numpy()))

    def rises(self, statistics: SceneStatistics) -> list[SceneRise]:
        """How far standardising by each scene raises its mean log-odds over the training's statistics."""
        encoder = self._model.encoder
        weight = self._model.classifier.weight.detach()[:, :, 0, 0].numpy()
        direction = village_direction(weight, self._checkpoint.config.calibration.temperature)
        source = (encoder.source_mean.numpy(), encoder.source_std.numpy())
        return [scene_rise(mean, *source, direction) for mean in statistics.mean]

    def levelled(self, statistics: SceneStatistics, shares: NDArray[np.float64]) -> SceneStatistics:
        """The statistics with the lower of two levels: that of estimated shares (S,), and that of the scenes' rises."""
        found = zip(shares, self.rises(statistics), strict=True)
        level = [bounded_level(float(share), self.source_share, rise) for share, rise in found]
        return replace(statistics, level=np.array(level, np.float32))


def _batches(tiles: Iterable[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    part: list[NDArray[np.uint8]] = []
    for tile in tiles:
        part.append(tile)
        if len(part) == BATCH_TILES:
            yield part
            part = []
    if part:
        yield part
