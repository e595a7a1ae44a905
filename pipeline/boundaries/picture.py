"""A picture of all areas of interest: for checking, not for publishing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.files import replacing

if TYPE_CHECKING:
    from pipeline.boundaries.table import Areas

_ASPECT = 1.25


def draw_areas(areas: Areas, path: Path) -> None:
    """Draw boundaries, areas and cities without one as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - heavy
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy

    figure = Figure(figsize=(11, 9), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    outlines = areas.matches.table
    if len(outlines):
        simple = outlines.geometry.simplify(0.02)
        lost = outlines["adcode"].isin([m["adcode"] for m in areas.missing])
        simple[~lost].plot(ax=axes, color="#eef1f4", edgecolor="#9aa5b1", linewidth=0.3)
        if lost.any():
            simple[lost].plot(ax=axes, color="#f6d4cf", edgecolor="#b5473a", linewidth=0.5)
    if len(areas.table):
        areas.table.geometry.plot(ax=axes, color="#1f6f8b", edgecolor="#1f6f8b", linewidth=0.4)
    axes.set_aspect(_ASPECT)
    axes.set_xlabel("longitude, degrees")
    axes.set_ylabel("latitude, degrees")
    axes.set_title(
        f"Areas of interest (blue) of {len(areas.table)} of {areas.record['cities']} cities;"
        f" {len(areas.missing)} without one (red where they have a boundary)"
    )
    with replacing(path) as part:
        figure.savefig(part, metadata={"Software": None})
