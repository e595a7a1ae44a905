"""The texts of a release, written from its record alone: after a build, a reserved DOI, a waiver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.release import layout
from pipeline.release.changes import changelog
from pipeline.release.checksums import write_checksums
from pipeline.release.crate import write_crate
from pipeline.release.licence import licence_text
from pipeline.release.record import ReleaseRecord
from pipeline.release.stac import write_stac
from pipeline.release.texts import citation, model_card, readme


def seal_release(folder: Path, record: ReleaseRecord) -> None:
    """Write `layout.TEXTS` and the STAC items for these facts; data files are not touched.

    The same record and data give the same bytes. Whoever changes a fact (`record.model_copy(update=...)`: a DOI, a
    date, a waiver) calls this: README, citation, STAC, RO-Crate and checksums then all say the same.
    """
    record.write(folder)
    texts = {
        layout.CHANGELOG: changelog(record),
        layout.CITATION: citation(record),
        layout.LICENSE: licence_text(record),
        layout.MODEL_CARD: model_card(record),
        layout.README: readme(record, {*record.data, *layout.TEXTS}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    write_stac(folder, record, grid=_grid(record))
    write_crate(folder, record)
    write_checksums(folder, {name: (fact.sha256, fact.md5) for name, fact in record.data.items()})


def _grid(record: ReleaseRecord) -> dict[str, Any] | None:
    return dict(record.grid_raster) or None
