"""Charts of a report, drawn by plotly in the browser from the page itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One line of a forest plot.

    Attributes:
        label: Text at the left.
        value: Point, None for "not estimable".
        low: Left end of the bar.
        high: Right end.
        strong: Drawn as a summary (whole, region) rather than as one of many.
        text: Estimate and interval in words, shown at the right.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    strong: bool
    text: str


def draw_differences(rows: Sequence[ForestRow], *, title: str) -> go.Figure:
    """Values about 0 with their intervals, the first row on top."""
    ends = [abs(v) for r in rows for v in (r.value, r.low, r.high) if v is not None and math.isfinite(v)]
    reach = 1.1 * max([*ends, 0.01])
    figure = draw_forest(rows, title=title, span=(-reach, reach))
    figure.add_vline(x=0, line={"color": "#888", "width": 1})
    figure.update_layout(margin={"l": 330, "r": 230, "t": 45, "b": 30})
    return figure


def draw_forest(rows: Sequence[ForestRow], *, title: str, span: tuple[float, float] = (0, 1)) -> go.Figure:
    """Values with their intervals, the first row on top.

    Args:
        rows: What is drawn.
        title: Heading.
        span: Ends of the axis.
    """
    figure = go.Figure()
    for strong, name, colour, size in ((True, "summary", "#123f7a", 10), (False, "single", "#5b7fae", 7)):
        mine = [(k, r) for k, r in enumerate(rows) if r.strong is strong and r.value is not None]
        if not mine:
            continue
        figure.add_trace(
            go.Scatter(
                x=[r.value for _, r in mine],
                y=[k for k, _ in mine],
                error_x=_bars([r for _, r in mine]),
                mode="markers",
                marker={"color": colour, "size": size},
                name=name,
                hovertext=[f"{plain_text(r.label)}: {plain_text(r.text)}" for _, r in mine],
                hoverinfo="text",
            )
        )
    labels = [f"<b>{plain_text(r.label)}</b>" if r.strong else plain_text(r.label) for r in rows]
    texts = [
        {"x": 1.02, "y": k, "xref": "paper", "text": plain_text(r.text), "showarrow": False, "xanchor": "left"}
        for k, r in enumerate(rows)
    ]
    figure.update_xaxes(range=list(span), zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=labels, range=[len(rows) - 0.4, -0.6], showgrid=False, zeroline=False
    )
    figure.update_layout(
        title={"text": title, "font": {"size": 15}},
        annotations=texts,
        height=90 + 22 * len(rows),
        margin={"l": 190, "r": 230, "t": 45, "b": 30},
        showlegend=False,
        plot_bgcolor="#f6f8fb",
    )
    return figure


def draw_pairs(product: Sequence[float], reference: Sequence[float], *, title: str, names: Sequence[str]) -> go.Figure:
    """Values of the product over those of the reference, with the line of equality.

    Args:
        product: Values, up the page.
        reference: Values, to the right.
        title: Heading.
        names: What is shown when pointed at.
    """
    ends = [min([*product, *reference]), max([*product, *reference])]
    line = go.Scatter(x=ends, y=ends, mode="lines", line={"color": "#888", "width": 1}, hoverinfo="skip")
    dots = go.Scatter(
        x=list(reference),
        y=list(product),
        mode="markers",
        marker={"color": "#123f7a", "size": 6, "opacity": 0.6},
        hovertext=[plain_text(n) for n in names],
    )
    figure = go.Figure([line, dots])
    figure.update_xaxes(title="reference")
    figure.update_yaxes(title="product")
    figure.update_layout(
        title={"text": plain_text(title), "font": {"size": 15}},
        height=420,
        width=520,
        margin={"l": 70, "r": 20, "t": 45, "b": 50},
        showlegend=False,
        plot_bgcolor="#f6f8fb",
    )
    return figure


def _bars(rows: Sequence[ForestRow]) -> dict[str, Any]:
    """Asymmetric error bars; none where an interval is missing."""
    above, below = [0.0] * len(rows), [0.0] * len(rows)
    for k, row in enumerate(rows):
        if row.value is not None and row.low is not None and row.high is not None:
            above[k], below[k] = row.high - row.value, row.value - row.low
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 0}


def plain_text(text: str) -> str:
    """Text that plotly takes for text: names may hold what looks like a tag."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
