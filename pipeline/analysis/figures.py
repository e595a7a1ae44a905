"""Figures of an analysis as vector files (SVG and PDF), with their numbers beside them.

Cities are points: no figure draws a border, so none can draw a wrong one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.analysis.villages import classify_shares

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

    def svg(self) -> str:
        """The figure as SVG without the XML head, for a page."""
        out = io.StringIO()
        with mpl.rc_context(STYLE):
            self.figure().savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        text = out.getvalue()
        return text[text.index("<svg") :]


def write_pictures(pictures: Mapping[str, Picture], folder: Path) -> list[Path]:
    """Write ``name.svg``, ``name.pdf`` and ``name.csv`` of every figure; the same values give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for picture in pictures.values():
        svg, pdf, csv = (folder / f"{picture.name}.{end}" for end in ("svg", "pdf", "csv"))
        with mpl.rc_context(STYLE):
            figure = picture.figure()
            figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
            figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
        picture.numbers.to_csv(csv, index=False, float_format="%.7g", lineterminator="\n")
        files += [svg, pdf, csv]
    return files


def shares_picture(shares: pd.DataFrame, *, of: str) -> Picture:
    """Shares of regions and nation: ratio of areas and mean of cities side by side, adjusted beside them."""
    rows = shares[shares["level"].isin(["nation", "region"])].iloc[::-1].reset_index(drop=True)

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        y = np.arange(len(rows))
        axes.barh(y + 0.2, 100 * rows["share_area"], 0.36, color=BLUE, label="ratio of areas, as mapped")
        axes.barh(
            y - 0.2, 100 * rows["share_mean"], 0.36, color="#9dbbdc", label="mean of the cities' shares, as mapped"
        )
        ends = np.abs(
            rows[["share_mean_low", "share_mean_high"]].to_numpy(dtype=float).T - rows["share_mean"].to_numpy()
        )
        _bars(axes, 100 * rows["share_mean"], y - 0.2, 100 * ends, "#4a6b92")
        if rows["adjusted_share"].notna().any():
            ends = np.abs(
                rows[["adjusted_low", "adjusted_high"]].to_numpy(dtype=float).T - rows["adjusted_share"].to_numpy()
            )
            _bars(axes, 100 * rows["adjusted_share"], y + 0.2, 100 * ends, RED, label="ratio of areas, error-adjusted")
        axes.set_yticks(y, rows["name"])
        axes.set_xlabel(f"urban village, % of {of}")
        axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(0.0, -0.12))

    caption = (
        f"Urban village by {of}. Dark bars: all urban village by all {of}; light bars: the mean of the cities' shares"
        " with a bootstrap interval of cities. Red: the ratio adjusted by the assessment with its interval."
    )
    return Picture("shares_by_region", f"Share of {of}", caption, rows, draw, (6.4, 4.2))


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
            low = ends[k - 1] if k else 0.0
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
        axes.set_xlabel("km east of 105 E (Albers)")
        axes.set_ylabel("km north")
        axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))

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

    caption = f"Moran's I = {moran_i:.3f}, p = {p:.4f} (permutations; neighbours: {weights})."
    return Picture("moran_scatter", "Are neighbours alike", caption, table, draw, (5.2, 3.8))


def region_picture(regions: pd.DataFrame) -> Picture:
    """Clustering statistic of each region against chance."""

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        shown = rows.iloc[::-1].reset_index(drop=True)
        y = np.arange(len(shown))
        axes.errorbar(
            shown["expected"], y, xerr=1.96 * shown["spread"], fmt="|", color=GREY, capsize=3, label="chance (95 %)"
        )
        colours = [RED if f else BLUE for f in shown["found"]]
        axes.scatter(shown["statistic"], y, c=colours, s=26, zorder=3, label="as mapped (red: more than chance)")
        axes.set_yticks(y, [f"{n}  (p {p:.4f})" for n, p in zip(shown["region"], shown["p"], strict=True)])
        axes.set_xlabel("clustering of high shares: here less elsewhere")
        axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(0.0, -0.14))

    caption = (
        "Mean over a region's cities of their normal score times that of their neighbours (0 for cities below the"
        " middle), less the mean elsewhere; chance: shares permuted over all cities."
    )
    return Picture("clustering_by_region", "Where high shares cluster", caption, regions, draw, (6.4, 3.8))


def pattern_picture(summary: pd.DataFrame, radii_m: tuple[float, ...]) -> Picture:
    """Pair correlation within cities, medians by region."""

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        colours = mpl.colormaps["tab10"]
        for k, row in enumerate(rows.to_dict("records")):
            nation = row["name"] == "nation"
            axes.plot(
                [r / 1000 for r in radii_m], [row[f"g_{r:g}"] for r in radii_m], marker="o", ms=3,
                color="black" if nation else colours(k - 1), lw=2 if nation else 1, label=row["name"],
            )  # fmt: skip
        axes.axhline(1, color="#bbb", lw=0.8)
        axes.set_xscale("log")
        axes.set_xlabel("distance up to, km")
        axes.set_ylabel("pairs of villages, by chance")
        axes.legend(frameon=False, fontsize=7, ncols=2)

    caption = (
        "Pair correlation of villages within cities (median of cities): pairs in each class of distance by those of as"
        " many points drawn evenly from the mapped ground; 1 is chance."
    )
    return Picture("pattern_within_cities", "Do villages lie together", caption, summary, draw, (5.6, 3.6))


def sizes_picture(sizes: pd.DataFrame) -> Picture:
    """Villages and area by class of size."""

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        x = np.arange(len(rows))
        axes.bar(x - 0.2, 100 * rows["share_of_villages"], 0.38, color="#9dbbdc", label="of villages")
        axes.bar(x + 0.2, 100 * rows["share_of_area"], 0.38, color=BLUE, label="of their area")
        axes.set_xticks(x, rows["size"], rotation=30, ha="right")
        axes.set_ylabel("%")
        axes.legend(frameon=False, fontsize=7)

    return Picture("village_sizes", "Sizes of villages", "Villages and their area by class of size.", sizes, draw)


def form_picture(effects: pd.DataFrame) -> Picture:
    """Standardised differences of building form, nation and regions."""
    rows = effects[effects["effect"].notna()].reset_index(drop=True)

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        measures = list(dict.fromkeys(rows["measure"]))
        names = list(dict.fromkeys(rows["name"]))
        colours = mpl.colormaps["tab10"]
        for k, name in enumerate(names):
            mine = rows[rows["name"] == name]
            y = np.array([measures.index(m) for m in mine["measure"]]) + 0.7 * (k / max(len(names) - 1, 1) - 0.5)
            ends = np.abs(mine[["effect_low", "effect_high"]].to_numpy(dtype=float).T - mine["effect"].to_numpy())
            colour = "black" if name == "nation" else colours(k - 1)
            axes.errorbar(mine["effect"], y, xerr=ends, fmt="o", ms=3, lw=1, color=colour, label=name)
        axes.axvline(0, color="#bbb", lw=0.8)
        axes.set_yticks(np.arange(len(measures)), measures)
        axes.invert_yaxis()
        axes.set_xlabel("villages less surroundings, Hedges' g of cities")
        axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))

    caption = (
        "Building form of villages less that of the built-up land around them; cities are the replicates. Unknown"
        " heights are left out, never imputed; the table says how many cities are known."
    )
    return Picture("building_form", "Building form", caption, rows, draw, (6.8, 4.4))


def _bars(axes: Any, x: Any, y: Any, ends: Any, colour: str, *, label: str | None = None) -> None:
    if np.isfinite(ends).any():
        axes.errorbar(x, y, xerr=ends, fmt="o", ms=3, color=colour, capsize=2, lw=1, label=label)
