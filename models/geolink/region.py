"""One embedding of a tile's map: Set2Set per node type, then the types together."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.geolink.config import GeoLinkConfig
from models.geolink.group_softmax import group_softmax
from models.geolink.osm_encoder import N_TYPES, TypedLinear
from models.geolink.packing import PackedGraphs

STEPS = 5
"""Rounds of Set2Set, as published."""


class MapReadout(nn.Module):
    """Read out each node type with its own Set2Set (Vinyals et al. 2016, arXiv 1511.06391), then add the types.

    The three recurrent cells run side by side as one batched product; parameters are those of PyG's ``Set2Set``.
    """

    def __init__(self, config: GeoLinkConfig) -> None:
        super().__init__()
        width = config.osm_width
        self.weight_ih = nn.Parameter(torch.empty(N_TYPES, 4 * width, 2 * width))
        self.weight_hh = nn.Parameter(torch.empty(N_TYPES, 4 * width, width))
        self.bias_ih = nn.Parameter(torch.empty(N_TYPES, 4 * width))
        self.bias_hh = nn.Parameter(torch.empty(N_TYPES, 4 * width))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(width), 1 / math.sqrt(width))
        self.aggregate = TypedLinear(2 * width, width)
        self.type_attention = nn.Linear(width, 1)
        self.project = nn.Linear(width, config.contrastive_width)
        self.type_weights = config.type_weights
        for linear in (self.type_attention, self.project):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, nodes: Tensor, graphs: PackedGraphs) -> Tensor:
        """Embed the map of each tile.

        Args:
            nodes: Float (N, osm width).
            graphs: Where the nodes belong.

        Returns:
            Float (B, contrastive width); for a tile without nodes the projection of zeros.
        """
        by_type = self.by_type(nodes, graphs)
        present = self._present(graphs)
        if self.type_weights == "softmax":
            logit = self.type_attention(by_type).squeeze(-1).float().masked_fill(~present, -1e30)
            weight = logit.softmax(-1).to(by_type.dtype) * present
        else:
            weight = present.to(by_type.dtype)
        out: Tensor = self.project((by_type * weight.unsqueeze(-1)).sum(1))
        return out

    def by_type(self, nodes: Tensor, graphs: PackedGraphs) -> Tensor:
        """Embeddings (B, 3, osm width) of the nodes of each type; of no meaning where a type is absent."""
        n_groups = (graphs.n_tiles + 1) * N_TYPES  # padding has a tile of its own, the last
        group = graphs.node_type * (graphs.n_tiles + 1) + graphs.node_tile
        x = nodes.float()
        width = x.shape[1]
        hidden = cell = x.new_zeros(N_TYPES, graphs.n_tiles + 1, width)
        star = x.new_zeros(N_TYPES, graphs.n_tiles + 1, 2 * width)
        bias = (self.bias_ih + self.bias_hh).unsqueeze(1)
        for _ in range(STEPS):
            gates = star @ self.weight_ih.transpose(1, 2) + hidden @ self.weight_hh.transpose(1, 2) + bias
            entry, forget, candidate, out = gates.float().chunk(4, dim=-1)
            cell = forget.sigmoid() * cell + entry.sigmoid() * candidate.tanh()
            hidden = out.sigmoid() * cell.tanh()
            query = hidden.reshape(n_groups, width)
            weight = group_softmax((x * query[group]).sum(-1), group, n_groups)
            read = x.new_zeros(n_groups, width).index_add(0, group, weight.unsqueeze(-1) * x)
            star = torch.cat([hidden, read.view_as(hidden)], dim=-1)
        kind = torch.arange(N_TYPES, device=x.device).repeat_interleave(graphs.n_tiles + 1)
        joined: Tensor = self.aggregate(star.flatten(0, 1), kind)
        return joined.view(N_TYPES, graphs.n_tiles + 1, -1)[:, :-1].transpose(0, 1)

    @staticmethod
    def _present(graphs: PackedGraphs) -> Tensor:
        """Whether each tile has nodes of each type, bool (B, 3)."""
        place = graphs.node_tile * N_TYPES + graphs.node_type
        count = graphs.point_weight.new_zeros((graphs.n_tiles + 1) * N_TYPES)
        count = count.index_add(0, place, graphs.node_valid.to(count.dtype))
        return (count > 0).view(-1, N_TYPES)[:-1]
