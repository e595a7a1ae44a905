"""The segmentation model on a pyramid: a linear classifier of each cell, and what the map adds to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.config import PyramidConfig
from models.encoders.pyramid import PyramidEncoder
from models.geolink.packing import PackedGraphs
from models.segmentation.config import SegmentationConfig


class PyramidSegmenter(nn.Module):
    """A class for every cell of a pyramid's grid, from its features and what the map adds.

    The classifier is linear in the standardised features: few labelled neighbourhoods do not carry more. The map adds
    a linear function of its effect on fusion, which is exactly zero where there is no map.

    Args:
        config: Sizes; its encoder is a `PyramidConfig`.
    """

    source_share: Tensor

    def __init__(self, config: SegmentationConfig) -> None:
        super().__init__()
        if not isinstance(config.encoder, PyramidConfig):
            raise TypeError(f"a pyramid segmenter needs a PyramidConfig, not {type(config.encoder).__name__}")
        self.config = config
        self.pyramid = config.encoder
        self.encoder = PyramidEncoder(config.encoder)
        self.classifier = nn.Conv2d(config.encoder.width, config.classes, 1)
        self.map_classifier = nn.Conv2d(config.encoder.map.fusion_width, config.classes, 1, bias=False)
        nn.init.zeros_(self.classifier.weight)
        if self.classifier.bias is not None:
            nn.init.zeros_(self.classifier.bias)
        nn.init.zeros_(self.map_classifier.weight)
        self.register_buffer("source_share", torch.tensor(0.5))

    def forward(
        self,
        images: Tensor,
        graphs: PackedGraphs | None,
        semantics: Tensor | None,
        mean: Tensor | None = None,
        std: Tensor | None = None,
    ) -> Tensor:
        """Segment tiles.

        Args:
            images: float32 (B, 3, T, T), normalised.
            graphs: What the map shows of the tiles, or None for the image alone.
            semantics: float32 (S, width), embeddings of the tag sets that ``graphs`` points to.
            mean: float32 (B, C) or (C,), mean features of the tiles' scenes; None takes those of the training.
            std: Their standard deviations; None exactly where ``mean`` is.

        Returns:
            Logits (B, classes, T, T).
        """
        logits = self.cell_logits(self.encoder.grid_features(images), graphs, semantics, mean, std)
        return functional.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)

    def cell_logits(
        self,
        features: Tensor,
        graphs: PackedGraphs | None,
        semantics: Tensor | None,
        mean: Tensor | None,
        std: Tensor | None,
    ) -> Tensor:
        """Logits (B, classes, h, w) of grid features (B, C, h, w)."""
        cells = self.encoder.standardised(features, mean, std)
        logits = self.image_logits(cells)
        added = self.map_logits(cells, graphs, semantics)
        return logits if added is None else logits + added

    def image_logits(self, cells: Tensor) -> Tensor:
        """Logits (B, classes, h, w) of standardised cells (B, C, h, w) alone, smoothed."""
        logits: Tensor = self.classifier(cells)
        return smoothed(logits, self.config.smooth_cells)

    def map_logits(self, cells: Tensor, graphs: PackedGraphs | None, semantics: Tensor | None) -> Tensor | None:
        """What the map adds to them, exactly 0 on tiles without nodes; None where no tile has one.

        It is not smoothed: a map knows where things end.
        """
        effect = self.encoder.map_effect(cells, graphs, semantics)
        return None if effect is None else self.map_classifier(effect)


def smoothed(cells: Tensor, sigma: float) -> Tensor:
    """Gaussian over the last two axes of (B, C, h, w), mirrored at the edges of the tile.

    Args:
        cells: Values on the grid.
        sigma: Standard deviation in cells; 0 changes nothing.
    """
    if sigma <= 0:
        return cells
    channels, rows, columns = cells.shape[1:]
    radius = min(int(4 * sigma + 0.5), rows - 1, columns - 1)
    offset = torch.arange(-radius, radius + 1, dtype=torch.float32, device=cells.device)
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(cells.dtype).expand(channels, 1, 1, -1)
    padded = functional.pad(cells, (radius, radius, radius, radius), mode="reflect")
    across = functional.conv2d(padded, kernel, groups=channels)
    return functional.conv2d(across, kernel.transpose(2, 3), groups=channels)
