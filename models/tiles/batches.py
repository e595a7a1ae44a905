"""From sample sets to the tensors that a segmentation model takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoders.config import PyramidConfig
from models.geolink.config import GeoLinkConfig
from models.geolink.graph import TileGraphs
from models.geolink.packing import PackedGraphs, pack
from models.tiles.augmentation import AugmentationConfig, augment
from models.tiles.sharded import Samples


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Labelled tiles as a model takes them.

    Attributes:
        images: uint8 (B, 3, T, T); of two dates (B, 2, 3, T, T).
        labels: uint8 (B, T, T) of pixels, or int64 (B,) of whole tiles.
        graphs: What the map shows; None where no tile of the batch has a node.
        place: int64 (B,): place of each tile, a row of `SampleSet.places`.
    """

    images: Tensor
    labels: Tensor
    graphs: PackedGraphs | None
    place: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        return Batch(
            images=self.images.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            graphs=None if self.graphs is None else self.graphs.to(device, non_blocking=non_blocking),
            place=self.place.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, for copies that overlap with work."""
        return Batch(
            images=self.images.pin_memory(),
            labels=self.labels.pin_memory(),
            graphs=None if self.graphs is None else self.graphs.pin_memory(),
            place=self.place.pin_memory(),
        )


@dataclass
class BatchMaker:
    """Puts batches together, augmented or not; what a batch is depends only on its indices and the ``rng``.

    Attributes:
        samples: The tiles, in memory or on disk.
        encoder: Configuration of the encoder, for its node limit.
        augmentation: How to vary; None gives the samples as they are.
    """

    samples: Samples
    encoder: GeoLinkConfig | PyramidConfig
    augmentation: AugmentationConfig | None = None

    def __call__(self, index: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """The batch of the samples at ``index``."""
        tiles = [self.samples.tile(int(k)) for k in index]
        if self.augmentation is not None:
            tiles = [augment(*tile, config=self.augmentation, rng=rng) for tile in tiles]
        images, labels, graphs = zip(*tiles, strict=True)
        return Batch(
            images=torch.from_numpy(np.stack(images)),
            labels=torch.from_numpy(np.stack(labels)),
            graphs=packed_or_none(TileGraphs.concat(graphs), self.encoder),
            place=torch.from_numpy(self.samples.place[index].astype(np.int64)),
        )


def packed_or_none(
    graphs: TileGraphs, encoder: GeoLinkConfig | PyramidConfig, *, few_shapes: bool = False
) -> PackedGraphs | None:
    """Pack for an encoder; None where no tile has a node: the image-only case."""
    if not any(len(tiles) for tiles in graphs.node_tile.values()):
        return None
    return pack(graphs, node_limit=encoder.node_limit, node_choice=encoder.node_choice, few_shapes=few_shapes)


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 (B, C, T, T) to float32, channels last, minus mean, over standard deviation (of the scale 0 to 1)."""
    return Normaliser(mean, std, images.device)(images)


class Normaliser:
    """`normalised` for many batches: mean and standard deviation wait on the device, none is copied per batch."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        self._shift = torch.tensor([255 * m for m in mean], device=device).view(1, -1, 1, 1)
        self._scale = torch.tensor([255 * s for s in std], device=device).view(1, -1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, C, T, T) on the device to float32, channels last."""
        return ((images.float() - self._shift) / self._scale).contiguous(memory_format=torch.channels_last)
