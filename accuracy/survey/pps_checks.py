"""What can be wrong where cities were drawn with unequal probabilities."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from accuracy.survey.design import PSU, SamplingDesign, codes
from accuracy.survey.design_problem import DesignProblem

PROBABILITY = "pi_city"  # what `uvmap sample cities` writes where cities have their own probabilities
TOLERANCE = 1e-6  # relative; weights are products of ratios, so more is no rounding


def check_unequal(design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame) -> Iterator[DesignProblem]:
    """Weights that are probabilities, probabilities that are none, cities drawn twice, weights that contradict both."""
    if design.weight is not None and design.psu is not None:  # a single stage may have weights of any scale
        yield from _not_weights(design, table)
    if design.psu_selection == "probability" and PROBABILITY in table.columns:
        yield from _unequal_taken_for_equal(design, table, keys)
    if design.psu_selection != "pps" or design.psu is None:
        return
    psu, names = codes(keys, PSU)
    stratum = keys["stratum"].to_numpy()
    yield from _conflicts(design, table, psu, names)
    if design.is_without_replacement(table):
        yield from _probabilities(design, table, psu, names)
    else:
        yield from _draws(design, table, psu, stratum)


def _unequal_taken_for_equal(
    design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame
) -> Iterator[DesignProblem]:
    """Cities drawn by size, or beside certainties, estimated as if all had been drawn alike."""
    N, pi = (
        pd.to_numeric(table[c], errors="coerce").to_numpy(dtype=float) for c in (design.psu_population, PROBABILITY)
    )
    psu, names = codes(keys, PSU)
    n = keys[PSU].drop_duplicates().groupby("stratum").size().reindex(keys["stratum"]).to_numpy(dtype=float)
    bad = np.flatnonzero(np.isfinite(pi) & (np.abs(pi * N - n) > TOLERANCE * n))
    if len(bad):
        row = int(bad[0])
        message = (
            f"city {names[psu[row]]!r} was drawn with the probability {pi[row]:.4g} ({PROBABILITY!r}), not {n[row]:g}"
            f" of {N[row]:g}: say --psu-selection pps"
        )
        yield DesignProblem(code="unequal_probabilities", where=PROBABILITY, message=message)


def _not_weights(design: SamplingDesign, table: pd.DataFrame) -> Iterator[DesignProblem]:
    weights = pd.to_numeric(table[design.weight]).to_numpy(dtype=float)
    below = weights < 1 - TOLERANCE
    if below.any():
        row = int(np.flatnonzero(below)[0])
        message = (
            f"column {design.weight!r} holds {weights[row]:g} in row {row + 1} ({int(below.sum())} such rows): a weight"
            " is 1 / inclusion probability, so 1 or more; these look like the probabilities themselves"
        )
        yield DesignProblem(code="weight_below_1", where=str(design.weight), message=message)


def _conflicts(
    design: SamplingDesign, table: pd.DataFrame, psu: np.ndarray, names: tuple[str, ...]
) -> Iterator[DesignProblem]:
    for column in (design.psu_probability, design.times_drawn):
        if column is None or column not in table.columns:
            continue
        grouped = pd.to_numeric(table[column]).groupby(psu)
        low, high = grouped.min().to_numpy(dtype=float), grouped.max().to_numpy(dtype=float)
        for i in np.flatnonzero(high - low > TOLERANCE * high):
            message = f"city {names[i]!r} has both {low[i]:.6g} and {high[i]:.6g} in {column!r}: one city has one value"
            yield DesignProblem(code="size_conflict", where=names[i], message=message)


def _probabilities(
    design: SamplingDesign, table: pd.DataFrame, psu: np.ndarray, names: tuple[str, ...]
) -> Iterator[DesignProblem]:
    pi = pd.to_numeric(table[design.psu_probability]).to_numpy(dtype=float)
    above = np.flatnonzero(pi > 1 + TOLERANCE)
    if len(above):
        row = int(above[0])
        message = (
            f"column {design.psu_probability!r} holds {pi[row]:g} in row {row + 1} ({len(above)} such rows): the"
            " probability that a city is drawn is at most 1; these look like weights"
        )
        yield DesignProblem(code="bad_probability", where=str(design.psu_probability), message=message)
        return
    if design.times_drawn in table.columns and pd.to_numeric(table[design.times_drawn]).gt(1).any():
        message = (
            f"{design.psu_probability!r} says that cities were drawn without replacement, {design.times_drawn!r} that"
            " one was drawn more than once: leave out the column that is wrong"
        )
        yield DesignProblem(code="size_conflict", where=str(design.times_drawn), message=message)
    sizes = (design.ssu_population, design.ssu_sampled)
    if design.weight is None or any(c is None or c not in table.columns for c in sizes):
        return
    weights, M, m = (pd.to_numeric(table[c]).to_numpy(dtype=float) for c in (design.weight, *sizes))
    expected = M / m / pi
    bad = np.flatnonzero(np.abs(weights - expected) > TOLERANCE * expected)
    if len(bad):
        row = int(bad[0])
        message = (
            f"row {row + 1} of {names[psu[row]]!r} has the weight {weights[row]:.8g}, its sizes and probability give"
            f" {M[row]:g}/{m[row]:g}/{pi[row]:.6g} = {expected[row]:.8g} ({len(bad)} such rows): leave the weight"
            " column out, or correct one of the two"
        )
        yield DesignProblem(code="weights_area", where=names[psu[row]], message=message)


def _draws(
    design: SamplingDesign, table: pd.DataFrame, psu: np.ndarray, stratum: np.ndarray
) -> Iterator[DesignProblem]:
    """With replacement a city may be drawn twice; it is then two draws, not one city."""
    column = design.psu_sampled
    if column is None or column not in table.columns:
        return
    first = np.unique(psu, return_index=True)[1]
    times = np.ones(len(table))
    if design.times_drawn in table.columns:
        times = pd.to_numeric(table[design.times_drawn]).to_numpy(dtype=float)
    stated = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
    for name in sorted(set(stratum[first])):
        here = first[stratum[first] == name]
        found = float(times[here].sum())
        if found == 1:  # a single unit, which the rule for lonely units stops or treats
            continue
        if np.isfinite(stated[here]).all() and (np.abs(stated[here] - found) > TOLERANCE).any():
            message = (
                f"stratum {name!r}: {column!r} says {stated[here][0]:g} draws, the table holds {len(here)} cities drawn"
                f" {found:g} times: say in a column {design.times_drawn or 'times_drawn'!r} how often each city was"
                " drawn, since one drawn twice counts as two"
            )
            yield DesignProblem(code="psu_count_mismatch", where=str(name), message=message)
