"""Two-way attention between the patches of a tile and the map objects on it, without padding tiles to the largest.

Nodes stand in blocks of fixed size, each block within one tile (`models.geolink.packing`). Every attention is a
batch of equal small products over (block, block) or (tile, block) pairs, followed, where a query has several key
blocks, by a merge of their partial softmaxes. What a tile gives therefore comes from products of fixed shape over
its own blocks, added in its own order: the answer cannot depend on its batch-mates.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.geolink.config import GeoLinkConfig
from models.geolink.osm_encoder import TypedLinear
from models.geolink.packing import MAX_POINTS, PackedGraphs
from models.geolink.positions import encode_points


class BlockAttention(nn.Module):
    """Multi-head attention between blocks of tokens; parameters named and shaped as ``nn.MultiheadAttention``."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three (blocks, tokens, width) to (blocks, heads, tokens, width / heads)."""
        parts = zip((query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        q, k, v = (self._heads(functional.linear(x, w, b)) for x, w, b in parts)
        return q, k, v

    def _heads(self, x: Tensor) -> Tensor:
        blocks, tokens, width = x.shape
        return x.view(blocks, tokens, self.heads, width // self.heads).transpose(1, 2)

    def joined(self, out: Tensor) -> Tensor:
        """(blocks, heads, tokens, width / heads) through the output map: (blocks, tokens, width)."""
        joined: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return joined

    def over_whole(self, query: Tensor, key: Tensor, value: Tensor, key_block: Tensor) -> Tensor:
        """Each query block attends to one whole key block.

        Args:
            query: Float (K, c, width).
            key: Float (B, P, width).
            value: Float (B, P, width).
            key_block: int64 (K,), the key block of each query block.
        """
        q, k, v = self.project(query, key, value)
        dropout = self.dropout if self.training else 0.0
        out = functional.scaled_dot_product_attention(q, k[key_block], v[key_block], dropout_p=dropout)
        return self.joined(out)

    def over_pairs(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        query_block: Tensor,
        key_block: Tensor,
        key_valid: Tensor,
    ) -> Tensor:
        """Query blocks attend to all key blocks they are paired with; nothing valid to attend to gives zeros.

        Args:
            query: Float (Q, n, width).
            key: Float (K, c, width).
            value: Float (K, c, width).
            query_block: int64 (R,), query block of each pair; pairs of a block are added in this order.
            key_block: int64 (R,), key block of each pair.
            key_valid: bool (K, c).

        Returns:
            Float (Q, n, width) before the output map.
        """
        q, k, v = self.project(query, key, value)
        score = (q[query_block] * (q.shape[-1] ** -0.5)) @ k[key_block].transpose(-1, -2)  # (R, heads, n, c)
        valid = key_valid[key_block][:, None, None, :]
        score = score.float().masked_fill(~valid, -torch.inf)
        top = score.detach().amax(-1)  # (R, heads, n)
        floor = top.new_full((len(query), *top.shape[1:]), -1e30)
        top = floor.scatter_reduce(0, query_block[:, None, None].expand_as(top), top, "amax")
        weight = (score - top[query_block].unsqueeze(-1)).exp()
        total = weight.new_zeros(floor.shape).index_add(0, query_block, weight.sum(-1))
        if self.training and self.dropout:
            weight = functional.dropout(weight, self.dropout)
        part = (weight.to(v.dtype) @ v[key_block]).float()
        summed = part.new_zeros(*floor.shape, part.shape[-1]).index_add(0, query_block, part)
        out: Tensor = (summed / total.clamp(min=1e-30).unsqueeze(-1)).to(query.dtype)
        return out


class TwoWayBlock(nn.Module):
    """Nodes attend to each other, patches to nodes, nodes to patches; post-norm, names as published."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = BlockAttention(width, heads, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = BlockAttention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = BlockAttention(width, heads, dropout)
        self.norm3 = nn.LayerNorm(width)
        self.mlp = nn.Linear(width, width)
        self.norm4 = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.mlp.weight)
        nn.init.zeros_(self.mlp.bias)

    def without_nodes(self, patches: Tensor) -> Tensor:
        """What `forward` gives for the patches of a tile without nodes."""
        out: Tensor = self.norm2(patches)
        return out

    def forward(
        self, patches: Tensor, patch_places: Tensor, nodes: Tensor, node_places: Tensor, graphs: PackedGraphs
    ) -> tuple[Tensor, Tensor]:
        """Exchange between patches (B, P, width) and node blocks (K, c, width); places are added to query and key.

        Returns:
            The fused patches (B, P, width) and the updated node blocks (K, c, width).
        """
        placed = nodes + node_places
        mixed = self.self_attn.over_pairs(
            placed,
            placed,
            nodes,
            query_block=graphs.pair_query,
            key_block=graphs.pair_key,
            key_valid=graphs.chunk_valid,
        )
        nodes = self.norm1(nodes + self.self_attn.joined(mixed))

        first = self.cross_attn_token_to_image
        seen = first.joined(
            first.over_pairs(
                patches + patch_places,
                nodes + node_places,
                nodes,
                query_block=graphs.chunk_tile,
                key_block=torch.arange(len(nodes), device=nodes.device),
                key_valid=graphs.chunk_valid,
            )
        )
        # a tile without nodes adds exactly nothing, not the output map's bias
        seen = torch.where(graphs.tile_has_nodes[:, None, None], seen, torch.zeros_like(seen))
        patches = self.norm2(patches + seen)

        second = self.cross_attn_image_to_token
        looked = second.over_whole(nodes + node_places, patches + patch_places, patches, graphs.chunk_tile)
        nodes = self.norm3(nodes + looked)
        return patches, self.norm4(self.mlp(nodes))


class MapFusion(nn.Module):
    """Project patches and nodes to one width and let them attend to each other."""

    def __init__(self, config: GeoLinkConfig) -> None:
        super().__init__()
        width = config.fusion_width
        self.image = nn.Linear(config.width, width)
        nn.init.xavier_uniform_(self.image.weight)
        nn.init.zeros_(self.image.bias)
        self.nodes = TypedLinear(config.osm_width, width)
        self.blocks = nn.ModuleList(
            TwoWayBlock(width, config.fusion_heads, config.fusion_dropout) for _ in range(config.fusion_blocks)
        )

    def forward(
        self,
        patches: Tensor,
        places: Tensor,
        nodes: Tensor | None,
        graphs: PackedGraphs | None,
        *,
        grid: tuple[int, int],
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse a batch.

        Args:
            patches: Float (B, P, image width), after the image encoder's last norm.
            places: float32 (1 or B, P, width), the encoded places of the patches.
            nodes: Float (N, osm width) or None for the image alone.
            graphs: The nodes' blocks, None exactly where ``nodes`` is.
            grid: Rows and columns of patches in a tile, the unit of node places.

        Returns:
            Fused patches (B, P, width), and node blocks (K, c, width) or None.
        """
        x = self.image(patches)
        if nodes is None or graphs is None:
            for block in self._two_way_blocks():
                x = block.without_nodes(x)
            return x, None
        blocks = self.nodes(nodes, graphs.node_type)[graphs.chunk_node]
        node_places = self.node_places(graphs, grid).to(x.dtype)[graphs.chunk_node]
        for block in self._two_way_blocks():
            x, blocks = block(x, places, blocks, node_places, graphs)
        return x, blocks

    def _two_way_blocks(self) -> list[TwoWayBlock]:
        return cast(list[TwoWayBlock], list(self.blocks))

    def node_places(self, graphs: PackedGraphs, grid: tuple[int, int]) -> Tensor:
        """The mean of the encodings of a node's points, float32 (N, width)."""
        rows, columns = grid
        patches = graphs.points.new_tensor([columns, rows])
        width = self.image.out_features
        encoded = encode_points((graphs.points * patches).view(-1, MAX_POINTS, 2), width)
        mean: Tensor = (encoded * graphs.point_weight.unsqueeze(-1)).sum(1)
        return mean
