"""The imagery of labelling pages, each raster with its date."""

from pathlib import Path

from accuracy.errors import LabelError
from accuracy.survey.labelling_page import LabelImagery
from pipeline.imagery.acquired import date_of_scenes


def date_imagery(imagery: list[Path], dates: list[str]) -> list[LabelImagery]:
    """Every raster with its date: as given, or by its own tag where that is a day."""
    if len(dates) not in {0, 1, len(imagery)}:
        raise LabelError(
            f"{len(dates)} --image-date for {len(imagery)} --imagery: give none (the files' own tags), one for all, or"
            " one for each in the same order"
        )
    if dates:
        given = dates * len(imagery) if len(dates) == 1 else dates
        return [LabelImagery(path=path, date=date) for path, date in zip(imagery, given, strict=True)]
    found = []
    for path in imagery:
        day, _ = date_of_scenes([path])
        found.append(LabelImagery(path=path, date=str(day) if day is not None and day.is_day else ""))
    return found
