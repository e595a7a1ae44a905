"""How refined outlines are made and when they are taken."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import PipelineError


class RefinementError(PipelineError):
    """Boundaries cannot be refined as asked."""


@dataclass(frozen=True)
class AcceptanceRule:
    """When the refined outline of a village replaces the one of the scores; all must hold.

    Attributes:
        min_agreement: Intersection over union of the two.
        min_quality: The refiner's own quality score; not asked of refiners that give none.
        min_area_ratio: Refined area by area before.
        max_area_ratio: The same, at most.
        max_spill: Share of the refined area on excluded land, barriers, other villages or unpredicted pixels
            before it is cut off there.
    """

    min_agreement: float = 0.7
    min_quality: float = 0.7
    min_area_ratio: float = 0.75
    max_area_ratio: float = 1.33
    max_spill: float = 0.05

    def judge(self, *, agreement: float, area_ratio: float, spill: float, quality: float | None) -> tuple[bool, str]:
        """Whether to accept, and the reason in words with the figures."""
        checks = [
            (agreement >= self.min_agreement, f"agreement {agreement:.2f} < {self.min_agreement}"),
            (area_ratio >= self.min_area_ratio, f"area ratio {area_ratio:.2f} < {self.min_area_ratio}"),
            (area_ratio <= self.max_area_ratio, f"area ratio {area_ratio:.2f} > {self.max_area_ratio}"),
            (spill <= self.max_spill, f"spill {spill:.2f} > {self.max_spill}"),
            (quality is None or quality >= self.min_quality, f"quality {quality} < {self.min_quality}"),
        ]
        faults = [text for passed, text in checks if not passed]
        if faults:
            return False, "rejected: " + "; ".join(faults)
        known = "" if quality is None else f", quality {quality:.2f}"
        return True, f"accepted: agreement {agreement:.2f}, area ratio {area_ratio:.2f}{known}"


@dataclass(frozen=True)
class RefinementConfig:
    """Windows, prompts and the rule.

    Attributes:
        margin_px: Ground around a village that a window shows at least.
        batch_windows: Windows that are encoded at once.
        positive_points: Points inside the village that prompt SAM.
        negative_points: Points outside it.
        min_area_m2: Refined parts that are smaller go.
        min_hole_m2: Smaller holes of refined outlines are filled.
        simplify_m: Tolerance of the refined outlines, see `pipeline.polygons`.
        rule: When a refined outline is taken.
    """

    margin_px: int = 48
    batch_windows: int = 2
    positive_points: int = 5
    negative_points: int = 5
    min_area_m2: float = 2_000.0
    min_hole_m2: float = 1_000.0
    simplify_m: float = 2.0
    rule: AcceptanceRule = AcceptanceRule()
