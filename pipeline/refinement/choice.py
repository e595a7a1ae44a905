"""Which refiner a run has, and what its manifest and report say about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import geopandas as gpd

from pipeline.refinement.errors import RefinementError
from pipeline.refinement.refiner import Refiner


def choose_refiner(
    kind: Literal["none", "built-in", "sam"],
    *,
    sam_weights: Path | None = None,
    sam_masks: Literal["one", "several"] = "one",
    resolution_m: float = 1.0,
    device: str | None = None,
) -> tuple[Refiner | None, str]:
    """The refiner asked for, or none, and a note for manifest and report.

    Args:
        kind: Which.
        sam_weights: Local folder of SAM.
        sam_masks: SAM's one mask for prompts that leave no doubt, or the best of its several.
        resolution_m: Side of a pixel of the grid.
        device: torch device of SAM; None takes a GPU where there is one.

    Raises:
        RefinementError: SAM is asked for with a folder that holds no SAM.
    """
    if kind == "none":
        return None, "Boundaries are those of the scores: no refinement was asked for."
    if kind == "built-in":
        from pipeline.refinement.built_in import AppearanceRefiner  # noqa: PLC0415  scikit-learn takes 2 s to import

        note = "Boundaries were refined without weights, where villages look unlike their surroundings."
        return AppearanceRefiner(resolution_m=resolution_m), note
    if sam_weights is None:
        return None, "Boundaries are those of the scores: refinement with SAM was skipped, no weights were given."
    if not sam_weights.exists():
        raise RefinementError(f"{sam_weights}: no such folder; give the local folder with SAM's weights")
    from pipeline.refinement.sam import SamRefiner  # noqa: PLC0415  torch and transformers take 20 s to import

    refiner = SamRefiner(sam_weights, masks=sam_masks, device=device)
    return refiner, f"Boundaries were refined with SAM from {sam_weights.name}."


def mark_unrefined(villages: gpd.GeoDataFrame, note: str) -> gpd.GeoDataFrame:
    """The villages with the columns that refinement writes, saying why there was none."""
    return villages.assign(boundary="model", boundary_reason=note)


def summarise_refinement(villages: gpd.GeoDataFrame) -> dict[str, Any]:
    """For manifest and report: how many outlines come from where, and how often each fault rejected one."""
    faults: dict[str, int] = {}
    for reason in villages["boundary_reason"].dropna():
        if reason.startswith("rejected: "):
            for fault in reason.removeprefix("rejected: ").split("; "):
                kind = fault.rsplit(" ", 3)[0] if ("<" in fault or ">" in fault) else fault
                faults[kind] = faults.get(kind, 0) + 1
    counts = villages["boundary"].value_counts().sort_index()
    return {"boundaries": {str(name): int(count) for name, count in counts.items()}, "rejected": faults}
