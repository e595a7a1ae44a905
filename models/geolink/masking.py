"""What pretraining hides: patches of the image, nodes of the map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.geolink.osm_encoder import N_TYPES
from models.geolink.packing import PackedGraphs

PATCH_RATIO = 0.75
NODE_RATIO = 0.2
PREDICTED_NODES = 10


@dataclass(frozen=True)
class PretrainingMasks:
    """What is hidden in a batch of B tiles with P patches and N nodes.

    Attributes:
        keep: int64 (B, V), visible patches.
        restore: int64 (B, P), where in (visible, then hidden) each patch stands.
        hidden: float32 (B, P), 1 for hidden patches.
        nodes: bool (N,), nodes whose meaning is hidden; None without nodes.
        predicted: bool (N,), hidden nodes whose meaning is to be predicted.
    """

    keep: Tensor
    restore: Tensor
    hidden: Tensor
    nodes: Tensor | None = None
    predicted: Tensor | None = None

    @classmethod
    def of_patches(cls, restore: Tensor, n_keep: int) -> PretrainingMasks:
        """Masks of patches from the order ``restore`` int64 (B, P) of which the first ``n_keep`` are visible."""
        keep = restore.argsort(1)[:, :n_keep]
        return cls(keep, restore, (restore >= n_keep).float())


def draw_masks(
    n_tiles: int,
    n_patches: int,
    graphs: PackedGraphs | None,
    *,
    generator: torch.Generator,
    patch_ratio: float = PATCH_RATIO,
    node_ratio: float = NODE_RATIO,
    predicted_nodes: int | None = PREDICTED_NODES,
) -> PretrainingMasks:
    """Hide patches and nodes at random.

    Args:
        n_tiles: Tiles in the batch.
        n_patches: Patches per tile.
        graphs: The tiles' graphs, or None.
        generator: Source of chance, on the device of ``graphs``; the same state gives the same masks.
        patch_ratio: Share of patches hidden; ``int(n_patches * (1 - patch_ratio))`` stay.
        node_ratio: Share of nodes hidden per type and tile, at least one.
        predicted_nodes: Most nodes of a tile whose meaning is to be predicted; None takes all hidden ones.
    """
    device = generator.device
    noise = torch.rand(n_tiles, n_patches, generator=generator, device=device)
    restore = noise.argsort(1).argsort(1)
    masks = PretrainingMasks.of_patches(restore, int(n_patches * (1 - patch_ratio)))
    if graphs is None:
        return masks
    noise = torch.rand(len(graphs.node_tile), generator=generator, device=device)
    group = graphs.node_tile * N_TYPES + graphs.node_type
    place, size = _places_within(group, noise, (graphs.n_tiles + 1) * N_TYPES)
    nodes = (place < (size * node_ratio).floor().clamp(min=1)) & graphs.node_valid
    predicted = nodes
    if predicted_nodes is not None:
        # visible nodes come after hidden ones
        place, _ = _places_within(graphs.node_tile, noise + (~nodes).float(), graphs.n_tiles + 1)
        predicted = nodes & (place < predicted_nodes)
    return PretrainingMasks(masks.keep, masks.restore, masks.hidden, nodes, predicted)


def _places_within(group: Tensor, value: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Rank of each value within its group, from 0, and the size of each element's group; no host round trip."""
    size = torch.zeros(n_groups, device=value.device).index_add(0, group, torch.ones_like(value))
    first = size.cumsum(0) - size
    by_value = value.argsort(stable=True)
    order = by_value[group[by_value].argsort(stable=True)]
    place = torch.empty_like(value)
    place[order] = torch.arange(len(value), device=value.device, dtype=value.dtype) - first[group[order]]
    return place, size[group]
