"""What inference asks of a model and of its sources."""

from __future__ import annotations

import threading
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from regions.raster.grid import Grid, Window


class TileModel(Protocol):
    """A model that scores batches of tiles. A tile's answer depends on that tile alone.

    ``prepare(graphs)``, where a model has it, is called ahead of time in another thread, and what it gives is handed
    to `predict` in place of the graphs. Three more attributes are looked at where a model has them: ``outputs`` (int, 1
    where absent): values per pixel, the second being a disagreement; ``device`` (its text is part of every block's key,
    as a card may round otherwise than a CPU); ``needs_corners`` (bool): `predict` then takes a third argument, the row
    and column of each tile's upper left pixel on the grid, int64 (B, 2).
    """

    @property
    def tile_px(self) -> int:
        """Side of a tile."""

    @property
    def bands(self) -> int:
        """Bands of imagery that it takes."""

    @property
    def batch_size(self) -> int:
        """Tiles per call, always: the last batch is padded."""

    @property
    def digest(self) -> str:
        """Digest of weights, configuration and code that shape the answers."""

    @property
    def uses_graphs(self) -> bool:
        """Whether it looks at tile graphs at all."""

    def predict(self, images: NDArray[np.uint8], graphs: TileGraphs | None) -> NDArray[np.float32]:
        """Score one batch.

        Args:
            images: uint8 (B, bands, T, T), 0 where there is no data.
            graphs: The tile graphs of the batch, empty for padding; None where there is no vector source.

        Returns:
            float32 (B, T, T) probability in [0, 1], or (B, outputs, T, T) where ``outputs`` > 1.
        """


@runtime_checkable
class TensorTileModel(TileModel, Protocol):
    """A model that can leave its answers on its device, where they are then blended."""

    @property
    def device(self) -> Any:
        """A `torch.device`."""

    def predict_tensor(self, images: Any, graphs: TileGraphs | None) -> Any:
        """As `predict`, from a uint8 tensor in (pinned) host memory to a float32 tensor on the device."""


class GraphSource(Protocol):
    """Where the graphs of tiles come from."""

    @property
    def tag_sets(self) -> list[dict[str, str]]:
        """The tag sets that semantic ids point to."""

    def tile_graphs(self, bounds_m: NDArray[np.float64]) -> TileGraphs:
        """The graphs of tiles given by (B, 4) left, bottom, right, top in metres of the grid's CRS."""

    def digest(self, bounds_m: NDArray[np.float64]) -> str:
        """Digest of all that shapes those graphs."""


class OneAtATime:
    """A graph source that is asked by one thread at a time: sources need not be thread-safe."""

    def __init__(self, source: GraphSource) -> None:
        self._source, self._lock = source, threading.Lock()

    @property
    def tag_sets(self) -> list[dict[str, str]]:
        """The tag sets that semantic ids point to."""
        return self._source.tag_sets

    def tile_graphs(self, bounds_m: NDArray[np.float64]) -> TileGraphs:
        """The graphs of tiles."""
        with self._lock:
            return self._source.tile_graphs(bounds_m)

    def digest(self, bounds_m: NDArray[np.float64]) -> str:
        """Digest of all that shapes those graphs."""
        with self._lock:
            return self._source.digest(bounds_m)


class Imagery(Protocol):
    """Imagery on a grid (`pipeline.imagery.ImageSource` is one)."""

    @property
    def grid(self) -> Grid:
        """The grid that windows refer to."""

    @property
    def bands(self) -> int:
        """Bands per pixel."""

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Pixels uint8 (bands, H, W), 0 where invalid, and valid bool (H, W); from any thread."""

    def digest(self, window: Window) -> str:
        """Digest of what `read` gives."""

    def stamp(self, window: Window) -> str:
        """Cheap digest of what is stored: equal stamps mean equal content."""

    def may_have_data(self, window: Window) -> bool:
        """Whether a pixel may be valid, judged without decoding; False is certain."""


def count_outputs(model: TileModel) -> int:
    """Values per pixel that a model gives."""
    return int(getattr(model, "outputs", 1))


def describe_model(model: TileModel) -> dict[str, Any]:
    """What of a model belongs in a block's key."""
    return {
        "digest": model.digest,
        "batch_size": model.batch_size,
        "outputs": count_outputs(model),
        "device": str(getattr(model, "device", "")),
    }
