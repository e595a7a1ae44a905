"""Which extracts an object belongs to, as one number: most objects lie in none or one, few in several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees."""
_PER_DEGREE = 10**7
"""OpenStreetMap's coordinates are whole numbers of these parts of a degree."""
_SHIFT = 32


class Groups:
    """Sets of extracts, each known by a number; 0 is the set of none."""

    def __init__(self) -> None:
        self.sets: list[tuple[int, ...]] = [()]
        self._numbers: dict[tuple[int, ...], int] = {(): 0}
        self._unions: dict[tuple[int, ...], int] = {}

    def number(self, extracts: tuple[int, ...]) -> int:
        """The number of a set of extracts, given in rising order."""
        found = self._numbers.get(extracts)
        if found is None:
            found = self._numbers[extracts] = len(self.sets)
            self.sets.append(extracts)
        return found

    def union(self, numbers: Sequence[int]) -> int:
        """The number of the union of sets."""
        key = tuple(numbers)
        found = self._unions.get(key)
        if found is None:
            members = {extract for number in key for extract in self.sets[number]}
            found = self._unions[key] = self.number(tuple(sorted(members)))
        return found

    def unions(
        self, rows: NDArray[np.int64], numbers: NDArray[np.uint32]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """The union of the sets that stand beside each row.

        Args:
            rows: Rows (n,) in any order, each as often as it has sets; below 2^31.
            numbers: The number of a set beside each (n,).

        Returns:
            The rows that have any extract, rising, and the number of each one's union.
        """
        some = numbers != 0
        keys = np.unique((rows[some] << _SHIFT) | numbers[some].astype(np.int64))
        owner, number = keys >> _SHIFT, (keys & ((1 << _SHIFT) - 1)).astype(np.uint32)
        if not len(keys):
            return owner, number
        first = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
        several = np.flatnonzero(np.diff(np.r_[first, len(owner)]) > 1)
        result = number[first]
        stops = np.r_[first, len(owner)]
        for k in several.tolist():
            result[k] = self.union(number[stops[k] : stops[k + 1]].tolist())
        return owner[first], result


class Boxes:
    """Boxes over the plane, for very many points: the lines of all edges cut it into cells, each in a set of boxes.

    With edges at 2 and 5 and at 4 and 8, x = 4 lies between the lines 4 and 6 (the edge itself counts as inside,
    so a box up to 5 ends before 6) and is in both boxes, x = 6 in the second alone.
    """

    def __init__(self, boxes: Sequence[Box], groups: Groups) -> None:
        edges = np.rint(np.array(boxes, np.float64).reshape(-1, 4) * _PER_DEGREE).astype(np.int64)
        edges[:, 2:] += 1
        self._x, self._y = np.unique(edges[:, [0, 2]]), np.unique(edges[:, [1, 3]])
        self._cells = np.zeros((len(self._x) + 1, len(self._y) + 1), np.uint32)
        for k, (west, south, east, north) in enumerate(edges):
            columns = slice(np.searchsorted(self._x, west) + 1, np.searchsorted(self._x, east) + 1)
            rows = slice(np.searchsorted(self._y, south) + 1, np.searchsorted(self._y, north) + 1)
            cells = self._cells[columns, rows]
            for number in np.unique(cells).tolist():
                cells[cells == number] = groups.number((*groups.sets[number], k))

    def of_points(self, x: NDArray[np.int32], y: NDArray[np.int32]) -> NDArray[np.uint32]:
        """Number of the set of boxes of each point (n,), in parts of a degree; edges belong to a box."""
        return self._cells[np.searchsorted(self._x, x, "right"), np.searchsorted(self._y, y, "right")]
