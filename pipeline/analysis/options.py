"""Settings of an analysis."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

WeightsKind = Literal["knn", "distance", "contiguity"]


class AnalysisOptions(BaseModel):
    """What shapes the figures, all of it stated in the report.

    Attributes:
        seed: Seed of every permutation, simulation and resample.
        permutations: Permutations of each test between cities.
        level: Confidence level of intervals.
        fdr: Rate of false discoveries that is accepted where many cities or regions are tested at once.
        weights: Neighbourhoods of cities that every statistic between cities is computed for; the first is the one
            that texts quote.
        neighbours: k of the nearest-neighbour weights.
        distance_km: Reach of the distance weights.
        join_share: Cities whose share is in this upper part (0.25: the upper quarter) are the joins' ones.
        claimed_regions: Regions that are claimed to be where urban villages cluster.
        radii_m: Upper ends of the distance classes of the pair correlation within cities, ascending.
        simulations: Simulated patterns per city that the pattern within it is compared with, at least.
        simulated_points: Cities of few villages get more simulations, so many that this number of points is drawn, but
            999 at most: where many cities are tested at once, p values of few simulations find none.
        least_villages: Cities of fewer villages get no pattern within the city.
        surroundings_m: Built-up land up to this far from a village is its surroundings.
        resamples: Bootstrap resamples of cities.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=1, ge=0)
    permutations: int = Field(default=19999, ge=99)
    level: float = Field(default=0.95, gt=0.5, lt=1)
    fdr: float = Field(default=0.05, gt=0, lt=1)
    weights: tuple[WeightsKind, ...] = ("knn", "distance")
    neighbours: int = Field(default=6, ge=1)
    distance_km: float = Field(default=250.0, gt=0)
    join_share: float = Field(default=0.25, gt=0, lt=1)
    claimed_regions: tuple[str, ...] = ("Central", "South")
    radii_m: tuple[float, ...] = (250.0, 500.0, 1000.0, 2000.0, 4000.0)
    simulations: int = Field(default=39, ge=19)
    simulated_points: int = Field(default=200_000, ge=0)
    least_villages: int = Field(default=20, ge=5)
    surroundings_m: float = Field(default=1000.0, gt=0)
    resamples: int = Field(default=999, ge=99)
