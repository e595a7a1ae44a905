"""Answers of interpreters merged into one answer per point, with what each of them said and how old their imagery is.

The majority's answer counts. Answers that differ evenly are not settled by leaving the point out: those points are the
hard ones, so leaving them out flatters the map. They are read again by another interpreter (see
`accuracy.survey.rereading`), adjudicated, or dealt with as the user says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from accuracy.errors import LabelError
from accuracy.survey.dates import read_span
from accuracy.survey.design import as_text
from accuracy.survey.labels import LabelTable, write_answer
from accuracy.survey.sample import UNANSWERED

Disagreement = Literal["fail", "unanswered", "first"]
DatePolicy = Literal["fail", "unanswered", "keep"]
DISAGREEMENTS: tuple[Disagreement, ...] = get_args(Disagreement)
DATE_POLICIES: tuple[DatePolicy, ...] = get_args(DatePolicy)
LATER, LONG_BEFORE = "later", "long before"
MAX_AGE_DAYS = 365
COLUMNS = (
    "ref", "n_answers", "disagreed", "adjudicated", "readings", "interpreter", "date_ref", "date_gap_days", "date_flag",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MergeRules:
    """What happens to answers that differ, and to answers of another time than the map's.

    Attributes:
        disagreement: What a point gets whose answers differ evenly and were not adjudicated: an error, no answer, or
            the first interpreter's answer (in alphabetical order).
        dates: What happens to answers from imagery that is younger than the map's, or older by more than
            ``max_age_days``: an error, no answer, or they are kept. They are flagged in any case.
        max_age_days: Days before the map's imagery from which an answer is about another state of the ground.
        map_date: ISO date of the map's imagery, or period (start/end); None for the design's column ``map_date``.
        id_column: Column of ids in the design.
    """

    disagreement: Disagreement = "fail"
    dates: DatePolicy = "fail"
    max_age_days: int = MAX_AGE_DAYS
    map_date: str | None = None
    id_column: str = "point_id"

    def __post_init__(self) -> None:
        if self.max_age_days < 0:
            raise LabelError(f"--max-age-days {self.max_age_days} is negative: give days before the map's date")


def merge_labels(
    design: pd.DataFrame,
    tables: Sequence[LabelTable],
    rules: MergeRules | None = None,
    *,
    adjudicated: LabelTable | None = None,
) -> pd.DataFrame:
    """Put one answer per point into the sample's design table.

    Args:
        design: The drawn units with their design columns.
        tables: Answers of the interpreters.
        rules: How answers become one.
        adjudicated: Answers that settle points, whatever the interpreters said.

    Returns:
        ``design`` with ``ref`` (1, 0 or missing), ``n_answers``, ``disagreed``, ``adjudicated``, ``readings``
        (``Ann=1; Bo=?``), ``interpreter``, ``date_ref`` (the youngest imagery looked at), ``date_gap_days`` (of the
        answer furthest from the map's date; negative: before it), ``date_flag`` (``later``, ``long before`` or empty).

    Raises:
        LabelError: Unknown points, an interpreter who contradicts themself, dates or disagreement that the rules
            refuse.
    """
    rules = rules or MergeRules()
    if not tables:
        raise LabelError("no table of labels was given: label the points first")
    ids = as_text(design[rules.id_column])
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise LabelError(f"point {repeated.iloc[0]!r} is in the design twice: ids must be unique to take labels")
    for table in [*tables, *([adjudicated] if adjudicated else [])]:
        strange = sorted(set(table.frame["point_id"]) - set(ids))
        if strange:
            raise LabelError(
                f"{table.source} labels point {strange[0]!r} and {len(strange) - 1} others that are not in the sample:"
                " a label outside the sample has no weight. Check that design and labels belong together"
            )
    answers = _one_per_interpreter(tables)
    answers = _dated(answers, _map_dates(design, ids, rules), rules)
    merged = _majority(answers)
    open_points = merged["ref"].isna() & (merged["n_answers"] > 0)
    merged["adjudicated"] = False
    if adjudicated is not None:
        final = adjudicated.frame.set_index("point_id")["label"]
        settled = merged.index.intersection(final.index)
        merged.loc[settled, "ref"] = final.reindex(settled)
        merged.loc[settled, "adjudicated"] = True
        open_points &= ~merged.index.isin(settled)
    if open_points.any():
        _settle(merged, open_points, answers, rules)
    out = design.assign(**{c: ids.map(merged[c]).to_numpy() for c in COLUMNS})
    out["n_answers"] = out["n_answers"].fillna(0).astype(int)
    for column in ("disagreed", "adjudicated"):
        out[column] = out[column].eq(True)
    out["date_flag"] = out["date_flag"].fillna("")
    out["ref"] = out["ref"].astype("Int64")
    return out


def read_readings(text: object) -> dict[str, float]:
    """Interpreter to answer (1.0, 0.0, NaN) of a cell of the column ``readings``; empty where it is."""
    return {name: {"1": 1.0, "0": 0.0}.get(answer, float("nan")) for name, answer in _split_readings(text)}


def tabulate_readings(column: pd.Series) -> pd.DataFrame:
    """A column ``readings`` as float64 (rows, interpreters), 1, 0 or NaN; the interpreter with most answers first."""
    return _tabulate(column, read_readings, float)


def tabulate_answers(column: pd.Series) -> pd.DataFrame:
    """A column ``readings`` as text (rows, interpreters): classes by name, missing where nothing was answered."""

    def read(text: object) -> dict[str, str | None]:
        return {n: None if a.strip().lower() in UNANSWERED else a.strip() for n, a in _split_readings(text)}

    return _tabulate(column, read, object)


def _split_readings(text: object) -> list[tuple[str, str]]:
    if not isinstance(text, str) or not text.strip():
        return []
    return [(name, answer) for name, answer in (part.rsplit("=", 1) for part in text.split("; "))]


def _tabulate(column: pd.Series, read: Callable[[object], dict[str, Any]], dtype: type) -> pd.DataFrame:
    texts = column.astype(object).where(column.notna(), "")
    codes, known = pd.factorize(texts)
    table = pd.DataFrame([read(text) for text in known], index=range(len(known)), dtype=dtype)
    table = table.iloc[codes].set_axis(column.index, axis=0)
    return table[list(table.notna().sum().sort_values(ascending=False, kind="stable").index)]


def _one_per_interpreter(tables: Sequence[LabelTable]) -> pd.DataFrame:
    """All answers; a table saved twice counts once, and an interpreter who contradicts themself is named."""
    answers = pd.concat([t.frame.assign(source=t.source) for t in tables], ignore_index=True)
    answers["interpreter"] = answers["interpreter"].str.replace(r"[;=]", " ", regex=True).str.strip()
    answers = answers.sort_values("date_ref", kind="stable", na_position="first")
    answers = answers.drop_duplicates(["point_id", "interpreter", "label"], keep="last").sort_index()
    twice = answers[answers.duplicated(["point_id", "interpreter"], keep=False)]
    if len(twice):
        first = twice.iloc[0]
        pair = twice[(twice["point_id"] == first["point_id"]) & (twice["interpreter"] == first["interpreter"])]
        points = list(dict.fromkeys(twice["point_id"]))
        said = " and ".join(
            f"{write_answer(label)} in {source}" for label, source in zip(pair["label"], pair["source"], strict=True)
        )
        raise LabelError(
            f"{first['interpreter']!r} labelled point {first['point_id']!r} in two tables: {said}; {len(points)} such"
            f" points ({', '.join(points[:5])}{' …' if len(points) > 5 else ''}): keep one answer of each; a second"
            " reading is another interpreter's"
        )
    return answers.sort_values(["point_id", "interpreter"], ignore_index=True)


def _map_dates(design: pd.DataFrame, ids: pd.Series, rules: MergeRules) -> pd.DataFrame | None:
    """First and last day of the map's imagery by point, or None where nothing says it."""
    if rules.map_date is not None:
        spans = pd.Series([rules.map_date] * len(ids), index=ids)
        where = "--map-date"
    elif "map_date" in design.columns and design["map_date"].notna().any():
        spans = pd.Series(design["map_date"].astype(object).to_numpy(), index=ids)
        where = "the design's map_date"
    else:
        return None
    known = {text: read_span(text, option=where) for text in spans.dropna().unique() if str(text).strip()}
    blank = (pd.NaT, pd.NaT)
    pairs = [known.get(text, blank) for text in spans]
    return pd.DataFrame({"first": [p[0] for p in pairs], "last": [p[1] for p in pairs]}, index=ids)


def _dated(answers: pd.DataFrame, spans: pd.DataFrame | None, rules: MergeRules) -> pd.DataFrame:
    """Answers with ``gap`` (days after the map's imagery, negative before it) and ``flag``; late ones as ruled."""
    if spans is None:
        return answers.assign(gap=np.nan, flag="")
    here = spans.reindex(answers["point_id"]).reset_index(drop=True)
    after = (answers["date_ref"] - here["last"]).dt.days.to_numpy(dtype=float)
    before = (answers["date_ref"] - here["first"]).dt.days.to_numpy(dtype=float)
    gap = np.maximum(after, 0) + np.minimum(before, 0)  # NaN without one of the dates
    flag = np.where(gap > 0, LATER, np.where(gap < -rules.max_age_days, LONG_BEFORE, ""))
    answers = answers.assign(gap=gap, flag=flag)
    bad = answers[answers["flag"] != ""]
    if bad.empty or rules.dates == "keep":
        return answers
    if rules.dates == "unanswered":
        return answers.assign(label=answers["label"].mask(answers["flag"] != ""))
    later, old = bad[bad["flag"] == LATER], bad[bad["flag"] == LONG_BEFORE]
    found = []
    if len(later):
        row = later.iloc[0]
        limit = here["last"].loc[later.index[0]].date()
        found.append(
            f"{len(later)} labels are of imagery after the map's date {limit} (point {row['point_id']!r}:"
            f" {row['date_ref'].date()})"
        )
    if len(old):
        worst = int(np.argmin(old["gap"].to_numpy()))
        row, day = old.iloc[worst], here["first"].loc[old.index[worst]].date()
        found.append(
            f"{len(old)} labels are of imagery more than {rules.max_age_days} days before the map's date"
            f" {day} (point {row['point_id']!r}: {row['date_ref'].date()})"
        )
    raise LabelError(
        " and ".join(found) + ": label on imagery of the map's date, or choose --dates unanswered or keep (another"
        " limit: --max-age-days)"
    )


def _majority(answers: pd.DataFrame) -> pd.DataFrame:
    """One row per point: the majority's answer (missing where even), and what is known of its readings."""
    told = answers.assign(
        reading=answers["interpreter"] + "=" + answers["label"].map(write_answer), far=answers["gap"].abs()
    )
    grouped = told.groupby("point_id")
    merged = pd.DataFrame(
        {
            "share": grouped["label"].mean(),
            "n_answers": grouped["label"].count(),
            "readings": _join(told["point_id"], told["reading"]),
            "interpreter": _join(told["point_id"], told["interpreter"]),
            "date_ref": grouped["date_ref"].max(),
        }
    )
    furthest = told.sort_values("far", kind="stable", na_position="first").groupby("point_id").tail(1)
    furthest = furthest.set_index("point_id")
    merged["date_gap_days"] = furthest["gap"].reindex(merged.index)
    merged["date_flag"] = furthest["flag"].reindex(merged.index)
    share = merged.pop("share")
    merged["disagreed"] = (share > 0) & (share < 1)
    merged["ref"] = (share > 0.5).astype(float).mask(share.isna() | (share == 0.5))
    return merged


def _join(points: pd.Series, texts: pd.Series) -> pd.Series:
    """Texts of each point, which stand in the order of the points, joined."""
    pairs = groupby(zip(points, texts, strict=True), key=itemgetter(0))
    return pd.Series({point: "; ".join(text for _, text in rows) for point, rows in pairs}, dtype=object)


def _settle(merged: pd.DataFrame, open_points: pd.Series, answers: pd.DataFrame, rules: MergeRules) -> None:
    """Deal with points whose answers differ evenly, in place."""
    if rules.disagreement == "fail":
        first = merged[open_points].iloc[0]
        raise LabelError(
            f"{int(open_points.sum())} points have different answers (first: {str(first.name)!r}: {first['readings']})."
            " Leaving them out flatters the map, since they are the"
            " hard ones: have them read by a third interpreter (`uvmap label reread` orders it), settle them with"
            " --adjudicated, or choose --disagreement unanswered or first"
        )
    if rules.disagreement == "first":
        told = answers.dropna(subset=["label"]).drop_duplicates("point_id").set_index("point_id")["label"]
        merged.loc[open_points, "ref"] = told.reindex(merged.index[open_points])
