"""How scores become villages: thresholds, gaps, smallest areas, barriers, simplification."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from pipeline.errors import PipelineError


class PolygonError(PipelineError):
    """Scores cannot be turned into polygons as asked."""


@dataclass(frozen=True)
class BarrierConfig:
    """What a village does not span, taken from the vectors' tags.

    Attributes:
        highways: Values of ``highway`` that cut, with the full width in metres that is cut out.
        railways: Values of ``railway`` that cut, with widths in metres.
        waterways: Values of ``waterway`` that cut, with widths in metres. Polygons of ``natural=water`` and
            ``waterway=riverbank`` cut with their own outline where they are at least ``min_water_m2``.
        min_water_m2: Smaller ponds do not cut.
    """

    highways: tuple[tuple[str, float], ...] = (("motorway", 24.0), ("trunk", 20.0), ("primary", 14.0))
    railways: tuple[tuple[str, float], ...] = (("rail", 8.0), ("light_rail", 8.0))
    waterways: tuple[tuple[str, float], ...] = (("river", 12.0), ("canal", 8.0))
    min_water_m2: float = 2_000.0


@dataclass(frozen=True)
class ExclusionConfig:
    """Land use that a village cannot be: removed from it, with the reason kept.

    Attributes:
        drop_share: A village with at least this share of its area inside is removed whole.
        kinds: Reason -> tags (``key=value``) whose polygons exclude.
    """

    drop_share: float = 0.5
    kinds: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("water", ("natural=water", "waterway=riverbank", "landuse=reservoir", "landuse=basin")),
        ("park", ("leisure=park", "leisure=golf_course", "leisure=nature_reserve", "landuse=forest", "natural=wood")),
        ("campus", ("amenity=university", "amenity=college", "landuse=military", "aeroway=aerodrome")),
    )

    def __post_init__(self) -> None:
        if not 0 < self.drop_share <= 1:
            raise PolygonError(f"drop_share must be in (0, 1], got {self.drop_share}")


@dataclass(frozen=True)
class PolygonConfig:
    """From scores to villages.

    Attributes:
        seed_probability: A village must hold a pixel of at least this probability.
        grow_probability: Pixels of at least this probability belong to it; at most ``seed_probability``.
        close_gap_m: Gaps up to about this width (a lane) are closed; 0 leaves them.
        min_area_m2: Minimum mapping unit, measured after small holes are filled.
        min_hole_m2: Smaller holes are filled; at most ``min_area_m2``, so that nothing mapped lies in a filled hole.
        connectivity: 4 (pixels join by edges) or 8 (also by corners).
        simplify_m: Largest distance between the outline before and after simplification; 0 keeps the pixel edges.
        block_px: Side of the blocks in which the raster is read; does not change the answer.
        barriers: What cuts villages; None to cut nothing.
        exclusions: Land use that is removed; None to remove nothing.
    """

    seed_probability: float = 0.6
    grow_probability: float = 0.4
    close_gap_m: float = 6.0
    min_area_m2: float = 2_000.0
    min_hole_m2: float = 1_000.0
    connectivity: Literal[4, 8] = 4
    simplify_m: float = 2.0
    block_px: int = 2_048
    barriers: BarrierConfig | None = field(default_factory=BarrierConfig)
    exclusions: ExclusionConfig | None = None

    def __post_init__(self) -> None:
        if not 0 < self.grow_probability <= self.seed_probability <= 1:
            raise PolygonError(
                "thresholds must satisfy 0 < grow <= seed <= 1, got "
                f"grow {self.grow_probability} and seed {self.seed_probability}"
            )
        if self.connectivity not in (4, 8):
            raise PolygonError(f"connectivity must be 4 or 8, got {self.connectivity}")
        if not 0 <= self.min_hole_m2 <= self.min_area_m2:
            raise PolygonError(
                f"min_hole_m2 ({self.min_hole_m2}) must lie between 0 and min_area_m2 ({self.min_area_m2}): "
                "an island inside a filled hole would overlap it"
            )
        if min(self.close_gap_m, self.simplify_m) < 0 or self.block_px <= 0:
            raise PolygonError(
                f"close_gap_m ({self.close_gap_m}) and simplify_m ({self.simplify_m}) must not be negative, "
                f"block_px ({self.block_px}) must be positive"
            )

    def close_radius_px(self, resolution_m: float) -> int:
        """Radius in pixels of the closing: a gap of ``close_gap_m`` is at most twice as wide."""
        return math.ceil(self.close_gap_m / resolution_m / 2)
