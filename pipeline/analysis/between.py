"""Clustering between cities: do cities of high share lie beside each other, and where.

Moran's I (Moran 1950), its local form (Anselin 1995), Getis-Ord Gi* (Ord & Getis 1995) and join counts (Cliff & Ord
1981), as `esda` computes them, with permutation inference. p values are (1 + number at least as extreme) / (1 +
permutations), two-sided for local statistics; many cities at once are held to a rate of false discoveries (Benjamini &
Hochberg 1995). Whether clustering is *in* certain regions is a test of its own: the mean of local statistics of the
regions less that of all others, against two kinds of chance: shares permuted over all cities (no pattern at all), and
cities that are as alike as their neighbours are here, but without regions (`pipeline.analysis.likeness`). The second is
the one that a claim about regions must stand.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import esda
import libpysal
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from pipeline.analysis.errors import AnalysisError
from pipeline.analysis.likeness import LikenessModel
from pipeline.analysis.neighbours import Neighbourhood, lag_mean
from pipeline.analysis.options import AnalysisOptions

LEAST_CITIES = 10
QUADRANTS = ("high-high", "low-high", "low-low", "high-low")
"""Of the local Moran's I, as `esda` numbers them from 1."""


def measure_global(values: NDArray[np.float64], near: Neighbourhood, options: AnalysisOptions) -> dict[str, Any]:
    """Moran's I and join counts of one variable over all cities.

    Args:
        values: float64 (n,), one per city.
        near: Its neighbourhood.
        options: Seed, permutations, part of cities that count as joins' ones.

    Returns:
        ``weights``, ``cities``, ``islands``, ``moran_i``, ``expected``, ``z`` (of the permutations), ``p`` (greater:
        likeness of neighbours), ``high_joins`` (pairs of neighbours that both are in the upper part), ``high_expected``
        (mean of the permutations), ``high_p``.

    Raises:
        AnalysisError: Too few cities, or all are alike.
    """
    _check(values)
    moran = esda.Moran(values, near.weights, transformation="r", permutations=0)
    order = _permutations(len(values), options)
    z = values - values.mean()
    simulated = np.einsum("ip,ip->p", z[order], lag_mean(near.weights, z[order])) / np.square(z).sum()
    simulated *= len(values) / (len(values) - len(near.islands))
    out: dict[str, Any] = {
        "weights": near.name,
        "cities": len(values),
        "islands": len(near.islands),
        "moran_i": float(moran.I),
        "expected": float(moran.EI),
        "z": float((moran.I - simulated.mean()) / simulated.std()),
        "p": _greater(float(moran.I), simulated),
        "high_joins": float("nan"),
        "high_expected": float("nan"),
        "high_p": float("nan"),
    }
    high = (values > np.quantile(values, 1 - options.join_share)).astype(float)
    if 0 < high.sum() < len(high):
        binary = (near.weights.sparse.tocsr() != 0).astype(float)
        joins = float(high @ (binary @ high)) / 2
        chance = np.einsum("ip,ip->p", high[order], binary @ high[order]) / 2
        expected = float(chance.mean())
        out |= {"high_joins": joins, "high_expected": expected, "high_p": _greater(joins, chance)}
    return out


def measure_local(
    cities: pd.DataFrame, values: NDArray[np.float64], near: Neighbourhood, options: AnalysisOptions
) -> pd.DataFrame:
    """Local Moran's I and Gi* of every city.

    Args:
        cities: ``adcode``, ``name_en``, ``name_zh``, ``region``, in the order of ``values``.
        values: float64 (n,).
        near: Neighbourhood.
        options: Seed, permutations, rate of false discoveries.

    Returns:
        ``adcode``, ``name_en``, ``name_zh``, ``region``, ``value``, ``neighbours`` (their mean), ``moran_i``,
        ``quadrant``, ``moran_p``, ``gi_z``, ``gi_p`` (two-sided), ``moran_found`` and ``gi_found`` (bool, below the
        limit of the rate of false discoveries), ``kind`` (hot spot, cold spot or none, by Gi*).
    """
    _check(values)
    common = {"permutations": options.permutations, "seed": options.seed, "n_jobs": 1}
    with warnings.catch_warnings():  # esda announces that its p values, now one-sided, will be doubled: done here
        warnings.simplefilter("ignore", DeprecationWarning)
        moran = esda.Moran_Local(values, near.weights, transformation="r", **common)
        # binary weights, the city itself among them: esda's z of row-standardised ones has the variance of one city,
        # and a diagonal filled after standardising weighs as much as all neighbours together
        binary = libpysal.weights.W(near.weights.neighbors, silence_warnings=True)
        with_self = libpysal.weights.fill_diagonal(binary, 1.0)
        gi = esda.G_Local(values, with_self, transform="B", star=None, **common)
    moran_p = np.minimum(1.0, 2 * np.asarray(moran.p_sim, dtype=float))
    gi_p = np.minimum(1.0, 2 * np.asarray(gi.p_sim, dtype=float))
    gi_z = np.asarray(gi.Zs, dtype=float)
    found = gi_p <= esda.fdr(gi_p, options.fdr)
    moran_found = moran_p <= esda.fdr(moran_p, options.fdr)
    return pd.DataFrame(
        {
            "adcode": cities["adcode"].to_numpy(),
            "name_en": cities["name_en"].to_numpy(),
            "name_zh": cities["name_zh"].to_numpy(),
            "region": cities["region"].to_numpy(),
            "value": values,
            "neighbours": lag_mean(near.weights, values),
            "moran_i": np.asarray(moran.Is, dtype=float),
            "quadrant": [QUADRANTS[int(q) - 1] for q in moran.q],
            "moran_p": moran_p,
            "moran_found": moran_found,
            "gi_z": gi_z,
            "gi_p": gi_p,
            "gi_found": found,
            "kind": np.where(found & (gi_z > 0), "hot spot", np.where(found & (gi_z < 0), "cold spot", "none")),
        }
    )


def measure_regions(
    values: NDArray[np.float64],
    regions: Sequence[str],
    near: Neighbourhood,
    options: AnalysisOptions,
    *,
    claimed: Sequence[str] | None = None,
    model: LikenessModel | None = None,
) -> pd.DataFrame:
    """Whether cities of high share that have neighbours of high share are more in some regions than elsewhere.

    The local statistic of a city is z_i times the mean of its neighbours' z where z_i > 0, else 0, of the normal scores
    of the ranks (van der Waerden), so that a few cities of very high share do not decide. The statistic of a region is
    the mean of its cities less the mean of all others.

    Args:
        values: float64 (n,).
        regions: Each city's region.
        near: Neighbourhood.
        options: Seed, permutations, rate of false discoveries.
        claimed: Regions whose union is one more row, the claim; the options' where None.
        model: Likeness of these cities, where it is used more than once.

    Returns:
        ``region``, ``cities``, ``mean_value``, ``statistic``; against permuted shares ``expected``, ``spread``, ``p``
        (greater), ``found`` (within the rate of false discoveries of all regions; the claim stands alone at that
        rate); against likeness alone ``likeness`` (its rho), ``beyond_expected``, ``beyond_spread``, ``p_beyond`` and
        ``found_beyond``.

    Raises:
        AnalysisError: Too few cities, or the claim's regions hold none or all.
    """
    _check(values)
    names = np.asarray(regions, dtype=str)
    claim = tuple(options.claimed_regions if claimed is None else claimed)
    groups = {name: names == name for name in sorted(set(names))}
    together = np.isin(names, claim)
    if claim:
        if not together.any() or together.all():
            raise AnalysisError(f"the claim is about {', '.join(claim)}; cities lie in {', '.join(sorted(groups))}")
        groups["claim: " + " + ".join(claim)] = together
    score = stats.norm.ppf((stats.rankdata(values) - 0.5) / len(values))
    local = _pair_score(score, near)
    permuted = _pair_score(score[_permutations(len(values), options)], near)
    model = LikenessModel(names.tolist(), near) if model is None else model
    rho = model.fit(score)
    fields = model.simulate(rho, options.permutations, np.random.default_rng([options.seed, 8]))
    alike = _pair_score(stats.norm.ppf((stats.rankdata(fields, axis=0) - 0.5) / len(values)), near)
    rows = []
    for name, inside in groups.items():
        if inside.all():
            continue
        own = float(local[inside].mean() - local[~inside].mean())
        other, beyond = (s[inside].mean(axis=0) - s[~inside].mean(axis=0) for s in (permuted, alike))
        rows.append(
            {
                "region": name,
                "cities": int(inside.sum()),
                "mean_value": float(values[inside].mean()),
                "statistic": own,
                "expected": float(other.mean()),
                "spread": float(other.std()),
                "p": _greater(own, other),
                "likeness": rho,
                "beyond_expected": float(beyond.mean()),
                "beyond_spread": float(beyond.std()),
                "p_beyond": _greater(own, beyond),
            }
        )
    table = pd.DataFrame(rows)
    single = ~table["region"].str.startswith("claim: ").to_numpy()
    return table.assign(
        found=_found(table["p"].to_numpy(), single, options.fdr),
        found_beyond=_found(table["p_beyond"].to_numpy(), single, options.fdr),
    )


def _pair_score(score: NDArray[np.float64], near: Neighbourhood) -> NDArray[np.float64]:
    """Score of a city above the middle times the mean of its neighbours'; float64 of the same shape."""
    return np.asarray(np.maximum(score, 0) * lag_mean(near.weights, score))


def _found(p: NDArray[np.float64], single: NDArray[np.bool_], rate: float) -> NDArray[np.bool_]:
    """Single regions within the rate of false discoveries together, the claim alone at that rate."""
    together = esda.fdr(p[single], rate) if single.any() else 0.0
    return np.asarray(p <= np.where(single, together, rate))


def _check(values: NDArray[np.float64]) -> None:
    if len(values) < LEAST_CITIES:
        raise AnalysisError(f"{len(values)} cities are too few for statistics between cities: {LEAST_CITIES} at least")
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        raise AnalysisError("all cities have the same value, or some have none: there is nothing to compare")


def _permutations(count: int, options: AnalysisOptions) -> NDArray[np.int64]:
    """int64 (count, permutations), from a generator of its own: `esda` would draw from numpy's global one."""
    rng = np.random.default_rng([options.seed, 7])
    return np.asarray(rng.permuted(np.tile(np.arange(count), (options.permutations, 1)), axis=1).T)


def _greater(value: float, simulated: NDArray[np.float64]) -> float:
    limit = value - 1e-12 * max(1.0, abs(value))  # sums in another order are ties, not smaller
    return float((1 + np.sum(simulated >= limit)) / (1 + len(simulated)))
