"""Several maps on the same points as files: report.html, report.json and CSV tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from accuracy.comparison.maps_on_points import MEASURES, MapsOnPoints
from accuracy.reporting.assessment import SCHEMA_VERSION
from accuracy.reporting.cells import MEASURE_NAMES, Table, build_table, make_plain, make_plain_cell, make_plain_records
from accuracy.reporting.charts import ForestRow, draw_differences
from accuracy.reporting.page import render_page, write_files
from accuracy.reporting.wording import write_estimate


def write_maps_report(
    result: MapsOnPoints,
    folder: Path,
    *,
    title: str,
    variance: str,
    design: dict[str, str],
    notes: tuple[str, ...] = (),
) -> dict[str, Path]:
    """Write the report of a comparison.

    Args:
        result: The figures.
        folder: Receives the files.
        title: Heading of the page.
        variance: Which variance was used.
        design: What was drawn, label to text.
        notes: What a reader must know.

    Returns:
        The files by name.
    """
    page = render_page(
        "maps.html.j2",
        title=title,
        level=f"{result.level:.0%}",
        variance=variance,
        design=list(design.items()),
        notes=notes,
        left_out=result.left_out,
        maps=_maps(result),
        differences=_differences(result),
        agreement=_agreement(result),
        charts=[_chart(result)],
    )
    data = {
        "schema_version": SCHEMA_VERSION,
        "kind": "maps",
        "title": title,
        "level": result.level,
        "variance": variance,
        "design": design,
        "maps": make_plain_records(result.maps),
        "differences": make_plain_records(result.differences),
        "agreement": make_plain_records(result.agreement),
        "left_out": result.left_out,
        "notes": list(notes),
    }
    tables = {"maps": result.maps, "differences": result.differences, "agreement": result.agreement}
    return write_files(folder, page=page, data=data, tables=tables)


def _maps(result: MapsOnPoints) -> Table:
    rows = []
    for name, group in result.maps.groupby("map", sort=False):
        cells = {r["measure"]: make_plain_cell(r) for r in group.to_dict("records")}
        flags = sorted({f for c in cells.values() for f in c["flags"]})
        rows.append([str(name), *[write_estimate(cells[m]) for m in MEASURES], ", ".join(flags)])
    return build_table(["map", *_names(), "marks"], rows)


def _differences(result: MapsOnPoints) -> Table:
    rows = []
    for r in result.differences.to_dict("records"):
        inside = _is_between(r["joint_low"], r["joint_high"])
        rows.append(
            [
                f"{r['map']} - {r['less']}",
                MEASURE_NAMES.get(r["measure"], r["measure"]),
                _signed(r["difference"]),
                "-" if pd.isna(r["se"]) else f"{r['se']:.4f}",
                f"{_signed(r['ci_low'])} to {_signed(r['ci_high'])}",
                f"{_signed(r['joint_low'])} to {_signed(r['joint_high'])}",
                "-" if inside is None else "no" if inside else "yes",
            ]
        )
    level = f"{result.level:.0%}"
    heads = ["maps", "measure", "difference", "SE", f"{level} interval", "interval for all together", "differs"]
    return build_table(heads, rows)


def _agreement(result: MapsOnPoints) -> Table:
    rows = [
        [f"{r['map']} and {r['less']}", *[f"{r[c]:.5f}" for c in ("both", "only_first", "only_second", "neither")]]
        for r in result.agreement.to_dict("records")
    ]
    return build_table(["maps", "both", "first alone", "second alone", "neither"], rows)


def _chart(result: MapsOnPoints) -> Any:
    rows = [
        ForestRow(
            label=f"{MEASURE_NAMES.get(r['measure'], r['measure'])}: {r['map']} - {r['less']}",
            value=make_plain(r["difference"]),
            low=make_plain(r["ci_low"]),
            high=make_plain(r["ci_high"]),
            strong=r["measure"] in {"F1", "IoU"},
            text=f"{_signed(r['difference'])} [{_signed(r['ci_low'])}, {_signed(r['ci_high'])}]",
        )
        for r in result.differences.to_dict("records")
        if r["measure"] != "area_map"
    ]
    return draw_differences(rows, title="Differences on the same points")


def _names() -> list[str]:
    return [MEASURE_NAMES.get(m, m) for m in MEASURES]


def _signed(value: float) -> str:
    return "not estimable" if pd.isna(value) else f"{value:+.4f}"


def _is_between(low: float, high: float) -> bool | None:
    """Whether zero lies in an interval; None where there is none."""
    return None if pd.isna(low) or pd.isna(high) else bool(low <= 0 <= high)
