"""Gates on what the release claims: its cover, its accuracy, the independence of the sample, its licences."""

from __future__ import annotations

import hashlib
import json
import zipfile
from typing import Any

import pyarrow.parquet as pq

from pipeline.release import layout
from pipeline.release.gates.results import Findings, Subject
from pipeline.release.tables import MAP_COLUMNS


def check_coverage(subject: Subject, found: Findings) -> None:
    """Every city of the campaign is there, and next to all of its ground was predicted."""
    record = subject.record
    shares = {c.adcode: c.not_predicted_share for c in record.cities}
    found.measured |= {
        "cities": len(record.cities),
        "missing": len(record.missing),
        "not_predicted_share_max": max(shares.values(), default=0.0),
        "not_predicted_share": {a: round(s, 6) for a, s in shares.items() if s > 0},
    }
    for adcode, why in sorted(record.missing.items()):
        found.add(f"{adcode} is not in the release: {why}")
    for city in record.cities:
        if city.not_predicted_share > subject.max_not_predicted:
            found.add(
                f"{city.adcode} {city.name_en}: {city.not_predicted_share:.1%} of its ground was not predicted, "
                f"more than {subject.max_not_predicted:.1%}"
            )


def check_accuracy(subject: Subject, found: Findings) -> None:
    """An assessment with its raw sample is there, and what it assessed is this map: the masks of this release."""
    record = subject.record
    for name in layout.ACCURACY_FILES:
        if not (subject.folder / name).is_file():
            found.add(f"{name} is missing: give the build --accuracy and --sample")
    if record.accuracy is None:
        found.add("no assessment is part of the release")
        return
    if found.count:
        return
    data = json.loads((subject.folder / layout.ACCURACY).read_text(encoding="utf-8"))
    claimed = _assessed(data) if record.accuracy.kind == "sample" else record.accuracy.cities
    found.measured |= {"kind": record.accuracy.kind, "cities_assessed": len(claimed)}
    if not claimed:
        found.add("the assessment does not say which map it judged: assess with --survey survey.json of the draw")
    cities = {c.adcode: c for c in record.cities}
    for adcode, files in sorted(claimed.items()):
        city = cities.get(adcode)
        if city is None:
            found.add(f"{adcode} was assessed, but is not in the release")
            continue
        mask = f"{adcode}_uv_mask.tif"
        here = _digest_in_archive(subject, city.archive, mask)
        if here != city.mask_sha256:
            found.add(f"{city.archive}: {mask} has SHA-256 {here[:12]}, {layout.RECORD} says {city.mask_sha256[:12]}")
        if files.get(mask) != here:
            found.add(f"{adcode}: mask {str(files.get(mask))[:12]} was assessed, the release holds {here[:12]}")


def check_leakage(subject: Subject, found: Findings) -> None:
    """The assessment's sample was checked against the training data, and nothing of it leaked."""
    accuracy = subject.record.accuracy
    if accuracy is None:
        found.add("without an assessment there is no sample to check")
    elif not accuracy.leakage_clean:
        found.add(accuracy.leakage_statement)


def check_licences(subject: Subject, found: Findings) -> None:
    """Columns that come from a map stand in their own file alone, and every file names its licence."""
    for column in pq.read_schema(subject.folder / layout.VILLAGES).names:
        if column in MAP_COLUMNS:
            found.add(f"{layout.VILLAGES}: holds {column}, which comes from map features, under another licence")
    text = (subject.folder / layout.LICENSE).read_text(encoding="utf-8")
    for name in (subject.record.outlines_licence, subject.record.map_licence):
        if name not in text:
            found.add(f"{layout.LICENSE}: does not name {name}")
    shaped = any(c.outlines_follow_map for c in subject.record.cities)
    if shaped and subject.record.outlines_licence != subject.record.map_licence:
        found.add(f"map features shaped outlines, which are under {subject.record.outlines_licence}")
    for name, fact in sorted(subject.record.data.items()):
        if not fact.licence:
            found.add(f"{name}: has no licence")
    found.measured["without_imagery_terms"] = [c.adcode for c in subject.record.cities if not c.imagery_licence]


def _assessed(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    cities = (report.get("survey") or {}).get("cities") or []
    return {str(c["city"]): dict(c["files"]) for c in cities}


def _digest_in_archive(subject: Subject, archive: str, name: str) -> str:
    digest = hashlib.sha256()
    with zipfile.ZipFile(subject.folder / archive) as source:
        inner = next((m for m in source.namelist() if m.rsplit("/", 1)[-1] == name), None)
        if inner is None:
            return "none"
        with source.open(inner) as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
