"""The image transformer: patches and blocks as timm has them, fixed positions, dense or over visible patches only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.geolink.config import GeoLinkConfig
from models.geolink.positions import grid_encoding
from models.geolink.vit_block import Block, PatchEmbed


def patchify(images: Tensor, patch_px: int) -> Tensor:
    """Cut images (B, C, H, W) into patches (B, P, patch_px * patch_px * C), row by row; y, x, band within one."""
    b, c, h, w = images.shape
    p = patch_px
    cut = images.reshape(b, c, h // p, p, w // p, p)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(b, (h // p) * (w // p), p * p * c)


def select_patches(tokens: Tensor, keep: Tensor) -> Tensor:
    """The tokens (B, P, D) at places ``keep`` int64 (B, V): (B, V, D)."""
    return tokens.gather(1, keep.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


class PatchStem(nn.Module):
    """One linear map per patch."""

    def __init__(self, config: GeoLinkConfig) -> None:
        super().__init__()
        self.embed = PatchEmbed(config.patch_px, config.in_channels, config.width)
        nn.init.xavier_uniform_(self.embed.proj.weight.view(config.width, -1))
        if self.embed.proj.bias is not None:
            nn.init.zeros_(self.embed.proj.bias)

    def forward(self, images: Tensor, keep: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Tokens (B, P or V, width) of images (B, C, H, W), and no fine maps."""
        tokens = self.embed(images)
        return (tokens if keep is None else select_patches(tokens, keep)), []


class CellMixer(nn.Module):
    """Residual perceptron of each cell."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Float (..., width) to the same shape."""
        out: Tensor = x + self.narrow(nn.functional.gelu(self.widen(self.norm(x))))
        return out


class CellStem(nn.Module):
    """Embed a patch in three steps that never look across its edge; steps one and two are fine maps."""

    def __init__(self, config: GeoLinkConfig) -> None:
        super().__init__()
        first, second = config.stem_widths
        self.patch_px = config.patch_px
        cell = config.patch_px // 4
        self.steps = nn.ModuleList(
            [
                nn.Linear(cell * cell * config.in_channels, first),
                nn.Linear(4 * first, second),
                nn.Linear(4 * second, config.width),
            ]
        )
        self.mixers = nn.ModuleList([CellMixer(first), CellMixer(second)])

    def forward(self, images: Tensor, keep: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Tokens (B, P or V, width), and the fine maps at strides patch / 4 and patch / 2 where nothing is left out."""
        patches = patchify(images, self.patch_px)
        if keep is not None:
            patches = select_patches(patches, keep)
        b, n, _ = patches.shape
        x = patches.view(b, n, self.patch_px, self.patch_px, -1)
        fine = []
        for step, mixer, factor in zip(self.steps, [*self.mixers, None], (self.patch_px // 4, 2, 2), strict=True):
            side = x.shape[2] // factor
            x = x.view(b, n, side, factor, side, factor, -1).transpose(3, 4).flatten(4)
            x = step(x)
            if mixer is not None:
                x = mixer(x)
                fine.append(x)
        rows = images.shape[2] // self.patch_px
        maps = [] if keep is not None else [_to_map(f, rows) for f in fine]
        return x.flatten(1, 3), maps


def _to_map(cells: Tensor, rows: int) -> Tensor:
    """Cells (B, P, s, s, C) of patches in rows to a map (B, C, rows * s, columns * s)."""
    b, n, s, _, c = cells.shape
    return cells.view(b, rows, n // rows, s, s, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, rows * s, -1)


class ImageEncoder(nn.Module):
    """Class token, fixed positions, transformer blocks and last norm."""

    img_pos_embed: Tensor

    def __init__(self, config: GeoLinkConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = CellStem(config) if config.stem == "cells" else PatchStem(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        nn.init.normal_(self.cls_token, std=0.02)
        places = grid_encoding(config.grid, config.grid, config.width, centre=config.patch_centre)
        self.register_buffer("img_pos_embed", places)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio, eps=config.norm_eps) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.last_norm_eps)

    def forward(self, images: Tensor, keep: Tensor | None = None) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Encode images.

        Args:
            images: Float (B, C, H, W), normalised; H and W multiples of the patch.
            keep: int64 (B, V), the patches to encode; None encodes all of them.

        Returns:
            The stem's fine maps; raw tokens (B, 1 + P, width) of the output layers but the last; the last block's
            tokens after the norm (B, 1 + P, width). The class token comes first.
        """
        x, fine = self.stem(images, keep)
        places = self.places(images)
        patch_places = places[:, 1:]
        if keep is not None:
            patch_places = select_patches(patch_places.expand(len(images), -1, -1), keep)
        first = (self.cls_token + places[:, :1]).to(x.dtype).expand(len(images), -1, -1)
        x = torch.cat([first, x + patch_places.to(x.dtype)], dim=1)
        kept = []
        for k, block in enumerate(self.blocks):
            x = block(x)
            if k in self.config.output_layers[:-1]:
                kept.append(x)
        return fine, kept, self.norm(x)

    def places(self, images: Tensor) -> Tensor:
        """The encoded places of an image's patches, float32 (1, 1 + P, width)."""
        side = self.config.image_px
        if images.shape[2:] == (side, side):
            return self.img_pos_embed
        rows, columns = (s // self.config.patch_px for s in images.shape[2:])
        centre = self.config.patch_centre
        return grid_encoding(rows, columns, self.config.width, centre=centre).to(self.img_pos_embed)
