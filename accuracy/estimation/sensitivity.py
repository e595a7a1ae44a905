"""How the figures move with choices that the sampling error does not show: non-response, doubtful labels, edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from accuracy.errors import AccuracyError
from accuracy.estimation.estimation import estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.survey.merging import tabulate_readings
from accuracy.survey.rereading import find_single_omissions
from accuracy.survey.sample import ReferenceSample

MEASURES = ("UA", "PA", "F1", "IoU", "area")
NEARLY_ALL = 0.9


def estimate_sensitivity(
    sample: ReferenceSample, options: EstimateOptions | None = None, *, measures: Sequence[str] = MEASURES
) -> pd.DataFrame:
    """The whole under other choices, one row per choice and measure.

    Choices: unanswered points all as the map says (best case) and all against it (worst case); points on which
    interpreters differed, whatever was made of them since, all urban village (one of them said so) or none (not all
    did), or left out (columns ``readings`` and ``disagreed``); the answers of each interpreter who read nearly all
    points; omissions of the rest stratum that one reading alone has seen taken for none; labels of imagery of another
    time than the map's left out (``date_flag``); points near the map's outline (column ``edge``) left out, or
    their errors forgiven (a tolerance of one pixel); a second
    acceptable label (column ``ref_alt``) accepted where it agrees with the map. Choices without their column are
    absent. Leaving points out changes the population, so those rows flatter and are no estimates. Standard errors are
    those of sampling alone.

    Returns:
        ``choice``, ``measure``, ``estimate``, ``se``, ``ci_low``, ``ci_high``, ``n_points``; a choice that cannot be
        estimated has NaN and its ``reason``.
    """
    options = replace(options or EstimateOptions(), measures=tuple(measures), interpreters=None)
    table = sample.table
    choices: list[tuple[str, Callable[[], ReferenceSample]]] = [("as estimated", lambda: sample)]
    if not sample.responded.all():
        choices += [
            ("unanswered points agree with the map (best case)", lambda: _filled(sample, agree=True)),
            ("unanswered points contradict the map (worst case)", lambda: _filled(sample, agree=False)),
        ]
    choices += _choices_of_readings(sample)
    for column, text in (
        ("disagreed", "points on which interpreters differed left out"),
        ("edge", "points near an outline left out"),
    ):
        if column in table.columns and _true(table[column]).any():
            choices.append((text, partial(_without, sample, _true(table[column]))))
    if "date_flag" in table.columns and (other := table["date_flag"].fillna("").ne("").to_numpy(dtype=bool)).any():
        choices.append(("labels of another time than the map's left out", partial(_without, sample, other)))
    if "edge" in table.columns and _true(table["edge"]).any():
        choices.append(
            ("errors at the map's outline (1 px) forgiven", partial(_forgiven, sample, _true(table["edge"])))
        )
    if "ref_alt" in table.columns and table["ref_alt"].notna().any():
        choices.append(("a second label accepted", lambda: _alternative(sample)))
    rows = []
    for name, build in choices:
        try:
            frame = estimate(build(), options).frame
        except AccuracyError as error:
            rows += [{"choice": name, "measure": m, "reason": str(error)} for m in measures]
            continue
        kept = ["measure", "estimate", "se", "ci_low", "ci_high", "n_points", "flags", "reason"]
        rows += [{"choice": name, **{c: r[c] for c in kept}} for r in frame.to_dict("records")]
    return pd.DataFrame(rows)


def _choices_of_readings(sample: ReferenceSample) -> list[tuple[str, Callable[[], ReferenceSample]]]:
    """What the interpreters themselves said, before their answers were merged."""
    if "readings" not in sample.table.columns or sample.positive is not None:
        return []
    rows = tabulate_readings(sample.table["readings"])
    if rows.columns.empty:
        return []
    low, high = rows.min(axis=1).to_numpy(dtype=float), rows.max(axis=1).to_numpy(dtype=float)
    apart = low < high
    choices: list[tuple[str, Callable[[], ReferenceSample]]] = []
    if apart.any():
        n = int(apart.sum())
        choices += [
            (f"the {n} points on which interpreters differed are urban village", partial(_put, sample, apart, 1)),
            (f"the {n} points on which interpreters differed are not", partial(_put, sample, apart, 0)),
        ]
    for name in rows.columns:
        known = rows[name].notna().to_numpy(dtype=bool)
        if len(rows.columns) > 1 and known.mean() >= NEARLY_ALL:
            choices.append((f"the answers of {name} alone", partial(_alone, sample, rows[name].to_numpy(dtype=float))))
    single = find_single_omissions(
        sample.table, map_column=sample.map_column, ref_column=sample.reference_column
    ).to_numpy(dtype=bool)
    if single.any():
        text = f"the {int(single.sum())} omissions of the rest that were read once are none"
        choices.append((text, partial(_put, sample, single, 0)))
    return choices


def _put(sample: ReferenceSample, where: np.ndarray, answer: int) -> ReferenceSample:
    values = sample.table[sample.reference_column].astype(object).to_numpy().copy()
    values[where] = answer
    return sample.with_reference(values)


def _alone(sample: ReferenceSample, answers: np.ndarray) -> ReferenceSample:
    return sample.with_reference([None if np.isnan(a) else int(a) for a in answers])


def _true(column: pd.Series) -> np.ndarray:
    return column.astype("string").str.lower().isin({"true", "1", "yes"}).to_numpy(dtype=bool)


def _filled(sample: ReferenceSample, *, agree: bool) -> ReferenceSample:
    """Every unanswered point answered as the map says, or against it."""
    everyone = replace(sample, table=sample.table.assign(**{sample.reference_column: sample.table[sample.map_column]}))
    mapped = everyone.mapped
    answers = np.zeros(len(sample.table), dtype=bool)
    answers[sample.responded] = sample.reference
    answers = np.where(sample.responded, answers, mapped if agree else ~mapped)
    return _yes_no(sample, mapped, answers)


def _forgiven(sample: ReferenceSample, forgiven: np.ndarray) -> ReferenceSample:
    mapped = replace(
        sample, table=sample.table.assign(_r=sample.table[sample.map_column]), reference_column="_r"
    ).mapped
    answers = np.zeros(len(sample.table), dtype=bool)
    answers[sample.responded] = sample.reference
    merged = np.where(forgiven, mapped, answers).astype(object)
    merged[~sample.responded] = None
    return _yes_no(sample, mapped, merged)


def _alternative(sample: ReferenceSample) -> ReferenceSample:
    other = replace(sample, reference_column="ref_alt")
    both = other.responded & sample.responded
    mapped = replace(
        sample, table=sample.table.assign(_r=sample.table[sample.map_column]), reference_column="_r"
    ).mapped
    first = np.zeros(len(sample.table), dtype=bool)
    first[sample.responded] = sample.reference
    second = np.zeros(len(sample.table), dtype=bool)
    second[other.responded] = other.reference
    answers = np.where(both & (second == mapped), mapped, first).astype(object)
    answers[~sample.responded] = None
    return _yes_no(sample, mapped, answers)


def _without(sample: ReferenceSample, left_out: np.ndarray) -> ReferenceSample:
    values = sample.table[sample.reference_column].astype(object).to_numpy().copy()
    values[left_out] = None
    return sample.with_reference(values)


def _yes_no(sample: ReferenceSample, mapped: np.ndarray, answers: np.ndarray) -> ReferenceSample:
    said = pd.Series(answers).astype("Float64").astype("Int64").astype(object)
    columns = {sample.map_column: mapped.astype(int), sample.reference_column: said.to_numpy()}
    return sample.with_answers(columns, positive=None)
