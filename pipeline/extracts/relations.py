"""The relations of a file: which extracts they touch, what completes them, and who their parents are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import osmium
from numpy.typing import NDArray
from osmium.osm import osm_entity_bits as kinds

from pipeline.extracts.groups import Groups
from pipeline.vectors.errors import VectorError

COMPLETE_TYPES = frozenset({"multipolygon"})
"""Relations of these types are completed. Boundaries are not: a province's would be in every extract it touches."""
_NODE, _WAY, _RELATION = 0, 1, 2
_KIND = {"n": _NODE, "w": _WAY, "r": _RELATION}

Ids = NDArray[np.int64]
Numbers = NDArray[np.uint32]


@dataclass(frozen=True)
class Relations:
    """All relations of a file and their members.

    Attributes:
        ids: Ids (r,), rising.
        complete: Whether all members are wanted (r,).
        owner: Row of the relation of each member (m,).
        kind: Node, way or relation (m,).
        ref: Id of the member (m,).
    """

    ids: Ids
    complete: NDArray[np.bool_]
    owner: Ids
    kind: NDArray[np.int8]
    ref: Ids

    def touching(self, groups: Groups, *, nodes: Callable[[Ids], Numbers], ways: Callable[[Ids], Numbers]) -> Numbers:
        """Number of the set of extracts (r,) that a node or way of each relation lies in."""
        of_members = np.zeros(len(self.ref), np.uint32)
        for kind, sets_of in ((_NODE, nodes), (_WAY, ways)):
            chosen = self.kind == kind
            of_members[chosen] = sets_of(self.ref[chosen])
        result = np.zeros(len(self.ids), np.uint32)
        rows, numbers = groups.unions(self.owner, of_members)
        result[rows] = numbers
        return result

    def completing(self, direct: Numbers) -> tuple[tuple[Ids, Numbers], tuple[Ids, Numbers]]:
        """Ids of the nodes, and of the ways, that complete relations, each with the number of the set it joins."""
        wanted = self.complete[self.owner] & (direct[self.owner] != 0)
        nodes, ways = wanted & (self.kind == _NODE), wanted & (self.kind == _WAY)
        return (self.ref[nodes], direct[self.owner[nodes]]), (self.ref[ways], direct[self.owner[ways]])

    def with_parents(self, direct: Numbers, groups: Groups) -> Numbers:
        """``direct`` (r,), and beside it what the relations that are members of each belong to, at any depth."""
        result = direct.copy()
        member = self.kind == _RELATION
        at = np.minimum(np.searchsorted(self.ids, self.ref[member]), max(len(self.ids) - 1, 0))
        there = self.ids[at] == self.ref[member] if len(self.ids) else np.zeros(0, bool)
        child, parent = at[there], self.owner[member][there]
        while True:
            rows, numbers = groups.unions(
                np.concatenate([np.arange(len(result)), parent]), np.concatenate([result, result[child]])
            )
            if (result[rows] == numbers).all():
                return result
            result[rows] = numbers


def read_relations(source: Path) -> Relations:
    """The relations of a file.

    Raises:
        VectorError: they are not in the order of their ids.
    """
    ids: list[int] = []
    complete: list[bool] = []
    counts: list[int] = []
    kind: list[int] = []
    ref: list[int] = []
    for relation in osmium.FileProcessor(str(source), kinds.RELATION):
        before = len(ref)
        for member in relation.members:
            kind.append(_KIND[member.type])
            ref.append(member.ref)
        ids.append(relation.id)
        complete.append(relation.tags.get("type") in COMPLETE_TYPES)
        counts.append(len(ref) - before)
    rows = np.array(ids, np.int64)
    if (np.diff(rows) <= 0).any():
        raise VectorError(
            f"{source}: its relations are not in the order of their ids; `osmium sort` puts them in order"
        )
    return Relations(
        rows,
        np.array(complete, bool),
        np.repeat(np.arange(len(ids)), counts),
        np.array(kind, np.int8),
        np.array(ref, np.int64),
    )
