"""Dates of sources: a day or a period in ISO 8601, or nothing. What could be read two ways is never guessed."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date, datetime

from pipeline.errors import PipelineError

_TIFF_DATE = re.compile(r"(\d{4}):(\d{2}):(\d{2})(?:[ T]\d{2}:\d{2}:\d{2})?")
_ISO_PART = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
EARLIEST_YEAR = 1900


class SourceDateError(PipelineError):
    """A date that is none, or that could be read two ways."""


@dataclass(frozen=True, order=True)
class SourceDate:
    """A day, or a period from its first to its last day.

    Attributes:
        first: First day.
        last: Last day; equal to the first where the day is known.
    """

    first: date
    last: date

    @property
    def is_day(self) -> bool:
        """Whether the day is known."""
        return self.first == self.last

    def __str__(self) -> str:
        return self.first.isoformat() if self.is_day else f"{self.first.isoformat()}/{self.last.isoformat()}"


def parse_date(text: str, whose: str) -> SourceDate:
    """A date as a user writes it: ``2023-04-03``, ``2023-04``, ``2023``, or a period ``2023-04/2023-09``.

    A time of day behind a full date is taken off.

    Args:
        text: As written.
        whose: File and field, for the message.

    Raises:
        SourceDateError: anything else, a day that does not exist, or a period that ends before it begins.
    """
    parts = text.strip().split("/")
    if len(parts) > 2:
        raise _not_iso(text, whose)
    first, last = _span(parts[0], text, whose), _span(parts[-1], text, whose)
    if last.last < first.first:
        raise SourceDateError(f"{whose}: the period {text!r} ends before it begins: write start/end")
    return SourceDate(first.first, last.last)


def tiff_date(text: str) -> SourceDate | None:
    """The day of a TIFF's `DateTime` tag, written as ``YYYY:MM:DD HH:MM:SS``; None for anything else."""
    found = _TIFF_DATE.fullmatch(text.strip())
    if found is None or int(found[1]) < EARLIEST_YEAR:
        return None
    try:
        day = date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None
    return SourceDate(day, day)


def _span(part: str, text: str, whose: str) -> SourceDate:
    part = part.strip()
    if "T" in part or " " in part:
        try:
            day = datetime.fromisoformat(part).date()
        except ValueError as error:
            raise _not_iso(text, whose) from error
        return SourceDate(day, day)
    found = _ISO_PART.fullmatch(part)
    if found is None:
        raise _not_iso(text, whose)
    year, month, day_number = (None if g is None else int(g) for g in found.groups())
    try:
        if year is None or year < EARLIEST_YEAR:
            raise _not_iso(text, whose)
        if month is None:
            return SourceDate(date(year, 1, 1), date(year, 12, 31))
        if day_number is None:
            return SourceDate(date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1]))
        day = date(year, month, day_number)
    except ValueError as error:  # calendar.IllegalMonthError is one
        raise SourceDateError(
            f"{whose}: {text!r} is no day of the calendar ({error}): write it as 2023-04-03"
        ) from error
    return SourceDate(day, day)


def _not_iso(text: str, whose: str) -> SourceDateError:
    return SourceDateError(
        f"{whose}: {text!r} is no ISO 8601 date: write a day as 2023-04-03, a month as 2023-04, a year as 2023, or a "
        "period as 2023-04/2023-09"
    )
