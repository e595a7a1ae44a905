"""Which village of a map a reference row speaks of: by its id, by a point in it, or by an outline that overlaps it."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from accuracy.arrays import Ints
from accuracy.errors import ComparisonError
from accuracy.survey.design import as_text

ID = "uv_id"
OF_MAP = "map:"
"""Set before the product's columns in a matched table."""


@dataclass(frozen=True, kw_only=True)
class MatchedVillages:
    """Reference rows with the village that they speak of.

    Attributes:
        table: The reference's rows that met a village, with the product's columns, named ``map:`` and their name.
        unmatched: Reference rows that meet none.
        how: By what they were matched: ``uv_id``, ``points`` or ``outlines``.
    """

    table: pd.DataFrame
    unmatched: int
    how: str


def match_villages(reference: pd.DataFrame, villages: gpd.GeoDataFrame, *, least_iou: float = 0.5) -> MatchedVillages:
    """Find the village of every reference row.

    Args:
        reference: Rows with ``uv_id``, or with points or outlines in any CRS.
        villages: The product's villages.
        least_iou: Outlines meet the village of largest intersection over union, if it is at least this.

    Raises:
        ComparisonError: The reference has neither ids nor places, no CRS, an id twice, or several rows of one village.
    """
    if ID in reference.columns:
        how, found = ID, _by_id(reference, villages)
    elif isinstance(reference, gpd.GeoDataFrame):
        if reference.crs is None or villages.crs is None:
            raise ComparisonError(
                f"the {'reference' if reference.crs is None else 'product'} has no CRS: write one into the file"
            )
        kinds = set(reference.geometry.dropna().geom_type)
        if kinds <= {"Point"}:
            how, found = "points", _by_point(reference, villages)
        elif kinds <= {"Polygon", "MultiPolygon"}:
            how, found = "outlines", _by_outline(reference, villages, least_iou)
        else:
            raise ComparisonError(
                f"the reference holds {', '.join(sorted(kinds))}: give points, or outlines of villages"
            )
    else:
        raise ComparisonError(
            f"the reference has neither a column {ID!r} nor places: give ids of villages, points or outlines"
        )
    met = np.flatnonzero(found >= 0)
    repeated = pd.Series(found[met])[pd.Series(found[met]).duplicated()]
    if len(repeated):
        rows = np.flatnonzero(found == repeated.iloc[0]) + 1
        name = villages[ID].iloc[int(repeated.iloc[0])] if ID in villages.columns else int(repeated.iloc[0])
        raise ComparisonError(
            f"rows {', '.join(map(str, rows[:5]))} of the reference speak of one village ({name}), and so do rows of"
            f" {len(set(repeated)) - 1} others: a village has one reference value; join them first (mean height, total)"
        )
    own = pd.DataFrame(villages.drop(columns=villages.geometry.name)).iloc[found[met]].reset_index(drop=True)
    rest = pd.DataFrame(reference.drop(columns=_geometry(reference))).iloc[met].reset_index(drop=True)
    return MatchedVillages(
        table=pd.concat([rest, own.add_prefix(OF_MAP)], axis=1), unmatched=int((found < 0).sum()), how=how
    )


def _geometry(frame: pd.DataFrame) -> list[str]:
    return [str(frame.geometry.name)] if isinstance(frame, gpd.GeoDataFrame) else []


def _by_id(reference: pd.DataFrame, villages: gpd.GeoDataFrame) -> Ints:
    ids = as_text(villages[ID])
    twice = ids[ids.duplicated()]
    if len(twice):
        raise ComparisonError(f"the product holds village {twice.iloc[0]!r} twice: give one release of each city")
    return np.asarray(pd.Index(ids).get_indexer(pd.Index(as_text(reference[ID]))), dtype=np.int64)


def _by_point(reference: gpd.GeoDataFrame, villages: gpd.GeoDataFrame) -> Ints:
    tree = shapely.STRtree(np.asarray(villages.geometry.array, dtype=object))
    row, village = tree.query(np.asarray(reference.to_crs(villages.crs).geometry.array, dtype=object), "intersects")
    found = np.full(len(reference), -1, dtype=np.int64)
    found[row[::-1]] = village[::-1]
    return found


def _by_outline(reference: gpd.GeoDataFrame, villages: gpd.GeoDataFrame, least_iou: float) -> Ints:
    crs = villages.crs if villages.crs.is_projected else reference.estimate_utm_crs()
    mine = shapely.make_valid(np.asarray(reference.to_crs(crs).geometry.array, dtype=object))
    theirs = shapely.make_valid(np.asarray(villages.to_crs(crs).geometry.array, dtype=object))
    row, village = shapely.STRtree(theirs).query(mine, "intersects")
    common = shapely.area(shapely.intersection(mine[row], theirs[village]))
    union = shapely.area(mine[row]) + shapely.area(theirs[village]) - common
    iou = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    found = np.full(len(reference), -1, dtype=np.int64)
    for k in np.lexsort((-village, iou)):  # the best is written last
        if iou[k] >= least_iou:
            found[row[k]] = village[k]
    return found
