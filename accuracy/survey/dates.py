"""Dates in tables of labels: with the year first, or by a format that the user names; never guessed."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from accuracy.errors import LabelError

TIME = r"(\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?\s*(?:Z|[+-]\d{2}:?\d{2})?)"
YEAR_FIRST = re.compile(rf"(\d{{4}})[-/.年](\d{{1,2}})[-/.月](\d{{1,2}})日?(?:[T ]{TIME})?")
YEAR_LAST = re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}.*")
HOW = "write ISO dates (2024-07-05), or say how they are written with --date-format, such as %d/%m/%Y"


def read_dates(table: pd.DataFrame, column: str | None, *, source: Path | str, date_format: str | None) -> pd.Series:
    """A column of dates, datetime64[ns] without time zone (UTC where one is given), NaT where empty.

    Dates with the year first are read (2024-07-05, 2024/7/5, 2024年7月5日, with a time or without).

    Args:
        table: The table.
        column: Its column of dates; None gives NaT everywhere.
        source: The file, for messages.
        date_format: Format of `datetime.strptime` for all dates of the column; None for the year first.

    Raises:
        LabelError: A value is no date, or its order of day and month is not known.
    """
    if column is None:
        return pd.Series(pd.NaT, index=table.index, dtype="datetime64[ns]")
    values = table[column]
    if pd.api.types.is_datetime64_any_dtype(values):
        return pd.to_datetime(values, utc=True).dt.tz_localize(None)
    text = values.astype("string").str.strip()
    text = text.mask(text.eq("").fillna(value=False))
    known = text.dropna().unique().tolist()
    parsed = {value: _read_date(value, f"{source}: {column!r} holds", date_format) for value in known}
    return pd.to_datetime(text.map(parsed).astype(object)).astype("datetime64[ns]")


def read_date(text: str, *, option: str) -> pd.Timestamp:
    """A date that an option gives, with the year first.

    Raises:
        LabelError: It is no such date.
    """
    return _read_date(text.strip(), option, None)


def read_span(text: str, *, option: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First and last day of a date, or of a period written as ``2024-05-01/2024-06-30``.

    Raises:
        LabelError: It is neither, or ends before it begins.
    """
    parts = str(text).split("/") if str(text).count("-") == 4 else [str(text)]
    first, last = read_date(parts[0], option=option), read_date(parts[-1], option=option)
    if last < first:
        raise LabelError(f"{option} {text!r} ends before it begins: write start/end")
    return first, last


def _read_date(text: str, where: str, date_format: str | None) -> pd.Timestamp:
    how = HOW if not where.startswith("--") else "give an ISO date, such as 2024-07-05"
    if date_format is not None:
        try:
            return _plain(pd.to_datetime(text, format=date_format))
        except ValueError as error:
            raise LabelError(f"{where} {text!r}, which is no date written as --date-format {date_format!r}") from error
    found = YEAR_FIRST.fullmatch(text)
    if found is None:
        if YEAR_LAST.fullmatch(text):
            raise LabelError(f"{where} {text!r}, whose order of day and month is not known: {how}")
        raise LabelError(f"{where} {text!r}, which is no date: {how}")
    year, month, day, time = found.groups()
    try:
        return _plain(pd.Timestamp(f"{year}-{int(month):02d}-{int(day):02d}T{(time or '00:00').replace(' ', '')}"))
    except ValueError as error:
        raise LabelError(f"{where} {text!r}, a day that does not exist: {how}") from error


def _plain(moment: pd.Timestamp) -> pd.Timestamp:
    return moment if moment.tzinfo is None else moment.tz_convert("UTC").tz_localize(None)
