"""The national report: one HTML page that opens from disk without network, its figures inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.analysis.cells import lay_out, shown_rows
from pipeline.analysis.layouts import LAYOUTS
from pipeline.analysis.wording import counted, p_value, short_measure, significant

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
    (
        "Villages",
        ("sizes", "rank_size", "villages", "persistence"),
        ("village_sizes", "size_distribution", "villages", "persistence"),
    ),
    ("Building form", ("form",), ("form", "form_gradients")),
    ("SDG 11.1.1", (), ("sdg_11_1_1",)),
)
"""Heading, figures, tables."""

ABSENT = {
    "Clustering between cities": "Too few cities, or cities that are all alike: see the notes above.",
    "Pattern within cities": "No city has enough villages for a pattern within it.",
    "Building form": "No map features of any city were there: buildings are known where the campaign's work folder"
    " (`.work` beside the products) is kept, and `--no-form` was not given.",
}
"""What is said where a section has nothing."""

OPTION_WORDS = {
    "seed": "Seed of permutations, simulations and resamples",
    "permutations": "Permutations of each test between cities",
    "level": "Confidence level",
    "fdr": "Rate of false discoveries",
    "weights": "Neighbourhoods, the first is quoted",
    "neighbours": "Nearest cities that are neighbours",
    "distance_km": "Reach of the distance weights, km",
    "join_share": "Upper part of cities that joins are counted of",
    "claimed_regions": "Regions claimed to hold the clusters",
    "radii_m": "Classes of distance within cities, up to, m",
    "simulations": "Simulated patterns per city, at least",
    "simulated_points": "Points that are simulated per city of few villages",
    "least_villages": "Villages that a city needs for a pattern",
    "surroundings_m": "Reach of a village's surroundings, m",
    "resamples": "Bootstrap resamples of cities",
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
            {
                "title": p.title,
                "caption": p.caption,
                "name": p.name,
                "svg": Markup(p.inline_svg()),  # noqa: S704 - our own figure
                "rem": 6.4 * p.size_in[0],
            }
            for p in (analysis.pictures.get(name) for name in pictures)
            if p is not None
        ]
        shown = [_table(name, analysis.tables[name]) for name in tables if name in analysis.tables]
        absent = "" if drawn or any(t["rows"] for t in shown) else ABSENT.get(heading, "")
        if drawn or shown or absent:
            sections.append({"heading": heading, "pictures": drawn, "tables": shown, "absent": absent})
    return environment.get_template("report.html.j2").render(
        title=analysis.title,
        sentences=sentences(analysis),
        notes=analysis.notes,
        sections=sections,
        options=[(OPTION_WORDS[k], _option(v)) for k, v in analysis.options.model_dump(mode="json").items()],
    )


def _option(value: Any) -> str:
    return (
        ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
        if isinstance(value, list)
        else str(value)
    )


def sentences(analysis: Analysis) -> list[str]:
    """What the figures say, in words; nothing that they do not."""
    head = analysis.headline
    first = (
        f"{counted(head['villages'], 'urban village', 'urban villages')} of"
        f" {counted(head['cities'], 'city', 'cities')} cover {head['uv_km2']:,.1f} km² as mapped:"
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
        if head["share_mean_adjusted"] is not None:
            low, high = head["share_mean_adjusted_interval"]
            out[-1] += (
                f" The mean of the cities' shares is then {100 * head['share_mean_adjusted']:.2f} %"
                f" ({100 * low:.2f} to {100 * high:.2f} %)."
            )
    if "moran_i" in head:
        like = "are alike" if head["moran_p"] <= 1 - analysis.options.level else "are not shown to be alike"
        out.append(
            f"Neighbouring cities {like}: Moran's I {head['moran_i']:.3f}, p {p_value(head['moran_p'])}"
            f" ({head['weights']}); {counted(head['hot_spots'], 'city is a hot spot', 'cities are hot spots')}."
        )
    if "claim" in head:
        claim = head["claim"]
        verdict = "supported" if claim["found"] else "not supported"
        out.append(
            f"That high shares cluster in {claim['regions']} more than elsewhere is {verdict}: p"
            f" {p_value(claim['p'])} against no pattern at all, {p_value(claim['p_beyond_likeness'])} against the"
            " likeness of"
            " neighbouring cities alone (both must be small)."
        )
    out += _form_sentences(head.get("form", {}))
    return out


def _form_sentences(form: dict[str, Any]) -> list[str]:
    """One for low-rise and high-density together, one for each measure that differs."""
    out = []
    found = {m: r for m, r in form.items() if r["low"] is not None and (r["low"] > 0 or r["high"] < 0)}
    if {"coverage", "height_mean_m"} <= set(form):
        lower = "height_mean_m" in found and found["height_mean_m"]["difference"] < 0
        denser = "coverage" in found and found["coverage"]["difference"] > 0
        verdict = {
            (True, True): "lower and denser than the built-up land around them",
            (True, False): "lower than the built-up land around them, and not shown to be denser",
            (False, True): "denser than the built-up land around them, and not shown to be lower",
            (False, False): "not shown to be lower or denser than the built-up land around them",
        }[lower, denser]
        out.append(f"Low-rise, high-density: villages are {verdict}.")
    for measure, row in found.items():
        more = "more" if row["difference"] > 0 else "less"
        name, _, unit = short_measure(measure).partition(", ")
        out.append(
            f"{name[0].upper()}{name[1:]}: in villages {more} by {significant(abs(row['difference']))}"
            f"{unit and ' ' + unit} ({_ends(row)}; means of {row['cities']} cities)."
        )
    return out


def _ends(row: dict[str, Any]) -> str:
    low, high = sorted((abs(row["low"]), abs(row["high"])))
    return f"{significant(low)} to {significant(high)}"


def _table(name: str, table: pd.DataFrame) -> dict[str, Any]:
    layout = LAYOUTS[name]
    shown = shown_rows(name, table, most=MOST_ROWS)
    columns, cells = lay_out(shown, layout, html=True)
    return {
        "name": name,
        "title": layout.title,
        "note": layout.note,
        "columns": columns,
        "rows": [list(zip(row, columns, strict=True)) for row in cells],
        "more": len(table) - len(shown),
    }
