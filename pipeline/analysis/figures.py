"""Figures of an analysis as vector files (SVG and PDF), with their numbers beside them.

Cities are points: no figure draws a border, so none can draw a wrong one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.analysis.places import NATION
from pipeline.analysis.villages import classify_shares
from pipeline.analysis.wording import p_value, short_measure

STYLE: dict[str, Any] = {
    "svg.hashsalt": "uvmap",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
}
BLUE, RED, GREY = "#1f5a99", "#b5382a", "#8a8f98"
REGION_COLOURS = {
    "North": "#0072b2", "Northeast": "#56b4e9", "East": "#009e73", "Central": "#d55e00", "South": "#cc79a7",
    "Southwest": "#b59f00", "Northwest": "#7f7f7f",
}  # fmt: skip
"""Told apart by people who see colours otherwise (Okabe & Ito 2008), the same in every figure."""


def colour_of(name: str) -> str:
    """Colour of a region; black for the nation."""
    return REGION_COLOURS.get(name, "black")


def line_of(name: str) -> dict[str, Any]:
    """How the line of a region is drawn; that of the nation is thicker, and over the others."""
    nation = name == NATION
    return {"color": colour_of(name), "lw": 2 if nation else 1, "label": name, "zorder": 3 if nation else 2}


def legend_beside(axes: Axes) -> None:
    """The legend to the right of what is drawn."""
    axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes:
        name: Name of its files.
        title: Heading.
        caption: What it shows, how it was computed.
        numbers: What is drawn.
        draw: Draws it on a figure.
    """

    name: str
    title: str
    caption: str
    numbers: pd.DataFrame
    draw: Callable[[Figure, pd.DataFrame], None]
    size_in: tuple[float, float] = (6.4, 3.6)

    def figure(self) -> Figure:
        """A figure of matplotlib, drawn."""
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=self.size_in)
            self.draw(figure, self.numbers)
        return figure

    @cached_property
    def svg(self) -> str:
        """The figure as an SVG file, drawn once for the file and the page."""
        out = io.StringIO()
        with mpl.rc_context(STYLE):
            self.figure().savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        return out.getvalue()

    def inline_svg(self) -> str:
        """The figure as SVG without the XML head, for a page."""
        return self.svg[self.svg.index("<svg") :]


def write_pictures(pictures: Mapping[str, Picture], folder: Path) -> list[Path]:
    """Write ``name.svg``, ``name.pdf`` and ``name.csv`` of every figure; the same values give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for picture in pictures.values():
        svg, pdf, csv = (folder / f"{picture.name}.{end}" for end in ("svg", "pdf", "csv"))
        svg.write_text(picture.svg, encoding="utf-8")
        with mpl.rc_context(STYLE):
            picture.figure().savefig(
                pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None}
            )
        picture.numbers.to_csv(csv, index=False, float_format="%.7g", lineterminator="\n")
        files += [svg, pdf, csv]
    return files


def shares_picture(shares: pd.DataFrame, *, of: str) -> Picture:
    """Shares of regions and nation: ratio of areas and mean of cities side by side, adjusted beside them."""
    rows = shares[shares["level"].isin(["nation", "region"])].iloc[::-1].reset_index(drop=True)

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        y = np.arange(len(rows))
        axes.barh(y + 0.2, 100 * rows["share_area"], 0.36, color="#7fa6d0", label="ratio of areas, as mapped")
        axes.barh(y - 0.2, 100 * rows["share_mean"], 0.36, color="#d3dfec", label="mean of cities, as mapped")
        _bars(axes, rows, y - 0.2, "share_mean", colour="#6b7f96", label="mean of other such cities, interval")
        if rows["adjusted_share"].notna().any():
            _bars(axes, rows, y + 0.2, "adjusted_share", colour=RED, label="ratio of areas, error-adjusted")
            _bars(axes, rows, y - 0.3, "adjusted_mean", colour="#d9822b", label="mean of cities, error-adjusted")
        axes.set_yticks(y, [f"{n} ({c})" for n, c in zip(rows["name"], rows["cities"], strict=True)])
        axes.set_xlim(left=0)
        axes.set_xlabel(f"urban village, % of {of}")
        axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.45, -0.12), ncols=2)

    caption = (
        f"Urban village by {of}, in brackets the number of cities. Dark bars: all urban village by all {of}; light"
        " bars: the mean of the cities' shares, grey its bootstrap interval of cities. Red and orange: both adjusted"
        " for the map's errors, with the assessment's interval."
        if rows["adjusted_share"].notna().any()
        else f"Urban village by {of} as mapped, in brackets the number of cities. Dark bars: all urban village by all"
        f" {of}; light bars: the mean of the cities' shares with a bootstrap interval of cities. No assessment was"
        " given, so the map's errors are in all of them."
    )
    return Picture("shares_by_region", f"Share of {of}", caption, rows, draw, (6.4, 4.6))


def map_picture(cities: pd.DataFrame, local: pd.DataFrame, *, of: str, weights: str) -> Picture:
    """Cities as points by share, hot and cold spots ringed."""
    kind = local.set_index("adcode")["kind"].reindex(cities["adcode"]).fillna("none").to_numpy()
    table = cities[["adcode", "name_en", "region", "x_m", "y_m", "share"]].assign(kind=kind)

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        ends = classify_shares(rows["share"].to_numpy(dtype=float))["ends"]
        index = np.searchsorted(ends, rows["share"].to_numpy(dtype=float) - 1e-12)
        colours = mpl.colormaps["YlGnBu"](np.linspace(0.15, 0.95, len(ends)))
        for k, end in enumerate(ends):
            mine = rows[index == k]
            low = ends[k - 1] if k else float(rows["share"].min())
            axes.scatter(
                mine["x_m"] / 1e3,
                mine["y_m"] / 1e3,
                s=14,
                color=colours[k],
                edgecolors="#7d8894",
                linewidths=0.3,
                label=f"{100 * low:.1f} to {100 * end:.1f} %",
            )
        for name, colour in (("hot spot", RED), ("cold spot", "#2d6fb5")):
            mine = rows[rows["kind"] == name]
            if len(mine):
                axes.scatter(
                    mine["x_m"] / 1e3,
                    mine["y_m"] / 1e3,
                    s=46,
                    facecolors="none",
                    edgecolors=colour,
                    linewidths=1.1,
                    label=name,
                )
        axes.set_aspect("equal")
        axes.set_xlabel("km east of 105° E (Albers equal-area)")
        axes.set_ylabel("km north")
        axes.locator_params(nbins=6)
        legend_beside(axes)

    caption = (
        f"Cities by share of {of} (classes by natural breaks). Rings: Getis-Ord Gi* within the rate of false"
        f" discoveries, neighbours: {weights}. Points only: the figure draws no border."
    )
    return Picture("cities_map", "Where shares are high", caption, table, draw, (6.8, 4.6))


def moran_picture(local: pd.DataFrame, *, moran_i: float, p: float, weights: str) -> Picture:
    """Each city's share against the mean of its neighbours."""
    table = local[["adcode", "name_en", "region", "value", "neighbours", "quadrant", "kind"]]

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        marked = rows["kind"] == "hot spot"
        for mine, colour, label in ((rows[~marked], GREY, "cities"), (rows[marked], RED, "hot spots")):
            if len(mine):
                axes.scatter(100 * mine["value"], 100 * mine["neighbours"], s=10, color=colour, label=label, alpha=0.8)
        axes.axhline(100 * rows["value"].mean(), color="#bbb", lw=0.8)
        axes.axvline(100 * rows["value"].mean(), color="#bbb", lw=0.8)
        axes.set_xlabel("share of the city, %")
        axes.set_ylabel("mean share of its neighbours, %")
        axes.legend(frameon=False, fontsize=7)

    caption = f"Moran's I = {moran_i:.3f}, p {p_value(p)} (permutations; neighbours: {weights})."
    return Picture("moran_scatter", "Are neighbours alike", caption, table, draw, (5.2, 3.8))


def region_picture(regions: pd.DataFrame) -> Picture:
    """Clustering statistic of each region against two kinds of chance."""

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        shown = rows.iloc[::-1].reset_index(drop=True)
        y = np.arange(len(shown))
        for key, colour, label, shift in (
            ("", GREY, "no pattern at all (95 %)", 0.14),
            ("beyond_", "#c9a227", "likeness of neighbours alone (95 %)", -0.14),
        ):
            axes.errorbar(
                shown[f"{key}expected"], y + shift, xerr=1.96 * shown[f"{key}spread"], fmt="|", color=colour,
                capsize=3, label=label,
            )  # fmt: skip
        both = (shown["found"] & shown["found_beyond"]).to_numpy(dtype=bool)
        for mask, colour, label in ((~both, BLUE, "as mapped"), (both, RED, "as mapped, more than both")):
            if mask.any():
                axes.scatter(shown["statistic"][mask], y[mask], color=colour, s=26, zorder=3, label=label)
        p = zip(shown["region"], shown["p"], shown["p_beyond"], strict=True)
        axes.set_yticks(y, [f"{n}\np {p_value(a)} and {p_value(b)}" for n, a, b in p], fontsize=8)
        axes.set_xlabel("clustering of high shares: here less elsewhere")
        axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=2)

    caption = (
        "Mean over a region's cities of their normal score times that of their neighbours (0 for cities below the"
        " middle), less the mean elsewhere. Grey: shares permuted over all cities. Yellow: cities as alike as"
        " neighbours are here, but without regions. The two p values are against these, in this order."
    )
    return Picture("clustering_by_region", "Where high shares cluster", caption, regions, draw, (6.4, 5.0))


def pattern_picture(summary: pd.DataFrame, radii_m: tuple[float, ...]) -> Picture:
    """Pair correlation within cities, medians by region."""

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        for row in rows.to_dict("records"):
            if row["name"] == NATION and row["cities"] > 1:
                axes.fill_between(
                    [r / 1000 for r in radii_m], [row[f"g_{r:g}_q25"] for r in radii_m],
                    [row[f"g_{r:g}_q75"] for r in radii_m], color="#e8ebef", lw=0, label="middle half of all cities",
                )  # fmt: skip
            axes.plot(
                [r / 1000 for r in radii_m], [row[f"g_{r:g}"] for r in radii_m], marker="o", ms=3,
                **line_of(str(row["name"])),
            )  # fmt: skip
        axes.axhline(1, color="#bbb", lw=0.8)
        axes.set_xscale("log")
        axes.set_xticks([r / 1000 for r in radii_m], [f"{r / 1000:g}" for r in radii_m])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("distance between villages up to, km")
        axes.set_ylabel("pairs of villages by those under chance")
        legend_beside(axes)

    caption = (
        "Pair correlation of villages within cities (medians; grey: the middle half of all cities): pairs in each class"
        " of distance by those of as many points drawn evenly from the mapped ground; 1 is chance. Villages have an"
        " extent, so there are few pairs below it."
    )
    return Picture("pattern_within_cities", "Do villages lie together", caption, summary, draw, (5.6, 3.6))


def form_picture(effects: pd.DataFrame) -> Picture:
    """Standardised differences of building form, nation and regions."""
    rows = effects[effects["effect"].notna()].reset_index(drop=True)

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        measures = list(dict.fromkeys(rows["measure"]))
        names = list(dict.fromkeys(rows["name"]))
        for k, name in enumerate(names):
            mine = rows[rows["name"] == name]
            y = np.array([measures.index(m) for m in mine["measure"]]) + 0.7 * (k / max(len(names) - 1, 1) - 0.5)
            ends = np.abs(mine[["effect_low", "effect_high"]].to_numpy(dtype=float).T - mine["effect"].to_numpy())
            axes.errorbar(mine["effect"], y, xerr=ends, fmt="o", ms=3, lw=1, color=colour_of(str(name)), label=name)
        axes.axvline(0, color="#bbb", lw=0.8)
        axes.set_yticks(np.arange(len(measures)), [short_measure(m) for m in measures])
        for k in range(len(measures) - 1):
            axes.axhline(k + 0.5, color="#e4e8ee", lw=0.8)
        axes.set_ylim(len(measures) - 0.5, -0.5)
        axes.set_xlabel("← less in villages    Hedges' g of cities (95 %)    more in villages →")
        legend_beside(axes)

    caption = (
        "Building form of villages less that of the built-up land around them, in standard deviations of the cities'"
        " differences (Hedges' g); cities are the replicates. Unknown heights are left out, never imputed; the table"
        " says how many cities are known. A place is missing where fewer than three cities are known."
    )
    return Picture("building_form", "Building form", caption, rows, draw, (6.8, 5.2))


def _bars(axes: Any, rows: pd.DataFrame, y: Any, key: str, *, colour: str, label: str) -> None:
    """Values of a share with their interval, in per cent; nothing where no interval is known."""
    low, high = {
        "share_mean": ("share_mean_low", "share_mean_high"),
        "adjusted_share": ("adjusted_low", "adjusted_high"),
        "adjusted_mean": ("adjusted_mean_low", "adjusted_mean_high"),
    }[key]
    value = 100 * rows[key].to_numpy(dtype=float)
    ends = np.abs(np.stack([100 * rows[low].to_numpy(dtype=float), 100 * rows[high].to_numpy(dtype=float)]) - value)
    if np.isfinite(ends).any():
        axes.errorbar(value, y, xerr=ends, fmt="o", ms=3, color=colour, capsize=2, lw=1, label=label)
