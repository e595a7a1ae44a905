"""How tables are shown to people: which columns, under which headings, in which units, with intervals in one cell.

The page and LaTeX show the same cells; CSV files have all columns as they were computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

Kind = Literal["text", "count", "number", "percent", "p", "yes"]
MISSING = "–"

MEASURES = {
    "area_ha": "area, ha",
    "compactness": "compactness (4π area / perimeter²)",
    "elongation": "elongation (short by long side)",
    "road_density": "roads, km/km²",
    "centre_km": "distance to the seat, km",
    "coverage": "coverage (footprint by ground)",
    "height_mean_m": "height, m",
    "floor_area_ratio": "floor-area ratio",
    "low_rise_share": "low-rise share (up to 10 m)",
    "footprint_mean_m2": "footprint of a building, m²",
    "spacing_m": "spacing of buildings, m",
    "orientation_entropy": "orientation entropy (0 parallel, 1 no common direction)",
}
"""Names of measures for people."""


@dataclass(frozen=True)
class Column:
    """One column for people.

    Attributes:
        heading: With its unit.
        key: Column of the table.
        kind: How it is written.
        ends: Columns of low and high end, shown behind the value.
        html_only: Left out of LaTeX (fonts that not every LaTeX has).
    """

    heading: str
    key: str
    kind: Kind = "number"
    ends: tuple[str, str] | None = None
    html_only: bool = False


@dataclass(frozen=True)
class Layout:
    """One table for people.

    Attributes:
        title: Heading and LaTeX caption.
        columns: From left to right.
        note: How it is to be read, a sentence or two.
    """

    title: str
    columns: tuple[Column, ...]
    note: str = ""


_PLACE = (Column("Level", "level", "text"), Column("Place", "name", "text"))
LAYOUTS: dict[str, Layout] = {
    "shares": Layout(
        "Share of land by nation, region and province",
        (
            *_PLACE,
            Column("Code", "adcode", "text"),
            Column("Cities", "cities", "count"),
            Column("Villages, km²", "uv_km2"),
            Column("Land, km²", "ground_km2"),
            Column("Ratio of areas, %", "share_area", "percent"),
            Column("Mean of cities, % (interval)", "share_mean", "percent", ("share_mean_low", "share_mean_high")),
            Column("Adjusted ratio, % (interval)", "adjusted_share", "percent", ("adjusted_low", "adjusted_high")),
            Column(
                "Adjusted mean, % (interval)", "adjusted_mean", "percent", ("adjusted_mean_low", "adjusted_mean_high")
            ),
            Column("Adjusted how", "basis", "text"),
        ),
        "Ratio of areas: all urban village by all land. Mean of cities: every city counts once; its interval is of"
        " cities drawn anew. Adjusted: for the map's errors, with the assessment's interval; land is taken as it is. By"
        " design: the assessment's estimate. By a model: its model of every city; a province is the sum of its cities,"
        " their errors taken as one, so its interval is wide. Factor of its region: a guess without an interval.",
    ),
    "clustering": Layout(
        "Are neighbouring cities alike",
        (
            Column("Neighbours", "weights", "text"),
            Column("Cities", "cities", "count"),
            Column("Without any", "islands", "count"),
            Column("Moran's I", "moran_i"),
            Column("Expected", "expected"),
            Column("z", "z"),
            Column("p", "p", "p"),
            Column("Joins of high shares", "high_joins"),
            Column("By chance", "high_expected"),
            Column("p", "high_p", "p"),
        ),
        "Moran's I: 0 no pattern, towards 1 alike. Joins: pairs of neighbours that both are among the cities of highest"
        " share. p values by permutation, one-sided.",
    ),
    "clustering_regions": Layout(
        "Where high shares cluster",
        (
            Column("Neighbours", "weights", "text"),
            Column("Region", "region", "text"),
            Column("Cities", "cities", "count"),
            Column("Mean share, %", "mean_value", "percent"),
            Column("Clustering here less elsewhere", "statistic"),
            Column("p, no pattern", "p", "p"),
            Column("Found", "found", "yes"),
            Column("Likeness of neighbours", "likeness"),
            Column("p, likeness alone", "p_beyond", "p"),
            Column("Found", "found_beyond", "yes"),
        ),
        "No pattern: shares permuted over all cities. Likeness alone: cities as alike as neighbours are here, without"
        " regions; what is found only against no pattern may be likeness. Single regions are held to the rate of false"
        " discoveries together, the claim stands alone.",
    ),
    "clustering_local": Layout(
        "Hot and cold spots",
        (
            Column("Code", "adcode", "text"),
            Column("City", "name_en", "text"),
            Column("城市", "name_zh", "text", html_only=True),
            Column("Region", "region", "text"),
            Column("Share, %", "value", "percent"),
            Column("Its neighbours, %", "neighbours", "percent"),
            Column("Gi*, z", "gi_z"),
            Column("p", "gi_p", "p"),
            Column("Kind", "kind", "text"),
            Column("Local Moran", "quadrant", "text"),
            Column("p", "moran_p", "p"),
        ),
        "Cities that are hot or cold spots of Getis-Ord Gi* within the rate of false discoveries.",
    ),
    "pattern": Layout(
        "Villages within cities: medians of cities",
        (
            Column("Where", "name", "text"),
            Column("Cities", "cities", "count"),
            Column("Of them clustered", "clustered", "count"),
            Column("Nearest village, by chance", "nearest_ratio"),
            Column("Distance to the seat, by that of the ground", "centre_ratio"),
        ),
        "Below 1: nearer to each other, or to the seat, than villages placed by chance on the same ground.",
    ),
    "village_sizes": Layout(
        "Classes of size",
        (
            Column("Size", "size", "text"),
            Column("Villages", "villages", "count"),
            Column("% of villages", "share_of_villages", "percent"),
            Column("Area, km²", "area_km2"),
            Column("% of area", "share_of_area", "percent"),
        ),
    ),
    "size_distribution": Layout(
        "How sizes are spread",
        (
            Column("Where", "name", "text"),
            Column("Villages", "villages", "count"),
            Column("Median, ha", "median_ha"),
            Column("Geometric SD", "geometric_sd"),
            Column("Distance from log-normal", "lognormal_distance"),
            Column("Tail index (interval)", "tail_index", "number", ("tail_low", "tail_high")),
            Column("Gini", "gini"),
            Column("Largest tenth, % of area", "largest_tenth_share", "percent"),
        ),
        "The map's least size (minimum mapping unit) cuts the small end, so a fit says nothing of it. Tail index: of"
        " the largest tenth, 1 is Zipf's law.",
    ),
    "villages": Layout(
        "What villages are like",
        (
            Column("Measure", "measure", "text"),
            Column("Where", "name", "text"),
            Column("Known", "known", "count"),
            Column("Unknown", "unknown", "count"),
            Column("Median", "q50"),
            Column("5 %", "q05"),
            Column("25 %", "q25"),
            Column("75 %", "q75"),
            Column("95 %", "q95"),
            Column("Mean by area", "mean_by_area"),
        ),
    ),
    "persistence": Layout(
        "What became of the villages of the release before",
        (
            Column("Where", "name", "text"),
            Column("Event", "event", "text"),
            Column("Villages", "villages", "count"),
            Column("Area, km²", "area_km2"),
        ),
        "Area of the release before for villages that are gone, else of this one. Changes of the map, which may be"
        " changes of imagery or model.",
    ),
    "form": Layout(
        "Building form of villages and of the built-up land around them",
        (
            Column("Measure", "measure", "text"),
            Column("Where", "name", "text"),
            Column("Cities", "cities", "count"),
            Column("Unknown", "unknown", "count"),
            Column("Villages", "inside"),
            Column("Around", "outside"),
            Column("Difference (interval)", "difference", "number", ("low", "high")),
            Column("p", "p", "p"),
            Column("Hedges' g (interval)", "effect", "number", ("effect_low", "effect_high")),
        ),
        "Cities are the replicates: means of cities, t intervals. Unknown: cities where one side has no mapped building"
        " or no known height; nothing is imputed. Coverage, floor-area ratio and spacing are of mapped buildings,"
        " heights of those that have one: where the map lacks buildings, or has the heights of tall ones sooner,"
        " figures are off by what no interval holds; so they are where the map takes other ground for villages.",
    ),
    "form_gradients": Layout(
        "Do regions differ in these differences",
        (
            Column("Measure", "measure", "text"),
            Column("Regions", "regions", "count"),
            Column("F (Welch)", "f"),
            Column("df", "df", "count"),
            Column("df within", "df_within"),
            Column("p", "p", "p"),
            Column("Largest in", "largest", "text"),
            Column("Smallest in", "smallest", "text"),
        ),
    ),
    "sdg_11_1_1": Layout(
        "SDG 11.1.1: what a map of urban villages can say",
        (
            *_PLACE,
            Column("Code", "adcode", "text"),
            Column("Share of land, %", "share_of_land", "percent"),
            Column("People on mapped ground", "people", "count"),
            Column("In villages", "people_in_villages", "count"),
            Column("Share of people, %", "share_of_people", "percent"),
        ),
        "The indicator is of people; without a population raster only land is known, and this is not the indicator.",
    ),
    "cities": Layout(
        "Cities",
        (
            Column("Code", "adcode", "text"),
            Column("City", "name_en", "text"),
            Column("Region", "region", "text"),
            Column("Villages", "villages", "count"),
            Column("Share, %", "share", "percent"),
            Column("Not predicted, %", "not_predicted_share", "percent"),
            Column("Imagery", "image_date", "text"),
        ),
    ),
    "pattern_cities": Layout(
        "Villages within each city",
        (
            Column("Code", "adcode", "text"),
            Column("Villages", "villages", "count"),
            Column("Nearest, m", "nearest_m"),
            Column("By chance", "nearest_ratio"),
            Column("p", "nearest_p", "p"),
            Column("p, clustered", "clustered_p", "p"),
            Column("most at, m", "clustered_at_m", "count"),
            Column("To the seat, km", "centre_km"),
            Column("By that of the ground", "centre_ratio"),
        ),
    ),
    "form_cities": Layout(
        "Building form of each city (villages, around)",
        (
            Column("Code", "adcode", "text"),
            Column("Buildings", "buildings", "count"),
            Column("Coverage", "coverage_in"),
            Column("around", "coverage_out"),
            Column("Height, m", "height_mean_m_in"),
            Column("around", "height_mean_m_out"),
            Column("Floor-area ratio", "floor_area_ratio_in"),
            Column("around", "floor_area_ratio_out"),
            Column("Height known, %", "height_known_in", "percent"),
            Column("around", "height_known_out", "percent"),
        ),
    ),
}


def lay_out(table: pd.DataFrame, layout: Layout, *, html: bool) -> tuple[list[Column], list[list[str]]]:
    """Columns and cells that are shown: those of the layout that the table has and that say anything.

    Args:
        table: As computed.
        layout: What of it, and how.
        html: Whether it is for a page, which has all fonts.
    """
    shown = [
        c for c in layout.columns
        if c.key in table.columns and (html or not c.html_only) and (len(table) == 0 or table[c.key].notna().any())
    ]  # fmt: skip
    cells = [[_write(row, c) for c in shown] for row in table.to_dict("records")]
    return shown, cells


def _write(row: dict[Any, Any], column: Column) -> str:
    text = _cell(row[column.key], column.kind)
    if column.ends is None or text == MISSING:
        return text
    low, high = (_cell(row[e], column.kind) for e in column.ends)
    return text if MISSING in {low, high} else f"{text} ({low} to {high})"


def _cell(value: Any, kind: Kind) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return MISSING
    if kind == "text":
        return MEASURES.get(str(value), str(value))
    if kind == "yes":
        return "yes" if value else "no"
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "p":
        return p_value(float(value))
    return significant(100 * float(value) if kind == "percent" else float(value))


def p_value(value: float) -> str:
    """Four digits, never 0."""
    return f"{value:.4f}" if value >= 1e-4 else "< 0.0001"


def counted(number: int, one: str, many: str) -> str:
    """1 city, 2 cities."""
    return f"{number:,} {one if number == 1 else many}"


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, without exponent: 1,235; 12.3; 0.00123."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else MISSING
    places = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{min(places, 8)}f}"


_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
          "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "²": r"$^{2}$", "π": r"$\pi$", "–": "--",
          "<": r"$<$", ">": r"$>$", "−": "$-$"}  # fmt: skip


def latex_table(name: str, table: pd.DataFrame, layout: Layout) -> str:
    """A table for papers: booktabs, caption, label, note; longtable where it is longer than a page.

    Needs the packages booktabs and, for long tables, longtable.
    """
    columns, cells = lay_out(table, layout, html=False)
    spec = "".join("l" if c.kind in {"text", "yes"} else "r" for c in columns) or "l"
    head = " & ".join(latex_text(c.heading) for c in columns) + r" \\"
    body = [" & ".join(latex_text(v) for v in row) + r" \\" for row in cells]
    caption = rf"\caption{{{latex_text(layout.title)}}}\label{{tab:{name.replace('_', '-')}}}"
    note = [rf"\par\smallskip\footnotesize {latex_text(layout.note)}"] if layout.note else []
    if len(body) > _PAGE_ROWS:
        lines = [rf"\begin{{longtable}}{{{spec}}}", caption + r" \\", r"\toprule", head, r"\midrule", r"\endfirsthead"]
        lines += [r"\toprule", head, r"\midrule", r"\endhead", *body, r"\bottomrule", r"\end{longtable}"]
        return "\n".join([r"% \usepackage{booktabs,longtable}", *lines, *note]) + "\n"
    lines = [r"\begin{table}", r"\centering", caption, rf"\begin{{tabular}}{{{spec}}}", r"\toprule", head, r"\midrule"]
    lines += [*body, r"\bottomrule", r"\end{tabular}", *note, r"\end{table}"]
    return "\n".join([r"% \usepackage{booktabs}", *lines]) + "\n"


def latex_text(text: str) -> str:
    """Text with every character that LaTeX takes for a command escaped."""
    return "".join(_LATEX.get(c, c) for c in text)


_PAGE_ROWS = 45


def shown_rows(name: str, table: pd.DataFrame, *, most: int) -> pd.DataFrame:
    """Rows of a table that a page shows."""
    if name in {"shares", "sdg_11_1_1"}:
        return table[table["level"].isin(["nation", "region", "province"])]
    if name == "clustering_local":
        return table[table["kind"] != "none"].sort_values("gi_z", ascending=False).head(most)
    return table.head(most)


def headings(columns: Sequence[Column]) -> list[tuple[str, bool]]:
    """Heading and whether the column holds numbers, for alignment."""
    return [(c.heading, c.kind not in {"text", "yes"}) for c in columns]
