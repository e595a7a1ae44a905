"""The assessment of a sample as files: report.html (one file, no network), report.json, and CSV tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from accuracy.estimation.autocorrelation import AutocorrelationReport
from accuracy.estimation.city_ground import MODEL_NOTE
from accuracy.estimation.describe import FLAG_TEXT
from accuracy.estimation.estimation import WHOLE
from accuracy.estimation.reference_correction import CORRECTION_NOTE, CorrectedEstimates
from accuracy.measures import DEFAULT_MEASURES, MEASURES
from accuracy.reporting.assessment import Assessment
from accuracy.reporting.cells import MEASURE_NAMES, Table, build_table, make_plain_cell, tabulate_frame
from accuracy.reporting.charts import ForestRow, draw_forest
from accuracy.reporting.maps_of_points import draw_places
from accuracy.reporting.page import render_page, write_files
from accuracy.reporting.report_json import build_json
from accuracy.reporting.wording import write_estimate

LIKENESS_COLUMNS = {
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
UNTOLD = (
    "The definition of an urban village and the rule for mixed pixels are in none of the tables: they belong to what"
    " interpreters were told (--response-design)."
)
EFFECT_COLUMNS = {"deff": "against as many random points", "deff_cities": "against the same cities fixed"}


def write_report(
    assessment: Assessment, folder: Path, *, title: str = "Accuracy of the urban village map"
) -> dict[str, Path]:
    """Write report.html, report.json and the CSV tables; the same assessment gives the same bytes.

    Returns:
        The files by name.
    """
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
        "strata": a.publication.strata,
        "areas": a.publication.areas,
        "ground": None if a.ground is None else a.ground.ground,
        "city_ground": None if a.ground is None else a.ground.cities,
        "corrected": None if a.corrected is None else a.corrected.frame,
        "sizes": a.publication.sizes if len(a.publication.sizes) else None,
        "autocorrelation": None if a.context.autocorrelation is None else a.context.autocorrelation.strata,
    }
    return write_files(folder, page=_render(a, title), data=build_json(a, title, tell_response(a)), tables=tables)


def _render(a: Assessment, title: str) -> str:
    head = a.headline
    alike = a.context.autocorrelation
    has_cities = len(a.cities) > 0
    plain = a.estimates[a.estimates["variance"] == a.primary]
    return render_page(
        "sample.html.j2",
        title=title,
        warnings=a.warnings,
        design=list(a.design.items()),
        notes=a.notes,
        matrix_counts=_matrix(a.matrix_counts, "points", form="{:.0f}"),
        matrix_shares=_matrix(a.matrix_share, "share of the area", form="{:.5f}", se=a.matrix_se),
        level=f"{a.level:.0%}",
        calibration_note=a.calibration_note,
        primary=a.primary,
        estimates=_estimates(head, a.whole),
        areas_text=_describe_areas(a, head),
        uncalibrated=None if a.calibrated is None else _estimates(plain, a.whole),
        standard_errors=_standard_errors(a),
        cities=_estimates(_named(a.cities, a), a.whole) if has_cities else None,
        charts=_charts(a) if has_cities else [],
        sensitivity=_sensitivity(a.sensitivity),
        sensitivity_note=_say_of_sensitivity(a),
        response=tell_response(a),
        areas=None if a.publication.areas is None else _areas(a.publication.areas, a.whole),
        sizes=_sizes(a.publication.sizes) if len(a.publication.sizes) else None,
        ground=None if a.ground is None else _ground(a),
        corrected=None if a.corrected is None else _corrected(a.corrected),
        interpreters=None if a.reference.interpreters is None else _interpreters(a),
        dates=None if a.reference.dates is None else _dates(a),
        blocks=None if a.blocks is None else _blocks(a.blocks),
        likeness=None if alike is None else _likeness(alike),
        leakage="It was not checked." if a.context.leakage is None else a.context.leakage.statement(),
        limits=a.limits,
        marks=_marks(a),
    )


def _estimates(frame: pd.DataFrame, whole: str = "the whole") -> Table:
    measures = [m for m in DEFAULT_MEASURES if m in set(frame["measure"])]
    rows = []
    for value, group in frame.groupby("value", sort=False):
        cells = {r["measure"]: r for r in group.to_dict("records")}
        flags = sorted({f for r in cells.values() for f in r["flags"]})
        first = next(iter(cells.values()))
        rows.append(
            [
                whole if value == WHOLE else str(value),
                f"{int(first['n_points'])} / {int(first['n_psu'])}",
                *[write_estimate(make_plain_cell(cells[m])) for m in measures],
                ", ".join(flags),
            ]
        )
    return build_table(["", "units / cities", *_names(measures), "marks"], rows)


def tell_response(a: Assessment) -> list[str]:
    """The response design: what the user wrote, then what the tables say."""
    given = [line.strip() for line in a.context.response.splitlines() if line.strip()]
    return [*given, *a.publication.response, *([] if given else [UNTOLD])]


def _areas(frame: pd.DataFrame, whole: str) -> Table:
    """Mapped and error-adjusted km²."""
    rows = []
    for r in frame.to_dict("records"):
        true = f"{r['estimated_km2']:.2f}"
        known = not (pd.isna(r["low_km2"]) or pd.isna(r["high_km2"]))
        interval = f"{true} [{r['low_km2']:.2f}, {r['high_km2']:.2f}]" if known else f"{true} (no interval)"
        ratio = r["mapped_km2"] / r["estimated_km2"] if r["estimated_km2"] > 0 else None
        where = whole if r["value"] == WHOLE else r["value"]
        rows.append([where, f"{r['mapped_km2']:.2f}", interval, "-" if ratio is None else f"{ratio:.2f}", r["basis"]])
    return build_table(["", "mapped km²", "estimated km²", "mapped / estimated", "basis"], rows)


def _sizes(frame: pd.DataFrame) -> Table:
    """Accuracy by size of city, precision by size of village."""
    measures = [m for m in DEFAULT_MEASURES if m in set(frame["measure"])]
    rows = []
    for (kind, size), group in frame.groupby(["kind", "size"], sort=False):
        cells = {r["measure"]: make_plain_cell(r) for r in group.to_dict("records")}
        points = int(group["n_points"].iloc[0])
        shown = [write_estimate(cells[m]) if m in cells else "" for m in measures]
        flags = sorted({f for c in cells.values() for f in c["flags"]})
        rows.append([f"{kind}: {size}" if kind == "city" else str(size), points, *shown, ", ".join(flags)])
    return build_table(["", "points", *_names(measures), "marks"], rows)


def _named(cities: pd.DataFrame, a: Assessment) -> pd.DataFrame:
    """Rows of cities with what people call them."""
    names = a.context.names
    return cities.assign(value=[f"{names[v]} ({v})" if names.get(v) else v for v in cities["value"]])


def _interpreters(a: Assessment) -> dict[str, Any]:
    """Who read how many points, and what they add to the standard errors."""
    table = a.reference.interpreters
    columns = {"cannot_say": "cannot say", "read_by_others_too": "read by others, too"}
    rows = a.headline[a.headline["value"] == WHOLE]
    parts = None
    if a.reference.panel is not None:
        parts = build_table(
            ["standard error", *_names(list(rows["measure"]))],
            [["of sampling and interpreters", *rows["se"]], ["of the interpreters alone", *rows["se_interpreters"]]],
        )
    return {"table": tabulate_frame(pd.DataFrame(table).rename(columns=columns)), "parts": parts}


def _ground(a: Assessment) -> dict[str, Any]:
    """km² by design, and of every city by the model, the largest first."""
    found = a.ground
    if found is None:
        return {}
    rows = [
        [
            a.whole if r["value"] == WHOLE else r["value"],
            r["method"],
            _square_km(r["km2"], r["ci_low"], r["ci_high"]),
            f"{r['mapped_km2']:.2f}",
        ]
        for r in found.ground.to_dict("records")
    ]
    cities = None
    if found.cities is not None:
        names = a.context.names
        told = found.cities.sort_values(["km2", "city"], ascending=[False, True], kind="stable")
        cities = build_table(
            ["city", "points of its own", "model km²", "root mean squared error", "own points alone", "weight of them",
             "mapped km²"],
            [
                [
                    f"{names[r['city']]} ({r['city']})" if names.get(r["city"]) else r["city"],
                    "yes" if r["sampled"] else "no",
                    _square_km(r["km2"], r["ci_low"], r["ci_high"]),
                    f"{r['rmse']:.2f}",
                    f"{r['direct_km2']:.2f}" if r["sampled"] else "-",
                    f"{r['weight_of_direct']:.2f}" if r["sampled"] else "-",
                    f"{r['mapped_km2']:.2f}",
                ]
                for r in told.to_dict("records")
            ],
        )  # fmt: skip
    whole = build_table(["", "estimator", "km²", "mapped km²"], rows)
    return {"whole": whole, "cities": cities, "note": MODEL_NOTE, "reason": found.reason}


def _square_km(value: float, low: float, high: float) -> str:
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if math.isfinite(low) else f"{value:.2f} (no interval)"


def _corrected(found: CorrectedEstimates) -> dict[str, Any]:
    """Estimates as answered and corrected, and how often interpreters err."""
    flags = pd.Series([()] * len(found.frame))
    rows = [
        [_names([r["measure"]])[0], r["uncorrected"], write_estimate(make_plain_cell(r))]
        for r in found.frame.assign(flags=flags).to_dict("records")
    ]
    told = {"zone": "where", "sensitivity": "of villages seen", "false_positive": "of other ground taken for village",
            "shared": "readings shared"}  # fmt: skip
    return {
        "note": CORRECTION_NOTE[:1].upper() + CORRECTION_NOTE[1:] + ".",
        "measures": build_table(["measure", "as answered", "corrected (a model)"], rows),
        "interpreters": tabulate_frame(found.interpreters.rename(columns=told)),
    }


def _dates(a: Assessment) -> dict[str, Any]:
    """Gaps between the labels' imagery and the map's."""
    frame = pd.DataFrame(a.reference.dates)
    rows = [[r["gap"], r["points"], f"{r['share']:.1%}"] for r in frame.to_dict("records")]
    return {"table": build_table(["labels' imagery", "points", "share"], rows), "text": a.reference.dates_text}


def _say_of_sensitivity(a: Assessment) -> str:
    if len(set(a.sensitivity["choice"])) > 1:
        return "Standard errors here are those of sampling alone. Rows that leave points out flatter."
    return "All drawn units were answered, and no column of the table marks one of them as doubtful."


def _names(measures: Sequence[str]) -> list[str]:
    return [MEASURE_NAMES.get(m, m) for m in measures]


def _describe_areas(a: Assessment, head: pd.DataFrame) -> str:
    """Mapped against estimated area: the map's pixel count is not the area."""
    cells = {r["measure"]: make_plain_cell(r) for r in head[head["value"] == WHOLE].to_dict("records")}
    true, mapped = cells.get("area", {}), cells.get("area_map", {})
    if not (true.get("estimate") and mapped.get("estimate")):
        return ""
    ratio = mapped["estimate"] / true["estimate"]
    text = f"The mapped urban village area is {ratio:.2f} times the estimated true area."
    if a.context.unit_area_m2 is not None and true["ci_low"] is not None:
        km2 = a.total_units * a.context.unit_area_m2 / 1e6
        low, high = true["ci_low"] * km2, true["ci_high"] * km2
        if a.true_total is not None:  # the whole is estimated too, and its error is larger than the share's
            low, high = (v * a.context.unit_area_m2 / 1e6 for v in a.true_total)
        text += (
            f" True: {true['estimate'] * km2:.2f} km² [{low:.2f}, {high:.2f}]; mapped:"
            f" {mapped['estimate'] * km2:.2f} km² of {km2:.1f} km² ({'known' if a.total_known else 'estimated'} total)."
        )
    return text


def _charts(a: Assessment) -> list[Any]:
    """Precision and F1 of whole, regions and cities; and where the points lie, if that is known."""
    places = a.context.places
    charts = [_forest(a, "UA"), _forest(a, "F1")]
    return charts if places is None else [*charts, draw_places(places, a.context.names)]


def _standard_errors(a: Assessment) -> Table:
    frames = [a.estimates[a.estimates["value"] == WHOLE]]
    if a.checks is not None:
        frames.append(a.checks[a.checks["value"] == WHOLE])
    frame = pd.concat(frames, ignore_index=True)
    measures = [m for m in DEFAULT_MEASURES if m in set(frame["measure"])]
    rows = []
    for kind, group in frame.groupby("variance", sort=False):
        cells = {r["measure"]: make_plain_cell(r) for r in group.to_dict("records")}
        rows.append([str(kind), *["-" if cells[m]["se"] is None else cells[m]["se"] for m in measures]])
    return build_table(["variance", *_names(measures)], rows)


def _forest(a: Assessment, measure: str) -> Any:
    head = a.headline
    rows = []
    whole = head[(head["measure"] == measure) & (head["value"] == WHOLE)]
    regions = head[(head["measure"] == measure) & (head["value"] != WHOLE) & ~head["value"].str.contains("=")]
    cities = _named(a.cities[a.cities["measure"] == measure], a)
    for frame, strong in ((whole, True), (regions, True), (cities, False)):
        for r in frame.to_dict("records"):
            cell = make_plain_cell(r)
            rows.append(
                ForestRow(
                    label=a.whole if r["value"] == WHOLE else str(r["value"]),
                    value=cell["estimate"],
                    low=cell["ci_low"],
                    high=cell["ci_high"],
                    strong=strong,
                    text=write_estimate(cell),
                )
            )
    return draw_forest(rows, title=f"{MEASURES[measure].label}: {a.whole}, regions, cities")


def _sensitivity(frame: pd.DataFrame) -> Table:
    measures = list(dict.fromkeys(frame["measure"]))
    rows = []
    for choice, group in frame.groupby("choice", sort=False):
        cells = {r["measure"]: make_plain_cell(r) for r in group.to_dict("records")}
        rows.append([str(choice), *[write_estimate(cells[m]) for m in measures]])
    return build_table(["choice", *_names(measures)], rows)


def _blocks(frame: pd.DataFrame) -> Table:
    rows = []
    for r in frame.to_dict("records"):
        unit = " m" if r["kind"] == "boundary" else ""
        at = "" if r["at"] is None or math.isnan(r["at"]) else f"{r['at']:g}{unit}"
        name = MEASURE_NAMES.get(r["measure"], r["measure"])
        rows.append([f"{r['kind']} {at}".strip(), name, write_estimate(make_plain_cell({**r, "flags": ()}))])
    return build_table(["", "measure", "estimate"], rows)


def _likeness(report: AutocorrelationReport) -> dict[str, Any]:
    shown = [c for c in LIKENESS_COLUMNS if c in report.strata.columns]
    effects = report.measures[["measure", *EFFECT_COLUMNS]].rename(columns=EFFECT_COLUMNS)
    return {
        "strata": tabulate_frame(report.strata[shown].rename(columns=LIKENESS_COLUMNS)),
        "measures": tabulate_frame(effects),
        "notes": report.notes,
    }


def _matrix(frame: pd.DataFrame, what: str, *, form: str, se: pd.DataFrame | None = None) -> Table:
    values = frame.to_numpy(dtype=float)
    errors = None if se is None else se.to_numpy(dtype=float)
    rows = []
    for i, name in enumerate(frame.index):
        cells = [form.format(v) for v in values[i]]
        if errors is not None:
            cells = [f"{c} ± {e:.5f}" for c, e in zip(cells, errors[i], strict=True)]
        rows.append([str(name), *cells, form.format(values[i].sum())])
    rows.append(["sum", *[form.format(v) for v in values.sum(axis=0)], form.format(values.sum())])
    return build_table([what, *frame.columns, "sum"], rows)


def _marks(a: Assessment) -> list[tuple[str, str]]:
    shown = [*a.estimates["flags"], *(a.cities["flags"] if len(a.cities) else ())]
    return [(f, FLAG_TEXT[f]) for f in sorted({f for flags in shown for f in flags})]
