"""The mark of a finished city, by which a later run finds it without starting a process.

It lies in the city's work folder and holds the stamp of all that the product was made from (job, sizes and dates of the
files, digests of the code) and the digest of the product's manifest. Where the stamp differs the stages run, and
their ledger decides what is redone.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from flows.record import stamp_of
from pipeline.city.job import CityJob
from pipeline.files import sha256_of, write_json

_NAME = "finished.json"
_MANIFEST = "manifest.json"


def mark_finished(job: CityJob, stamp: str, summaries: dict[str, dict[str, Any]]) -> None:
    """Mark the city of a job whose product was just made.

    Args:
        job: The city.
        stamp: `stamp_of` the job as it was when its first stage started: what changed since is seen.
        summaries: What its stages said, kept for later runs.
    """
    manifest = job.out / _MANIFEST
    if manifest.exists():
        write_json(_mark(job), {"stamp": stamp, "manifest": sha256_of(manifest), "summaries": summaries})


def find_finished(job: CityJob) -> tuple[str, dict[str, dict[str, Any]]] | None:
    """Stamp and summaries of a city that is finished and current and whose product's files are all there.

    The files are looked up by name and size, not read: `uvmap report` verifies their content.
    """
    try:
        mark = json.loads(_mark(job).read_text(encoding="utf-8"))
        text = (job.out / _MANIFEST).read_bytes()
        if hashlib.sha256(text).hexdigest() != mark["manifest"]:
            return None
        for name, file in json.loads(text).get("files", {}).items():
            if (job.out / name).stat().st_size != file["bytes"]:
                return None
        return (mark["stamp"], mark["summaries"]) if mark["stamp"] == stamp_of(job) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_finished(job: CityJob) -> None:
    """Drop the mark before anything of the city is redone."""
    _mark(job).unlink(missing_ok=True)


def _mark(job: CityJob) -> Path:
    return job.ground.work / _NAME
