"""The report page of a city: one HTML file that opens from disk with no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import plotly.graph_objects as go
import shapely
from jinja2 import Environment
from numpy.typing import NDArray
from PIL import Image
from plotly.subplots import make_subplots

from regions.raster.grid import Grid
from regions.raster.scores import is_predicted, probability_of

MAX_SIDE_PX = 1600


@dataclass(frozen=True)
class ReportTable:
    """A table of the report: a heading, column names, rows of cells, and what the figures mean."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class MapLayers:
    """What the report's map shows.

    Attributes:
        grid: The city's grid.
        image: uint8 (h, w, 3) overview of the imagery, or None.
        scores: uint8 (h, w) overview of the scores, 255 = not predicted, or None.
        outlines: Named polygon layers in the grid's CRS with the colour of their outline.
    """

    grid: Grid
    image: NDArray[np.uint8] | None
    scores: NDArray[np.uint8] | None
    outlines: Sequence[tuple[str, gpd.GeoDataFrame, str]] = field(default_factory=tuple)


@dataclass(frozen=True)
class ReportChart:
    """A chart of the report: a heading, the figure, and what it shows."""

    title: str
    figure: go.Figure
    note: str = ""


@dataclass(frozen=True)
class ReportPage:
    """What a page says beside its map, in order: heading, links, notes, tables, charts.

    A link is its text and an address beside the page.
    """

    title: str
    subtitle: str
    tables: Sequence[ReportTable]
    charts: Sequence[ReportChart] = ()
    notes: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()


def render_report(page: ReportPage, layers: MapLayers) -> str:
    """The page as HTML text, plotly's script inlined once."""
    chart = map_figure(layers).to_html(
        full_html=False,
        include_plotlyjs="inline",
        div_id="uvmap-map",
        config={"scrollZoom": True, "displaylogo": False, "responsive": True},
    )
    template = Environment(autoescape=True).from_string(_PAGE)
    cells = [
        {"title": t.title, "columns": t.columns, "rows": [[_text(c) for c in row] for row in t.rows], "note": t.note}
        for t in page.tables
    ]
    drawn = [
        {
            "title": c.title,
            "note": c.note,
            "html": c.figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"uvmap-chart-{k}"),
        }
        for k, c in enumerate(page.charts)
    ]
    return template.render(
        title=page.title,
        subtitle=page.subtitle,
        chart=chart,
        tables=cells,
        charts=drawn,
        notes=list(page.notes),
        links=list(page.links),
    )


def reliability_figure(bins: Sequence[dict[str, Any]], *, before: Sequence[dict[str, Any]] = ()) -> go.Figure:
    """Observed share of urban village against the score, with the pixels of each bin below.

    Args:
        bins: Rows ``low``, ``high``, ``pixels``, ``score_mean``, ``observed``.
        before: The same before the model's calibration; none where it has none.
    """
    figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.04)
    line = {"dash": "dot", "color": "#777777"}
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", name="calibrated", line=line), row=1, col=1)
    for name, rows, colour in (("before calibration", before, "#b0b0b0"), ("scores", bins, "#123f7a")):
        known = [b for b in rows if b["pixels"]]
        if not known:
            continue
        texts = [f"{b['pixels']:,} pixels, {b['score_mean'] - b['observed']:+.3f}" for b in known]
        points = go.Scatter(
            x=[b["score_mean"] for b in known],
            y=[b["observed"] for b in known],
            text=texts,
            mode="lines+markers",
            name=name,
            line={"color": colour},
        )
        bars = go.Bar(
            x=[(b["low"] + b["high"]) / 2 for b in known],
            y=[b["pixels"] for b in known],
            text=[f"{b['pixels']:,}" for b in known],
            name=f"pixels, {name}",
            marker={"color": colour},
            showlegend=False,
        )
        figure.add_trace(points, row=1, col=1)
        figure.add_trace(bars, row=2, col=1)
    figure.update_xaxes(range=[0, 1])
    figure.update_xaxes(title="score", row=2, col=1)
    figure.update_yaxes(range=[0, 1], title="observed share of urban village", row=1, col=1)
    figure.update_yaxes(type="log", title="pixels", row=2, col=1)
    figure.update_layout(width=720, height=560, margin={"l": 60, "r": 10, "t": 20, "b": 50}, barmode="group")
    return figure


def map_figure(layers: MapLayers) -> go.Figure:
    """A zoomable map: imagery, scores and outlines, each of which can be hidden."""
    left, bottom, right, top = layers.grid.bounds_m
    pictures = []
    if layers.image is not None:
        picture = _embedded(Image.fromarray(layers.image), "JPEG", quality=85)
        pictures.append(_picture(picture, (left, bottom, right, top), 1.0))
    if layers.scores is not None:
        picture = _embedded(_score_picture(layers.scores), "PNG")
        pictures.append(_picture(picture, (left, bottom, right, top), 0.65))
    figure = go.Figure()
    for name, polygons, colour in layers.outlines:
        x, y = _outline(polygons)
        figure.add_trace(go.Scattergl(x=x, y=y, mode="lines", name=f"{name} ({len(polygons)})", line={"color": colour}))
    if not layers.outlines:  # axes need one trace to take their range
        figure.add_trace(go.Scattergl(x=[left, right], y=[bottom, top], mode="markers", opacity=0, showlegend=False))
    figure.update_xaxes(
        range=[left, right], title=f"easting, m ({layers.grid.crs})", constrain="domain", showgrid=False, tickformat="d"
    )
    figure.update_yaxes(
        range=[bottom, top], title="northing, m", scaleanchor="x", scaleratio=1, showgrid=False, tickformat="d"
    )
    figure.update_layout(
        images=pictures,
        dragmode="pan",
        height=760,
        margin={"l": 70, "r": 10, "t": 50, "b": 50},
        legend={"orientation": "h", "y": -0.08},
        updatemenus=[_switch(len(pictures), has_image=layers.image is not None)],
        plot_bgcolor="#e8e8e8",
    )
    return figure


def score_colours(scores: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGBA uint8 (h, w, 4) picture of scores: clear to red with rising probability, grey where not predicted."""
    share = probability_of(scores, not_predicted=0.0)
    colours = np.empty((*scores.shape, 4), np.uint8)
    colours[..., 0] = 255
    colours[..., 1] = (220 * (1 - share)).astype(np.uint8)
    colours[..., 2] = 40
    colours[..., 3] = (255 * share).astype(np.uint8)
    colours[~is_predicted(scores)] = (120, 120, 120, 160)
    return colours


def _switch(n_pictures: int, *, has_image: bool) -> dict[str, Any]:
    names = ["image", "scores"] if has_image else ["scores"]
    wanted = [names, *[[n] for n in names], []] if n_pictures > 1 else [names, []]
    buttons = [
        {
            "label": " + ".join(shown) if shown else "outlines only",
            "method": "relayout",
            "args": [{f"images[{k}].visible": names[k] in shown for k in range(n_pictures)}],
        }
        for shown in wanted
    ]
    return {"type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": 1.08, "buttons": buttons}


def _picture(source: str, bounds_m: tuple[float, float, float, float], opacity: float) -> dict[str, Any]:
    left, bottom, right, top = bounds_m
    return {
        "source": source,
        "xref": "x",
        "yref": "y",
        "x": left,
        "y": top,
        "sizex": right - left,
        "sizey": top - bottom,
        "sizing": "stretch",
        "layer": "below",
        "opacity": opacity,
        "visible": True,
    }


def _score_picture(scores: NDArray[np.uint8]) -> Image.Image:
    """`score_colours` as a palette: a byte a pixel, which compresses in a twentieth of the time of four."""
    palette = score_colours(np.arange(256, dtype=np.uint8)[None, :])
    picture = Image.fromarray(scores).convert("L")
    picture.putpalette(palette.tobytes(), "RGBA")
    return picture


def _embedded(picture: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _outline(polygons: gpd.GeoDataFrame) -> tuple[list[float | None], list[float | None]]:
    """Coordinates x and y of all rings behind each other, separated by None."""
    rings = shapely.get_rings(shapely.get_parts(polygons.geometry.to_numpy()))
    x: list[float | None] = []
    y: list[float | None] = []
    for ring in rings:
        points = np.round(shapely.get_coordinates(ring), 1)
        x += [*points[:, 0].tolist(), None]
        y += [*points[:, 1].tolist(), None]
    return x, y


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>
 body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1200px; padding: 1rem; color: #222; }
 h1 { margin-bottom: 0; } .sub { color: #555; margin-top: .2rem; }
 table { border-collapse: collapse; margin: .3rem 0; } caption { text-align: left; font-weight: 600; }
 th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
 th:first-child, td:first-child { text-align: left; } .note { color: #555; font-size: 13px; margin-bottom: 1.2rem; }
</style></head><body>
<h1>{{ title }}</h1><p class="sub">{{ subtitle }}</p>
{% for text, address in links %}<p><a href="{{ address }}">{{ text }}</a></p>{% endfor %}
{{ chart | safe }}
{% for note in notes %}<p class="note">{{ note }}</p>{% endfor %}
{% for t in tables %}
<h2>{{ t.title }}</h2>
<table><tr>{% for c in t.columns %}<th>{{ c }}</th>{% endfor %}</tr>
{% for row in t.rows %}<tr>{% for c in row %}<td>{{ c }}</td>{% endfor %}</tr>{% endfor %}
</table><p class="note">{{ t.note }}</p>
{% endfor %}
{% for c in charts %}<h2>{{ c.title }}</h2>{{ c.html | safe }}<p class="note">{{ c.note }}</p>{% endfor %}
</body></html>
"""
