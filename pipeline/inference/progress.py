"""How far a run is, for people and for machines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.disk import writing_to


@dataclass(frozen=True)
class Progress:
    """State of a run after a block.

    Attributes:
        stage: "blocks" or "assembly".
        blocks_total: Blocks of the area.
        blocks_done: Blocks computed in this run.
        blocks_reused: Blocks that an earlier run had done.
        blocks_skipped: Blocks without imagery, or outside the area of interest.
        km2_total: Area of all blocks' cores on the grid, in square kilometres of the grid's CRS.
        km2_done: Area of the blocks that are done, reused or skipped.
        km2_per_s: Area computed per second in this run (reused and skipped blocks left out).
        seconds: Since the run started.
        seconds_left: Estimate for the rest of the blocks; None before the first is done.
    """

    stage: str
    blocks_total: int
    blocks_done: int
    blocks_reused: int
    blocks_skipped: int
    km2_total: float
    km2_done: float
    km2_per_s: float
    seconds: float
    seconds_left: float | None


class JsonLinesProgress:
    """Appends every state to a file, one JSON object per line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, state: Progress) -> None:
        """Append one state."""
        with writing_to(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(state), sort_keys=True) + "\n")
