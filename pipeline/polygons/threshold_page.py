"""The ground on which thresholds are judged, and the page that shows their curve."""

from pathlib import Path

import geopandas as gpd
import plotly.graph_objects as go
import shapely

from pipeline.polygons import PolygonError
from pipeline.polygons.thresholds import ThresholdChoice
from pipeline.reference.areas import read_polygons
from regions.raster.grid import Grid


def read_validation_areas(
    districts: Path | None, *, grid: Grid, role: str
) -> tuple[gpd.GeoSeries, gpd.GeoSeries | None]:
    """The areas to judge and those kept for the assessment, in the grid's CRS; the whole grid without districts.

    Raises:
        PolygonError: the role is that of the assessment, the file has no column `role`, or no area has the role.
    """
    if role == "assess":
        raise PolygonError("role assess: thresholds are never chosen on assessment ground; take validation")
    if districts is None:
        return gpd.GeoSeries([shapely.box(*grid.bounds_m)], crs=grid.crs), None
    areas = read_polygons([districts], crs=grid.crs)
    if "role" not in areas.columns:
        raise PolygonError(f"{districts}: no column `role` (found {list(areas.columns)})")
    judged = areas.loc[areas["role"] == role, areas.geometry.name]
    if len(judged) == 0:
        raise PolygonError(f"{districts}: no area has the role {role!r}, roles are {sorted(set(areas['role']))}")
    kept = areas.loc[areas["role"] == "assess", areas.geometry.name]
    # neighbours share borders that differ by a rounding: ground of both roles is judged by neither
    border = shapely.buffer(shapely.union_all(kept.to_numpy()), grid.resolution_m)
    inner = shapely.difference(shapely.union_all(judged.to_numpy()), border)
    return gpd.GeoSeries([inner], crs=grid.crs), gpd.GeoSeries(kept, crs=grid.crs)


def write_curve_page(choice: ThresholdChoice, path: Path, *, title: str) -> None:
    """One HTML page that opens from disk: F1, precision and recall over the grow level, each at its best seed."""
    best = choice.best_per_grow()
    figure = go.Figure()
    for name in ("f1", "iou", "precision", "recall"):
        figure.add_trace(
            go.Scatter(
                x=best["grow"],
                y=best[name],
                name=name,
                customdata=best["seed"],
                hovertemplate="grow %{x}, seed %{customdata}: %{y:.3f}",
            )
        )
    figure.add_vline(x=choice.grow_probability, line_dash="dot")
    figure.update_layout(
        title=f"{title}: best grow {choice.grow_probability}, seed {choice.seed_probability}",
        xaxis_title="grow probability (seed: the best for it)",
        yaxis_title="on validation ground",
        yaxis_range=[0, 1],
    )
    path.write_text(figure.to_html(include_plotlyjs="inline", div_id="uvmap-curve"), encoding="utf-8")
