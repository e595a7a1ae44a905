"""What a convolutional (or other timm) pyramid is: its backbone, its grid, and how the map joins it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.geolink.config import GeoLinkConfig


class PyramidConfig(BaseModel):
    """A backbone of timm whose feature maps of all levels are brought to one grid.

    Attributes:
        family: Tells the configuration from GeoLink's.
        name: timm's name of the backbone.
        channels: Channels of the levels that are used, shallow to deep; `pyramid_config` fills them in.
        strides_px: Pixels per cell of those levels.
        grid_stride_px: Pixels per cell of the common grid: finer levels are averaged, coarser ones interpolated.
        tile_multiple_px: Tiles have sides of a multiple of this.
        frozen: The backbone keeps the weights that it came with.
        map: The graph network and the fusion of the map with the cells of the grid; its ``width`` is the number of
            channels of the grid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["pyramid"] = "pyramid"
    name: str
    channels: tuple[int, ...]
    strides_px: tuple[int, ...]
    grid_stride_px: int = Field(16, gt=0)
    tile_multiple_px: int = Field(32, gt=0)
    frozen: bool = True
    map: GeoLinkConfig

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.channels) != len(self.strides_px) or not self.channels:
            raise ValueError(f"channels {self.channels} and strides_px {self.strides_px}: give one of each per level")
        if self.map.width != self.width:
            raise ValueError(f"map.width is {self.map.width}, the levels have {self.width} channels together")
        return self

    @property
    def width(self) -> int:
        """Channels of the grid: those of all levels."""
        return sum(self.channels)

    @property
    def patch_px(self) -> int:
        """Tiles have sides of a multiple of this."""
        return self.tile_multiple_px

    @property
    def semantic_width(self) -> int:
        """Width of a tag set's embedding."""
        return self.map.semantic_width

    @property
    def node_limit(self) -> int | None:
        """Most nodes of a tile that take part in fusion."""
        return self.map.node_limit

    @property
    def node_choice(self) -> Literal["largest", "random"]:
        """Which nodes stay under the limit."""
        return self.map.node_choice


def map_config(width: int, *, semantic_width: int = 512) -> GeoLinkConfig:
    """The small graph network and fusion that join a pyramid of ``width`` channels."""
    return GeoLinkConfig(
        width=width,
        heads=1,
        depth=1,
        output_layers=(0,),
        semantic_width=semantic_width,
        osm_width=64,
        fusion_width=64,
        fusion_heads=4,
        decoder_width=64,
        decoder_heads=4,
        contrastive_width=64,
    )
