"""A nation of tables with planted truth: what an analysis must find, and what it must not.

No images and no polygons: shares of the 342 cities, villages as points, building form as pairs. Everything that can be
found is set by `Planted`; with its defaults nothing is there to be found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
import pyproj
from numpy.typing import NDArray
from scipy.spatial import KDTree

from regions.raster.equal_area import CHINA_ALBERS
from regions.registry import national_set

NEIGHBOURS = 6
FORM_MEASURES = ("coverage", "height_mean_m")
SURROUNDINGS = {"coverage": 0.25, "height_mean_m": 18.0}


@dataclass(frozen=True)
class Planted:
    """What is planted.

    Attributes:
        region_factor: Factor of the cities' shares by region; 1 where absent.
        likeness: Spatial autoregression of the logarithm of shares among the 6 nearest cities, 0 (none) to below 1.
        log_sd: Standard deviation of the logarithm of shares.
        share: Median share.
        clusters: Parents of villages per city; 0 places villages independently.
        spread_m: Standard deviation of villages about their parent.
        form_gap: Villages less surroundings, by measure of `FORM_MEASURES`; 0 where absent.
        form_gradient: Added to the gap of ``height_mean_m`` per step from North to South (0 for North and Northeast, 1
            for Northwest, Central, East and Southwest, 2 for South).
    """

    region_factor: Mapping[str, float] = field(default_factory=dict)
    likeness: float = 0.0
    log_sd: float = 0.8
    share: float = 0.05
    clusters: int = 0
    spread_m: float = 400.0
    form_gap: Mapping[str, float] = field(default_factory=dict)
    form_gradient: float = 0.0


STEPS = {"North": 0, "Northeast": 0, "Northwest": 1, "Central": 1, "East": 1, "Southwest": 1, "South": 2}


@lru_cache(maxsize=1)
def _places() -> tuple[pd.DataFrame, NDArray[np.int64]]:
    cities = national_set()
    to_albers = pyproj.Transformer.from_crs("EPSG:4326", CHINA_ALBERS, always_xy=True)
    x, y = to_albers.transform([c.seat_lon for c in cities], [c.seat_lat for c in cities])
    table = pd.DataFrame(
        {
            "adcode": [c.adcode for c in cities],
            "name_en": [c.name_en for c in cities],
            "name_zh": [c.name_zh for c in cities],
            "province": [c.province for c in cities],
            "region": [c.region for c in cities],
            "x_m": np.asarray(x),
            "y_m": np.asarray(y),
        }
    )
    xy = table[["x_m", "y_m"]].to_numpy()
    near = KDTree(xy).query(xy, k=NEIGHBOURS + 1)[1][:, 1:]
    return table, np.asarray(near, dtype=np.int64)


def planted_cities(planted: Planted, seed: int) -> pd.DataFrame:
    """Ground and urban village of the 342 cities.

    Returns:
        ``adcode``, ``name_en``, ``name_zh``, ``province``, ``region``, ``x_m``, ``y_m`` (`CHINA_ALBERS`),
        ``ground_m2``, ``uv_m2``.
    """
    places, near = _places()
    rng = np.random.default_rng([seed, 1])
    n = len(places)
    noise: NDArray[np.float64] = rng.standard_normal(n)
    if planted.likeness:
        weights = np.zeros((n, n))
        np.put_along_axis(weights, near, 1 / NEIGHBOURS, axis=1)
        noise = np.asarray(np.linalg.solve(np.eye(n) - planted.likeness * weights, noise), dtype=np.float64)
        noise = np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float64)
    factor = places["region"].map(lambda r: planted.region_factor.get(str(r), 1.0)).to_numpy(dtype=float)
    share = np.minimum(planted.share * factor * np.exp(planted.log_sd * noise), 0.6)
    ground = 1e8 * np.exp(rng.standard_normal(n))
    return places.assign(ground_m2=ground, uv_m2=ground * share)


def planted_points(planted: Planted, seed: int, *, count: int, side_m: float) -> NDArray[np.float64]:
    """float64 (count, 2): villages of one city on a square of ``side_m``."""
    rng = np.random.default_rng([seed, 2])
    if planted.clusters == 0:
        return rng.uniform(0, side_m, (count, 2))
    parents = rng.uniform(0, side_m, (planted.clusters, 2))
    points = np.zeros((0, 2))
    while len(points) < count:  # those that fall off the square are drawn anew
        more = parents[rng.integers(0, len(parents), count)] + rng.normal(0, planted.spread_m, (count, 2))
        points = np.concatenate((points, more[((more >= 0) & (more <= side_m)).all(axis=1)]))
    return points[:count]


def planted_form(planted: Planted, seed: int) -> pd.DataFrame:
    """Building form of villages and surroundings of every city: ``region``, ``{measure}_in``, ``{measure}_out``."""
    places, _ = _places()
    rng = np.random.default_rng([seed, 3])
    out = places[["adcode", "region"]].copy()
    steps = places["region"].map(STEPS).to_numpy(dtype=float)
    for measure in FORM_MEASURES:
        base = SURROUNDINGS[measure] * np.exp(0.2 * rng.standard_normal(len(out)))
        gap = planted.form_gap.get(measure, 0.0) + 0.15 * SURROUNDINGS[measure] * rng.standard_normal(len(out))
        if measure == "height_mean_m":
            gap = gap + planted.form_gradient * steps
        out[f"{measure}_out"], out[f"{measure}_in"] = base, base + gap
    return out
