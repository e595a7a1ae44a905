"""The texts of a release, written from its record alone: after a build, a reserved DOI, a waiver."""

from __future__ import annotations

from pathlib import Path

from pipeline.release.checksums import write_checksums
from pipeline.release.record import ReleaseRecord


def seal_release(folder: Path, record: ReleaseRecord) -> None:
    """Write `layout.TEXTS` for these facts; data files are not touched. The same record gives the same bytes."""
    record.write(folder)
    write_checksums(folder, {name: (fact.sha256, fact.md5) for name, fact in record.data.items()})
