"""Leakage: what the assessment shares with training, validation, threshold choice or editing.

Five ways are checked: the same point id, a place too near to a training place, inside or at a training tile, in a city
that was trained on, and labels from the same source. The first three make points dependent and are faults; a city
seen in training is allowed when seen and unseen cities are reported apart; a shared label source makes even distant
points dependent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from accuracy.arrays import Bools
from accuracy.errors import LeakageInputError
from accuracy.survey.design import as_text

SEEN, UNSEEN = "seen", "unseen"


@dataclass(frozen=True, kw_only=True)
class LeakageReport:
    """What was found.

    Attributes:
        points: One row per assessment unit: ``point_id``, ``city``, ``same_id``, ``distance_m`` to the nearest training
            place, ``too_near``, ``in_tile``, ``city_seen``, ``same_source``.
        min_distance_m: Distance that was asked for.
        training_cities: Cities of the training places.
        shared_sources: Label sources of both.
        without_check: Checks that could not be made, with the reason.
    """

    points: pd.DataFrame
    min_distance_m: float
    training_cities: tuple[str, ...]
    shared_sources: tuple[str, ...]
    without_check: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Units found by each check."""
        return {c: int(self.points[c].sum()) for c in ("same_id", "too_near", "in_tile", "city_seen", "same_source")}

    @property
    def is_clean(self) -> bool:
        """No unit is the same, too near, in a tile or of the same source (cities seen are no fault by themselves)."""
        return not any(v for k, v in self.counts.items() if k != "city_seen")

    @property
    def seen(self) -> pd.Series:
        """``seen`` or ``unseen`` city per unit, a domain for the estimates."""
        return pd.Series(np.where(self.points["city_seen"], SEEN, UNSEEN), index=self.points.index, name="seen")

    @property
    def clean(self) -> Bools:
        """Units without any fault."""
        bad = self.points[["same_id", "too_near", "in_tile", "same_source"]].any(axis=1)
        return np.asarray(~bad, dtype=bool)

    def statement(self) -> str:
        """What a report says."""
        n, c = len(self.points), self.counts
        seen_cities = self.points.loc[self.points["city_seen"], "city"].nunique()
        parts = [
            f"{c['same_id']} of {n} assessment units share an id with training data",
            f"{c['in_tile']} lie in or touch a training tile",
            f"{c['too_near']} are nearer than {self.min_distance_m:g} m to one",
            f"{c['city_seen']} lie in {seen_cities} cities that were trained on, reported apart",
            f"{c['same_source']} have labels from a source that training used"
            + (f" ({', '.join(self.shared_sources)})" if self.shared_sources else ""),
        ]
        verdict = "No leakage was found: " if self.is_clean else "LEAKAGE: "
        unchecked = f" Not checked: {'; '.join(self.without_check)}." if self.without_check else ""
        return verdict + "; ".join(parts) + "." + unchecked

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "clean": self.is_clean,
            "units": len(self.points),
            "counts": self.counts,
            "min_distance_m": self.min_distance_m,
            "training_cities": list(self.training_cities),
            "shared_sources": list(self.shared_sources),
            "not_checked": list(self.without_check),
            "statement": self.statement(),
        }


def check_leakage(
    sample: gpd.GeoDataFrame | pd.DataFrame,
    training: gpd.GeoDataFrame | pd.DataFrame,
    *,
    min_distance_m: float,
    id_column: str = "point_id",
    city_column: str = "city",
    source_column: str = "label_source",
    training_id_column: str = "id",
) -> LeakageReport:
    """Check an assessment sample against the training manifest.

    Args:
        sample: Assessment units with ``id_column`` and ``city_column``; geometry for the checks of place.
        training: Everything that shaped the model: training and validation tiles, points, areas of threshold choice or
            manual editing; geometry where it is known, ``training_id_column``, ``city_column`` and ``source_column``
            where they exist.
        min_distance_m: At least the model's receptive field or the range of autocorrelation.
        id_column: Ids of the sample.
        city_column: Cities, in both.
        source_column: Where labels came from, in both.
        training_id_column: Ids of the training places.

    Raises:
        LeakageInputError: The sample has no ids, one of the two has no CRS, or the distance is negative.
    """
    if min_distance_m < 0:
        raise LeakageInputError(f"--min-distance-m {min_distance_m} is negative: give the receptive field in metres")
    if id_column not in sample.columns:
        raise LeakageInputError(
            f"the sample has no column {id_column!r} (it has {', '.join(map(str, sample.columns))})"
        )
    skipped: list[str] = []
    n = len(sample)
    ids = as_text(sample[id_column])
    same_id = np.zeros(n, dtype=bool)
    if training_id_column in training.columns:
        same_id = ids.isin(set(as_text(training[training_id_column]).dropna())).to_numpy(dtype=bool)
    else:
        skipped.append(f"ids (the training manifest has no column {training_id_column!r})")
    cities: tuple[str, ...] = ()
    city_seen = np.zeros(n, dtype=bool)
    if city_column in training.columns and city_column in sample.columns:
        cities = tuple(sorted(set(as_text(training[city_column]).dropna())))
        city_seen = as_text(sample[city_column]).isin(cities).to_numpy(dtype=bool)
    else:
        skipped.append(f"cities (no column {city_column!r} in both)")
    shared: tuple[str, ...] = ()
    same_source = np.zeros(n, dtype=bool)
    if source_column in training.columns and source_column in sample.columns:
        sources = as_text(sample[source_column])
        shared = tuple(sorted(set(sources.dropna()) & set(as_text(training[source_column]).dropna())))
        same_source = sources.isin(shared).to_numpy(dtype=bool)
    else:
        skipped.append(f"label sources (no column {source_column!r} in both)")
    distance = np.full(n, np.nan)
    in_tile = np.zeros(n, dtype=bool)
    if _has_places(sample) and _has_places(training):
        distance, in_tile = _places(sample, training)
    else:
        skipped.append("places (one of the two has no geometry)")
    points = pd.DataFrame(
        {
            "point_id": ids.to_numpy(),
            "city": as_text(sample[city_column]).to_numpy() if city_column in sample.columns else "",
            "same_id": same_id,
            "distance_m": distance,
            "too_near": distance < min_distance_m,
            "in_tile": in_tile,
            "city_seen": city_seen,
            "same_source": same_source,
        }
    )
    return LeakageReport(
        points=points,
        min_distance_m=min_distance_m,
        training_cities=cities,
        shared_sources=shared,
        without_check=tuple(skipped),
    )


def _has_places(table: gpd.GeoDataFrame | pd.DataFrame) -> bool:
    return isinstance(table, gpd.GeoDataFrame) and bool(table.geometry.notna().any())


def _places(sample: gpd.GeoDataFrame, training: gpd.GeoDataFrame) -> tuple[np.ndarray, Bools]:
    """Distance in metres to the nearest training place, and whether it touches one.

    Measured in the UTM zone of each unit's own 6 degree strip, so that a nation fits.
    """
    if sample.crs is None or training.crs is None:
        which = "sample" if sample.crs is None else "training manifest"
        raise LeakageInputError(f"the {which} has no CRS: set it, or distances mean nothing")
    here = np.asarray(sample.geometry.to_crs("EPSG:4326").array, dtype=object)
    there = training.geometry.dropna().to_crs("EPSG:4326")
    middle = shapely.centroid(here)
    zone = np.floor((shapely.get_x(middle) + 180) / 6).astype(int) % 60 + 1
    south = shapely.get_y(middle) < 0
    distance = np.full(len(here), np.inf)
    touches = np.zeros(len(here), dtype=bool)
    lon = there.bounds
    for strip in np.unique(zone).tolist():
        for below in (False, True):
            mine = np.flatnonzero((zone == strip) & (south == below))
            if not len(mine):
                continue
            crs = f"EPSG:{(32700 if below else 32600) + strip}"
            west = (strip - 1) * 6 - 180
            near = there[(lon["maxx"] > west - 3) & (lon["minx"] < west + 9)]
            if near.empty:
                continue
            units = np.asarray(gpd.GeoSeries(here[mine], crs="EPSG:4326").to_crs(crs).array, dtype=object)
            tree = shapely.STRtree(np.asarray(near.to_crs(crs).array, dtype=object))
            position, metres = tree.query_nearest(units, return_distance=True, all_matches=False)
            distance[mine[position[0]]] = metres
            touches[mine] = distance[mine] <= 1e-6
    return distance, touches
