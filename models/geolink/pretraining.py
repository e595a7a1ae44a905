"""Pretraining of GeoLink: hide patches and nodes, then restore pixels, match image and map, restore meanings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from models.geolink.config import GeoLinkConfig
from models.geolink.encoder import GeoLinkEncoder
from models.geolink.image_encoder import select_patches
from models.geolink.losses import TEMPERATURE, consistency_loss, contrastive_loss, reconstruction_loss
from models.geolink.masking import PretrainingMasks
from models.geolink.osm_encoder import N_TYPES
from models.geolink.packing import PackedGraphs
from models.geolink.positions import grid_encoding
from models.geolink.region import MapReadout
from models.geolink.vit_block import Block


@dataclass(frozen=True)
class LossWeights:
    """``reconstruction * L_rec + contrastive * L_cont + consistency * L_cst``; defaults as published."""

    reconstruction: float = 1.0
    contrastive: float = 0.01
    consistency: float = 0.01
    temperature: float = TEMPERATURE


@dataclass(frozen=True)
class PretrainingLosses:
    """Scalars float32; ``total`` is the weighted sum."""

    total: Tensor
    reconstruction: Tensor
    contrastive: Tensor
    consistency: Tensor


class PixelDecoder(nn.Module):
    """Visible tokens and mask tokens through a shallow transformer to the pixels of every patch."""

    rec_img_pos_embed: Tensor

    def __init__(self, config: GeoLinkConfig) -> None:
        super().__init__()
        width = config.decoder_width
        self.project = nn.Linear(config.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.mask_token, std=0.02)
        places = grid_encoding(config.grid, config.grid, width, centre=config.patch_centre)
        self.register_buffer("rec_img_pos_embed", places)
        self.blocks = nn.ModuleList(
            Block(width, config.decoder_heads, config.decoder_mlp_ratio, eps=config.last_norm_eps)
            for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(width, eps=config.last_norm_eps)
        self.predict = nn.Linear(width, config.patch_px**2 * config.in_channels)
        for linear in (self.project, self.predict):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, tokens: Tensor, restore: Tensor) -> Tensor:
        """Predict all patches.

        Args:
            tokens: Float (B, 1 + V, image width): class token and visible patches, after the encoder's norm.
            restore: int64 (B, P): where in (visible, then hidden) each patch stands.

        Returns:
            Float (B, P, patch_px * patch_px * C); y, x, band within a patch.
        """
        x = self.project(tokens)
        hidden = restore.shape[1] - (x.shape[1] - 1)
        masks = self.mask_token.to(x.dtype).expand(len(x), hidden, -1)
        patches = select_patches(torch.cat([x[:, 1:], masks], dim=1), restore)
        x = torch.cat([x[:, :1], patches], dim=1) + self.rec_img_pos_embed.to(x.dtype)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.predict(self.norm(x))[:, 1:]
        return out


class GeoLinkPretraining(nn.Module):
    """The encoder with all that pretraining adds; keep ``encoder`` and drop the rest afterwards."""

    def __init__(self, config: GeoLinkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = GeoLinkEncoder(config)
        self.decoder = PixelDecoder(config)
        self.readout = MapReadout(config)
        self.image_projection = nn.Linear(config.width, config.contrastive_width)
        self.osm_mask_token = nn.Parameter(torch.empty(N_TYPES, config.semantic_width))
        self.node_prediction = nn.Linear(config.fusion_width, config.semantic_width)
        nn.init.normal_(self.osm_mask_token, std=0.02)
        for linear in (self.image_projection, self.node_prediction):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def reconstruct(self, images: Tensor, keep: Tensor, restore: Tensor) -> tuple[Tensor, Tensor]:
        """Encode visible patches and predict all.

        Args:
            images: Float (B, C, H, W), normalised.
            keep: int64 (B, V), visible patches.
            restore: int64 (B, P), see `PixelDecoder.forward`.

        Returns:
            Encoded tokens (B, 1 + V, width) and predicted pixels (B, P, pixels of a patch).
        """
        _, _, tokens = self.encoder.image(images, keep)
        return tokens, self.decoder(tokens, restore)

    def forward(
        self,
        images: Tensor,
        graphs: PackedGraphs | None,
        semantics: Tensor | None,
        masks: PretrainingMasks,
        *,
        weights: LossWeights | None = None,
    ) -> PretrainingLosses:
        """The losses of a batch; tiles without map objects count for the pixels alone.

        Args:
            images: Float (B, C, H, W), normalised; the side the configuration names.
            graphs: The tiles' graphs, or None.
            semantics: float32 (S, semantic width), or None where ``graphs`` is.
            masks: What to hide, from `models.geolink.masking.draw_masks`.
            weights: Of the three losses; published ones where None.

        Raises:
            EncoderInputError: shapes that do not fit.
        """
        weights = weights or LossWeights()
        tokens, pixels = self.reconstruct(images, masks.keep, masks.restore)
        restored = reconstruction_loss(pixels, images, masks.hidden, patch_px=self.config.patch_px)
        image = self.image_projection(tokens[:, 1:].mean(1))
        if graphs is None or not graphs.has_nodes or masks.nodes is None:
            # no map at all: still take part in the gather of other ranks' negatives
            blank = torch.zeros(len(images), dtype=torch.bool, device=images.device)
            matched = contrastive_loss(image, torch.zeros_like(image), temperature=weights.temperature, paired=blank)
            meant = restored.new_zeros(())
        else:
            rows = self.encoder.semantic_rows(graphs, semantics, n_tiles=len(images))
            nodes = self._masked_nodes(graphs, rows, masks.nodes)
            present = torch.zeros(graphs.n_tiles + 1, dtype=torch.bool, device=images.device)
            present = present.index_fill(0, graphs.node_tile, value=True)[:-1]
            matched = contrastive_loss(
                image, self.readout(nodes, graphs), temperature=weights.temperature, paired=present
            )
            meant = self._consistency(images, tokens, graphs, masks, nodes=nodes, rows=rows)
        total = weights.reconstruction * restored + weights.contrastive * matched + weights.consistency * meant
        return PretrainingLosses(total, restored, matched, meant)

    def _masked_nodes(self, graphs: PackedGraphs, rows: Tensor, masked: Tensor) -> Tensor:
        """Node embeddings where masked nodes show their type's mask token."""
        tokens = self.osm_mask_token.to(rows.dtype)
        row = torch.where(masked, len(rows) + graphs.node_type, graphs.node_row)
        out: Tensor = self.encoder.osm(torch.cat([rows, tokens]), row, graphs)
        return out

    def _consistency(
        self,
        images: Tensor,
        tokens: Tensor,
        graphs: PackedGraphs,
        masks: PretrainingMasks,
        *,
        nodes: Tensor,
        rows: Tensor,
    ) -> Tensor:
        counted = cast(Tensor, masks.predicted)[graphs.chunk_node] & graphs.chunk_valid
        if self.config.pretraining_fusion == "masked":
            seen = tokens.new_zeros(graphs.n_tiles)
            seen = seen.index_add(0, graphs.chunk_tile, counted.any(1).to(seen.dtype)) > 0
            graphs = replace(graphs, chunk_valid=counted, tile_has_nodes=seen)
        places = self.encoder.fusion_places(images).expand(len(images), -1, -1)
        grid = (images.shape[2] // self.config.patch_px, images.shape[3] // self.config.patch_px)
        _, blocks = self.encoder.fusion(tokens[:, 1:], select_patches(places, masks.keep), nodes, graphs, grid=grid)
        target = rows[graphs.node_row][graphs.chunk_node]
        return consistency_loss(self.node_prediction(cast(Tensor, blocks)), target, counted)
