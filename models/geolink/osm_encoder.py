"""The graph network over map objects: flat over all tiles and types, without a loop over either."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.geolink.config import GeoLinkConfig
from models.geolink.graph import EDGE_TYPES, GEOMETRY_COLUMNS, NODE_TYPES
from models.geolink.group_softmax import group_softmax
from models.geolink.packing import EDGE_COLUMNS, PackedGraphs

N_TYPES = len(NODE_TYPES)
N_EDGE_TYPES = len(EDGE_TYPES)
LEAKY_SLOPE = 0.2


class TypedLinear(nn.Module):
    """One linear map per node type, as a single matrix product and a gather.

    Weights (types, out, in) and biases (types, out) start as ``nn.Linear`` published ones do: Xavier uniform, zero.
    """

    def __init__(self, in_width: int, out_width: int, *, types: int = N_TYPES, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(types, out_width, in_width))
        self.bias = nn.Parameter(torch.zeros(types, out_width)) if bias else None
        for one in self.weight:
            nn.init.xavier_uniform_(one)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        """``x`` float (N, in) mapped by the weights of ``kind`` int64 (N,): float (N, out)."""
        bias = None if self.bias is None else self.bias.flatten()
        every = functional.linear(x, self.weight.flatten(0, 1), bias)
        types, width = self.weight.shape[:2]
        return every.view(-1, width)[torch.arange(len(x), device=x.device) * types + kind]


class NodeNorm(nn.Module):
    """Normalise node embeddings over the node, the tile or the batch, with an affine map per node type.

    The ``tile`` and ``batch`` forms follow PyG's graph-mode ``LayerNorm`` without a batch vector, which the
    released code uses: ``(x - mean) / (std + eps)``, standard deviation without Bessel's correction, over all
    nodes of one type and all channels.
    """

    def __init__(self, width: int, over: Literal["node", "tile", "batch"], *, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(N_TYPES, width))
        self.bias = nn.Parameter(torch.zeros(N_TYPES, width))
        self.over = over
        self.eps = eps

    def forward(self, x: Tensor, graphs: PackedGraphs) -> Tensor:
        """Float (N, width) to float (N, width)."""
        if self.over == "node":
            normed = functional.layer_norm(x, x.shape[-1:], eps=self.eps)
        else:
            normed = self._over_groups(x.float(), graphs).to(x.dtype)
        return normed * self.weight[graphs.node_type] + self.bias[graphs.node_type]

    def _over_groups(self, x: Tensor, graphs: PackedGraphs) -> Tensor:
        n_tiles = graphs.n_tiles if self.over == "tile" else 1
        tile = graphs.node_tile if self.over == "tile" else (~graphs.node_valid).long()
        group = tile * N_TYPES + graphs.node_type  # padding has a tile of its own, the last
        zeros = x.new_zeros((n_tiles + 1) * N_TYPES)
        count = zeros.index_add(0, group, torch.ones_like(x[:, 0])).clamp(min=1) * x.shape[1]
        centred = x - (zeros.index_add(0, group, x.sum(1)) / count)[group, None]
        variance = zeros.index_add(0, group, centred.square().sum(1)) / count
        return centred / (variance.clamp(min=1e-30).sqrt() + self.eps)[group, None]


class GraphAttention(nn.Module):
    """Nine graph attention layers, one per edge type, averaged over the three types of incoming edges.

    The arithmetic is PyG's ``HeteroConv`` of ``GATConv(heads=1, add_self_loops=False)`` with ``aggr="mean"``: a
    node whose type has no incoming edges of some type still gets that type's bias. Edge attributes, where used,
    add to the attention logit and to the message.
    """

    def __init__(self, in_width: int, width: int, *, edge_columns: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(N_EDGE_TYPES, width, in_width))
        self.att_src = nn.Parameter(torch.empty(N_EDGE_TYPES, width))
        self.att_dst = nn.Parameter(torch.empty(N_EDGE_TYPES, width))
        self.bias = nn.Parameter(torch.zeros(N_EDGE_TYPES, width))
        self.edge = nn.Linear(edge_columns, width + 1, bias=False) if edge_columns else None
        for one in self.weight:
            nn.init.xavier_uniform_(one)
        bound = math.sqrt(6 / (1 + width))  # glorot of a (1, width) vector, as GATConv starts
        nn.init.uniform_(self.att_src, -bound, bound)
        nn.init.uniform_(self.att_dst, -bound, bound)

    def forward(self, rows: Tensor, row: Tensor, own: Tensor | None, graphs: PackedGraphs) -> Tensor:
        """Attend to neighbours.

        Args:
            rows: Float (U, in), distinct node inputs (one per tag set): each is projected once.
            row: int64 (N,), the input of each node.
            own: Float (N, width) to add to the projection of each node, or None.
            graphs: The edges.

        Returns:
            Float (N, width).
        """
        width = self.bias.shape[1]
        projected = functional.linear(rows, self.weight.flatten(0, 1)).view(-1, width)  # (U * 9, width)
        towards = (projected.view(-1, N_EDGE_TYPES, width) * self.att_dst).sum(-1).flatten()  # (U * 9,)
        source, target, kind = graphs.edge_source, graphs.edge_target, graphs.edge_type
        message = projected[row[source] * N_EDGE_TYPES + kind]
        logit = towards[row[target] * N_EDGE_TYPES + kind]
        if own is not None:
            message = message + own[source]
            logit = logit + (own[target] * self.att_dst[kind]).sum(-1)
        logit = logit + (message * self.att_src[kind]).sum(-1)
        if self.edge is not None:
            relation = self.edge(graphs.edge_attr)
            message, logit = message + relation[:, 1:], logit + relation[:, 0]
        group = target * N_TYPES + kind // N_TYPES  # one group per target and type of source
        n_groups = len(row) * N_TYPES
        weight = group_softmax(functional.leaky_relu(logit.float(), LEAKY_SLOPE), group, n_groups)
        weighted = weight.unsqueeze(1) * message.float()
        summed = weighted.new_zeros(n_groups, width).index_add(0, group, weighted)
        by_source = self.bias.view(N_TYPES, N_TYPES, width).transpose(0, 1)[graphs.node_type]  # (N, 3, width)
        out: Tensor = (summed.view(-1, N_TYPES, width) + by_source).mean(1)
        return out


class OsmEncoder(nn.Module):
    """Tag sets, object geometry and relations to one embedding per node."""

    def __init__(self, config: GeoLinkConfig) -> None:
        super().__init__()
        edge_columns = EDGE_COLUMNS if config.edge_attributes else 0
        widths = [config.semantic_width] + [config.osm_width] * (config.osm_layers - 1)
        self.layers = nn.ModuleList(GraphAttention(w, config.osm_width, edge_columns=edge_columns) for w in widths)
        self.norms = nn.ModuleList(NodeNorm(config.osm_width, config.osm_norm) for _ in widths)
        self.geometry = TypedLinear(len(GEOMETRY_COLUMNS), config.osm_width) if config.geometry_columns else None
        self.residual = nn.Linear(config.semantic_width, config.osm_width, bias=False) if config.osm_residual else None

    def forward(self, rows: Tensor, row: Tensor, graphs: PackedGraphs) -> Tensor:
        """Embed the nodes.

        Args:
            rows: Float (U, semantic width), distinct node inputs.
            row: int64 (N,), the input of each node.
            graphs: Nodes and edges.

        Returns:
            Float (N, osm width), after the norm.
        """
        own = None if self.geometry is None else self.geometry(graphs.geometry, graphs.node_type)
        kept = None if self.residual is None else self.residual(rows)[row]
        for k, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = functional.relu(layer(rows, row, own, graphs))
            if kept is not None:
                x = x + kept if own is None or k else x + kept + own
            x = norm(x, graphs)
            rows, row, own = x, torch.arange(len(x), device=x.device), None
            kept = x if self.residual is not None else None
        return x
