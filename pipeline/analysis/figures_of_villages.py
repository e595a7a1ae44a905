"""Figures of the villages themselves: sizes, what they are like, what became of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from pipeline.analysis.figures import BLUE, Picture, colour_of, legend_beside, line_of
from pipeline.analysis.places import NATION
from pipeline.analysis.villages import EVENTS
from pipeline.analysis.wording import short_measure

EVENT_COLOURS = {
    "unchanged": "#9dbbdc", "changed": "#1f5a99", "split": "#56b4e9", "merge": "#009e73", "reorganised": "#b59f00",
    "new": "#2e8b57", "gone": "#b5382a", "not matched": "#d0d4da",
}  # fmt: skip


def _plain_log(axis: Any) -> None:
    """Ticks at 1, 2 and 5 as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))


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


def rank_size_picture(curve: pd.DataFrame) -> Picture:
    """Share of villages at least so large, with the fitted log-normal of the nation."""

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        for name, mine in rows.groupby("name", sort=False):
            axes.plot(mine["area_ha"], 100 * mine["share_at_least"], drawstyle="steps-pre", **line_of(str(name)))
            if name == NATION and mine["lognormal"].notna().any():
                axes.plot(
                    mine["area_ha"], 100 * mine["lognormal"], color="black", lw=1, ls=":", label="nation, log-normal"
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(100 * rows["share_at_least"].min() / 2, 1e-4), top=130)
        for axis in (axes.xaxis, axes.yaxis):
            _plain_log(axis)
        axes.set_xlabel("size of a village, ha")
        axes.set_ylabel("villages at least so large, %")
        legend_beside(axes)

    caption = (
        "Share of villages that are at least so large, both axes logarithmic: a power law is a straight line. Dotted:"
        " the log-normal with the nation's mean and spread of logarithms. The table gives how far apart they are."
    )
    return Picture("village_size_distribution", "How sizes are spread", caption, curve, draw, (6.4, 3.8))


def villages_picture(villages: pd.DataFrame) -> Picture:
    """Quantiles of what is measured of villages, by region."""
    rows = villages[villages["known"] > 0].reset_index(drop=True)

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        measures = list(dict.fromkeys(rows["measure"]))
        columns = 2
        grid = figure.subplots(-(-len(measures) // columns), columns, squeeze=False).ravel()
        for axes, measure in zip(grid, measures, strict=False):
            mine = rows[rows["measure"] == measure].iloc[::-1].reset_index(drop=True)
            y = np.arange(len(mine))
            colours = [colour_of(str(n)) for n in mine["name"]]
            axes.hlines(y, mine["q05"], mine["q95"], color=colours, lw=1)
            axes.hlines(y, mine["q25"], mine["q75"], color=colours, lw=5, alpha=0.6)
            axes.scatter(mine["q50"], y, color="white", edgecolors=colours, s=16, zorder=3)
            axes.set_yticks(y, mine["name"], fontsize=7)
            axes.set_title(short_measure(measure), fontsize=8, loc="left")
            if measure in {"area_ha", "centre_km"} and (mine["q05"] > 0).all():
                axes.set_xscale("log")
                _plain_log(axes.xaxis)
            axes.tick_params(axis="x", labelsize=7)
        for axes in grid[len(measures) :]:
            axes.set_axis_off()

    caption = (
        "Median (dot), middle half (bar) and 5 to 95 % (line) of villages. Compactness: 4π area / perimeter², 1 is a"
        " circle; elongation: short by long side of the smallest rectangle, 1 is a square. Sizes and distances on a"
        " logarithmic axis."
    )
    return Picture("villages", "What villages are like", caption, rows, draw, (6.8, 6.0))


def persistence_picture(persistence: pd.DataFrame) -> Picture:
    """What became of the area of the villages of the release before."""
    whole = persistence.groupby("name")["area_km2"].transform("sum")
    rows = persistence.assign(share_of_area=np.where(whole > 0, persistence["area_km2"] / whole, np.nan))

    def draw(figure: Figure, rows: pd.DataFrame) -> None:
        axes = figure.subplots()
        names = list(dict.fromkeys(rows["name"]))[::-1]
        left = np.zeros(len(names))
        for event in (*EVENTS, "not matched"):
            mine = rows[rows["event"] == event].set_index("name")["share_of_area"].reindex(names).fillna(0).to_numpy()
            if mine.any():
                axes.barh(names, 100 * mine, left=left, color=EVENT_COLOURS[event], label=event, height=0.7)
                left += 100 * mine
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the area of villages of both releases")
        legend_beside(axes)

    caption = (
        "Area of villages by what became of them since the release before; gone: area of the release before, else of"
        " this one. These are changes of the map: of the ground, of the imagery, or of the model."
    )
    return Picture("persistence", "Since the release before", caption, rows, draw, (6.4, 3.4))
