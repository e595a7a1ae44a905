"""Random draws that grow: the first n of a larger draw are the draw of n, each stratum with a seed of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from accuracy.arrays import Ints
from accuracy.errors import DrawError


def make_generator(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and the names (region, city, stratum) only.

    Raises:
        DrawError: The seed is negative.
    """
    if seed < 0:
        raise DrawError(f"--seed {seed} is negative: give a whole number from 0 on, and keep it")
    digest = hashlib.sha256("\x1f".join(names).encode()).digest()
    words = [int.from_bytes(digest[k : k + 4], "little") for k in range(0, 16, 4)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


def draw_growing(population: int, n: int, rng: np.random.Generator) -> Ints:
    """int64 (n,): a simple random sample of 0..population-1 without replacement, in the order drawn.

    Uniform numbers are drawn one after the other and repeats skipped, so that with the same seed a larger n only
    appends. Memory is O(n), whatever the population.

    Raises:
        DrawError: n exceeds the population.
    """
    if n > population:
        raise DrawError(f"{n} units asked of {population}: ask for at most all")
    if n * 2 > population:  # a permutation costs less than many rejections; it must serve small n alike
        return _dense(population, n, rng)
    seen: dict[int, None] = {}
    while len(seen) < n:
        for value in rng.integers(0, population, size=256).tolist():
            if len(seen) < n:
                seen.setdefault(value)
    return np.fromiter(seen, dtype=np.int64, count=n)


def _dense(population: int, n: int, rng: np.random.Generator) -> Ints:
    """The same sequence as the sparse way, continued to the end: what is left comes in a permuted tail."""
    half = population // 2
    head = draw_growing(population, half, rng) if half else np.zeros(0, dtype=np.int64)
    rest = np.setdiff1d(np.arange(population), head)
    return np.concatenate([head, rng.permutation(rest)])[:n].astype(np.int64)


def draw_cities(
    frame: pd.DataFrame,
    *,
    per_region: int | Mapping[str, int] = 4,
    seed: int,
    region_column: str = "region",
    city_column: str = "adcode",
) -> pd.DataFrame:
    """Draw cities at random without replacement within regions.

    Args:
        frame: All cities, one row each.
        per_region: Cities per region, one number for all or by name; a region with fewer is taken whole.
        seed: Seed; the draw of a region depends on the seed, its name and its cities, not on other regions.
        region_column: Column of regions.
        city_column: Column of the cities' keys.

    Returns:
        The drawn rows, ordered by region and draw, with ``N_city``, ``n_city`` and ``draw_order``.

    Raises:
        DrawError: A region of ``per_region`` is unknown, a city repeats, or nothing is asked of a region.
    """
    repeated = frame[city_column][frame[city_column].duplicated()]
    if len(repeated):
        raise DrawError(f"city {repeated.iloc[0]!r} is in the frame twice: keep one row per city")
    regions = sorted(map(str, frame[region_column].unique()))
    wanted = dict.fromkeys(regions, per_region) if isinstance(per_region, int) else dict(per_region)
    unknown = sorted(set(wanted) - set(regions))
    if unknown:
        raise DrawError(f"region {unknown[0]!r} is not in the frame ({', '.join(regions)})")
    missing = sorted(r for r in regions if wanted.get(r, 0) < 1)
    if missing:
        raise DrawError(
            f"region {missing[0]!r} gets no city: its area would be unassessed. Ask for at least 1, better 2"
        )
    parts = []
    for region in regions:
        rows = frame[frame[region_column].astype(str) == region].sort_values(city_column)
        n = min(wanted[region], len(rows))
        picked = draw_growing(len(rows), n, make_generator(seed, "cities", region))
        parts.append(rows.iloc[picked].assign(N_city=len(rows), n_city=n, draw_order=np.arange(1, n + 1)))
    return pd.concat(parts, ignore_index=True)
