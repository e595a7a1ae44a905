"""Large outlines thinned to what a window needs.

Runs of vertices of a ring that lie wholly left of a window (or right of, below, above it) bound nothing inside it: a
chord from the first to the last of them leaves what the window cuts out unchanged, since it lies on the same side. A
river of 50,000 vertices so costs a window a few hundred.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.graph.ragged import Shapes, spans, starts_of

LARGE = 64
"""Vertices above which a feature is thinned."""

RUN = 32
"""Edges in a run."""


@dataclass(frozen=True)
class Chunks:
    """The runs of all large features.

    A ring of size vertices has ceil((size - 1) / RUN) runs and, as one more, its last vertex.

    Attributes:
        node: int64 (L,), the large features, rising.
        node_run: int64 (L + 1,), first run of each.
        first: int64 (K,), first vertex of each run.
        count: int64 (K,), vertices of each run; the next run begins with the one that follows.
        starts_ring: bool (K,), the run is the first of its ring.
        box: float64 (K, 4), envelope of the run and the first vertex of the next.
    """

    node: NDArray[np.int64]
    node_run: NDArray[np.int64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    starts_ring: NDArray[np.bool_]
    box: NDArray[np.float64]

    @classmethod
    def of(cls, shapes: Shapes) -> Chunks:
        """The runs of the features of ``shapes`` with more than `LARGE` vertices."""
        node = np.flatnonzero(np.diff(shapes.ring_start[shapes.node_ring]) > LARGE)
        n_rings = np.asarray(shapes.node_ring[node + 1] - shapes.node_ring[node])
        ring = spans(np.asarray(shapes.node_ring[node]), n_rings)
        ring_first, ring_last = np.asarray(shapes.ring_start[ring]), np.asarray(shapes.ring_start[ring + 1]) - 1
        runs = -((ring_first - ring_last) // RUN)  # ceil of edges / RUN
        number = spans(np.zeros(len(ring), np.int64), runs + 1)
        of_ring = np.repeat(np.arange(len(ring)), runs + 1)
        is_last = number == runs[of_ring]
        first = np.where(is_last, ring_last[of_ring], ring_first[of_ring] + number * RUN)
        stop = np.where(is_last, first, np.minimum(first + RUN, ring_last[of_ring]))
        count = np.where(is_last, 1, stop - first)
        box = np.zeros((len(first), 4))
        if len(first):
            xy = np.asarray(shapes.xy[spans(first, count)])
            at = np.cumsum(count) - count
            end = shapes.xy[stop]
            box[:, :2] = np.minimum(np.minimum.reduceat(xy, at, axis=0), end)
            box[:, 2:] = np.maximum(np.maximum.reduceat(xy, at, axis=0), end)
        node_run = np.zeros(len(node) + 1, np.int64)
        np.cumsum(np.add.reduceat(runs + 1, np.cumsum(n_rings) - n_rings) if len(node) else [], out=node_run[1:])
        return cls(node, node_run, first, count, number == 0, box)

    def take(self, shapes: Shapes, nodes: NDArray[np.int64], windows: NDArray[np.float64]) -> Shapes:
        """Features ``nodes`` (n,), each thinned for its window (n, 4); small ones come whole."""
        at = np.searchsorted(self.node, nodes)
        at = np.minimum(at, max(len(self.node) - 1, 0))
        large = self.node[at] == nodes if len(self.node) else np.zeros(len(nodes), bool)
        if not large.any():
            return shapes.take(nodes)
        rows, rest = np.flatnonzero(large), np.flatnonzero(~large)
        both = Shapes.concat(self._thinned(shapes, nodes[rows], at[rows], windows[rows]), shapes.take(nodes[rest]))
        back = np.empty(len(nodes), np.int64)
        back[np.concatenate([rows, rest])] = np.arange(len(nodes))
        return both.take(back)

    def _thinned(
        self, shapes: Shapes, nodes: NDArray[np.int64], at: NDArray[np.int64], windows: NDArray[np.float64]
    ) -> Shapes:
        n_runs = self.node_run[at + 1] - self.node_run[at]
        run = spans(self.node_run[at], n_runs)
        row = np.repeat(np.arange(len(at)), n_runs)
        box, window = self.box[run], windows[row]
        apart = (
            (box[:, 2] < window[:, 0])
            | (box[:, 0] > window[:, 2])
            | (box[:, 3] < window[:, 1])
            | (box[:, 1] > window[:, 3])
        )
        kept = np.where(apart, 1, self.count[run])
        ring_at = np.flatnonzero(self.starts_ring[run])
        ring_size = np.add.reduceat(kept, ring_at)
        n_rings = np.bincount(row[ring_at], minlength=len(at)).astype(np.int64)
        xy = np.asarray(shapes.xy[spans(self.first[run], kept)])
        return Shapes(np.asarray(shapes.kind[nodes]), xy, starts_of(ring_size), starts_of(n_rings))
