"""Parts of a tile, and tiles seen larger or smaller: image, label and graph in step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.geolink.graph import (
    EDGE_TYPES,
    GEOMETRY_COLUMNS,
    NODE_TYPES,
    POSITION_POINTS,
    RELATIONS,
    RICH_COLUMNS,
    TileGraphs,
)

_LEAVES = GEOMETRY_COLUMNS.index("leaves_tile")
_AREA, _LENGTH = GEOMETRY_COLUMNS.index("log_area"), GEOMETRY_COLUMNS.index("log_length")
_DISTANCE = RICH_COLUMNS.index("log_distance")


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A part of a tile, in shares of its side from the upper left.

    Attributes:
        left, top, width, height: Place and size, 0 to 1; a `zoomed` view may be larger than the tile.
    """

    left: float
    top: float
    width: float
    height: float


def cropped_graph(graph: TileGraphs, crop: Crop) -> TileGraphs:
    """What a crop of one tile sees of its graph.

    Kept are the nodes with a point in the crop, and the edges between kept nodes. Points are counted relative to
    the crop; those outside stay outside. Sizes and distances are of the ground and do not change.

    Args:
        graph: Graph of one tile.
        crop: The part.
    """
    keep, position, geometry = {}, {}, {}
    for t in NODE_TYPES:
        xy = graph.position[t].reshape(-1, POSITION_POINTS[t], 2)
        moved = (xy - np.array([crop.left, crop.top])) / np.array([crop.width, crop.height])
        inside = ((moved >= 0) & (moved <= 1)).all(-1)
        keep[t] = inside.any(1)
        position[t] = moved.reshape(graph.position[t].shape).astype(np.float32)[keep[t]]
        shape = graph.geometry[t][keep[t]].copy()
        shape[:, _LEAVES] = np.maximum(shape[:, _LEAVES], ~inside[keep[t]].all(1))
        geometry[t] = shape
    new_row = {t: np.cumsum(keep[t]) - 1 for t in NODE_TYPES}
    edge_index, edge_attr = {}, {}
    for src, dst in EDGE_TYPES:
        source, target = graph.edge_index[src, dst]
        both = keep[src][source] & keep[dst][target]
        edge_index[src, dst] = np.stack([new_row[src][source[both]], new_row[dst][target[both]]]).astype(np.int64)
        edge_attr[src, dst] = graph.edge_attr[src, dst][both]
    return replace(
        graph,
        node_tile={t: graph.node_tile[t][keep[t]] for t in NODE_TYPES},
        semantic_id={t: graph.semantic_id[t][keep[t]] for t in NODE_TYPES},
        position=position,
        geometry=geometry,
        edge_index=edge_index,
        edge_attr=edge_attr,
    )


def draw_view(scale: tuple[float, float], rng: np.random.Generator) -> Crop:
    """What of a tile fills the tile when all is seen larger or smaller, by factors as likely below 1 as above.

    Args:
        scale: Least and most factor.
        rng: Source of chance.

    Returns:
        A square within the tile for factors above 1, one that holds the tile for those below.
    """
    side = 1 / float(np.exp(rng.uniform(*np.log(scale))))
    left, top = rng.uniform(min(0.0, 1 - side), max(0.0, 1 - side), 2)
    return Crop(left=float(left), top=float(top), width=side, height=side)


def zoomed_pixels(
    image: NDArray[np.uint8], label: NDArray[np.uint8], view: Crop
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A view of a tile at the size of the tile; beyond its edges lies its mirror image, labels included.

    Args:
        image: uint8 (3, T, T); 0 where there is no data.
        label: uint8 (T, T).
        view: What is seen.

    Returns:
        uint8 (3, T, T), bilinear, and uint8 (T, T), nearest.
    """
    side = image.shape[-1]
    centres = (np.arange(side) + 0.5) / side
    x, y = (2 * (start + centres * view.width) - 1 for start in (view.left, view.top))  # -1 to 1 over the tile
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1).astype(np.float32))[None]

    def sampled(values: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
        found = functional.grid_sample(
            torch.from_numpy(values.astype(np.float32))[None],
            grid,
            mode=mode,
            padding_mode="reflection",
            align_corners=False,
        )
        return found[0].round().clamp(0, 255).to(torch.uint8).numpy()

    flags = sampled(np.stack([label, image.any(axis=0).astype(np.uint8)]), "nearest")
    pixels = np.maximum(sampled(image, "bilinear"), 1)  # ground beside no data is no data to no one
    return np.where(flags[1] > 0, pixels, np.uint8(0)), flags[0]


def zoomed_graph(graph: TileGraphs, view: Crop) -> TileGraphs:
    """The graph of a view, as if the ground were of the size that it then has: areas, lengths, distances grow with it.

    Objects outside the view are gone; in the mirrored ground beyond the tile nothing is mapped.

    Args:
        graph: Graph of one tile.
        view: What is seen; square.
    """
    factor = 1 / view.width
    seen = cropped_graph(graph, view)
    geometry = {}
    for t in NODE_TYPES:
        shape = seen.geometry[t].copy()
        for column, power in ((_AREA, 2), (_LENGTH, 1)):
            shape[:, column] = _larger(shape[:, column], factor**power)
        geometry[t] = shape
    edge_attr = dict(seen.edge_attr)
    if graph.is_rich:
        for pair in EDGE_TYPES:
            column = len(RELATIONS[pair]) + _DISTANCE
            edge_attr[pair] = edge_attr[pair].copy()
            edge_attr[pair][:, column] = _larger(edge_attr[pair][:, column], factor)
    return replace(seen, geometry=geometry, edge_attr=edge_attr)


def _larger(log_values: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """ln(1 + v) / 10 of v times a factor."""
    return (np.log1p(np.expm1(10 * log_values.astype(np.float64)) * factor) / 10).astype(np.float32)
