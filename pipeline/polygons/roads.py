"""Outlines drawn along the streets that bound villages, where the map has them.

Where a street runs within a few metres of an outline for long enough, the outline goes onto its centre line: the ground
between the two is added to the village or taken from it. All else of the outline stays. A street that crosses is near
the outline for a few metres only, so it moves nothing.
"""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.polygons.barriers import LINE_TYPES, parse_tags
from regions.settings import RoadConfig

LARGEST_CHANGE = 0.1
"""A village whose area would change by more, as a share of it, stays as it was: it is no wider than the reach."""
SLIVER_M = 1e-3


def select_roads(vectors: gpd.GeoDataFrame, config: RoadConfig) -> NDArray[np.object_]:
    """Lines (n,), in the vectors' CRS, of the streets that may bound a village; tunnels do not."""
    geometry = vectors.geometry.to_numpy()
    types = shapely.get_type_id(geometry)
    chosen = [
        type_id in LINE_TYPES and tags.get("highway") in config.highways and tags.get("tunnel", "no") == "no"
        for type_id, tags in zip(types, parse_tags(vectors["tags"], keys=("highway",)), strict=True)
    ]
    lines: NDArray[np.object_] = geometry[np.array(chosen, dtype=bool)]
    return lines


def snap_to_roads(
    polygons: NDArray[np.object_],
    roads: NDArray[np.object_],
    *,
    config: RoadConfig,
    forbidden: NDArray[np.object_] | None = None,
) -> NDArray[np.object_]:
    """Move outlines onto the streets that run along them.

    Args:
        polygons: object (P,) of valid polygons that do not overlap, in metres.
        roads: object (n,) of lines in the same CRS.
        config: How near, and how long.
        forbidden: object (m,) of polygons that no village may grow into.

    Returns:
        object (P,) of valid polygons that do not overlap, in the order given.
    """
    result = polygons.copy()
    tree, villages = shapely.STRtree(roads), shapely.STRtree(polygons)
    closed = shapely.STRtree(np.zeros(0, dtype=object) if forbidden is None else forbidden)
    for k, polygon in enumerate(polygons):
        near = roads[np.sort(tree.query(polygon, predicate="dwithin", distance=config.reach_m))]
        runs = _runs_along(polygon, near, config)
        if not runs:
            continue
        # a neighbour may have grown by the reach already
        others = villages.query(polygon, predicate="dwithin", distance=3 * config.reach_m)
        taken = [result[other] for other in np.sort(others) if other != k]
        taken += list(
            closed.geometries[np.sort(closed.query(polygon, predicate="dwithin", distance=2 * config.reach_m))]
        )
        result[k] = _redraw(polygon, runs, shapely.union_all(taken), config.reach_m)
    return result


def _runs_along(polygon: shapely.Polygon, roads: NDArray[np.object_], config: RoadConfig) -> list[shapely.LineString]:
    """The stretches of streets that follow the outline."""
    if len(roads) == 0:
        return []
    line = shapely.line_merge(shapely.union_all(roads))
    beside = shapely.line_merge(shapely.intersection(line, shapely.buffer(polygon.boundary, config.reach_m)))
    return [part for part in shapely.get_parts(beside) if part.length >= config.min_run_m]


def _redraw(
    polygon: shapely.Polygon, runs: list[shapely.LineString], taken: shapely.Geometry, reach_m: float
) -> shapely.Polygon:
    """The polygon with the ground between its outline and the runs added or taken away."""
    outline = polygon.boundary
    ends = [shapely.Point(run.coords[at]) for run in runs for at in (0, -1)]
    joints = [shapely.shortest_line(end, outline) for end in ends]
    faces = shapely.get_parts(shapely.polygonize([shapely.union_all([outline, *runs, *joints])]))
    if len(faces) == 0:
        return polygon
    beside = shapely.buffer(shapely.union_all(runs), reach_m + SLIVER_M)
    between = shapely.covered_by(faces, beside)
    inside = shapely.contains(polygon, shapely.point_on_surface(faces))
    added = shapely.difference(shapely.union_all(faces[between & ~inside]), taken)
    drawn = shapely.union_all([*faces[inside & ~between], added])
    parts = shapely.get_parts(drawn)
    if len(parts) == 0:
        return polygon
    largest = parts[np.argmax(shapely.area(parts))]
    change = abs(shapely.area(largest) / shapely.area(polygon) - 1)
    usable = isinstance(largest, shapely.Polygon) and shapely.is_valid(largest) and change <= LARGEST_CHANGE
    return largest if usable else polygon
