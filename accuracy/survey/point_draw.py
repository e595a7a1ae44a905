"""Points at pixel centres, drawn from a product's strata in bounded memory; and the two files that come of it.

Ranks are drawn first (the k-th pixel of a stratum, row by row), then only the strips that hold them are read again.
What interpreters get holds neither the map's answer nor the stratum, which would give it away; that is kept in the
design table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from accuracy.arrays import Bools, Ints
from accuracy.errors import DrawError
from accuracy.pixels import pixel_area_m2
from accuracy.survey.drawing import draw_growing, make_generator
from accuracy.survey.map_strata import NO_STRATUM, STRATA, MapRasters, MapStrata, StrataReader

BLIND_COLUMNS = ("point_id", "city", "label", "interpreter", "date_ref", "comment", "geometry")


@dataclass(frozen=True, kw_only=True)
class DrawnPoints:
    """Points of one city.

    Attributes:
        design: GeoDataFrame in the raster's CRS: ``point_id``, ``city``, ``region``, ``map_stratum``, ``map`` (1 where
            the published polygons lie, else 0), ``M_pix``, ``pixel_m2`` (a pixel's area on the ground), ``m_pts``,
            ``draw_order``, ``pi_point`` (inclusion probability within the city), ``row_px``, ``col_px``, ``edge`` (the
            map's outline passes through its 3 x 3 pixels), ``geometry``.
        stratum_px: Pixels of each stratum.
        not_predicted_px: Pixels without a score: no part of the population.
    """

    design: gpd.GeoDataFrame
    stratum_px: Mapping[str, int]
    not_predicted_px: int


def draw_points(
    rasters: MapRasters,
    *,
    city: str,
    region: str,
    allocation: Mapping[str, int],
    seed: int,
    strata: MapStrata | None = None,
) -> DrawnPoints:
    """Draw points at random without replacement in each stratum of a city.

    With the same seed a larger allocation keeps all points of a smaller one. A stratum with fewer pixels than asked
    is taken whole.

    Args:
        rasters: Mask and scores of the city's product.
        city: Key of the city.
        region: Its region.
        allocation: Points per stratum, keyed by ``mapped``, ``candidate``, ``rest``.
        seed: Seed of the survey.
        strata: How the product is cut.

    Raises:
        DrawError: An unknown stratum, a stratum without points, or rasters that do not fit.
    """
    _check(allocation)
    with (strata or MapStrata()).open(rasters) as reader:
        per_row = _rows(reader)
        sizes = per_row.sum(axis=0)
        picks = {}
        for k, name in enumerate(STRATA):
            if sizes[k] == 0:
                continue
            if allocation.get(name, 0) < 1:
                raise DrawError(
                    f"stratum {name!r} of {city} holds {sizes[k]} pixels but gets no point: it would be unassessed;"
                    f" ask for at least 1 with --{name}"
                )
            n = min(allocation[name], int(sizes[k]))
            picks[k] = draw_growing(int(sizes[k]), n, make_generator(seed, "points", city, name))
        rows, cols, edges = _locate(reader, per_row, picks)
        transform, crs = reader.mask.transform, reader.mask.crs
        area_m2 = pixel_area_m2(reader.mask)
    if not picks:
        raise DrawError(f"{rasters.mask} has no predicted pixel: nothing can be drawn")
    parts = []
    for k, pick in picks.items():
        parts.append(
            pd.DataFrame(
                {
                    "point_id": [f"{city}-{r:06d}-{c:06d}" for r, c in zip(rows[k], cols[k], strict=True)],
                    "city": city,
                    "region": region,
                    "map_stratum": STRATA[k],
                    "map": int(STRATA[k] == "mapped"),
                    "M_pix": int(sizes[k]),
                    "pixel_m2": area_m2,
                    "m_pts": len(pick),
                    "draw_order": np.arange(1, len(pick) + 1),
                    "pi_point": len(pick) / float(sizes[k]),
                    "row_px": rows[k],
                    "col_px": cols[k],
                    "edge": edges[k],
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    x = transform.c + transform.a * (table["col_px"] + 0.5) + transform.b * (table["row_px"] + 0.5)
    y = transform.f + transform.d * (table["col_px"] + 0.5) + transform.e * (table["row_px"] + 0.5)
    return DrawnPoints(
        design=gpd.GeoDataFrame(table, geometry=shapely.points(x, y), crs=crs),
        stratum_px={name: int(sizes[k]) for k, name in enumerate(STRATA)},
        not_predicted_px=int(sizes[NO_STRATUM]),
    )


def blind(design: gpd.GeoDataFrame, *, seed: int) -> gpd.GeoDataFrame:
    """What interpreters get: WGS84 points in random order with empty labels, without map, stratum or draw order."""
    points = design.to_crs("EPSG:4326")
    order = make_generator(seed, "labelling order").permutation(len(points))
    shuffled = points.sort_values("point_id").iloc[order].reset_index(drop=True)
    empty = {c: pd.Series([None] * len(shuffled), dtype="str") for c in ("label", "interpreter", "date_ref", "comment")}
    return gpd.GeoDataFrame(shuffled.assign(**empty)[list(BLIND_COLUMNS)], geometry="geometry", crs="EPSG:4326")


def _check(allocation: Mapping[str, int]) -> None:
    unknown = sorted(set(allocation) - set(STRATA))
    if unknown:
        raise DrawError(f"stratum {unknown[0]!r} is none of {', '.join(STRATA)}")


def _rows(reader: StrataReader) -> Ints:
    """int64 (height, 4): pixels of each stratum per row."""
    parts = []
    for _, code in reader.strips():
        parts.append(np.stack([np.count_nonzero(code == k, axis=1) for k in range(4)], axis=1))
    return np.concatenate(parts).astype(np.int64)


def _locate(
    reader: StrataReader, per_row: Ints, picks: Mapping[int, Ints]
) -> tuple[dict[int, Ints], dict[int, Ints], dict[int, Bools]]:
    """Rows, columns and whether the outline is near, of the picked ranks of every stratum in the order picked."""
    starts = {k: np.concatenate([[0], np.cumsum(per_row[:, k])]) for k in picks}
    rows = {k: (np.searchsorted(starts[k], pick, side="right") - 1).astype(np.int64) for k, pick in picks.items()}
    cols = {k: np.zeros_like(pick) for k, pick in picks.items()}
    edges = {k: np.zeros(len(pick), dtype=bool) for k, pick in picks.items()}
    height = int(reader.mask.height)
    step = reader.strip_rows
    everything = np.concatenate([np.zeros(0, dtype=np.int64), *rows.values()])
    for strip in np.unique(everything // step).tolist():
        first = strip * step
        top = max(0, first - 1)
        code = reader.read(top, min(height, first + step + 1) - top)
        for k, pick in picks.items():
            for index in np.flatnonzero(rows[k] // step == strip).tolist():
                row = int(rows[k][index])
                inside = np.flatnonzero(code[row - top] == k)
                col = int(inside[pick[index] - starts[k][row]])
                cols[k][index] = col
                near = code[max(0, row - top - 1) : row - top + 2, max(0, col - 1) : col + 2]
                edges[k][index] = bool((near == 0).any() and ((near == 1) | (near == 2)).any())
    return rows, cols, edges


def describe_draw(drawn: DrawnPoints) -> dict[str, Any]:
    """Counts for people and JSON."""
    return {
        "points": len(drawn.design),
        "per_stratum": {str(k): int(v) for k, v in drawn.design["map_stratum"].value_counts().sort_index().items()},
        "stratum_px": dict(drawn.stratum_px),
        "not_predicted_px": drawn.not_predicted_px,
    }
