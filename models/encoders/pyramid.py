"""A timm backbone as image encoder: its levels on one grid, standardised by the scene, joined with the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.config import PyramidConfig, map_config
from models.encoders.statistics import TileMoments
from models.encoders.weights import BackboneWeightsError, WeightsRecord, load_backbone
from models.geolink.encoder import EncoderInputError
from models.geolink.fusion import MapFusion
from models.geolink.osm_encoder import OsmEncoder
from models.geolink.packing import PackedGraphs
from models.geolink.positions import grid_encoding

VIT_LEVELS = 4
"""A transformer has one map per block: the last ones of its four quarters are used."""


def make_backbone(name: str) -> Any:
    """A backbone of timm without its classifier and without weights.

    Raises:
        BackboneWeightsError: timm does not know the name, or cannot give the maps of its levels.
    """
    import timm  # noqa: PLC0415 - seconds of imports that models without a backbone do not pay

    try:
        options = {"dynamic_img_size": True} if name.startswith(("vit_", "deit", "eva")) else {}
        made = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except RuntimeError as error:
        near = ", ".join(timm.list_models(f"*{name.split('_', maxsplit=1)[0][:8]}*")[:8])
        raise BackboneWeightsError(f"timm knows no backbone '{name}'; near it: {near or 'none'}") from error
    if not hasattr(made, "forward_intermediates") or not getattr(made, "feature_info", None):
        raise BackboneWeightsError(f"timm's '{name}' gives no maps of its levels: choose another backbone")
    return made


def _levels(backbone: Any) -> list[int]:
    """Which maps of a backbone are used: strides from 4 px on, or the ends of four quarters of a transformer."""
    info = list(backbone.feature_info)
    strides = [int(i["reduction"]) for i in info]
    if len(set(strides)) == 1:
        step = max(1, len(info) // VIT_LEVELS)
        return list(range(step - 1, len(info), step))[-VIT_LEVELS:]
    return [k for k, stride in enumerate(strides) if stride >= 4]


def pyramid_config(name: str, *, semantic_width: int = 512, frozen: bool = True) -> PyramidConfig:
    """The configuration of a backbone, its channels and strides as timm states them.

    Args:
        name: timm's name.
        semantic_width: Width of a tag set's embedding.
        frozen: Keep its weights as they are.

    Raises:
        BackboneWeightsError: timm does not know it.
    """
    backbone = make_backbone(name)
    info = list(backbone.feature_info)
    chosen = _levels(backbone)
    channels = tuple(int(info[k]["num_chs"]) for k in chosen)
    strides = tuple(int(info[k]["reduction"]) for k in chosen)
    return PyramidConfig(
        name=name,
        channels=channels,
        strides_px=strides,
        grid_stride_px=min(strides, key=lambda s: (abs(s - 16), s)),
        tile_multiple_px=max(strides),
        frozen=frozen,
        map=map_config(sum(channels), semantic_width=semantic_width),
    )


class PyramidEncoder(nn.Module):
    """Features of a backbone on one grid, and what the map adds to them.

    A tile's answer depends on that tile alone, given the statistics it is standardised by; a tile without map objects
    gets exactly the image's own features and a fusion of zero.
    """

    fusion_places: Tensor
    source_mean: Tensor
    source_std: Tensor

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = make_backbone(config.name)
        self._chosen = _levels(self.backbone)
        self.osm = OsmEncoder(config.map)
        self.fusion = MapFusion(config.map)
        self.register_buffer("source_mean", torch.zeros(config.width))
        self.register_buffer("source_std", torch.ones(config.width))
        if config.frozen:
            self.backbone.requires_grad_(requires_grad=False)

    def load_weights(self, weights: str | Path) -> WeightsRecord:
        """Fill the backbone from a package (``imagenet``) or a file.

        Raises:
            BackboneWeightsError: they are missing or of another backbone.
        """
        return load_backbone(self.backbone, self.config.name, weights)

    def train(self, mode: bool = True) -> PyramidEncoder:
        """As ever, but batch norms of the backbone always use the averages that came with the weights."""
        super().train(mode)
        self.backbone.eval()
        return self

    def grid_features(self, images: Tensor) -> Tensor:
        """All levels on the common grid, not standardised.

        Args:
            images: Float (B, 3, H, W), normalised; H and W multiples of ``config.patch_px``.

        Returns:
            Float (B, C, H / stride, W / stride).

        Raises:
            EncoderInputError: sides that are no multiple.
        """
        multiple, stride = self.config.tile_multiple_px, self.config.grid_stride_px
        if images.dim() != 4 or images.shape[2] % multiple or images.shape[3] % multiple:
            raise EncoderInputError(
                f"images have shape {tuple(images.shape)}, '{self.config.name}' needs (tiles, 3, height, width) with "
                f"height and width multiples of {multiple} px"
            )
        size = (images.shape[2] // stride, images.shape[3] // stride)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            maps = self.backbone.forward_intermediates(images, indices=self._chosen, intermediates_only=True)
        return torch.cat([_on_grid(m, size) for m in maps], dim=1)

    def standardised(self, features: Tensor, mean: Tensor | None, std: Tensor | None) -> Tensor:
        """Features (B, C, h, w) by statistics (B, C) or (C,) of their scene; None takes those of the training."""
        mean = self.source_mean if mean is None else mean
        std = self.source_std if std is None else std
        shape = (-1, self.config.width, 1, 1)
        return (features - mean.view(shape)) / std.view(shape)

    def map_effect(self, cells: Tensor, graphs: PackedGraphs | None, semantics: Tensor | None) -> Tensor | None:
        """What the map adds: fused cells less the same cells without a map.

        Args:
            cells: Float (B, C, h, w), standardised.
            graphs: The tiles' graphs, or None.
            semantics: float32 (S, semantic width), the table that ``graphs`` points to.

        Returns:
            Float (B, fusion width, h, w), exactly 0 on tiles without nodes; None where no tile has one.

        Raises:
            EncoderInputError: graphs of another number of tiles, or a table of another width.
        """
        if graphs is None or not graphs.has_nodes:
            return None
        width = self.config.map.semantic_width
        if graphs.n_tiles != len(cells) or semantics is None or semantics.shape[1] != width:
            shape = None if semantics is None else tuple(semantics.shape)
            raise EncoderInputError(
                f"{len(cells)} images come with graphs of {graphs.n_tiles} tiles and a table of shape {shape}: give "
                f"one graph per image, and vectors of width {width}"
            )
        rows, columns = cells.shape[2:]
        places = grid_encoding(rows, columns, self.config.map.fusion_width, centre=True)[:, 1:].to(cells)
        tokens = cells.flatten(2).transpose(1, 2)
        nodes = self.osm(semantics[graphs.semantic_rows], graphs.node_row, graphs)
        fused, _ = self.fusion(tokens, places, nodes, graphs, grid=(rows, columns))
        alone, _ = self.fusion(tokens, places, None, None, grid=(rows, columns))
        effect: Tensor = (fused - alone).transpose(1, 2).reshape(len(cells), -1, rows, columns)
        return effect


@torch.inference_mode()
def tile_moments(features: Tensor, images: Tensor) -> TileMoments:
    """Moments of each tile's features over the cells that hold data throughout.

    Args:
        features: Float (B, C, h, w), as `PyramidEncoder.grid_features` gives them.
        images: uint8 (B, 3, H, W), 0 in all bands where there is no data.
    """
    cells = cells_with_data(images, features.shape[-1])
    values = features.double()
    weight = cells[:, None].double()
    total = (values * weight).sum((2, 3)).cpu().numpy()
    square = (values * values * weight).sum((2, 3)).cpu().numpy()
    return TileMoments(np.asarray(cells.sum((1, 2)).cpu().numpy(), np.float64), total, square)


def cells_with_data(images: Tensor, columns: int) -> Tensor:
    """Cells whose pixels all hold data: bool (B, h, w) of images uint8 (B, 3, H, W) on a grid of ``columns``."""
    empty = (images == 0).all(1).float()
    side = images.shape[-1] // columns
    return functional.max_pool2d(empty[:, None], side)[:, 0] == 0


def _on_grid(level: Tensor, size: tuple[int, int]) -> Tensor:
    if level.shape[2:] == size:
        return level
    if level.shape[-1] > size[-1]:
        return functional.adaptive_avg_pool2d(level, size)
    return functional.interpolate(level, size=size, mode="bilinear", align_corners=False)
