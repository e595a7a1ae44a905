"""How reliable the scores of a training are on its held-out pixels: a page beside the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.segmentation.calibration import CalibrationOutcome
from models.segmentation.reliability import ReliabilityBin
from pipeline.files import replacing
from pipeline.product.report_page import reliability_figure

RELIABILITY_NAME = "reliability.html"


def write_reliability_page(outcome: CalibrationOutcome, path: Path) -> None:
    """Draw observed shares against scores before and after the calibration, with the pixels of every bin.

    Args:
        outcome: Of a training.
        path: HTML file that opens from disk with no network; replaced in one step.
    """
    figure = reliability_figure(_rows(outcome.after), before=_rows(outcome.before))
    errors = {name: outcome.figures.get(name) for name in ("ece_before", "ece")}
    before, after = ("-" if e is None else f"{e:.3f}" for e in errors.values())
    title = f"Held-out pixels: expected calibration error {before} before, {after} after"
    figure.update_layout(title={"text": title, "font": {"size": 14}}, margin={"t": 50})
    with replacing(path) as temporary:
        figure.write_html(temporary, include_plotlyjs=True, div_id="uvmap-reliability")


def _rows(bins: Sequence[ReliabilityBin]) -> list[dict[str, Any]]:
    return [
        {"low": b.low, "high": b.high, "pixels": b.pixels, "score_mean": b.score_mean, "observed": b.observed}
        for b in bins
        if b.weight > 0
    ]
