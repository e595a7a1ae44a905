"""README, citation, model card and tables of a release, from its record."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import yaml

from pipeline.release import layout
from pipeline.release.methods import accuracy_tables, citation_lines, limit_lines, method_lines
from pipeline.release.record import CityFact, ReleaseRecord

WHAT = {
    layout.VILLAGES: "outlines and attributes, GeoParquet 1.1 in EPSG:4326, Hilbert order: the master file",
    layout.PACKAGE: "the same for desktop software, GeoPackage, layer `urban_villages`",
    layout.TILES: "the same as vector tiles for the web, PMTiles",
    layout.MAP_ATTRIBUTES: "buildings, heights and roads per village, Parquet, by `uv_id`; a licence of its own",
    layout.GRID: "100 m cells that hold urban village, GeoParquet in the national Albers projection",
    layout.GRID_RASTER: "the same as a COG: square metres of village per cell; 0 mapped and none, 65535 not mapped",
    layout.CITIES: "one row per city: villages, area, share not predicted, dates, sources",
    layout.PROVINCES: "one row per province",
    layout.DICTIONARY: "every column: type, unit, meaning, why it may be missing",
    layout.ACCURACY: "the assessment, all figures",
    layout.ACCURACY_REPORT: "the assessment to read",
    layout.ACCURACY_SAMPLE: "its raw sample: points, labels, weights",
    layout.VIEWER_ARCHIVE: "a map to look at: unpack beside the tiles, serve the folder, open viewer/index.html",
    layout.CATALOG: "entrance of the STAC catalog",
    layout.COLLECTION: "STAC collection; item_*.json are its items",
    layout.CRATE: "RO-Crate: all files, authors, licences for machines",
    layout.RECORD: "all facts of the release for machines",
    layout.MODEL_CARD: "the model: data, figures, limits",
    layout.LICENSE: "licences of the files, and why",
    layout.CHANGELOG: "what changed since the last release",
    layout.CITATION: "how to cite",
    layout.SHA256: "`sha256sum -c checksums.sha256`",
    layout.MD5: "`md5sum -c checksums.md5`",
}


def readme(record: ReleaseRecord, names: Iterable[str]) -> str:
    """README.md; waived gates stand in it."""
    asked = sum((c.predicted_px + c.not_predicted_px) * c.pixel_m2 for c in record.cities)
    missed = sum(c.not_predicted_px * c.pixel_m2 for c in record.cities)
    lines = [
        f"# {record.metadata.title}",
        "",
        f"Version {record.version}" + (f", {record.date}" if record.date else "") + _doi_line(record),
        "",
        record.metadata.description,
        "",
        "| | |",
        "| --- | --- |",
        f"| cities | {len(record.cities)} |",
        f"| villages | {record.villages} |",
        f"| area of villages | {record.uv_area_m2 / 1e6:.2f} km2 |",
        f"| ground asked for | {asked / 1e6:.1f} km2, {missed / asked if asked else 1:.2%} of it not predicted |",
        f"| imagery | {_span(c.image_date for c in record.cities)} |",
        f"| map features | {_span(c.osm_date for c in record.cities)} |",
        f"| campaign | {record.campaign['name']} {record.campaign['version']} |",
        "",
        (
            "Ground that was not predicted counts neither as village nor as other ground: see the share per city in "
            "`cities.csv` before you compare cities."
        ),
        "",
        *_accuracy(record),
        *_waivers(record),
        *_missing(record),
        *method_lines(record),
        *limit_lines(record),
        *citation_lines(record),
        "## Files",
        "",
        "| file | what |",
        "| --- | --- |",
        *(f"| `{n}` | {WHAT[n]} |" for n in sorted(names) if n in WHAT),
        (
            "| `province_*.zip` | one archive per province: GeoParquet, GeoPackage, map attributes, per city the mask"
            " (1 village, 0 not, 255 not predicted) and, where the release has them, the scores |"
        ),
        "| `item_*.json` | STAC items: the nation, the model, each province |",
        "",
        "## Open it",
        "",
        "```python",
        "import geopandas as gpd",
        'villages = gpd.read_parquet("urban_villages.parquet", bbox=(113.7, 22.4, 114.7, 22.9))',
        "import pandas as pd",
        'built = villages.merge(pd.read_parquet("map_attributes.parquet").drop(columns="adcode"), on="uv_id")',
        "```",
        "```sql",
        "SELECT province, count(*), sum(area_m2) / 1e6 AS km2 FROM 'urban_villages.parquet' GROUP BY province;",
        "```",
        "",
        "## Ids",
        "",
        (
            "`uv_id` is unique and kept from release to release: a village keeps that of the old one it overlaps most"
            " (`status` says what became of it). Areas are those of the national Albers projection, not of degrees."
        ),
        "",
        "## Licences",
        "",
        (
            f"Outlines and what is made of them: {record.outlines_licence}. `map_attributes.parquet`: "
            f"{record.map_licence}."
            " See LICENSE for the reasons. Contains information from OpenStreetMap, © OpenStreetMap contributors."
        ),
        "",
        "## Law on maps",
        "",
        record.metadata.compliance
        or "Nobody has stated yet what was checked of the law on surveying and maps. The "
        "release holds outlines, codes and extents, no base map and no border.",
        "",
    ]
    return "\n".join(lines)


def citation(record: ReleaseRecord) -> str:
    """CITATION.cff, format 1.2.0."""
    people: list[dict[str, Any]] = []
    for c in record.metadata.creators:
        if not c.given_names:
            people.append({"name": c.family_names})
            continue
        person = {"family-names": c.family_names, "given-names": c.given_names}
        person |= {"affiliation": c.affiliation} if c.affiliation else {}
        people.append(person | ({"orcid": f"https://orcid.org/{c.orcid}"} if c.orcid else {}))
    data: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use this dataset, please cite it as below.",
        "type": "dataset",
        "title": record.metadata.title,
        "version": record.version,
        "authors": people,
        "abstract": record.metadata.description,
        "keywords": list(record.metadata.keywords),
        "license": sorted({record.outlines_licence, record.map_licence}),
    }
    data |= {"date-released": record.date} if record.date else {}
    data |= {"doi": record.doi} if record.doi else {}
    if record.concept_doi:
        data["identifiers"] = [{"type": "doi", "value": record.concept_doi, "description": "All versions"}]
    data |= {"repository-code": record.metadata.repository_code} if record.metadata.repository_code else {}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000)


def model_card(record: ReleaseRecord) -> str:
    """model_card.md: the checkpoint's own card, and which cities were mapped with which weights."""
    cities = defaultdict(list)
    for c in record.cities:
        cities[c.model_version].append(c.adcode)
    lines = [
        "# Model card",
        "",
        "What mapped the villages, and what to keep in mind. The card below it is the checkpoint's own.",
        "",
        ("- use: mapping of urban villages from optical imagery near 1 m; scores are diagnostics, the polygons are the"
        " map"),
        "- not for: statements about single households, land rights, or decisions about people",
        "- input: imagery" + (" and map features" if record.model.get("reads_map") else " alone"),
        ("- limits: the map is as good as its assessment says, region by region (`accuracy_report.html`); ground unlike"
        " the training ground is mapped worse"),
        "- weights are not part of the release; they are known by their digest",
        "",
        *_accuracy(record),
        "| weights | cities |",
        "| --- | --- |",
        *(f"| `{name}` | {len(codes)} |" for name, codes in sorted(cities.items())),
        "",
        "## The checkpoint's own card",
        "",
        _demoted(str(record.model.get("card") or "The campaign's checkpoint was not there when the release was built: "
            "its own card is missing here.")),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _demoted(card: str) -> str:
    """A card's headings two levels down, below the heading that it stands under."""
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in card.splitlines())


def cities_csv(record: ReleaseRecord) -> str:
    """cities.csv: one row per city."""
    rows = [
        c.model_dump(exclude={"west", "south", "east", "north"})
        | {"not_predicted_share": round(c.not_predicted_share, 6)}
        | {k: round(getattr(c, k), 6) for k in ("west", "south", "east", "north")}
        for c in record.cities
    ]
    return _csv(rows)


def provinces_csv(record: ReleaseRecord) -> str:
    """provinces.csv: one row per province."""
    groups: dict[str, list[CityFact]] = defaultdict(list)
    for c in record.cities:
        groups[c.adcode[:2]].append(c)
    rows = []
    for code, cities in sorted(groups.items()):
        asked = sum((c.predicted_px + c.not_predicted_px) * c.pixel_m2 for c in cities)
        missed = sum(c.not_predicted_px * c.pixel_m2 for c in cities)
        rows.append(
            {
                "code": code,
                "province": cities[0].province,
                "region": cities[0].region,
                "cities": len(cities),
                "villages": sum(c.villages for c in cities),
                "uv_area_m2": sum(c.uv_area_m2 for c in cities),
                "asked_m2": asked,
                "not_predicted_share": round(missed / asked, 6) if asked else 1.0,
                "archive": cities[0].archive,
            }
        )
    return _csv(rows)


def _csv(rows: list[dict[str, Any]]) -> str:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def _span(dates: Iterable[str | None]) -> str:
    known = sorted({d for d in dates if d})
    return "not stated" if not known else known[0] if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _doi_line(record: ReleaseRecord) -> str:
    if record.doi is None:
        return ". No DOI is reserved yet."
    concept = f" (all versions: {record.concept_doi})" if record.concept_doi else ""
    return f". DOI {record.doi}{concept}."


def _accuracy(record: ReleaseRecord) -> list[str]:
    lines = ["## Accuracy", ""]
    if record.accuracy is None:
        return [*lines, "**No assessment is part of this release: how good the map is, is not known.**", ""]
    if record.accuracy.kind == "sample":
        lines += accuracy_tables(record.accuracy.headline, record.accuracy.regions)
    else:
        lines.append("Single cities were compared with complete reference; nothing here stands for other cities.")
        lines += [f"- {adcode}: {json.dumps(one, sort_keys=True)}" for adcode, one in record.accuracy.headline.items()]
    return [*lines, "", f"Training and assessment: {record.accuracy.leakage_statement}", ""]


def _waivers(record: ReleaseRecord) -> list[str]:
    if not record.waivers:
        return []
    return [
        "## Checks that this release does not pass",
        "",
        "These were waived by name:",
        "",
        *(f"- **{w.gate}**: {w.reason}" for w in record.waivers),
        "",
    ]


def _missing(record: ReleaseRecord) -> list[str]:
    if not record.missing:
        return []
    lines = ["## Cities of the campaign that are not in this release", ""]
    return [*lines, *(f"- {adcode}: {why}" for adcode, why in sorted(record.missing.items())), ""]
