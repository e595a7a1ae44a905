"""One shard read tile by tile: rows of the arrays of an uncompressed ``.npz``, without reading the rest of it."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.geolink.graph import EDGE_TYPES, NODE_TYPES, TileGraphs
from models.tiles.graphs import graph_cuts
from models.tiles.shards import CUT_NAME, SampleError, graphs_from_arrays, read_shards

_LOCAL_HEADER_BYTES = 30
_NAME_LENGTH_AT = 26


@dataclass(frozen=True)
class _Member:
    """Where an array lies in the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool
    offset: int


class ShardFile:
    """A shard that stays on disk; it holds one open file and the places of its arrays.

    Args:
        path: An ``.npz`` that `numpy.savez` wrote.

    Raises:
        SampleError: it is missing, damaged, or compressed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive, path.open("rb") as file:
                self._members = {i.filename.removesuffix(".npy"): _member(i, file) for i in archive.infolist()}
            self._file = os.open(path, os.O_RDONLY)
        except Exception as error:  # zipfile and numpy raise many types for a damaged file
            raise SampleError(f"{path} cannot be read ({error}): write the set again") from error
        self._cuts: NDArray[np.int64] | None = None
        if CUT_NAME not in self._members:
            self._cuts = self._cuts_of_an_old_shard()

    def __len__(self) -> int:
        return self._members["images"].shape[0]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def has(self, name: str) -> bool:
        """Whether the shard has that array."""
        return name in self._members

    def rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop`` of an array."""
        member = self._member_of(name)
        if member.is_fortran and len(member.shape) > 1:
            return self._whole(member)[start:stop]
        row = prod(member.shape[1:]) * member.dtype.itemsize
        values = self._values(member, member.offset + start * row, (stop - start) * row)
        return values.reshape(stop - start, *member.shape[1:])

    def tile(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], TileGraphs]:
        """Image uint8 (3, T, T), label uint8 (T, T) and graph of one tile."""
        cuts = self.rows(CUT_NAME, row, row + 2) if self._cuts is None else self._cuts[row : row + 2]
        first, last = cuts.tolist()
        parts = list(zip(first, last, strict=True))
        node = dict(zip(NODE_TYPES, parts[: len(NODE_TYPES)], strict=True))
        edge = dict(zip(EDGE_TYPES, parts[len(NODE_TYPES) :], strict=True))
        graph = TileGraphs(
            1,
            {t: np.zeros(node[t][1] - node[t][0], np.int64) for t in NODE_TYPES},
            {t: self.rows(f"semantic_id.{t}", *node[t]) for t in NODE_TYPES},
            {t: self.rows(f"position.{t}", *node[t]) for t in NODE_TYPES},
            {t: self.rows(f"geometry.{t}", *node[t]) for t in NODE_TYPES},
            {p: self._edges(p, edge[p]) - np.array([[node[p[0]][0]], [node[p[1]][0]]]) for p in EDGE_TYPES},
            {p: self.rows(f"edge_attr.{p[0]}.{p[1]}", *edge[p]) for p in EDGE_TYPES},
        )
        return self.rows("images", row, row + 1)[0], self.rows("labels", row, row + 1)[0], graph

    def _edges(self, pair: tuple[str, str], cut: tuple[int, int]) -> NDArray[np.int64]:
        """Columns of an edge index (2, E), which lie behind each other, or two by two."""
        member = self._member_of(f"edge_index.{pair[0]}.{pair[1]}")
        count, size = cut[1] - cut[0], member.dtype.itemsize
        if member.is_fortran:
            return self._values(member, member.offset + 2 * cut[0] * size, 2 * count * size).reshape(count, 2).T
        starts = [member.offset + (k * member.shape[1] + cut[0]) * size for k in range(2)]
        return np.stack([self._values(member, start, count * size) for start in starts])

    def _member_of(self, name: str) -> _Member:
        if name not in self._members:
            raise SampleError(f"{self.path} has no array {name}: write the set again with this version")
        return self._members[name]

    def _values(self, member: _Member, offset: int, n_bytes: int) -> NDArray[Any]:
        found = os.pread(self._file, n_bytes, offset) if n_bytes else b""
        if len(found) != n_bytes:
            raise SampleError(f"{self.path} ends early: write the set again")
        return np.frombuffer(found, member.dtype)

    def _whole(self, member: _Member) -> NDArray[Any]:
        values = self._values(member, member.offset, prod(member.shape) * member.dtype.itemsize)
        return values.reshape(member.shape, order="F" if member.is_fortran else "C")

    def _cuts_of_an_old_shard(self) -> NDArray[np.int64]:
        (arrays,) = read_shards(self.path.parent, [self.path.name])
        return graph_cuts(graphs_from_arrays(arrays, n_tiles=len(self)))


def _member(info: zipfile.ZipInfo, file: BinaryIO) -> _Member:
    if info.compress_type != zipfile.ZIP_STORED:
        raise SampleError(f"array {info.filename} is compressed, which cannot be read tile by tile")
    file.seek(info.header_offset + _NAME_LENGTH_AT)
    name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    file.seek(info.header_offset + _LOCAL_HEADER_BYTES + name + extra)
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    return _Member(dtype, shape, is_fortran, file.tell())
