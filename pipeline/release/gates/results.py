"""What a gate finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.release.record import ReleaseRecord

SHOWN = 8
"""Findings of a gate that are kept in words; the others are counted."""


@dataclass(frozen=True)
class Subject:
    """A release under check.

    Attributes:
        folder: The release.
        record: Its facts.
        previous: Folder of the last release; None where there is none to compare with.
        max_not_predicted: Largest share of a city's ground without a prediction.
    """

    folder: Path
    record: ReleaseRecord
    previous: Path | None = None
    max_not_predicted: float = 0.1


@dataclass
class Findings:
    """What is the matter, and what was measured.

    Attributes:
        count: Number of findings.
        shown: The first `SHOWN` of them.
        measured: Figures that the gate looked at.
    """

    count: int = 0
    shown: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)

    def add(self, text: str, *, times: int = 1) -> None:
        """Note a finding, or several of a kind."""
        if times <= 0:
            return
        self.count += times
        if len(self.shown) < SHOWN:
            self.shown.append(text)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shown)
