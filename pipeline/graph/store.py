"""The arrays of a city graph: in memory, or mapped from a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.graph.errors import CityGraphError
from pipeline.graph.ragged import Shapes

Mode = Literal["rich", "official"]
_T = TypeVar("_T", "NodeArrays", "PairArrays")

_HEADER_BYTES = 128

FORMAT = 2
"""Version of the files; raised whenever they or their meaning change."""


@dataclass(frozen=True)
class NodeArrays:
    """N features in Morton order of the middle of their envelopes.

    Attributes:
        kind: uint8 (N,), 0 point, 1 line, 2 polygon.
        xy: float64 (V, 2), vertices in the CRS of the graph.
        ring_start: int64 (R + 1,), first vertex of each ring.
        node_ring: int64 (N + 1,), first ring of each feature.
        bounds: float64 (N, 4), left, bottom, right, top.
        content: uint64 (N, 2), hash of geometry and tags.
        tag_set: int32 (N,), row in the table of tag sets.
        height_m: float32 (N,), NaN where unknown.
        building: bool (N,).
        anchor: float64 (N, 4, 2), see `pipeline.graph.measure.anchors`.
        shape: float32 (N, 7), see `pipeline.graph.measure.measure_shapes`.
    """

    kind: NDArray[np.uint8]
    xy: NDArray[np.float64]
    ring_start: NDArray[np.int64]
    node_ring: NDArray[np.int64]
    bounds: NDArray[np.float64]
    content: NDArray[np.uint64]
    tag_set: NDArray[np.int32]
    height_m: NDArray[np.float32]
    building: NDArray[np.bool_]
    anchor: NDArray[np.float64]
    shape: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def shapes(self) -> Shapes:
        """The geometry."""
        return Shapes(self.kind, self.xy, self.ring_start, self.node_ring)

    @property
    def middle(self) -> NDArray[np.float64]:
        """The centroid of each feature, float64 (N, 2)."""
        return find_middles(self, slice(None))


@dataclass(frozen=True)
class PairArrays:
    """Related or neighbouring features, each pair once, at its owner: the one with the smaller envelope.

    Attributes:
        start: int64 (N + 1,), first pair of each owner.
        other: int32 (P,), the other feature.
        code: uint8 (P,), relation of (owner, other), see `pipeline.graph.relations`; 0 = near, not touching.
        gap_m: float32 (P,), distance between the two; 0 where they meet.
    """

    start: NDArray[np.int64]
    other: NDArray[np.int32]
    code: NDArray[np.uint8]
    gap_m: NDArray[np.float32]


def find_middles(nodes: NodeArrays, rows: Any) -> NDArray[np.float64]:
    """The centroids of some features, float64 (n, 2)."""
    anchor = nodes.anchor[rows]
    middle: NDArray[np.float64] = np.where((nodes.kind[rows] == 2)[:, None], anchor[:, 3], anchor[:, 0])
    return middle


def save_arrays(folder: Path, arrays: NodeArrays | PairArrays) -> None:
    """Write every array as `<name>.npy`."""
    for f in fields(arrays):
        np.save(folder / f"{_prefix(type(arrays))}{f.name}.npy", np.ascontiguousarray(getattr(arrays, f.name)))


def load_arrays(folder: Path, kind: type[_T], *, mode: Literal["r", "r+"] = "r") -> _T:
    """Map every array of ``kind``, read-only unless asked otherwise.

    Raises:
        CityGraphError: a file is missing or damaged.
    """
    loaded = {}
    for f in fields(kind):
        path = folder / f"{_prefix(kind)}{f.name}.npy"
        try:
            # files without data cannot be mapped
            loaded[f.name] = np.load(path, mmap_mode=mode if path.stat().st_size > _HEADER_BYTES else None)
        except (OSError, ValueError) as error:
            raise CityGraphError(
                f"{path}: cannot be read ({error}); the graph is incomplete or damaged: remove {folder} and build again"
            ) from error
    return kind(**loaded)


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Write `meta.json`, the last file: a folder with it is complete."""
    text = json.dumps({"format": FORMAT, **meta}, ensure_ascii=False, sort_keys=True)
    (folder / "meta.json").write_text(text, encoding="utf-8")


def read_meta(folder: Path) -> dict[str, Any]:
    """Read `meta.json`.

    Raises:
        CityGraphError: there is none, or it is of another format.
    """
    path = folder / "meta.json"
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CityGraphError(f"{path}: no complete city graph there ({error}); build it again") from error
    if meta.get("format") != FORMAT:
        raise CityGraphError(f"{path}: format {meta.get('format')}, this version reads {FORMAT}; build the graph again")
    return meta


def _prefix(kind: type[NodeArrays | PairArrays]) -> str:
    return "pair_" if kind is PairArrays else ""
