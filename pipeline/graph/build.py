"""The build of a city graph in bounded memory: parts of features to nodes, ranges of nodes to pairs.

1. Every part is measured by itself (`make_part`) and, where there is a scratch folder, put down there.
2. The places of all features follow from small keys; parts are scattered into the city's arrays.
3. Every range of the ordered nodes finds the pairs that it owns, with whatever its features meet elsewhere.

All steps but the ordering of keys and pairs run in any `concurrent.futures` executor. Only arrays of a few numbers per
feature and per pair are held whole; geometry is held part by part.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.graph.pairs import Near, Related, assemble_pairs, find_near_pairs, find_relations
from pipeline.graph.parts import PartKeys, find_offsets, find_places, make_part, merge_texts, scatter
from pipeline.graph.sources import Part
from pipeline.graph.store import NodeArrays, PairArrays, load_arrays, save_arrays
from pipeline.graph.tree import BoxTree

_T = TypeVar("_T")


@dataclass(frozen=True)
class Plan:
    """How a build is cut and where it puts things.

    Attributes:
        official: Build for the published graph: all tag keys, no pairs (they are made per tile).
        range_size: Features whose pairs are sought at a time.
        folder: Where the node arrays are made, or None for memory.
    """

    official: bool
    range_size: int
    folder: Path | None


def build_arrays(
    parts: Iterable[Part], plan: Plan, executor: Executor | None
) -> tuple[NodeArrays, PairArrays, tuple[str, ...]]:
    """Nodes, pairs and tag sets of all parts.

    Args:
        parts: The features; read in a worker where there is one.
        plan: See `Plan`.
        executor: Runs parts and ranges; needs `plan.folder`. None runs them here, one after the other.
    """
    nodes, texts = _build_nodes(parts, plan, executor)
    if plan.official or not len(nodes):
        return nodes, assemble_pairs(nodes, [], []), texts
    ranges = [(k, min(k + plan.range_size, len(nodes))) for k in range(0, len(nodes), plan.range_size)]
    if executor is None:
        tree = BoxTree.over(nodes.bounds)
        found = [_find_pairs(nodes, tree, start, stop) for start, stop in ranges]
    else:
        found = list(_map_jobs(executor, _find_pairs_in, ((plan.folder, start, stop) for start, stop in ranges)))
    return nodes, assemble_pairs(nodes, [f[0] for f in found], [f[1] for f in found]), texts


def _build_nodes(parts: Iterable[Part], plan: Plan, executor: Executor | None) -> tuple[NodeArrays, tuple[str, ...]]:
    folder = plan.folder
    made: list[NodeArrays | Path] = []
    keys: list[PartKeys] = []
    jobs = ((part, plan.official, None if folder is None else folder / f"part-{k}") for k, part in enumerate(parts))
    for nodes, key in _map_jobs(executor, _make_nodes, jobs):
        made.append(nodes)
        keys.append(key)
    if not keys:
        empty = np.zeros(0, object)
        nodes, key = make_part(empty, empty, official=plan.official)
        made, keys = [nodes], [key]
    place = find_places(keys)
    texts, rows = merge_texts(keys)
    node_ring, first_vertex = find_offsets(keys, place)
    del keys
    out = _allocate(folder, node_ring, int(first_vertex[-1]))
    todo = (
        (m, p, r, first_vertex[p], out if folder is None else folder) for m, p, r in zip(made, place, rows, strict=True)
    )
    for _ in _map_jobs(executor, _scatter_part, todo):
        pass
    if folder is not None:
        out = load_arrays(folder, NodeArrays)
    return out, texts


def _make_nodes(part: Part, official: bool, folder: Path | None) -> tuple[NodeArrays | Path, PartKeys]:
    geometry, tags = part.read()
    nodes, keys = make_part(geometry, tags, official=official)
    if folder is None:
        return nodes, keys
    folder.mkdir()
    save_arrays(folder, nodes)
    return folder, keys


def _scatter_part(
    part: NodeArrays | Path,
    place: NDArray[np.int64],
    tag_set: NDArray[np.int32],
    first_vertex: NDArray[np.int64],
    out: NodeArrays | Path,
) -> None:
    if isinstance(part, Path) and isinstance(out, Path):
        scatter(load_arrays(part, NodeArrays), place, tag_set, first_vertex, load_arrays(out, NodeArrays, mode="r+"))
        shutil.rmtree(part)
    elif isinstance(part, NodeArrays) and isinstance(out, NodeArrays):
        scatter(part, place, tag_set, first_vertex, out)


def _allocate(folder: Path | None, node_ring: NDArray[np.int64], n_vertices: int) -> NodeArrays:
    """The city's arrays, in memory or as files, with the offsets that are known."""
    n, n_rings = len(node_ring) - 1, int(node_ring[-1])
    wanted: dict[str, tuple[tuple[int, ...], Any]] = {
        "kind": ((n,), np.uint8),
        "xy": ((n_vertices, 2), np.float64),
        "ring_start": ((n_rings + 1,), np.int64),
        "node_ring": ((n + 1,), np.int64),
        "bounds": ((n, 4), np.float64),
        "content": ((n, 2), np.uint64),
        "tag_set": ((n,), np.int32),
        "height_m": ((n,), np.float32),
        "building": ((n,), np.bool_),
        "anchor": ((n, 4, 2), np.float64),
        "shape": ((n, 7), np.float32),
    }
    arrays: dict[str, Any] = {}
    for f in fields(NodeArrays):
        shape, dtype = wanted[f.name]
        if folder is None or 0 in shape:
            arrays[f.name] = np.zeros(shape, dtype)
            if folder is not None:
                np.save(folder / f"{f.name}.npy", arrays[f.name])
        else:
            arrays[f.name] = np.lib.format.open_memmap(folder / f"{f.name}.npy", "w+", dtype, shape)
    arrays["node_ring"][:] = node_ring
    arrays["ring_start"][-1] = n_vertices
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()
    return NodeArrays(**arrays)


def _find_pairs(nodes: NodeArrays, tree: BoxTree, start: int, stop: int) -> tuple[Related, Near]:
    return find_relations(nodes, tree, start, stop), find_near_pairs(nodes, tree, start, stop)


def _find_pairs_in(folder: Path, start: int, stop: int) -> tuple[Related, Near]:
    nodes = load_arrays(folder, NodeArrays)
    return _find_pairs(nodes, BoxTree.over(nodes.bounds), start, stop)


def _map_jobs(executor: Executor | None, work: Callable[..., _T], jobs: Iterable[tuple[Any, ...]]) -> Iterator[_T]:
    """Results of ``work(*job)`` in order; with an executor only a few jobs are handed over ahead."""
    if executor is None:
        for job in jobs:
            yield work(*job)
        return
    waiting: list[Future[_T]] = []
    iterator = iter(jobs)
    ahead = 2 * (getattr(executor, "_max_workers", None) or 8)
    waiting.extend(executor.submit(work, *job) for job in islice(iterator, ahead))
    while waiting:
        result = waiting.pop(0).result()
        waiting.extend(executor.submit(work, *job) for job in islice(iterator, 1))
        yield result
