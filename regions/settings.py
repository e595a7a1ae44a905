"""The settings of a map: one model each for grid, polygons and refinement, with their defaults.

The campaign file, the command line and the stages of a city all take these models as they are, so a default stands
here and nowhere else. All are frozen and refuse unknown fields.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

BATCH_SIZE = 8
"""Tiles per batch of the model on a CPU."""


def faults_of(error: ValidationError) -> str:
    """What does not fit, all of it in one line: field, reason, value."""
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors())


class Settings(BaseModel):
    """Base of all settings: values that do not change, and no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GridConfig(Settings):
    """Pixel grid and tiling.

    Attributes:
        resolution_m: Pixel size; the imagery's own where null.
        stride_px: Distance between the model's tiles; below the tile size they overlap and are blended.
        block_px: Unit of reading, writing and resuming.
        symmetries: Test-time augmentation: every tile is asked about in this many of the 8 ways to turn and mirror
            it; above 1 the score raster has a second band, their disagreement.
    """

    resolution_m: float | None = Field(default=None, gt=0)
    stride_px: int = Field(default=168, gt=0)
    block_px: int = Field(default=2048, gt=0)
    symmetries: int = Field(default=1, ge=1, le=8)


class BarrierConfig(Settings):
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
    min_water_m2: float = Field(default=2000.0, ge=0)


class ExclusionConfig(Settings):
    """Land use that a village cannot be: removed from it, with the reason kept.

    Attributes:
        drop_share: A village with at least this share of its area inside is removed whole.
        kinds: Reason -> tags (``key=value``) whose polygons exclude.
    """

    drop_share: float = Field(default=0.5, gt=0, le=1)
    kinds: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("water", ("natural=water", "waterway=riverbank", "landuse=reservoir", "landuse=basin")),
        ("park", ("leisure=park", "leisure=golf_course", "leisure=nature_reserve", "landuse=forest", "natural=wood")),
        ("campus", ("amenity=university", "amenity=college", "landuse=military", "aeroway=aerodrome")),
    )


class RoadConfig(Settings):
    """Streets that villages end at: outlines that run along them go onto their centre lines.

    Attributes:
        highways: Values of ``highway`` that bound villages; those that cut them are `BarrierConfig`'s.
        reach_m: Largest distance between outline and street.
        min_run_m: Shortest stretch along which the street must be that near.
    """

    highways: tuple[str, ...] = ("secondary", "tertiary", "unclassified", "residential")
    reach_m: float = Field(default=5.0, gt=0)
    min_run_m: float = Field(default=40.0, gt=0)

    @model_validator(mode="after")
    def _along(self) -> Self:
        if self.min_run_m < 4 * self.reach_m:
            raise ValueError(
                f"min_run_m {self.min_run_m} must be at least four times reach_m {self.reach_m}: "
                "streets that cross an outline would count as running along it"
            )
        return self


class PolygonConfig(Settings):
    """From scores to villages.

    Attributes:
        seed: A village must hold a pixel of at least this probability.
        grow: Pixels of at least this probability belong to it; at most ``seed``.
        close_gap_m: Gaps up to about this width (a lane) are closed; 0 leaves them.
        min_area_m2: Minimum mapping unit, measured after small holes are filled.
        min_hole_m2: Smaller holes are filled; at most ``min_area_m2``, so that nothing mapped lies in a filled hole.
        connectivity: 4 (pixels join by edges) or 8 (also by corners).
        simplify_m: Largest distance between the outline before and after simplification; 0 keeps every point.
        block_px: Side of the blocks in which the raster is read; does not change the answer.
        barriers: What cuts villages; null to cut nothing.
        exclusions: Land use that is removed; null to remove nothing.
        roads: Streets that outlines are drawn along; null to leave them where they are.
    """

    seed: float = Field(default=0.6, gt=0, le=1)
    grow: float = Field(default=0.45, gt=0, le=1)
    close_gap_m: float = Field(default=6.0, ge=0)
    min_area_m2: float = Field(default=2000.0, ge=0)
    min_hole_m2: float = Field(default=1000.0, ge=0)
    connectivity: Literal[4, 8] = 4
    simplify_m: float = Field(default=1.5, ge=0)
    block_px: int = Field(default=2048, gt=0)
    barriers: BarrierConfig | None = BarrierConfig()
    exclusions: ExclusionConfig | None = None
    roads: RoadConfig | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.grow > self.seed:
            raise ValueError(f"grow {self.grow} must not exceed seed {self.seed}")
        if self.min_hole_m2 > self.min_area_m2:
            raise ValueError(
                f"min_hole_m2 ({self.min_hole_m2}) must not exceed min_area_m2 ({self.min_area_m2}): "
                "an island inside a filled hole would overlap it"
            )
        return self

    def close_radius_px(self, resolution_m: float) -> int:
        """Radius in pixels of the closing: a gap of ``close_gap_m`` is at most twice as wide."""
        return math.ceil(self.close_gap_m / resolution_m / 2)


class TextConfig(Settings):
    """Which text model makes vectors of the map's tags.

    Attributes:
        encoder: ``hashed``, ``minilm``, ``clip`` or ``table``; null for the one that the model was trained with.
        weights: Its folder, zip or file; null where it needs none or its package is installed.
    """

    encoder: str | None = None
    weights: Path | None = None


class AcceptanceRule(Settings):
    """When the refined outline of a village replaces the one of the scores; all must hold.

    Attributes:
        min_agreement: Intersection over union of the two.
        min_quality: The refiner's own quality: SAM's estimate of its intersection over union, or how far the built-in
            one tells a village from its surroundings (0 by chance, 1 without a mistake).
        min_area_ratio: Refined area by area before.
        max_area_ratio: The same, at most.
        max_spill: Share of the refined area on excluded land, barriers, other villages or unpredicted pixels
            before it is cut off there.
    """

    min_agreement: float = 0.7
    min_quality: float = 0.8
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


class RefinementConfig(Settings):
    """Who draws outlines anew, with which windows and prompts, and when its answer is taken.

    Areas, holes and simplification of the refined outlines are those of `PolygonConfig`.

    Attributes:
        refiner: ``none``, the ``built-in`` one, or ``sam`` from ``sam_weights``.
        sam_weights: Local folder with SAM weights.
        sam_masks: ``one`` mask per village, or the best of the ``several`` that SAM gives for doubtful prompts.
        margin_px: Ground around a village that a window shows at least.
        batch_windows: Windows that are encoded at once.
        positive_points: Points inside the village that prompt SAM.
        negative_points: Points outside it.
        rule: When a refined outline is taken.
    """

    refiner: Literal["none", "built-in", "sam"] = "none"
    sam_weights: Path | None = None
    sam_masks: Literal["one", "several"] = "one"
    margin_px: int = Field(default=48, ge=0)
    batch_windows: int = Field(default=2, gt=0)
    positive_points: int = Field(default=5, ge=0)
    negative_points: int = Field(default=5, ge=0)
    rule: AcceptanceRule = AcceptanceRule()

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        if self.refiner == "sam" and self.sam_weights is None:
            raise ValueError("refiner sam needs sam_weights, a local folder with SAM weights")
        return self


class ClusterConfig(Settings):
    """Where work that Dask spreads runs: a scheduler that is there, or a class that starts one with its workers.

    In a campaign a bare string is short for one of the two: ``cluster: tcp://10.0.0.5:8786``, ``cluster: local``.

    Attributes:
        address: A running scheduler (``tcp://host:port``, ``tls://...``, or its scheduler file ``*.json``); goes before
            ``kind``.
        kind: ``local``, ``slurm``, ``pbs``, ``sge``, ``lsf``, ``kubernetes``, ``ssh``, or the dotted name of a class
            of clusters.
        arguments: What the class is called with, as its own documentation says.
        workers: Workers to start; null for what the class starts by itself.
        most_workers: Where set, workers come and go with the work, between ``workers`` and this many.
        wait_s: How long to wait for the first worker; queues may be long.
        losses: How often one piece of work may lose its worker before the run gives up on it.
    """

    address: str | None = None
    kind: str = "local"
    arguments: dict[str, Any] = Field(default_factory=dict)
    workers: int | None = Field(default=None, gt=0)
    most_workers: int | None = Field(default=None, gt=0)
    wait_s: float = Field(default=300.0, gt=0)
    losses: int = Field(default=3, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return {"address" if "://" in value or value.endswith(".json") else "kind": value}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.address is not None and (self.arguments or self.workers or self.most_workers or self.kind != "local"):
            raise ValueError(f"address {self.address} names a running scheduler: leave out kind, arguments and workers")
        if self.most_workers is not None and self.most_workers < (self.workers or 1):
            raise ValueError(f"most_workers {self.most_workers} is less than workers {self.workers}")
        return self
