"""A comparison for people: bars of gain and loss by province, and tables, in one file that needs no network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.release.diff.events import EVENTS

GAIN, LOSS, INK, FAINT = "#0b6e4f", "#b3421e", "#1f2933", "#9aa5b1"
ROW_PX, LEFT_PX, WIDTH_PX, NUMBER_PX = 22, 150, 760, 150
CITIES_SHOWN = 400


def balance_svg(provinces: Sequence[Mapping[str, Any]]) -> str:
    """Gained area to the right, lost area to the left, one row per province, with the balance and its sign."""
    top = max((max(p["area_gained_m2"], p["area_lost_m2"]) for p in provinces), default=0.0) or 1.0
    middle = LEFT_PX + (WIDTH_PX - LEFT_PX - NUMBER_PX) / 2
    scale = (WIDTH_PX - LEFT_PX - NUMBER_PX) / 2 / top
    height = 34 + ROW_PX * max(1, len(provinces))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height}" role="img"',
        ' aria-label="Area gained and lost by province" font-family="sans-serif" font-size="13">',
        f'<text x="{middle - 8:.1f}" y="16" text-anchor="end" fill="{LOSS}">lost</text>',
        f'<text x="{middle + 8:.1f}" y="16" fill="{GAIN}">gained</text>',
        f'<text x="{WIDTH_PX - 6}" y="16" text-anchor="end" fill="{INK}">balance, km²</text>',
    ]
    for k, p in enumerate(provinces):
        y, balance = 26 + k * ROW_PX, _signed_km2(p["change_m2"])
        gain, loss = p["area_gained_m2"] * scale, p["area_lost_m2"] * scale
        parts += [
            f'<text x="{LEFT_PX - 8}" y="{y + 14}" text-anchor="end" fill="{INK}">{html.escape(p["province"])}</text>',
            f'<rect x="{middle:.1f}" y="{y + 3}" width="{gain:.1f}" height="14" fill="{GAIN}"/>',
            f'<rect x="{middle - loss:.1f}" y="{y + 3}" width="{loss:.1f}" height="14" fill="{LOSS}"/>',
            f'<text x="{WIDTH_PX - 6}" y="{y + 14}" text-anchor="end" fill="{INK}">{balance}</text>',
        ]
    parts.append(f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="22" y2="{height - 6}" stroke="{FAINT}"/></svg>')
    return "\n".join(parts) + "\n"


def page(result: Mapping[str, Any], figure: str) -> str:
    """The page: what is compared, what must be known of it, events with areas, provinces, cities."""
    old, new = html.escape(result["old"]["name"]), html.escape(result["new"]["name"])
    total = result["total"]
    said = "".join(f"<li><b>{d['kind']}</b>: {html.escape(d['text'])}{_where(d)}</li>" for d in result["differences"])
    alone = [
        f"{len(codes)} cities are in {name} alone and not compared: {', '.join(codes[:8])}"
        + (" ..." if len(codes) > 8 else "")
        for name, codes in (
            (old, result["cities_not_compared"]["only_old"]),
            (new, result["cities_not_compared"]["only_new"]),
        )
        if codes
    ]
    for side, name in (("old", old), ("new", new)):
        about = result[side]
        if about["kind"] == "foreign":
            alone.append(
                f"{name}: {about['polygons']} polygons; {about['outside_all_cities']} lie beyond the cities compared, "
                f"{about['without_area']} have no area, {about['joined_overlaps']} were joined with others they overlap"
            )
    notes = said + "".join(f"<li>{text}</li>" for text in alone)
    events = "".join(
        f"<tr><th scope=row>{name}</th><td>{total.get(name, 0)}</td>"
        f"<td>{_signed_km2(total.get(f'change_{name}_m2', 0.0))}</td></tr>\n"
        for name in EVENTS
    )
    shown = sorted(result["cities"], key=lambda r: (-abs(r["change_m2"]), r["adcode"]))[:CITIES_SHOWN]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{old} to {new}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: {INK}; max-width: 62rem; margin: 0 auto; padding: 1rem; }}
.scroll {{ overflow-x: auto; }} svg {{ max-width: 100%; height: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #d9dee3; white-space: nowrap; }}
th:first-child {{ text-align: left; }} .notes {{ background: #fff6e5; padding: .6rem .6rem .6rem 2rem; }}
</style></head><body>
<h1>{old} to {new}</h1>
<p>{total.get("villages_old", 0)} villages of {_km2(total.get("area_old_m2", 0))} km² became
{total.get("villages_new", 0)} of {_km2(total.get("area_new_m2", 0))} km²
({_signed_km2(total.get("change_m2", 0.0))} km²); {_km2(total.get("area_both_m2", 0))} km² are in both
(intersection over union {total.get("iou", 1.0):.3f}). {total.get("ids_kept", 0)} ids stand in both.
{result["cities_compared"]} cities.</p>
{f'<ul class="notes">{notes}</ul>' if notes else ""}
<h2>Events</h2>
<div class="scroll"><table><tr><th>event</th><th>count</th><th>change, km²</th></tr>
{events}</table></div>
<p>Every village stands in one event. Split and reorganised count groups, not pieces.</p>
<h2>Provinces</h2>
{figure}
<div class="scroll">{_table(result["provinces"], "province")}</div>
<h2>Cities</h2>
<p>{len(shown)} of {len(result["cities"])}, by size of change; all are in cities.csv.</p>
<div class="scroll">{_table(shown, "name_en")}</div>
</body></html>
"""


def _table(rows: Sequence[Mapping[str, Any]], first: str) -> str:
    head = "".join(
        f"<th>{h}</th>" for h in (first.removesuffix("_en"), *EVENTS, "km² before", "km² now", "change, km²")
    )
    lines = []
    for r in rows:
        name = html.escape(f"{r[first]} {r['name_zh']} {r['adcode']}" if "adcode" in r else str(r[first]))
        cells = [str(r[e]) for e in EVENTS]
        cells += [_km2(r["area_old_m2"]), _km2(r["area_new_m2"]), _signed_km2(r["change_m2"])]
        lines.append(f"<tr><th scope=row>{name}</th>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "</table>"


def _where(difference: Mapping[str, Any]) -> str:
    codes = difference["cities"]
    if not codes:
        return ""
    return f" ({len(codes)} cities: {', '.join(codes[:6])}{' ...' if len(codes) > 6 else ''})"


def _km2(area_m2: float) -> str:
    return f"{area_m2 / 1e6:.3f}"


def _signed_km2(area_m2: float) -> str:
    return "0.000" if abs(area_m2) < 500 else f"{area_m2 / 1e6:+.3f}"
