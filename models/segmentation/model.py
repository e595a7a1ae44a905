"""The segmentation models: GeoLink's encoder with a light UPerNet decoder, or a pyramid with a linear classifier."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor, nn

from models.geolink.config import GeoLinkConfig
from models.geolink.encoder import GeoLinkEncoder
from models.geolink.packing import PackedGraphs
from models.segmentation.config import SegmentationConfig
from models.segmentation.decoder import LightUPerNet
from models.segmentation.pyramid_model import PyramidSegmenter

Segmenter: TypeAlias = "GeoLinkSegmenter | PyramidSegmenter"


class GeoLinkSegmenter(nn.Module):
    """A class for every pixel from an image and what the map says.

    Args:
        config: Sizes.
    """

    def __init__(self, config: SegmentationConfig) -> None:
        super().__init__()
        if not isinstance(config.encoder, GeoLinkConfig):
            raise TypeError(f"a GeoLink segmenter needs a GeoLinkConfig, not {type(config.encoder).__name__}")
        self.config = config
        self.encoder = GeoLinkEncoder(config.encoder)
        self.decoder = LightUPerNet(
            self.encoder.feature_channels,
            channels=config.decoder_channels,
            classes=config.classes,
            dropout=config.dropout,
            detail_channels=config.detail_channels,
            detail_blocks=config.detail_blocks,
        )

    def forward(self, images: Tensor, graphs: PackedGraphs | None, semantics: Tensor | None) -> Tensor:
        """Segment tiles.

        Args:
            images: float32 (B, 3, T, T), normalised.
            graphs: What the map shows of the tiles, or None for the image alone.
            semantics: float32 (S, width), embeddings of the tag sets that ``graphs`` points to.

        Returns:
            Logits (B, classes, T, T).
        """
        maps = self.encoder(images, graphs, semantics)
        logits: Tensor = self.decoder(maps, images)
        return logits


def build_segmenter(config: SegmentationConfig) -> Segmenter:
    """The model of a configuration, with weights drawn at random (a pyramid's backbone too: load its weights)."""
    if isinstance(config.encoder, GeoLinkConfig):
        return GeoLinkSegmenter(config)
    return PyramidSegmenter(config)
