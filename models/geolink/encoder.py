"""GeoLink's encoder: an image and what the map says of it to feature maps, the last one fused with the map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.errors import ModelsError
from models.geolink.config import GeoLinkConfig
from models.geolink.fusion import MapFusion
from models.geolink.graph import TileGraphs
from models.geolink.image_encoder import ImageEncoder
from models.geolink.osm_encoder import OsmEncoder
from models.geolink.packing import PackedGraphs, pack
from models.geolink.positions import grid_encoding


class EncoderInputError(ModelsError):
    """An image, graph or semantic table that does not fit the encoder, or each other."""


class GeoLinkEncoder(nn.Module):
    """Image encoder, graph network over map objects, and the two-way attention between them.

    The answer for a tile depends on that tile alone (unless the configuration says otherwise): batch-mates change
    no bit of it on the CPU in float32, and a tile without map objects gives exactly the image-only answer.
    """

    fusion_img_pos_embed: Tensor

    def __init__(self, config: GeoLinkConfig) -> None:
        super().__init__()
        self.config = config
        self.image = ImageEncoder(config)
        self.osm = OsmEncoder(config)
        self.fusion = MapFusion(config)
        places = grid_encoding(config.grid, config.grid, config.fusion_width, centre=config.patch_centre)
        self.register_buffer("fusion_img_pos_embed", places)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of the maps that `forward` returns."""
        return self.config.feature_channels

    @property
    def feature_strides_px(self) -> tuple[int, ...]:
        """Pixels per cell of the maps that `forward` returns."""
        return self.config.feature_strides_px

    def pack(self, graphs: TileGraphs, **options: Any) -> PackedGraphs:
        """`models.geolink.packing.pack` with this model's node limit, onto this model's device."""
        limits = {"node_limit": self.config.node_limit, "node_choice": self.config.node_choice}
        return pack(graphs, **{"device": self.fusion_img_pos_embed.device, **limits, **options})

    def forward(self, images: Tensor, graphs: PackedGraphs | None, semantics: Tensor | None) -> list[Tensor]:
        """Encode tiles.

        Args:
            images: Float (B, C, H, W), normalised; H and W multiples of the patch.
            graphs: The tiles' graphs, or None for the image alone.
            semantics: float32 (S, semantic width), the embeddings of tag sets that ``graphs`` points to; may be
                None where ``graphs`` is.

        Returns:
            Feature maps (B, C_i, h_i, w_i), channels and strides as `feature_channels` and `feature_strides_px`;
            the last is fused with the map.

        Raises:
            EncoderInputError: shapes that do not fit.
        """
        grid = self._checked_grid(images)
        fine, kept, last = self.image(images)
        nodes = self.encode_nodes(graphs, semantics, n_tiles=len(images))
        fused, _ = self.fusion(
            last[:, 1:],
            self.fusion_places(images),
            nodes,
            graphs if nodes is not None else None,
            grid=grid,
        )
        return [*fine, *(_to_map(x[:, 1:], grid) for x in kept), _to_map(fused, grid)]

    def encode_nodes(self, graphs: PackedGraphs | None, semantics: Tensor | None, *, n_tiles: int) -> Tensor | None:
        """Embed the map objects: float (N, osm width) after the norm, or None where there are none.

        Raises:
            EncoderInputError: the graphs fit neither the images nor the table, or the configuration refuses
                tiles without nodes.
        """
        if graphs is None:
            return None
        rows = self.semantic_rows(graphs, semantics, n_tiles=n_tiles)
        out: Tensor | None = self.osm(rows, graphs.node_row, graphs) if graphs.has_nodes else None
        return out

    def semantic_rows(self, graphs: PackedGraphs, semantics: Tensor | None, *, n_tiles: int) -> Tensor:
        """The rows of the semantic table that a batch uses, float (U, semantic width).

        Raises:
            EncoderInputError: see `encode_nodes`.
        """
        # a compiled graph would be made again for every count that is looked at
        if not torch.compiler.is_compiling():
            self._check_graphs(graphs, semantics, n_tiles=n_tiles)
        if semantics is None or not graphs.has_nodes:
            return self.fusion_img_pos_embed.new_zeros(len(graphs.semantic_rows), self.config.semantic_width)
        return semantics[graphs.semantic_rows]

    def fusion_places(self, images: Tensor) -> Tensor:
        """The encoded places of patches in fusion, float32 (1, P, fusion width)."""
        side = self.config.image_px
        if images.shape[2:] == (side, side):
            return self.fusion_img_pos_embed[:, 1:]
        rows, columns = self._checked_grid(images)
        places = grid_encoding(rows, columns, self.config.fusion_width, centre=self.config.patch_centre)
        return places[:, 1:].to(self.fusion_img_pos_embed)

    def _checked_grid(self, images: Tensor) -> tuple[int, int]:
        patch, bands = self.config.patch_px, self.config.in_channels
        if images.dim() != 4 or images.shape[1] != bands or images.shape[2] % patch or images.shape[3] % patch:
            raise EncoderInputError(
                f"images have shape {tuple(images.shape)}, the model needs (tiles, {bands}, height, width) with "
                f"height and width multiples of {patch} px"
            )
        return images.shape[2] // patch, images.shape[3] // patch

    def _check_graphs(self, graphs: PackedGraphs, semantics: Tensor | None, *, n_tiles: int) -> None:
        if graphs.n_tiles != n_tiles:
            raise EncoderInputError(
                f"{n_tiles} images come with graphs of {graphs.n_tiles} tiles: give one graph per image"
            )
        if graphs.any_blank and self.config.blank_tiles == "error":
            raise EncoderInputError(
                "a tile has no map objects and the configuration says blank_tiles='error', as the released code "
                "behaves: set blank_tiles='image_only'"
            )
        if not graphs.has_nodes:
            return
        width = self.config.semantic_width
        shape = None if semantics is None else tuple(semantics.shape)
        if shape is None or len(shape) != 2 or shape[1] != width:
            raise EncoderInputError(
                f"the semantic table has shape {shape}, the model needs (tag sets, {width}): "
                f"embed the tags with the encoder the model was trained with"
            )
        if graphs.max_semantic_id >= shape[0]:
            raise EncoderInputError(
                f"graphs point to tag set {graphs.max_semantic_id}, the semantic table has {shape[0]} rows: "
                f"give the table of the same city graph"
            )


def _to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (B, rows * columns, C) to a map (B, C, rows, columns)."""
    b, _, c = tokens.shape
    return tokens.transpose(1, 2).reshape(b, c, *grid)
