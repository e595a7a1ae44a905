"""Where cities and points lie: a map in degrees without any ground below, so that the page needs no network."""

from __future__ import annotations

import math
from collections.abc import Mapping

import geopandas as gpd
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from accuracy.reporting.charts import plain_text
from accuracy.survey.sample import ReferenceSample

RESULTS = {
    "tn": ("right: no village", "#b5c0cf"),
    "tp": ("right: village", "#2a9d4a"),
    "fp": ("commission", "#d9930d"),
    "fn": ("omission", "#c62f3a"),
    "no answer": ("no answer", "#777777"),
}


def find_places(sample: ReferenceSample) -> pd.DataFrame | None:
    """``city``, ``lon``, ``lat``, ``result`` of every drawn point; None where places or cities are not known."""
    table = sample.table
    if sample.design.psu is None or not isinstance(table, gpd.GeoDataFrame) or table.crs is None:
        return None
    places = table.geometry.to_crs("EPSG:4326").representative_point()
    result = np.full(len(table), "no answer", dtype=object)
    names = np.array(["tn", "fn", "fp", "tp"], dtype=object)
    result[sample.responded] = names[2 * sample.mapped + sample.reference]
    keys = sample.design.keys(table)["psu"]
    return pd.DataFrame(
        {"city": keys.to_numpy(), "lon": places.x.to_numpy(), "lat": places.y.to_numpy(), "result": result}
    )


def draw_places(places: pd.DataFrame, names: Mapping[str, str]) -> go.Figure:
    """Cities with their names, and the points by what map and reference say there (zoom in to see them)."""
    figure = go.Figure()
    for key, (label, colour) in RESULTS.items():
        mine = places[places["result"] == key]
        if len(mine):
            figure.add_trace(
                go.Scatter(
                    x=mine["lon"].round(5), y=mine["lat"].round(5), mode="markers", name=f"{label} ({len(mine)})",
                    marker={"size": 4, "color": colour}, hoverinfo="skip",
                )
            )  # fmt: skip
    cities = places.groupby("city")[["lon", "lat"]].mean()
    wrong = places["result"].isin(["fp", "fn"]).groupby(places["city"]).sum()
    texts = [plain_text(names.get(str(c), str(c))) for c in cities.index]
    sizes = places.groupby("city").size()
    told = [f"{t}: {int(wrong[c])} errors of {int(sizes[c])} points" for c, t in zip(cities.index, texts, strict=True)]
    figure.add_trace(
        go.Scatter(
            x=cities["lon"].round(4), y=cities["lat"].round(4), mode="markers+text", name="city",
            marker={"size": 16, "color": "rgba(18,63,122,0.15)", "line": {"color": "#123f7a", "width": 1}},
            text=texts, textposition="top center", textfont={"size": 10}, hovertext=told, hoverinfo="text",
        )
    )  # fmt: skip
    middle = math.radians(float(places["lat"].mean()))
    figure.update_yaxes(title="latitude", scaleanchor="x", scaleratio=1 / max(0.1, math.cos(middle)), zeroline=False)
    figure.update_xaxes(title="longitude", zeroline=False)
    figure.update_layout(
        height=620, plot_bgcolor="#f6f8fb", margin={"l": 60, "r": 20, "t": 20, "b": 45},
        legend={"orientation": "h", "y": -0.12},
    )  # fmt: skip
    return figure
