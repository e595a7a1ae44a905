"""When scenes were taken, by the files' own tags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.dates import SourceDate, tiff_date
from pipeline.imagery.opening import opened


def date_of_scenes(paths: Sequence[Path]) -> tuple[SourceDate | None, tuple[str, ...]]:
    """The date of the youngest scene by the files' own tags, with what the user must know.

    Returns:
        The date, or None where a scene does not say; and a warning for every tag that is no date.

    Raises:
        ImageryError: a scene that cannot be opened.
    """
    dates: list[SourceDate] = []
    warnings: list[str] = []
    for path in paths:
        with opened(path) as scene:
            text = scene.tags().get("TIFFTAG_DATETIME")
        found = None if text is None else tiff_date(str(text))
        if found is not None:
            dates.append(found)
        elif text is not None:
            warnings.append(
                f"{path.name}: its date tag {str(text)!r} is not of the form YYYY:MM:DD HH:MM:SS: the date of the "
                "imagery is left empty; write image_date into sources.yaml"
            )
    return (max(dates) if dates and len(dates) == len(paths) else None), tuple(warnings)
