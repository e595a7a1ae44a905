"""Forest plot as plain SVG: needs no library in the browser and no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One line of the plot.

    Attributes:
        label: Text at the left.
        value: Point, None for "not estimable".
        low: Left end of the bar.
        high: Right end.
        strong: Drawn as a summary (whole, region) rather than as one of many.
        text: Text at the right.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    strong: bool
    text: str


def forest_plot(rows: Sequence[ForestRow], *, title: str) -> str:
    """SVG of values in [0, 1] with their intervals, one row each."""
    line, left, width, right = 20, 190, 460, 210
    height = line * len(rows) + 50
    parts = [
        (
            f'<svg viewBox="0 0 {left + width + right} {height}" role="img" aria-label="{escape(title, quote=True)}"'
            ' xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" font-size="12">'
        ),
        f'<text x="{left}" y="14" font-weight="bold">{escape(title)}</text>',
    ]

    def at(value: float) -> float:
        return left + width * min(max(value, 0.0), 1.0)

    bottom = height - 22
    for tick in range(0, 11, 2):
        x = at(tick / 10)
        parts.append(f'<line x1="{x:.1f}" y1="22" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle" fill="#555">{tick / 10:.1f}</text>')
    for k, row in enumerate(rows):
        y = 34 + line * k
        weight = ' font-weight="bold"' if row.strong else ""
        colour = "#123f7a" if row.strong else "#5b7fae"
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end"{weight}>{escape(row.label)}</text>')
        if row.value is not None and math.isfinite(row.value):
            if row.low is not None and row.high is not None and math.isfinite(row.low) and math.isfinite(row.high):
                parts.append(
                    f'<line x1="{at(row.low):.1f}" y1="{y}" x2="{at(row.high):.1f}" y2="{y}" stroke="{colour}"'
                    f' stroke-width="{3 if row.strong else 1.5}"/>'
                )
            parts.append(f'<circle cx="{at(row.value):.1f}" cy="{y}" r="{5 if row.strong else 3.5}" fill="{colour}"/>')
        parts.append(f'<text x="{left + width + 10}" y="{y + 4}"{weight}>{escape(row.text)}</text>')
    parts.append("</svg>")
    return "".join(parts)
