"""Ragged geometry: the rings of many features in flat arrays, and the way to shapely and back.

A feature has rings (a point or a line has one), a ring has vertices. Worked example, a point and a polygon with a
hole: ``node_ring = [0, 1, 3]``, ``ring_start = [0, 1, 6, 10]``: feature 0 has ring 0 with vertex 0, feature 1 has
rings 1 (vertices 1 to 5) and 2 (vertices 6 to 9). Rings of polygons are closed: the last vertex repeats the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.graph.errors import CityGraphError

POINT, LINE, POLYGON = 0, 1, 2
"""Kinds of nodes: the positions of the types in `models.geolink.graph.NODE_TYPES`."""


def spans(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The indices ``starts[k] .. starts[k] + counts[k] - 1`` of all k, one after the other.

    Worked example: starts [5, 0], counts [2, 3] give [5, 6, 0, 1, 2].
    """
    stops = np.cumsum(counts)
    total = int(stops[-1]) if len(stops) else 0
    return np.repeat(starts - (stops - counts), counts) + np.arange(total, dtype=np.int64)


def starts_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Offsets (n + 1,) of parts with these sizes (n,)."""
    out = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=out[1:])
    return out


@dataclass(frozen=True)
class Shapes:
    """The geometry of n features.

    Attributes:
        kind: uint8 (n,), `POINT`, `LINE` or `POLYGON`.
        xy: float64 (V, 2), coordinates of all vertices in the CRS of the graph.
        ring_start: int64 (R + 1,), first vertex of each ring.
        node_ring: int64 (n + 1,), first ring of each feature.
    """

    kind: NDArray[np.uint8]
    xy: NDArray[np.float64]
    ring_start: NDArray[np.int64]
    node_ring: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def ring_size(self) -> NDArray[np.int64]:
        """Vertices per ring (R,)."""
        return np.diff(self.ring_start)

    @property
    def ring_node(self) -> NDArray[np.int64]:
        """Feature of each ring (R,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.node_ring))

    def take(self, nodes: NDArray[np.int64]) -> Shapes:
        """The features ``nodes``, in that order (a feature may be repeated)."""
        rings = np.asarray(self.node_ring[nodes + 1] - self.node_ring[nodes])
        ring = spans(np.asarray(self.node_ring[nodes]), rings)
        first = np.asarray(self.ring_start[ring])
        size = np.asarray(self.ring_start[ring + 1]) - first
        return Shapes(
            np.asarray(self.kind[nodes]), np.asarray(self.xy[spans(first, size)]), starts_of(size), starts_of(rings)
        )

    def slice(self, start: int, stop: int) -> Shapes:
        """The features ``start .. stop - 1``."""
        ring0, ring1 = int(self.node_ring[start]), int(self.node_ring[stop])
        v0, v1 = int(self.ring_start[ring0]), int(self.ring_start[ring1])
        return Shapes(
            np.asarray(self.kind[start:stop]),
            np.asarray(self.xy[v0:v1]),
            np.asarray(self.ring_start[ring0 : ring1 + 1]) - v0,
            np.asarray(self.node_ring[start : stop + 1]) - ring0,
        )

    def to_shapely(self) -> NDArray[np.object_]:
        """The features as shapely geometries (n,)."""
        out = np.empty(len(self), object)
        points = self.kind == POINT
        out[points] = shapely.points(self.xy[self.ring_start[self.node_ring[:-1][points]]])
        for kind, maker in ((LINE, shapely.GeometryType.LINESTRING), (POLYGON, shapely.GeometryType.POLYGON)):
            rows = np.flatnonzero(self.kind == kind)
            if len(rows):
                part = self.take(rows)
                offsets = (part.ring_start,) if kind == LINE else (part.ring_start, part.node_ring)
                out[rows] = shapely.from_ragged_array(maker, part.xy, offsets)
        return out

    @classmethod
    def of(cls, geometry: NDArray[np.object_]) -> Shapes:
        """Flat arrays of single-part shapely geometries (n,); polygons come out with counter-clockwise shells.

        Raises:
            CityGraphError: a geometry is missing, empty or of several parts.
        """
        type_id = shapely.get_type_id(geometry)
        kinds = np.array([POINT, LINE, LINE, POLYGON], np.uint8)
        bad = (type_id < 0) | (type_id > 3) | shapely.is_empty(geometry)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise CityGraphError(
                f"feature {row} of {len(geometry)} is {getattr(geometry[row], 'geom_type', None)} or empty; city graphs"
                " take single points, lines and polygons: read features with pipeline.vectors.read_features"
            )
        kind = kinds[type_id]
        polygons = np.flatnonzero(kind == POLYGON)
        others = np.flatnonzero(kind != POLYGON)
        rings, owner = shapely.get_rings(geometry[polygons], return_index=True)
        parts = np.concatenate([geometry[others], rings])
        node = np.concatenate([others, polygons[owner]])
        order = np.argsort(node, kind="stable")
        parts = parts[order]
        size = shapely.get_num_coordinates(parts).astype(np.int64)
        node_ring = starts_of(np.bincount(node, minlength=len(geometry)).astype(np.int64))
        xy = shapely.get_coordinates(parts)
        is_shell = np.zeros(len(parts), bool)
        is_shell[node_ring[:-1]] = True
        # shells run counter-clockwise, holes clockwise
        turned = (kind[node[order]] == POLYGON) & (shapely.is_ccw(parts) != is_shell)
        if turned.any():
            first = (np.cumsum(size) - size)[turned]
            target = spans(first, size[turned])
            xy[target] = xy[np.repeat(2 * first + size[turned] - 1, size[turned]) - target]
        return cls(kind, xy, starts_of(size), node_ring)

    @classmethod
    def concat(cls, a: Shapes, b: Shapes) -> Shapes:
        """The features of ``a``, then those of ``b``."""
        return cls(
            np.concatenate([a.kind, b.kind]),
            np.concatenate([a.xy, b.xy]),
            np.concatenate([a.ring_start, b.ring_start[1:] + a.ring_start[-1]]),
            np.concatenate([a.node_ring, b.node_ring[1:] + a.node_ring[-1]]),
        )
