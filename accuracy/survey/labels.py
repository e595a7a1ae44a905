"""Labels in: tables of interpreters, checked against the sample, merged into one answer per point.

An answer is 1 (urban village), 0 (not), or none: "cannot say" is non-response, kept and counted, never dropped and
never a zero. Tables of the labelling page, of Collect Earth and Collect Earth Online, and plain tables are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from accuracy.errors import LabelError
from accuracy.survey.dates import read_date, read_dates
from accuracy.survey.design import as_text
from accuracy.survey.sample import NO, UNANSWERED, YES
from accuracy.tables import read_table

Disagreement = Literal["unanswered", "first", "fail"]
DatePolicy = Literal["fail", "unanswered", "keep"]
DISAGREEMENTS: tuple[Disagreement, ...] = get_args(Disagreement)
DATE_POLICIES: tuple[DatePolicy, ...] = get_args(DatePolicy)

ID_COLUMNS = ("point_id", "plot_id", "plotid", "pl_plotid", "plot", "id")
LABEL_COLUMNS = ("label", "ref", "reference", "urban_village", "urban village", "urban village?", "class")
WHO_COLUMNS = ("interpreter", "operator", "email", "user", "user_id", "analyst")
DATE_COLUMNS = ("date_ref", "imagery_date", "image_date", "imagery date", "imagerydate", "date")
FLAG_COLUMNS = ("flagged",)


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """Answers of one or several interpreters.

    Attributes:
        frame: ``point_id`` (text), ``label`` (1.0, 0.0 or NaN for no answer), ``interpreter``, ``date_ref``
            (Timestamp or NaT: the date of the imagery looked at); one row per point and interpreter.
        source: Where it comes from.
    """

    frame: pd.DataFrame
    source: str


def read_labels(
    path: Path | str,
    *,
    id_column: str | None = None,
    label_column: str | None = None,
    interpreter: str | None = None,
    positive: Sequence[str] = (),
    negative: Sequence[str] = (),
    date_format: str | None = None,
    with_dates: bool = True,
) -> LabelTable:
    """Read a table of labels.

    Several rows of one interpreter for one plot (samples of a Collect Earth plot) become the majority's answer; a tie
    is no answer. Rows flagged in Collect Earth are no answer.

    Args:
        path: CSV, GeoPackage, GeoJSON or Parquet.
        id_column: Column of point ids; found by its usual names where None.
        label_column: Column of answers; likewise.
        interpreter: Name for all rows, where the table has no column of names.
        positive: Further answers that mean urban village (class names).
        negative: Further answers that mean not.
        date_format: How dates are written, see `accuracy.survey.dates.read_dates`; None for the year first.
        with_dates: Whether dates are read; without them all are missing.

    Raises:
        LabelError: A column cannot be found, an answer is unknown, or a date is none.
        SampleTableError: The file cannot be read.
    """
    table = read_table(path)
    by_name = {str(c).strip().lower(): c for c in table.columns}
    ids = _column(by_name, ID_COLUMNS, id_column, path, "point ids")
    labels = _column(by_name, LABEL_COLUMNS, label_column, path, "labels")
    who = next((by_name[c] for c in WHO_COLUMNS if c in by_name), None)
    when = next((by_name[c] for c in DATE_COLUMNS if c in by_name), None)
    answer = _answers(table[labels], path, positive, negative)
    for column in FLAG_COLUMNS:
        if column in by_name:
            answer[as_text(table[by_name[column]]).str.lower().isin(YES).to_numpy()] = np.nan
    name = interpreter or Path(path).stem
    people = pd.Series(name, index=table.index) if who is None else as_text(table[who]).fillna(name)
    frame = pd.DataFrame(
        {
            "point_id": as_text(table[ids]),
            "label": answer,
            "interpreter": people.astype(str),
            "date_ref": read_dates(table, when if with_dates else None, source=path, date_format=date_format),
        }
    )
    if frame["point_id"].isna().any():
        raise LabelError(
            f"{path}: column {ids!r} is empty in {int(frame['point_id'].isna().sum())} rows: fill in the ids"
        )
    frame = frame.groupby(["point_id", "interpreter"], as_index=False, sort=True).agg(
        label=("label", _majority), date_ref=("date_ref", "max")
    )
    return LabelTable(frame=frame, source=str(path))


def merge_labels(
    design: pd.DataFrame,
    tables: Sequence[LabelTable],
    *,
    disagreement: Disagreement = "unanswered",
    adjudicated: LabelTable | None = None,
    map_date: str | None = None,
    dates: DatePolicy = "fail",
    id_column: str = "point_id",
) -> pd.DataFrame:
    """Put one answer per point into the sample's design table.

    Args:
        design: The drawn units with their design columns.
        tables: Answers of the interpreters.
        disagreement: What a point with different answers gets, unless it was adjudicated: no answer, the first
            interpreter's (in alphabetical order), or an error.
        adjudicated: Answers that settle disagreements.
        map_date: ISO date of the map's imagery; None where it is not known.
        dates: What happens to answers from imagery that is younger than the map's: villages are demolished, so
            such an answer is about another state of the ground.
        id_column: Column of ids in ``design``.

    Returns:
        ``design`` with ``ref`` (1, 0 or missing), ``n_answers``, ``disagreed``, ``date_ref``, ``interpreter``.

    Raises:
        LabelError: Unknown points, an interpreter with two answers for a point, late dates, disagreement.
    """
    if not tables:
        raise LabelError("no table of labels was given: label the points first")
    ids = as_text(design[id_column])
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise LabelError(f"point {repeated.iloc[0]!r} is in the design twice: ids must be unique to take labels")
    answers = pd.concat([t.frame.assign(source=t.source) for t in tables], ignore_index=True)
    settled = None if adjudicated is None else adjudicated.frame
    for table in [*tables, *([adjudicated] if adjudicated else [])]:
        strange = sorted(set(table.frame["point_id"]) - set(ids))
        if strange:
            raise LabelError(
                f"{table.source} labels point {strange[0]!r} and {len(strange) - 1} others that are not in the sample:"
                " a label outside the sample has no weight. Check that design and labels belong together"
            )
    twice = answers[answers.duplicated(["point_id", "interpreter"])]
    if len(twice):
        row = twice.iloc[0]
        raise LabelError(
            f"{row['interpreter']!r} labelled point {row['point_id']!r} in two tables"
            f" ({row['source']} is one): keep one"
        )
    answers = _late(answers, map_date, dates)
    merged = (
        answers.sort_values(["point_id", "interpreter"])
        .groupby("point_id")
        .agg(
            ref=("label", "first"),
            low=("label", "min"),
            high=("label", "max"),
            n_answers=("label", "count"),
            date_ref=("date_ref", "max"),
            interpreter=("interpreter", "; ".join),
        )
    )
    merged["disagreed"] = merged["low"].ne(merged["high"]) & merged["n_answers"].gt(1)
    open_points = merged["disagreed"].copy()
    if settled is not None:
        final = settled.set_index("point_id")["label"]
        merged.loc[merged.index.isin(final.index), "ref"] = final.reindex(merged.index)
        open_points &= ~merged.index.isin(final.index)
    if open_points.any():
        if disagreement == "fail":
            raise LabelError(
                f"{int(open_points.sum())} points have different answers (first: {open_points.idxmax()!r}):"
                " settle them with --adjudicated"
            )
        if disagreement == "unanswered":
            merged.loc[open_points, "ref"] = np.nan
    out = design.assign(
        **{c: ids.map(merged[c]).to_numpy() for c in ("ref", "n_answers", "disagreed", "date_ref", "interpreter")}
    )
    out["n_answers"] = out["n_answers"].fillna(0).astype(int)
    out["disagreed"] = out["disagreed"].eq(True)
    out["ref"] = out["ref"].astype("Int64")
    return out


def _late(answers: pd.DataFrame, map_date: str | None, dates: DatePolicy) -> pd.DataFrame:
    if map_date is None or dates == "keep":
        return answers
    limit = read_date(map_date, option="--map-date")
    late = answers["date_ref"].gt(limit).to_numpy()
    if not late.any():
        return answers
    if dates == "fail":
        row = answers[late].iloc[0]
        raise LabelError(
            f"{int(late.sum())} labels are of imagery after the map's date {limit.date()} (point {row['point_id']!r}:"
            f" {row['date_ref'].date()}): label on imagery of the map's date, or choose --dates unanswered"
        )
    return answers.assign(label=answers["label"].mask(late))


def _column(by_name: dict[str, str], usual: Sequence[str], given: str | None, path: Path | str, what: str) -> str:
    option = "--id-column" if what == "point ids" else "--label-column"
    if given is not None:
        if given.strip().lower() not in by_name:
            raise LabelError(f"{path} has no column {given!r} (it has {', '.join(by_name)})")
        return by_name[given.strip().lower()]
    for name in usual:
        if name in by_name:
            return by_name[name]
    raise LabelError(f"{path} has no column of {what} (looked for {', '.join(usual)}): name it with {option}")


def _answers(column: pd.Series, path: Path | str, positive: Sequence[str], negative: Sequence[str]) -> np.ndarray:
    text = as_text(column)
    low = text.astype("string").str.lower()
    yes = low.isin({*YES, *(p.lower() for p in positive)}).to_numpy(dtype=bool)
    no = low.isin({*NO, *(n.lower() for n in negative)}).to_numpy(dtype=bool)
    silent = np.asarray(text.isna() | low.isin(UNANSWERED), dtype=bool)
    strange = ~(yes | no | silent)
    if strange.any():
        seen = sorted(set(text[strange]))
        raise LabelError(
            f"{path} holds the answers {', '.join(map(repr, seen[:5]))}{' …' if len(seen) > 5 else ''}: say which mean"
            " urban village (--positive) and which not (--negative)"
        )
    return np.where(silent, np.nan, np.where(yes, 1.0, 0.0))


def _majority(answers: pd.Series) -> float:
    known = answers.dropna()
    if known.empty or known.mean() == 0.5:
        return float("nan")
    return float(known.mean() > 0.5)
