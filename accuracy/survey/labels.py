"""Labels in: tables of interpreters, read into one answer per point and interpreter.

An answer is 1 (urban village), 0 (not), or none: "cannot say" is non-response, kept and counted, never dropped and
never a zero. Tables of the labelling page, of Collect Earth and Collect Earth Online, and plain tables are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from accuracy.errors import LabelError
from accuracy.survey.dates import read_dates
from accuracy.survey.design import as_text
from accuracy.survey.sample import NO, UNANSWERED, YES

ID_COLUMNS = ("point_id", "plot_id", "plotid", "pl_plotid", "plot", "id")
LABEL_COLUMNS = ("label", "ref", "reference", "urban_village", "urban village", "urban village?", "class")
WHO_COLUMNS = ("interpreter", "operator", "email", "user", "user_id", "analyst")
DATE_COLUMNS = ("date_ref", "imagery_date", "image_date", "imagery date", "imagerydate", "date")
FLAG_COLUMNS = ("flagged",)
SAMPLE_COLUMNS = ("sampleid", "sample_id", "pl_sampleid", "pl_sample_id")


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

    Samples of a Collect Earth plot (a column of sample ids) become the majority's answer of the plot; a tie is no
    answer. Rows flagged in Collect Earth are no answer. Elsewhere an interpreter has one answer per point.

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
        LabelError: The table is empty, a column cannot be found, an answer is unknown, an interpreter contradicts
            themself, or a date is none.
        SampleTableError: The file cannot be read.
    """
    from accuracy.tables import read_table  # noqa: PLC0415 - geopandas, which estimation does without

    table = read_table(path)
    if table.empty:
        raise LabelError(f"{path} holds no rows: save the answers of the labelling page again, or leave the table out")
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
    if not any(c in by_name for c in SAMPLE_COLUMNS):
        _refuse_contradictions(frame, path)
    frame = frame.groupby(["point_id", "interpreter"], as_index=False, sort=True).agg(
        label=("label", _majority), date_ref=("date_ref", "max")
    )
    return LabelTable(frame=frame, source=str(path))


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


def _refuse_contradictions(frame: pd.DataFrame, path: Path | str) -> None:
    """Raise where one interpreter has different answers for one point; the same answer twice counts once."""
    told = frame.assign(label=frame["label"].fillna(-1))
    kinds = told.groupby(["point_id", "interpreter"])["label"].nunique()
    apart = kinds[kinds > 1]
    if apart.empty:
        return
    point, who = apart.index[0]
    answers = told[(told["point_id"] == point) & (told["interpreter"] == who)]["label"]
    shown = " and ".join(write_answer(v) for v in dict.fromkeys(answers))
    names = ", ".join(str(p) for p, _ in apart.index[:5]) + (" …" if len(apart) > 5 else "")
    raise LabelError(
        f"{path}: {who!r} answers {shown} for point {point!r}; {len(apart)} points have contradictory rows ({names}):"
        " keep the row that is meant"
    )


def write_answer(label: float) -> str:
    """An answer as interpreters type it: 1, 0 or ?."""
    return str(int(label)) if label in {0, 1} else "?"


def _majority(answers: pd.Series) -> float:
    known = answers.dropna()
    if known.empty or known.mean() == 0.5:
        return float("nan")
    return float(known.mean() > 0.5)
