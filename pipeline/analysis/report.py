"""The national report: one HTML page that opens from disk without network, its figures inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from pipeline.analysis.run import Analysis

MOST_ROWS = 60
"""Rows of a table on the page; the files have all of them."""

SECTIONS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("Share of land", ("shares",), ("shares",)),
    (
        "Clustering between cities",
        ("map", "moran", "regions"),
        ("clustering", "clustering_regions", "clustering_local"),
    ),
    ("Pattern within cities", ("pattern",), ("pattern",)),
    ("Villages", ("sizes",), ("village_sizes", "villages", "persistence")),
    ("Building form", ("form",), ("form", "form_gradients")),
    ("SDG 11.1.1", (), ("sdg_11_1_1",)),
)
"""Heading, figures, tables."""

TITLES = {
    "shares": "Shares by nation, region and province (cities: in the file)",
    "clustering": "All cities: are neighbours alike",
    "clustering_regions": "Regions: do high shares cluster there more than elsewhere",
    "clustering_local": "Hot and cold spots (Gi*, within the rate of false discoveries)",
    "pattern": "Patterns within cities: medians of cities",
    "village_sizes": "Classes of size",
    "villages": "What villages are like",
    "persistence": "What became of the villages of the release before",
    "form": "Villages and their surroundings, cities as replicates",
    "form_gradients": "Do regions differ in these differences (Welch)",
    "sdg_11_1_1": "By nation, region and province (cities: in the file)",
}


def render_analysis(analysis: Analysis) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("pipeline.analysis", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = []
    for heading, pictures, tables in SECTIONS:
        drawn = [
            {"title": p.title, "caption": p.caption, "name": p.name, "svg": Markup(p.svg())}  # noqa: S704 - our own figure
            for p in (analysis.pictures.get(name) for name in pictures)
            if p is not None
        ]
        shown = [_table(name, analysis.tables[name]) for name in tables if name in analysis.tables]
        if drawn or shown:
            sections.append({"heading": heading, "pictures": drawn, "tables": shown})
    return environment.get_template("report.html.j2").render(
        title=analysis.title,
        sentences=sentences(analysis),
        notes=analysis.notes,
        sections=sections,
        options=analysis.options.model_dump(mode="json"),
    )


def sentences(analysis: Analysis) -> list[str]:
    """What the figures say, in words; nothing that they do not."""
    head = analysis.headline
    first = (
        f"{head['villages']:,} urban villages of {head['cities']} cities cover {head['uv_km2']:,.1f} km² as mapped:"
        f" {100 * head['share_ratio_of_areas']:.2f} % of their {analysis.of} (ratio of areas); the mean of the cities'"
        f" shares is {100 * head['share_mean_of_cities']:.2f} %."
    )
    out = [first]
    if head["share_adjusted"] is not None:
        low, high = head["share_adjusted_interval"]
        out.append(
            f"Adjusted for the map's errors the ratio is {100 * head['share_adjusted']:.2f} %"
            f" ({100 * low:.2f} to {100 * high:.2f} %)."
        )
    if "moran_i" in head:
        like = "are alike" if head["moran_p"] <= 1 - analysis.options.level else "are not shown to be alike"
        out.append(
            f"Neighbouring cities {like}: Moran's I {head['moran_i']:.3f}, p {head['moran_p']:.4f}"
            f" ({head['weights']}); {head['hot_spots']} cities are hot spots."
        )
    if "claim" in head:
        claim = head["claim"]
        verdict = "supported" if claim["found"] else "not supported"
        out.append(
            f"That high shares cluster in {claim['regions']} more than elsewhere is {verdict} (p {claim['p']:.4f})."
        )
    for measure, row in head.get("form", {}).items():
        if row["low"] is not None and (row["low"] > 0 or row["high"] < 0):
            more = "more" if row["difference"] > 0 else "less"
            out.append(
                f"{measure}: villages {more} than their surroundings by {abs(row['difference']):.3g}"
                f" ({row['low']:.3g} to {row['high']:.3g}; {row['cities']} cities)."
            )
    return out


def _table(name: str, table: pd.DataFrame) -> dict[str, Any]:
    shown = table.head(MOST_ROWS)
    if name == "shares":
        shown = table[table["level"].isin(["nation", "region", "province"])]
    elif name == "clustering_local":
        shown = table[table["kind"] != "none"].sort_values("gi_z", ascending=False).head(MOST_ROWS)
    elif name == "sdg_11_1_1":
        shown = table[table["level"].isin(["nation", "region", "province"])]
    shown = shown.dropna(axis=1, how="all") if len(shown) else shown
    return {
        "name": name,
        "title": TITLES[name],
        "columns": list(shown.columns),
        "rows": [[_cell(v) for v in row] for row in shown.itertuples(index=False)],
        "more": len(table) - len(shown),
    }


def _cell(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)
