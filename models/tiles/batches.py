"""From sample sets to the tensors that a segmentation model takes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.geolink.config import GeoLinkConfig
from models.geolink.graph import TileGraphs
from models.geolink.packing import PackedGraphs, pack
from models.tiles.augmentation import AugmentationConfig, augment
from models.tiles.graphs import split_graphs
from models.tiles.samples import SampleSet

Batch = tuple[Tensor, Tensor, PackedGraphs | None]
"""Images uint8 (B, 3, T, T), labels uint8 (B, T, T), graphs or None where no tile of the batch has a node."""


@dataclass
class BatchMaker:
    """Puts batches together, augmented or not; what a batch is depends only on its indices and the ``rng``.

    Attributes:
        samples: The tiles.
        encoder: Configuration of the encoder, for its node limit.
        augmentation: How to vary; None gives the samples as they are.
    """

    samples: SampleSet
    encoder: GeoLinkConfig
    augmentation: AugmentationConfig | None = None
    _graphs: list[TileGraphs] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._graphs = split_graphs(self.samples.graphs)

    def __call__(self, index: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """The batch of the samples at ``index``."""
        images = [self.samples.images[k] for k in index]
        labels = [self.samples.labels[k] for k in index]
        graphs = [self._graphs[k] for k in index]
        if self.augmentation is not None:
            varied = [
                augment(*sample, config=self.augmentation, rng=rng)
                for sample in zip(images, labels, graphs, strict=True)
            ]
            images, labels, graphs = (list(part) for part in zip(*varied, strict=True))
        return (
            torch.from_numpy(np.stack(images)),
            torch.from_numpy(np.stack(labels)),
            packed_or_none(TileGraphs.concat(graphs), self.encoder),
        )


def packed_or_none(graphs: TileGraphs, encoder: GeoLinkConfig) -> PackedGraphs | None:
    """Pack for an encoder; None where no tile has a node: the image-only case."""
    if not any(len(tiles) for tiles in graphs.node_tile.values()):
        return None
    return pack(graphs, node_limit=encoder.node_limit, node_choice=encoder.node_choice)


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 (B, C, T, T) to float32, channels last, minus mean, over standard deviation (of the scale 0 to 1)."""
    scale = torch.tensor([255 * s for s in std], device=images.device).view(1, -1, 1, 1)
    shift = torch.tensor([255 * m for m in mean], device=images.device).view(1, -1, 1, 1)
    return ((images.float() - shift) / scale).contiguous(memory_format=torch.channels_last)
