"""What the viewer says of a release: `data.json`, from the record and the accuracy alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.attributes.dictionary import ATTRIBUTES
from pipeline.release import layout
from pipeline.release.accuracy import estimates_of
from pipeline.release.record import CityFact, ReleaseRecord
from regions.registry import REGIONS

MEASURES = (("F1", "F1"), ("IoU", "IoU"), ("UA", "Precision (UA)"), ("PA", "Recall (PA)"))
NO_BASE_MAP = "There is no base map and no border. Imagery lies below invented cities only."
LABELS = {
    "uv_id": "Id",
    "status": "Change",
    "area_m2": "Area",
    "score_mean": "Mean score",
    "confidence": "Confidence",
    "boundary": "Outline from",
}
"""What the page says of a village (columns of the tiles), and how it calls that; the heading names its city."""
UNITLESS = frozenset({"-", "0-1"})
Bounds = list[list[float]]


def viewer_facts(record: ReleaseRecord, *, accuracy: Path | None, pictures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of `data.json`.

    Args:
        record: Of the release; its DOI is not used, as it is reserved when the viewer is done.
        accuracy: `accuracy.json` of the release; None where there is none.
        pictures: Imagery: ``adcode``, ``file`` and ``corners`` (degrees, from the upper left, clockwise).
    """
    regions = []
    for name in (*REGIONS, *sorted({c.region for c in record.cities} - set(REGIONS))):
        cities = [c for c in record.cities if c.region == name]
        if cities:
            regions.append({"name": name, "cities": len(cities), **_sums(cities), "bounds": _bounds(cities)})
    return {
        "title": record.metadata.title,
        "version": record.version,
        "bounds": _bounds(record.cities),
        **_sums(record.cities),
        "notes": NO_BASE_MAP,
        "attribution": record.metadata.title.split(":")[0]
        + ("; contains information from OpenStreetMap, ODbL" if "odbl" in record.outlines_licence.lower() else ""),
        "layer": layout.LAYER,
        "tiles": [layout.TILES, f"../{layout.TILES}"],
        "regions": regions,
        "cities": [_city(c) for c in sorted(record.cities, key=lambda c: (c.name_en, c.adcode))],
        "attributes": [
            {
                "name": a.name,
                "label": LABELS[a.name],
                "unit": "" if a.unit in UNITLESS else a.unit.replace("m2", "m²"),
                "meaning": a.definition,
            }
            for a in ATTRIBUTES
            if a.name in LABELS
        ],
        "accuracy": accuracy_facts(accuracy),
        "imagery": [dict(p) for p in pictures],
        "files": [
            {"name": name, "bytes": fact.bytes, "licence": fact.licence} for name, fact in sorted(record.data.items())
        ],
    }


def accuracy_facts(path: Path | None) -> dict[str, Any]:
    """Measures of the whole and of each region, with intervals, and what kind of assessment they come from."""
    facts: dict[str, Any] = {
        "whole": [],
        "regions": {},
        "no_region": "",
        "note": "No assessment came with this release.",
    }
    if path is None or not path.exists():
        return facts
    report = json.loads(path.read_text(encoding="utf-8"))
    if report.get("kind") != "sample":
        facts["note"] = (
            "Single cities were compared with complete reference (accuracy_report.html): by no design, so there is "
            "no figure for regions, and no interval."
        )
        return facts
    facts["whole"] = _measures(estimates_of(report))
    for region in REGIONS:
        if found := _measures(estimates_of(report, region)):
            facts["regions"][region] = found
    interval = f"{report['level']:.0%} interval" if report.get("level") else "interval"
    facts["note"] = f"Estimate and {interval} from a probability sample of this map."
    facts["no_region"] = "The sample gives no figure for this region alone: these are of the whole."
    return facts


def _measures(by_name: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": title,
            "estimate": by_name[name]["estimate"],
            "low": by_name[name].get("ci_low"),
            "high": by_name[name].get("ci_high"),
        }
        for name, title in MEASURES
        if name in by_name and by_name[name].get("estimate") is not None
    ]


def _city(city: CityFact) -> dict[str, Any]:
    return {
        "adcode": city.adcode,
        "name_zh": city.name_zh,
        "name_en": city.name_en,
        "province": city.province,
        "region": city.region,
        "villages": city.villages,
        "area_m2": round(city.uv_area_m2),
        "not_predicted": round(city.not_predicted_share, 4),
        "image_date": city.image_date,
        "archive": city.archive,
        "bounds": _bounds([city]),
        "point": [round((city.west + city.east) / 2, 6), round((city.south + city.north) / 2, 6)],
    }


def _sums(cities: Sequence[CityFact]) -> dict[str, Any]:
    return {"villages": sum(c.villages for c in cities), "area_m2": round(sum(c.uv_area_m2 for c in cities))}


def _bounds(cities: Sequence[CityFact]) -> Bounds:
    west, south = min(c.west for c in cities), min(c.south for c in cities)
    east, north = max(c.east for c in cities), max(c.north for c in cities)
    return [[round(west, 6), round(south, 6)], [round(east, 6), round(north, 6)]]
