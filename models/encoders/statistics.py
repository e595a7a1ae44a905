"""Statistics of scenes: what a model's features look like on one scene, without labels.

Another season, sensor or haze shifts and stretches features. A model that standardises its features by the statistics
of the scene it looks at, as by those of each training scene in training, does not see the shift (the idea of adaptive
batch normalisation, Li et al. 2017, Revisiting Batch Normalization For Practical Domain Adaptation).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelsError

LEAST_STD = 1e-4
"""Channels that do not vary on a scene are not blown up."""


class SceneStatisticsError(ModelsError):
    """Statistics that are damaged, or of another model."""


@dataclass(frozen=True)
class TileMoments:
    """Sums over the cells of tiles, in double precision.

    Attributes:
        count: float64 (N,): cells with data in each tile.
        total: float64 (N, C): sum of the features over them.
        square: float64 (N, C): sum of the squared features.
    """

    count: NDArray[np.float64]
    total: NDArray[np.float64]
    square: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.count)

    def at(self, tiles: NDArray[np.int64] | NDArray[np.bool_]) -> TileMoments:
        """Those of some tiles."""
        return TileMoments(self.count[tiles], self.total[tiles], self.square[tiles])

    @classmethod
    def concat(cls, parts: Sequence[TileMoments]) -> TileMoments:
        """Those of all parts, in order."""
        return cls(
            np.concatenate([p.count for p in parts]),
            np.concatenate([p.total for p in parts]),
            np.concatenate([p.square for p in parts]),
        )

    def pooled(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation over all cells of all tiles: float32 (C,) each.

        Raises:
            SceneStatisticsError: no cell has data.
        """
        n = self.count.sum()
        if n <= 0:
            raise SceneStatisticsError("no cell of the sampled tiles has data: sample tiles that hold imagery")
        mean = self.total.sum(0) / n
        variance = np.maximum(self.square.sum(0) / n - mean * mean, 0.0)
        return mean.astype(np.float32), np.maximum(np.sqrt(variance), LEAST_STD).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class SceneStatistics:
    """What a model standardises by on each scene of a city.

    Attributes:
        mean: float32 (S, C): means of the features.
        std: float32 (S, C): their standard deviations.
        level: float32 (S,): added to the log-odds of the village class; 0 or below (`models.encoders.share`).
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    level: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.level)

    @property
    def digest(self) -> str:
        """SHA-256 of the values."""
        content = hashlib.sha256(repr((self.mean.shape, self.std.shape)).encode())
        for values in (self.mean, self.std, self.level):
            content.update(np.ascontiguousarray(values, np.float32).tobytes())
        return content.hexdigest()

    def mixed(self, shares: NDArray[np.float32]) -> SceneStatistics:
        """Statistics of tiles that lie on several scenes: means of the scenes' by share of the tile.

        Two scenes then meet without a step: from tile to tile the statistics go over from one to the other.

        Args:
            shares: float32 (B, S), rows of sum 1.

        Returns:
            B rows, one per tile.
        """
        weight = np.asarray(shares, np.float32)
        rows = [(w[:, None] * self.mean).sum(0) for w in weight], [(w[:, None] * self.std).sum(0) for w in weight]
        width = self.mean.shape[1]
        return SceneStatistics(
            mean=np.array(rows[0], np.float32).reshape(-1, width),
            std=np.array(rows[1], np.float32).reshape(-1, width),
            level=(weight * self.level).sum(1).astype(np.float32),
        )

    def save(self, path: Path) -> None:
        """Write as ``.npz``; equal bytes for equal content."""
        with path.open("wb") as file:
            np.savez(file, mean=self.mean, std=self.std, level=self.level)

    @classmethod
    def load(cls, path: Path) -> SceneStatistics:
        """Read what `save` wrote.

        Raises:
            SceneStatisticsError: no such file, or another one.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                return cls(mean=held["mean"], std=held["std"], level=held["level"])
        except (OSError, ValueError, KeyError) as error:
            raise SceneStatisticsError(f"{path}: no scene statistics ({error}): run the stage adapt again") from error
