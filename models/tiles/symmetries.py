"""The eight symmetries of the square, of pixels and of what the map shows, in step; NumPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import (
    EDGE_TYPES,
    GEOMETRY_COLUMNS,
    NODE_TYPES,
    POSITION_POINTS,
    RELATIONS,
    RICH_COLUMNS,
    TileGraphs,
)

_COS, _SIN = GEOMETRY_COLUMNS.index("cos_2_orientation"), GEOMETRY_COLUMNS.index("sin_2_orientation")
_BEARING_SIN, _BEARING_COS = RICH_COLUMNS.index("sin_bearing"), RICH_COLUMNS.index("cos_bearing")


def symmetric_array(array: NDArray[np.uint8], symmetry: int) -> NDArray[np.uint8]:
    """Apply one of the eight symmetries of the square to the last two axes.

    Args:
        array: (..., T, T), rows downwards.
        symmetry: 0 to 7; bit 2 swaps rows and columns, then bit 0 mirrors left-right, bit 1 up-down.
    """
    if symmetry & 4:
        array = array.swapaxes(-1, -2)
    if symmetry & 1:
        array = array[..., ::-1]
    return array[..., ::-1, :] if symmetry & 2 else array


def symmetric_graphs(graphs: TileGraphs, symmetry: int) -> TileGraphs:  # noqa: C901 -- one branch for each kind of column that turns with the tile
    """Apply one of the eight symmetries of the square to tile graphs, in step with `symmetric_array`.

    Positions are relative to the tile, y downwards. Orientations are doubled angles against an axis of the tile:
    a mirror negates the sine, swapping the axes negates the cosine. Bearings are clockwise from the tile's upper
    edge: the sine points right, the cosine up.

    Args:
        graphs: Graphs of any number of tiles, all turned alike.
        symmetry: As for `symmetric_array`.
    """
    if symmetry == 0:
        return graphs
    position, geometry, edge_attr = {}, {}, {}
    for t in NODE_TYPES:
        xy = graphs.position[t].reshape(-1, POSITION_POINTS[t], 2)
        shape = graphs.geometry[t].copy()
        if symmetry & 4:
            xy = xy[..., ::-1]
            shape[:, _COS] *= -1
        x, y = xy[..., 0], xy[..., 1]
        if symmetry & 1:
            x = 1 - x
            shape[:, _SIN] *= -1
        if symmetry & 2:
            y = 1 - y
            shape[:, _SIN] *= -1
        position[t] = np.stack([x, y], axis=-1).reshape(graphs.position[t].shape).astype(np.float32)
        geometry[t] = shape
    for pair in EDGE_TYPES:
        attr = graphs.edge_attr[pair]
        if graphs.is_rich:
            attr = attr.copy()
            east = len(RELATIONS[pair]) + _BEARING_SIN
            north = len(RELATIONS[pair]) + _BEARING_COS
            if symmetry & 4:
                # x' = y, y' = x with y downwards: right becomes -up, up becomes -right
                attr[:, [east, north]] = -attr[:, [north, east]]
            if symmetry & 1:
                attr[:, east] *= -1
            if symmetry & 2:
                attr[:, north] *= -1
        edge_attr[pair] = attr
    return TileGraphs(
        graphs.n_tiles, graphs.node_tile, graphs.semantic_id, position, geometry, graphs.edge_index, edge_attr
    )
