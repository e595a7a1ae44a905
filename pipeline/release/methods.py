"""What a release says of how it was made: settings, model, accuracy by region, limits, how to cite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.release.record import ReleaseRecord

LABELS = {
    "UA": "precision (user's accuracy, UA)",
    "PA": "recall (producer's accuracy, PA)",
    "F1": "F1",
    "IoU": "IoU",
    "OA": "overall accuracy",
    "area": "urban village, share of the ground",
}


def method_lines(record: ReleaseRecord) -> list[str]:
    """The section on how the map was made, with the settings that decide what is a village."""
    weights = sorted({c.model_version for c in record.cities})
    lines = [
        "## How it was made",
        "",
        (
            "A model scores every pixel with the probability that it lies in an urban village; scores are cut into "
            "polygons, and outlines may be drawn anew from the imagery. The polygons are the map that is assessed. "
            f"Weights: {', '.join(f'`{w}`' for w in weights)} (`model_card.md`)."
        ),
        "",
    ]
    for digest, settings in sorted(record.settings.items()):
        cities = record.definition.get(digest, [])
        which = "all cities" if len(cities) == len(record.cities) else f"{len(cities)} cities"
        lines.append(f"- {which} (settings `{digest}`): {_settings(settings)}")
    return [*lines, "", "`release.json` holds all settings.", ""]


def _settings(settings: Mapping[str, Any]) -> str:
    polygons, refinement = settings.get("polygons") or {}, settings.get("refinement") or {}
    said = [
        f"a village starts where the score is {polygons.get('seed')} or more and grows down to {polygons.get('grow')}",
        f"gaps up to {polygons.get('close_gap_m')} m are closed",
        f"least area {polygons.get('min_area_m2')} m2, least hole {polygons.get('min_hole_m2')} m2",
        f"outlines simplified by at most {polygons.get('simplify_m')} m",
        "cut at roads, railways and water of the map" if polygons.get("barriers") else "not cut at map features",
    ]
    if polygons.get("exclusions"):
        said.append("land use of the map taken out")
    refiner = refinement.get("refiner", "none")
    said.append("outlines not refined" if refiner == "none" else f"outlines refined ({refiner})")
    return "; ".join(said) + "."


def accuracy_tables(headline: Mapping[str, Mapping[str, Any]], regions: Mapping[str, Any]) -> list[str]:
    """Tables in Markdown of a sample's estimates: of the whole, and F1 with its parts by region."""
    levels = {row["level"] for row in headline.values() if row.get("level")}
    interval = f"{min(levels):.0%} interval" if levels else "interval"
    lines = [f"| measure | estimate | {interval} | points |", "| --- | --- | --- | --- |"]
    for name, row in headline.items():
        label = LABELS.get(name, name)
        lines.append(f"| {label} | {_value(row)} | {_span(row)} | {row.get('n_points', '-')} |")
    if regions:
        names = [n for n in ("F1", "UA", "PA") if any(n in of for of in regions.values())]
        lines += ["", f"| region | {' | '.join(f'{n} (interval)' for n in names)} |", "| --- |" + " --- |" * len(names)]
        lines += [f"| {region} | {' | '.join(_cell(of.get(n)) for n in names)} |" for region, of in regions.items()]
    return lines


def _cell(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None or row.get("estimate") is None else f"{_value(row)} ({_span(row)})"


def _value(row: Mapping[str, Any]) -> str:
    return "-" if row.get("estimate") is None else f"{row['estimate']:.3f}"


def _span(row: Mapping[str, Any]) -> str:
    low, high = row.get("ci_low"), row.get("ci_high")
    return "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def limit_lines(record: ReleaseRecord) -> list[str]:
    """The section on what the map must not be taken for."""
    gone = [c for c in record.cities if not c.image_date]
    blind = [c for c in record.cities if c.osm_date is None]
    lines = [
        "## Limits",
        "",
        "- An outline is a model's answer at the date of its imagery; no statement about land rights or households.",
        "- Areas summed from outlines carry the map's errors: correct them with the sample (`accuracy_sample.zip`).",
        "- Scores and `confidence` rank villages; they are no probability that an outline is exact.",
    ]
    if gone:
        lines.append(f"- No source states the imagery's date in {len(gone)} cities: {_codes(c.adcode for c in gone)}.")
    if blind:
        lines.append(
            f"- No map features were at hand in {len(blind)} cities, whose columns of buildings and roads are empty: "
            f"{_codes(c.adcode for c in blind)}."
        )
    return [*lines, ""]


def citation_lines(record: ReleaseRecord) -> list[str]:
    """The section on how to cite, in words; `CITATION.cff` says the same for programs."""
    people = "; ".join(c.name for c in record.metadata.creators)
    year = f" ({record.date[:4]})" if record.date else ""
    doi = f" https://doi.org/{record.doi}" if record.doi else " (no DOI is reserved yet)"
    publisher = f" {record.metadata.publisher}." if record.metadata.publisher else ""
    text = f"{people}{year}. {record.metadata.title}, version {record.version} [Data set].{publisher}{doi}"
    lines = ["## Cite", "", text, "", "`CITATION.cff` says the same for programs."]
    if record.metadata.related:
        lines.append(f"Supplement to: {', '.join(record.metadata.related)}.")
    if record.metadata.contact:
        lines.append(f"Questions: {record.metadata.contact}.")
    return [*lines, ""]


def _codes(codes: Iterable[str], shown: int = 8) -> str:
    every = sorted(codes)
    rest = len(every) - shown
    return ", ".join(every[:shown]) + (f" and {rest} more (`cities.csv`)" if rest > 0 else "")
