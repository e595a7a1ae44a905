"""The accuracy that a release states: a sample's report with its points, or the censuses of single cities."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.national.products import CityProduct
from pipeline.release.archives import write_zip
from pipeline.release.errors import ReleaseError
from pipeline.release.layout import ACCURACY, ACCURACY_REPORT, ACCURACY_SAMPLE
from pipeline.release.record import AccuracyFact
from regions.registry import REGIONS

REPORT_JSON, REPORT_PAGE, CENSUS = "report.json", "report.html", "accuracy.json"
HEADLINE = ("UA", "PA", "F1", "IoU", "OA", "area")
NO_LEAKAGE_CHECK = "not checked: no training manifest was given to the assessment (`uvmap assess sample`)"


def has_accuracy(folder: Path | None, products: Sequence[CityProduct]) -> bool:
    """Whether there is anything to state."""
    return folder is not None or any(CENSUS in p.files for p in products)


def add_accuracy(
    release: Path, folder: Path | None, sample: Path | None, products: Sequence[CityProduct]
) -> AccuracyFact | None:
    """Put the accuracy into a release: `layout.ACCURACY_FILES`.

    Args:
        release: The release's folder.
        folder: Of `uvmap assess sample`; None takes the censuses that products carry (`uvmap map` with reference).
        sample: The reference set that it published: points, weights and what describes them.
        products: The release's cities.

    Returns:
        What the record says of it; None where there is nothing.

    Raises:
        ReleaseError: The folder is no assessment, or there is no sample.
    """
    if folder is not None:
        return _add_sample(release, folder, sample)
    judged = [p for p in products if CENSUS in p.files]
    return _add_census(release, judged) if judged else None


def read_assessment(folder: Path, sample: Path | None) -> tuple[dict[str, Any], bytes]:
    """Report and page of an assessment whose reference set is there; asked before a build starts, and at its end.

    Args:
        folder: Of `uvmap assess sample`.
        sample: The reference set that it published.

    Raises:
        ReleaseError: The folder is no assessment, or there is no sample.
    """
    try:
        report = json.loads((folder / REPORT_JSON).read_text(encoding="utf-8"))
        page = (folder / REPORT_PAGE).read_bytes()
    except (OSError, ValueError) as error:
        raise ReleaseError(
            f"{folder}: has no {REPORT_JSON} and {REPORT_PAGE} ({error}); give the folder of `uvmap assess sample`"
        ) from error
    if report.get("kind") != "sample" or not isinstance(report.get("estimates"), list):
        raise ReleaseError(f"{folder / REPORT_JSON}: is no assessment of a sample; give that of `uvmap assess sample`")
    if sample is None or not sample.is_dir() or not any(sample.iterdir()):
        raise ReleaseError(
            f"{sample or folder}: no reference set; a release holds its raw sample: assess with --publish and give "
            "that folder as --sample"
        )
    return report, page


def _add_sample(release: Path, folder: Path, sample: Path | None) -> AccuracyFact:
    report, page = read_assessment(folder, sample)
    (release / ACCURACY).write_bytes((folder / REPORT_JSON).read_bytes())
    (release / ACCURACY_REPORT).write_bytes(page)
    members: list[tuple[str, Path | bytes]] = [
        (f"sample/{p.name}", p) for p in sorted((sample or folder).iterdir()) if p.is_file()
    ]
    members += [(f"tables/{p.name}", p) for p in sorted(folder.glob("*.csv"))]
    write_zip(release / ACCURACY_SAMPLE, members)
    leakage, survey = report.get("leakage"), report.get("survey") or {}
    return AccuracyFact(
        kind="sample",
        headline=_headline(report),
        regions={r: found for r in REGIONS if (found := _headline(report, r))},
        leakage_clean=None if leakage is None else bool(leakage["clean"]),
        leakage_statement=NO_LEAKAGE_CHECK if leakage is None else str(leakage["statement"]),
        cities={str(c["city"]): dict(c["files"]) for c in survey.get("cities", [])},
    )


def estimates_of(report: Mapping[str, Any], region: str | None = None) -> dict[str, dict[str, Any]]:
    """Rows of an assessment's report by measure, with its primary variance: of the whole, or of a region."""
    return {
        r["measure"]: r
        for r in report["estimates"]
        if (r.get("domain") == "" if region is None else r.get("domain") and r.get("value") == region)
        and r.get("variance") == report.get("primary_variance")
    }


def _headline(report: Mapping[str, Any], region: str | None = None) -> dict[str, Any]:
    """Estimate and interval of the usual measures, for the whole or for a region."""
    rows = estimates_of(report, region)
    return {
        name: {
            key: rows[name].get(key) for key in ("estimate", "se", "ci_low", "ci_high", "level", "n_points", "n_psu")
        }
        for name in HEADLINE
        if name in rows
    }


def _add_census(release: Path, products: Sequence[CityProduct]) -> AccuracyFact:
    found = {p.adcode: json.loads((p.folder / CENSUS).read_text(encoding="utf-8")) for p in products}
    data = {"schema_version": "1.0.0", "kind": "census", "cities": found}
    (release / ACCURACY).write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    figures = {adcode: dict(one.get("figures", {})) for adcode, one in found.items()}
    (release / ACCURACY_REPORT).write_text(_page(figures), encoding="utf-8")
    write_zip(release / ACCURACY_SAMPLE, [(f"{p.adcode}/{CENSUS}", p.folder / CENSUS) for p in products])
    return AccuracyFact(
        kind="census",
        headline={
            adcode: {k: v for k, v in one.items() if k in HEADLINE or k.startswith("iou")}
            for adcode, one in figures.items()
        },
        leakage_clean=None,
        leakage_statement="not checked: single cities were compared with complete reference, by no design",
        cities={p.adcode: {p.mask.name: str(p.files[p.mask.name]["sha256"])} for p in products},
    )


def _page(figures: dict[str, dict[str, Any]]) -> str:
    names = sorted({k for one in figures.values() for k, v in one.items() if isinstance(v, int | float)})
    head = "".join(f"<th>{html.escape(n)}</th>" for n in names)
    rows = "".join(
        f"<tr><th>{adcode}</th>" + "".join(f"<td>{one.get(n, '')}</td>" for n in names) + "</tr>\n"
        for adcode, one in figures.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Accuracy by city</title>\n<body>'
        "<h1>Accuracy by city</h1>\n<p>Complete reference in named areas of single cities, compared pixel by pixel. "
        "These cities were not drawn: nothing here is an estimate for other cities.</p>\n"
        f"<table>\n<tr><th>city</th>{head}</tr>\n{rows}</table></body></html>\n"
    )
