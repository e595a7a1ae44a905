"""Features to nodes, part by part: each part is measured by itself, then scattered into the arrays of the city.

The place of a feature in the city's arrays follows from the feature alone (`sort_key`), so the arrays do not depend on
how the features were cut into parts, nor on the order they came in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.graph.measure import anchors, measure_shapes
from pipeline.graph.ragged import Shapes, spans, starts_of
from pipeline.graph.semantics import Semantics, read_semantics
from pipeline.graph.store import NodeArrays
from pipeline.graph.tree import morton

_HASH_KEYS = ("uvmap-city-graph", "hparg-ytic-pamvu")
_SIZE_CLASSES = np.array([32.0, 128.0, 512.0, 2048.0])
"""Half perimeters of envelopes, in units of the CRS, between the classes that are stored behind each other."""


@dataclass(frozen=True)
class PartKeys:
    """What the city needs to know of a part to place its n features.

    Attributes:
        size_class: uint8 (n,), class of the size of the envelope.
        code: uint64 (n,), Morton code of the middle of the envelope.
        content: uint64 (n, 2), hash of geometry and tags.
        n_rings: int64 (n,).
        n_vertices: int64 (n,).
        texts: Distinct tag sets of the part.
    """

    size_class: NDArray[np.uint8]
    code: NDArray[np.uint64]
    content: NDArray[np.uint64]
    n_rings: NDArray[np.int64]
    n_vertices: NDArray[np.int64]
    texts: tuple[str, ...]


def make_part(
    geometry: NDArray[np.object_], tags: NDArray[np.object_], *, official: bool
) -> tuple[NodeArrays, PartKeys]:
    """The nodes of some features, in the order they come; `tag_set` counts within the part.

    Args:
        geometry: Single-part shapely geometries (n,) in the CRS of the graph.
        tags: Canonical tag sets (n,).
        official: For the published graph: all tag keys are kept, and what is measured of whole features is left out
            (zeros), since tiles measure the parts they see, and coordinates may be degrees.

    Raises:
        CityGraphError: a geometry is missing, empty or of several parts.
    """
    semantics = read_semantics(tags, all_keys=official)
    shapes = Shapes.of(geometry)
    bounds = shapely.bounds(geometry).reshape(-1, 4)
    n = len(geometry)
    content = _content(geometry, semantics)
    nodes = NodeArrays(
        kind=shapes.kind,
        xy=shapes.xy,
        ring_start=shapes.ring_start,
        node_ring=shapes.node_ring,
        bounds=bounds,
        content=content,
        tag_set=semantics.tag_set,
        height_m=semantics.height_m,
        building=semantics.building,
        anchor=np.zeros((n, 4, 2)) if official else anchors(shapes),
        shape=np.zeros((n, 7), np.float32) if official else measure_shapes(geometry, shapes.kind, semantics.height_m),
    )
    half = (bounds[:, 2] - bounds[:, 0]) + (bounds[:, 3] - bounds[:, 1])
    keys = PartKeys(
        size_class=np.searchsorted(_SIZE_CLASSES, half).astype(np.uint8),
        code=morton((bounds[:, 0] + bounds[:, 2]) / 2, (bounds[:, 1] + bounds[:, 3]) / 2),
        content=content,
        n_rings=np.diff(shapes.node_ring),
        n_vertices=np.diff(shapes.ring_start[shapes.node_ring]),
        texts=semantics.texts,
    )
    return nodes, keys


def find_places(keys: list[PartKeys]) -> list[NDArray[np.int64]]:
    """The place of each feature of each part among all: by size class, Morton code, then hash of content.

    Small features come first, so that boxes of neighbours in the arrays have small common envelopes; features of
    equal content are equal in every array, and so their order does not matter.
    """
    size_class, code, content = (
        np.concatenate([getattr(k, f) for k in keys]) for f in ("size_class", "code", "content")
    )
    order = np.lexsort((content[:, 1], content[:, 0], code, size_class))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return np.split(place, np.cumsum([len(k.code) for k in keys])[:-1])


def scatter(
    part: NodeArrays,
    place: NDArray[np.int64],
    tag_set: NDArray[np.int32],
    first_vertex: NDArray[np.int64],
    out: NodeArrays,
) -> None:
    """Write a part's nodes into their places in the city's arrays.

    Args:
        part: n features.
        place: int64 (n,), their places.
        tag_set: int32, the city's row of each of the part's tag sets.
        first_vertex: int64 (n,), where the vertices of each feature begin in ``out.xy``.
        out: The city's arrays; `node_ring` is complete already.
    """
    for name in ("kind", "bounds", "content", "height_m", "building", "anchor", "shape"):
        getattr(out, name)[place] = getattr(part, name)
    out.tag_set[place] = tag_set[part.tag_set] if len(tag_set) else part.tag_set
    n_rings = np.diff(part.node_ring)
    n_vertices = np.diff(part.ring_start[part.node_ring])
    out.xy[spans(first_vertex, n_vertices)] = part.xy
    shift = np.repeat(first_vertex - part.ring_start[part.node_ring[:-1]], n_rings)
    out.ring_start[spans(np.asarray(out.node_ring[place]), n_rings)] = part.ring_start[:-1] + shift


def merge_texts(keys: list[PartKeys]) -> tuple[tuple[str, ...], list[NDArray[np.int32]]]:
    """The distinct tag sets of all parts, sorted, and per part the row of each of its own."""
    texts = sorted(set().union(*(k.texts for k in keys)))
    row = {text: i for i, text in enumerate(texts)}
    return tuple(texts), [np.array([row[t] for t in k.texts], np.int32) for k in keys]


def find_offsets(keys: list[PartKeys], place: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First ring (N + 1,) and first vertex (N + 1,) of every feature in its place."""
    n = sum(len(p) for p in place)
    rings, vertices = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for key, at in zip(keys, place, strict=True):
        rings[at], vertices[at] = key.n_rings, key.n_vertices
    return starts_of(rings), starts_of(vertices)


def _content(geometry: NDArray[np.object_], semantics: Semantics) -> NDArray[np.uint64]:
    """128-bit hash of geometry, tags and height per feature, uint64 (n, 2)."""
    wkb = np.asarray(shapely.to_wkb(geometry), object)
    texts = np.array(semantics.texts, object)
    height = np.nan_to_num(semantics.height_m, nan=-1.0).astype(np.float32).view(np.uint32).astype(np.uint64)
    out = np.zeros((len(geometry), 2), np.uint64)
    if len(geometry):
        for k, key in enumerate(_HASH_KEYS):
            of_text = pd.util.hash_array(texts, categorize=False, hash_key=key)
            mixed = pd.util.hash_array(wkb, categorize=False, hash_key=key)
            mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + of_text[semantics.tag_set]
            out[:, k] = mixed * np.uint64(0xC2B2AE3D27D4EB4F) + height
    return out
