"""Features as a source delivers them: parallel arrays before cleaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawFeatures:
    """Parallel arrays of what a source holds.

    Attributes:
        geometry: shapely geometries (n,), None where the source has none.
        tags: Canonical tag sets (n,), str.
        source_id: Identifier in the source (n,), str or None.
    """

    geometry: NDArray[np.object_]
    tags: NDArray[np.object_]
    source_id: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.geometry)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> RawFeatures:
        return RawFeatures(self.geometry[rows], self.tags[rows], self.source_id[rows])

    @classmethod
    def concat(cls, parts: Sequence[RawFeatures]) -> RawFeatures:
        """All rows of ``parts``, in order."""
        if not parts:
            return cls(*(np.zeros(0, object) for _ in range(3)))
        return cls(
            np.concatenate([p.geometry for p in parts]),
            np.concatenate([p.tags for p in parts]),
            np.concatenate([p.source_id for p in parts]),
        )
