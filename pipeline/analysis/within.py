"""The pattern of villages within a city: do they lie together more than by chance on the ground there is.

Villages are taken as points (inside them, nearest their middle), chance as as many points drawn evenly from the
ground that was mapped. Two statistics, as functions of distance: the mean distance to the nearest other village, by its
mean under chance (Clark & Evans 1954; 1 is chance, less is clustered), and the pair correlation g(r) as pairs of
villages by pairs under chance in each class of distance (natural estimator DD/RR, Peebles & Hauser 1974). Since both
patterns lie on the same ground, the edge of the ground and its holes cancel: no edge correction is needed.

Villages have an extent and do not overlap, so there are never as many pairs at distances below their size as of points:
that must not hide what they do at larger ones. Whether they cluster is therefore asked of all classes of distance at
once: the largest excess of pairs in any of them, in standard deviations of chance (studentised maximum deviation,
Myllymäki et al. 2017), and its p value is the rank among the simulated patterns.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import esda
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.analysis.options import AnalysisOptions
from pipeline.analysis.places import nation_and_regions

Points = NDArray[np.float64]


@dataclass(frozen=True)
class GroundPixels:
    """Ground on which villages can lie, as pixels.

    Attributes:
        centres: float64 (n, 2), x and y of the pixels' centres in metres.
        pixel_m: Side of a pixel.
    """

    centres: Points
    pixel_m: float

    def draw(self, rng: np.random.Generator, count: int) -> Points:
        """float64 (count, 2): points drawn evenly from the ground."""
        chosen = self.centres[rng.integers(0, len(self.centres), count)]
        return np.asarray(chosen + rng.uniform(-0.5, 0.5, (count, 2)) * self.pixel_m)


def describe_pattern(
    points: Points, ground: GroundPixels, options: AnalysisOptions, *, key: str, centre: tuple[float, float] | None
) -> dict[str, float | int]:
    """The pattern of one city's villages.

    Args:
        points: float64 (n, 2), metres.
        ground: Where villages can lie.
        options: Radii, simulations, seed.
        key: The city's adcode: each city draws from a seed of its own, whatever the others are.
        centre: Seat of the city, metres, or None.

    Returns:
        ``villages``, ``nearest_m`` (median), ``nearest_ratio``, ``nearest_p`` (two-sided), per radius ``g_{r}`` and
        ``g_{r}_low``, ``g_{r}_high`` (pointwise envelope of chance) and over all radii ``clustered_p`` (one-sided) and
        ``clustered_at_m`` (class of the largest excess); ``simulations``; ``centre_km`` and ``centre_ratio`` (median
        distance to the centre, and by that of the ground).
    """
    rng = np.random.default_rng([options.seed, int(key)])
    radii = np.array(options.radii_m)
    own_near, own_pairs = _nearest(points), _pairs(points, radii)
    near, pairs = [], []
    simulations = max(options.simulations, min(999, options.simulated_points // len(points)))
    for _ in range(simulations):
        chance = ground.draw(rng, len(points))
        near.append(_nearest(chance).mean())
        pairs.append(_pairs(chance, radii))
    chance_near, chance_pairs = np.array(near), np.array(pairs, dtype=float)
    ratio = own_near.mean() / chance_near.mean()
    expected = chance_pairs.mean(axis=0)
    out: dict[str, float | int] = {
        "villages": len(points),
        "nearest_m": float(np.median(own_near)),
        "nearest_ratio": float(ratio),
        "nearest_p": _two_sided(float(own_near.mean()), chance_near),
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        g = own_pairs / expected
        envelope = np.quantile(chance_pairs, [0.025, 0.975], axis=0) / expected
    for k, r in enumerate(options.radii_m):
        name = f"g_{r:g}"
        low, high = (float(v) for v in envelope[:, k])
        out |= {name: float(g[k]), f"{name}_low": low, f"{name}_high": high}
    out["clustered_p"], at = _largest_excess(own_pairs, chance_pairs)
    out |= {"clustered_at_m": float(options.radii_m[at]), "simulations": simulations}
    if centre is not None:
        own = np.hypot(*(points - np.array(centre)).T)
        all_ground = np.hypot(*(ground.centres - np.array(centre)).T)
        out["centre_km"] = float(np.median(own)) / 1000
        out["centre_ratio"] = float(np.median(own) / np.median(all_ground))
    return out


def summarise_patterns(patterns: pd.DataFrame, options: AnalysisOptions) -> pd.DataFrame:
    """Patterns of the nation and each region.

    Args:
        patterns: Rows of `describe_pattern` with ``region``.
        options: Rate of false discoveries, radii.

    Returns:
        ``name``, ``cities``, ``clustered`` (cities clustered within the rate of false discoveries),
        ``nearest_ratio`` and ``g_{r}`` (medians of the cities, with quartiles ``_q25`` and ``_q75``), ``centre_ratio``.
    """
    if len(patterns) == 0:
        return pd.DataFrame(columns=["name", "cities", "clustered"])
    p = patterns["clustered_p"].to_numpy(dtype=float)
    marked = patterns.assign(clustered=p <= esda.fdr(p, options.fdr))
    columns = ["nearest_ratio", *[f"g_{r:g}" for r in options.radii_m], "centre_ratio"]
    rows = []
    for name, group in nation_and_regions(marked):
        row: dict[Hashable, object] = {"name": name, "cities": len(group), "clustered": int(group["clustered"].sum())}
        row |= group[columns].median().to_dict()
        for end, part in (("q25", 0.25), ("q75", 0.75)):
            row |= {f"{c}_{end}": v for c, v in group[columns].quantile(part).items() if str(c).startswith("g_")}
        rows.append(row)
    return pd.DataFrame(rows)


def _nearest(points: Points) -> Points:
    distance, _ = KDTree(points).query(points, k=2)
    return np.asarray(distance[:, 1], dtype=np.float64)


def _pairs(points: Points, radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pairs in each class of distance up to the radii, each pair once."""
    tree = KDTree(points)
    counted = (np.asarray(tree.count_neighbors(tree, radii), dtype=np.float64) - len(points)) / 2
    return np.diff(counted, prepend=0.0)


def _largest_excess(own: NDArray[np.float64], chance: NDArray[np.float64]) -> tuple[float, int]:
    """The p value of the largest studentised excess in any class, and which; ``chance`` is (simulations, classes).

    The pattern itself is one of those that mean and spread are taken of, so that under chance all ranks are alike.
    """
    every = np.vstack([own, chance])
    spread = every.std(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.where(spread > 0, (every - every.mean(axis=0)) / spread, -np.inf)
    largest = excess.max(axis=1)
    return float(np.mean(largest >= largest[0] - 1e-12)), int(np.argmax(excess[0]))


def _two_sided(value: float, simulated: NDArray[np.float64]) -> float:
    low, high = np.sum(simulated <= value), np.sum(simulated >= value)
    return float(min(1.0, 2 * (1 + min(low, high)) / (1 + len(simulated))))
