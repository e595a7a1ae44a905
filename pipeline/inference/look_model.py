"""A model adapted to the looks of a city, as the engine asks it: tiles know where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from models.segmentation.predictor import SegmentationPredictor

Shares = Callable[[NDArray[np.int64], int], NDArray[np.float32]]


class LookModel:
    """A predictor adapted to several looks, told by a tile's place how much of each look it shows.

    Args:
        model: The predictor, with statistics of the looks.
        shares: From corners int64 (B, 2) and the side of tiles to float32 (B, looks).
        digest: Digest of what decides the shares.
    """

    needs_corners = True

    def __init__(self, model: SegmentationPredictor, shares: Shares, digest: str) -> None:
        self._model, self._shares = model, shares
        self.tile_px, self.bands, self.batch_size = model.tile_px, model.bands, model.batch_size
        self.uses_graphs, self.device = model.uses_graphs, model.device
        self.digest = digest

    def prepare(self, graphs: TileGraphs | None) -> Any:
        """As `SegmentationPredictor.prepare`."""
        return self._model.prepare(graphs)

    def predict(self, images: NDArray[np.uint8], graphs: Any, corners: NDArray[np.int64]) -> NDArray[np.float32]:
        """As `SegmentationPredictor.predict`, of tiles at ``corners``."""
        return self._model.predict(images, graphs, self._shares(corners[: len(images)], self.tile_px))

    def predict_tensor(self, images: Any, graphs: Any, corners: NDArray[np.int64]) -> Any:
        """As `SegmentationPredictor.predict_tensor`, of tiles at ``corners``."""
        return self._model.predict_tensor(images, graphs, self._shares(corners[: len(images)], self.tile_px))
