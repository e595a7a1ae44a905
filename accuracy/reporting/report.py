"""The assessment as files: report.html (one file, no network), report.json with a schema version, and CSV tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from accuracy.comparison.wall_to_wall import WallToWallComparison
from accuracy.estimation.autocorrelation import AutocorrelationReport
from accuracy.estimation.estimation import WHOLE
from accuracy.estimation.measures import MEASURES
from accuracy.reporting.assessment import SCHEMA_VERSION, Assessment
from accuracy.reporting.describe import FLAG_TEXT
from accuracy.reporting.report_svg import ForestRow, forest_plot
from accuracy.reporting.wording import in_words

SHOWN = ("UA", "PA", "F1", "IoU", "OA", "specificity", "area", "area_map", "area_difference")
NAMES = {"UA": "precision (UA)", "PA": "recall (PA)", "area": "UV share", "area_map": "mapped share"} | {
    "area_difference": "mapped - true"
}
CENSUS_TEXT = (
    "<p>Map against complete reference, pixel by pixel, inside the areas named. This is a census of these areas: the"
    " figures carry no sampling error and speak for no other ground. IoU and F1 come from one confusion"
    " (IoU = F1 / (2 - F1)).</p>"
)
ESTIMATES_TEXT = (
    " F1 and IoU come from one confusion. &ge; and &le; are one-sided bounds where the sample showed no error of a"
    " kind."
)
CITIES_TEXT = (
    "<p>Each city on its own, the cities taken as fixed. The spread between cities is not the sampling error of the"
    " whole.</p>"
)
LIKENESS_TEXT = (
    "<p>Errors of one city, and of neighbouring points, are alike. The standard errors above hold that already; these"
    " figures are for the planning of the next draw. A design effect of 2 means that half as many independent points"
    " would say as much.</p>"
)
STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:0 auto;padding:16px;color:#1c2430}"
    "h1{font-size:26px}h2{font-size:19px;margin-top:32px;border-bottom:1px solid #ccd}table{border-collapse:collapse;"
    "margin:8px 0;font-size:13px}th,td{border:1px solid #ccd;padding:3px 8px;text-align:right}th:first-child,"
    "td:first-child{text-align:left}th{background:#eef2f8}.warn{background:#fff3d6;border-left:4px solid #d9930d;"
    "padding:6px 12px;margin:6px 0}.wide{overflow-x:auto}.flag{color:#a05a00}dt{font-weight:bold}"
    "dd{margin:0 0 4px 16px}"
    "svg{max-width:100%;height:auto}"
)


def write_report(
    assessment: Assessment, folder: Path, *, title: str = "Accuracy of the urban village map"
) -> dict[str, Path]:
    """Write report.html, report.json and the CSV tables; the same assessment gives the same bytes.

    Returns:
        The files by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    a = assessment
    tables: dict[str, pd.DataFrame | None] = {
        "estimates": a.estimates,
        "estimates_calibrated": a.calibrated,
        "cities": a.cities if len(a.cities) else None,
        "resampling": a.checks,
        "error_matrix_counts": a.matrix_counts.rename_axis("map").reset_index(),
        "error_matrix_share": a.matrix_share.rename_axis("map").reset_index(),
        "sensitivity": a.sensitivity,
        "blocks": a.blocks,
        "autocorrelation": None if a.context.autocorrelation is None else a.context.autocorrelation.strata,
    }
    return _write(folder, json_of(a, title), html_of(a, title), tables)


def write_wall_to_wall_report(comparison: WallToWallComparison, folder: Path, *, title: str) -> dict[str, Path]:
    """The same for a map compared with complete reference inside areas."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = comparison.to_frame()
    data = {"schema_version": SCHEMA_VERSION, "kind": "wall_to_wall", "title": title, **comparison.as_dict()}
    shown = frame[["area", "IoU", "F1", "precision", "recall", "tp", "fp", "fn", "tn", "not_predicted_px"]]
    plot = [
        ForestRow(
            label=str(r["area"]), value=r["IoU"], low=None, high=None, strong=r["area"] == "total", text=_cell(r["IoU"])
        )
        for r in frame.to_dict("records")
    ]
    missing = comparison.total.not_predicted_px
    left_out = (
        f"<p>{missing} pixels have no prediction and are in no cell;"
        f" {comparison.total.reference_not_predicted_px} of them are urban village in the reference.</p>"
    )
    body = [
        f"<h1>{escape(title)}</h1>",
        CENSUS_TEXT,
        _frame_table(shown),
        forest_plot(plot, title="IoU per area"),
        left_out if missing else "",
    ]
    return _write(folder, data, _page(title, body), {"areas": frame})


def json_of(a: Assessment, title: str) -> dict[str, Any]:
    """Everything as plain values, with a schema version."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "sample",
        "title": title,
        "level": a.level,
        "primary_variance": a.primary,
        "weights": a.calibration_note,
        "design": a.design,
        "estimates": _records(a.estimates),
        "estimates_calibrated": None if a.calibrated is None else _records(a.calibrated),
        "cities": _records(a.cities),
        "resampling": None if a.checks is None else _records(a.checks),
        "error_matrix": {
            "rows": "map",
            "columns": "reference",
            "classes": list(a.matrix_counts.index),
            "counts": a.matrix_counts.to_numpy().tolist(),
            "share": a.matrix_share.to_numpy().tolist(),
            "share_se": a.matrix_se.to_numpy().tolist(),
        },
        "sensitivity": _records(a.sensitivity),
        "blocks": None if a.blocks is None else _records(a.blocks),
        "agreement": [p.as_dict() for p in a.context.agreements],
        "leakage": None if a.context.leakage is None else a.context.leakage.as_dict(),
        "autocorrelation": None if a.context.autocorrelation is None else _alike(a.context.autocorrelation),
        "notes": list(a.notes),
        "warnings": list(a.warnings),
        "limits": list(a.limits),
        "flags": FLAG_TEXT,
    }


def html_of(a: Assessment, title: str) -> str:
    """The report as one page."""
    head = a.headline
    body = [f"<h1>{escape(title)}</h1>", *[f'<p class="warn">{escape(w)}</p>' for w in a.warnings]]
    body += [
        "<h2>Design</h2><dl>",
        *[f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in a.design.items()],
        "</dl>",
    ]
    body += [f"<p>{escape(n)}</p>" for n in a.notes]
    body += [
        "<h2>Error matrix</h2><p>Rows: map. Columns: reference.</p>",
        _matrix(a.matrix_counts, "points", whole=True),
    ]
    body += [_matrix(a.matrix_share, "share of the area", se=a.matrix_se)]
    body += [
        (
            f"<h2>Estimates</h2><p>{a.level:.0%} intervals; {escape(a.calibration_note)}; variance {escape(a.primary)}."
            f"{ESTIMATES_TEXT}</p>"
        ),
        _estimates_table(head),
        _areas(a, head),
    ]
    if a.calibrated is not None:
        plain = a.estimates[(a.estimates["variance"] == a.primary)]
        body += ["<h3>Without calibration</h3>", _estimates_table(plain)]
    body += ["<h2>Three ways of counting the error</h2>", _three_ways(a)]
    if len(a.cities):
        body += ["<h2>Cities</h2>", CITIES_TEXT, _forest(a, "UA"), _forest(a, "F1"), _estimates_table(a.cities)]
    body += ["<h2>Sensitivity</h2>", _sensitivity(a.sensitivity)]
    if a.blocks is not None:
        body += [
            "<h2>Objects and boundaries</h2><p>From the sample of digitised blocks, weighted.</p>",
            _blocks(a.blocks),
        ]
    if a.context.autocorrelation is not None:
        body += ["<h2>How alike errors are</h2>", _likeness(a.context.autocorrelation)]
    leakage = "It was not checked." if a.context.leakage is None else a.context.leakage.statement()
    body += [f"<h2>Independence from training</h2><p>{escape(leakage)}</p>"]
    body += ["<h2>What the figures do not cover</h2><ul>", *[f"<li>{escape(x)}</li>" for x in a.limits], "</ul>"]
    used = sorted(
        {f for flags in (*a.estimates["flags"], *(a.cities["flags"] if len(a.cities) else ())) for f in flags}
    )
    if used:
        body += ["<h2>Marks</h2><dl>", *[f"<dt>{f}</dt><dd>{escape(FLAG_TEXT[f])}</dd>" for f in used], "</dl>"]
    return _page(title, body)


def _estimates_table(frame: pd.DataFrame) -> str:
    measures = [m for m in SHOWN if m in set(frame["measure"])]
    rows = []
    for value, group in frame.groupby("value", sort=False):
        cells = {r["measure"]: r for r in group.to_dict("records")}
        flags = sorted({f for r in cells.values() for f in r["flags"]})
        first = next(iter(cells.values()))
        rows.append(
            [
                escape("the whole" if value == WHOLE else str(value)),
                f"{int(first['n_points'])} / {int(first['n_psu'])}",
                *[
                    escape(in_words(plain_cell(cells[m]))).replace("&gt;=", "&ge;").replace("&lt;=", "&le;")
                    for m in measures
                ],
                f'<span class="flag">{", ".join(flags)}</span>',
            ]
        )
    return _html_table(["", "units / cities", *[NAMES.get(m, m) for m in measures], "marks"], rows, raw=True)


def _areas(a: Assessment, head: pd.DataFrame) -> str:
    """Mapped against estimated area: the map's pixel count is not the area."""
    cells = {r["measure"]: plain_cell(r) for r in head[head["value"] == WHOLE].to_dict("records")}
    if not (cells.get("area", {}).get("estimate") and cells.get("area_map", {}).get("estimate")):
        return ""
    true, told = cells["area"], cells["area_map"]
    text = f"The mapped urban village area is {told['estimate'] / true['estimate']:.2f} times the estimated true area."
    if a.context.unit_area_m2 is not None and true["ci_low"] is not None:
        km2 = a.total_units * a.context.unit_area_m2 / 1e6
        low, high = true["ci_low"] * km2, true["ci_high"] * km2
        text += (
            f" True: {true['estimate'] * km2:.2f} km² [{low:.2f}, {high:.2f}]; mapped: {told['estimate'] * km2:.2f} km²"
            f" of {km2:.1f} km² ({'known' if a.total_known else 'estimated'} total)."
        )
    return f"<p>{escape(text)}</p>"


def _three_ways(a: Assessment) -> str:
    frames = [a.estimates[a.estimates["value"] == WHOLE]]
    if a.checks is not None:
        frames.append(a.checks[a.checks["value"] == WHOLE])
    frame = pd.concat(frames, ignore_index=True)
    measures = [m for m in SHOWN if m in set(frame["measure"])]
    rows = []
    for kind, group in frame.groupby("variance", sort=False):
        cells = {r["measure"]: plain_cell(r) for r in group.to_dict("records")}
        rows.append([str(kind), *["-" if cells[m]["se"] is None else f"{cells[m]['se']:.4f}" for m in measures]])
    return "<p>Standard errors.</p>" + _html_table(["variance", *[NAMES.get(m, m) for m in measures]], rows)


def _forest(a: Assessment, measure: str) -> str:
    head = a.headline
    rows = []
    strata = head[(head["measure"] == measure) & (head["value"] == WHOLE)]
    regions = head[(head["measure"] == measure) & (head["value"] != WHOLE) & ~head["value"].str.contains("=")]
    cities = a.cities[a.cities["measure"] == measure]
    for frame, strong in ((strata, True), (regions, True), (cities, False)):
        for r in frame.to_dict("records"):
            cell = plain_cell(r)
            label = "the whole" if r["value"] == WHOLE else str(r["value"])
            rows.append(ForestRow(label=label, value=cell["estimate"], low=cell["ci_low"], high=cell["ci_high"],
                                  strong=strong, text=in_words(cell)))  # fmt: skip
    return forest_plot(rows, title=f"{MEASURES[measure].label}: the whole, regions, cities")


def _sensitivity(frame: pd.DataFrame) -> str:
    measures = list(dict.fromkeys(frame["measure"]))
    rows = []
    for choice, group in frame.groupby("choice", sort=False):
        cells = {r["measure"]: plain_cell(r) for r in group.to_dict("records")}
        rows.append([escape(str(choice)), *[escape(in_words(cells[m])) for m in measures]])
    text = "" if len(rows) > 1 else "<p>All drawn units were answered and none is marked as doubtful.</p>"
    return text + _html_table(["choice", *[NAMES.get(m, m) for m in measures]], rows, raw=True)


def _blocks(frame: pd.DataFrame) -> str:
    rows = []
    for r in frame.to_dict("records"):
        at = (
            "" if r["at"] is None or math.isnan(r["at"]) else f"{r['at']:g}" + (" m" if r["kind"] == "boundary" else "")
        )
        rows.append(
            [
                f"{r['kind']} {at}".strip(),
                NAMES.get(r["measure"], r["measure"]),
                in_words(plain_cell({**r, "flags": ()})),
            ]
        )
    return _html_table(["", "measure", "estimate"], rows)


def _alike(report: AutocorrelationReport) -> dict[str, Any]:
    return {
        "strata": _records(report.strata),
        "measures": _records(report.measures),
        "notes": list(report.notes),
    }


def _likeness(report: AutocorrelationReport) -> str:
    names = {
        "stratum": "stratum",
        "n_points": "points",
        "n_cities": "cities",
        "error_rate": "errors",
        "rho": "correlation in a city",
        "deff": "design effect",
        "joins": "neighbours",
        "both_wrong": "both wrong",
        "both_wrong_expected": "by chance",
        "p_value": "p",
    }
    effects = {"deff": "against as many random points", "deff_cities": "against the same cities fixed"}
    shown = [c for c in names if c in report.strata.columns]
    return (
        LIKENESS_TEXT
        + _frame_table(report.strata[shown].rename(columns=names))
        + _frame_table(report.measures[["measure", *effects]].rename(columns=effects))
        + "".join(f"<p>{escape(n)}</p>" for n in report.notes)
    )


def _matrix(frame: pd.DataFrame, what: str, *, se: pd.DataFrame | None = None, whole: bool = False) -> str:
    values = frame.to_numpy(dtype=float)
    form = "{:.0f}" if whole else "{:.5f}"
    errors = None if se is None else se.to_numpy(dtype=float)
    rows = []
    for i, name in enumerate(frame.index):
        cells = [form.format(v) for v in values[i]]
        if errors is not None:
            cells = [f"{c} ± {e:.5f}" for c, e in zip(cells, errors[i], strict=True)]
        rows.append([str(name), *cells, form.format(values[i].sum())])
    rows.append(["sum", *[form.format(v) for v in values.sum(axis=0)], form.format(values.sum())])
    return _html_table([what, *frame.columns, "sum"], rows)


def _frame_table(frame: pd.DataFrame) -> str:
    rows = [[_cell(v) for v in row] for row in frame.itertuples(index=False, name=None)]
    return _html_table(list(frame.columns), rows)


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, raw: bool = False) -> str:
    clean = (lambda v: v) if raw else escape
    top = "".join(f"<th>{escape(str(h))}</th>" for h in header)
    lines = "".join("<tr>" + "".join(f"<td>{clean(str(v))}</td>" for v in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _page(title: str, body: Sequence[str]) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _write(
    folder: Path, data: Mapping[str, Any], html: str, tables: Mapping[str, pd.DataFrame | None]
) -> dict[str, Path]:
    files = {"report.html": folder / "report.html", "report.json": folder / "report.json"}
    files["report.html"].write_text(html, encoding="utf-8")
    text = json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False)
    files["report.json"].write_text(text + "\n", encoding="utf-8")
    for name, table in tables.items():
        if table is not None:
            path = folder / f"{name}.csv"
            plain = table.assign(flags=table["flags"].map(_joined)) if "flags" in table.columns else table
            plain.to_csv(path, index=False, lineterminator="\n")
            files[path.name] = path
    return files


def _joined(flags: Any) -> str:
    return " ".join(flags) if isinstance(flags, tuple | list) else ""


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): _value(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _value(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return list(value)
    if value is None or isinstance(value, str | bool):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def plain_cell(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Estimate, standard error, interval and flags of a row, with None for NaN."""
    cell: dict[str, Any] = {k: _value(row.get(k)) for k in ("estimate", "se", "ci_low", "ci_high")}
    flags = row.get("flags")
    cell["flags"] = list(flags) if isinstance(flags, tuple | list) else []
    return cell


def _cell(value: Any) -> str:
    value = _value(value)
    if value is None:
        return "not estimable"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
