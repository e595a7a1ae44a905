"""What the windows of one village add up to."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.polygons.runs import Runs


@dataclass
class Evidence:
    """What the windows of one village add up to.

    Attributes:
        parts: Runs of the refined pixels, core by core.
        refined_px: Refined pixels before they are cut off where the village may not be.
        spilled_px: Those of them that are cut off.
        quality_px: Sum of the refiner's quality x pixels of the village before.
        before_px: Pixels of the village before, where the refiner gave its quality.
    """

    parts: list[Runs] = field(default_factory=list)
    refined_px: int = 0
    spilled_px: int = 0
    quality_px: float = 0.0
    before_px: int = 0

    @property
    def quality(self) -> float | None:
        """Mean quality by pixels of the village before; None where the refiner gives none."""
        return self.quality_px / self.before_px if self.before_px else None

    @property
    def spill(self) -> float:
        """Share of the refined pixels that is cut off."""
        return self.spilled_px / self.refined_px if self.refined_px else 0.0
