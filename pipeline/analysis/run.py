"""From the products of a campaign to tables, figures and a report, by one call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from pipeline.analysis.adjustment import Assessed, make_adjustment
from pipeline.analysis.built_up import BuiltUp
from pipeline.analysis.city_tables import CityTables, CityTask, read_city_tables
from pipeline.analysis.clustering import cluster_cities
from pipeline.analysis.effects import tabulate_effects, tabulate_gradients
from pipeline.analysis.errors import AnalysisError
from pipeline.analysis.figures import (
    Picture,
    form_picture,
    pattern_picture,
    shares_picture,
    write_pictures,
)
from pipeline.analysis.figures_of_villages import (
    persistence_picture,
    rank_size_picture,
    sizes_picture,
    villages_picture,
)
from pipeline.analysis.options import AnalysisOptions
from pipeline.analysis.report import render_analysis
from pipeline.analysis.sdg import tabulate_sdg
from pipeline.analysis.shares import city_shares, tabulate_shares
from pipeline.analysis.sizes import describe_sizes, rank_sizes, tabulate_sizes
from pipeline.analysis.tables import write_tables
from pipeline.analysis.villages import describe_villages, tabulate_persistence
from pipeline.analysis.within import summarise_patterns
from pipeline.analysis.wording import counted
from pipeline.files import replacing_folder, sha256_of, write_json
from pipeline.national.cluster import in_order

SCHEMA_VERSION = "1.0.0"
LEAST_KNOWN = 0.5
"""Share of the villages' footprint with a known height below which a city is counted as thinly known."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Analysis:
    """What an analysis found.

    Attributes:
        title: Campaign and version.
        of: The land that shares are of, in words.
        tables: By name.
        pictures: By name.
        headline: What the report says first, plain values.
        notes: What limits the figures.
        options: Settings.
    """

    title: str
    of: str
    tables: Mapping[str, pd.DataFrame]
    pictures: Mapping[str, Picture]
    headline: Mapping[str, Any]
    notes: tuple[str, ...]
    options: AnalysisOptions


def gather(
    tasks: list[CityTask], *, client: Any | None = None, progress: Progress | None = None
) -> Iterator[CityTables]:
    """Read every city in the order of the tasks, on a Dask client where one is given."""
    for k, tables in enumerate(in_order(client, read_city_tables, tasks), 1):
        if progress is not None:
            progress(k, len(tasks))
        yield tables


def analyse(
    cities: list[CityTables],
    options: AnalysisOptions,
    *,
    title: str,
    built_up: BuiltUp | None = None,
    assessed: Assessed | None = None,
    borders: gpd.GeoSeries | None = None,
    notes: tuple[str, ...] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> Analysis:
    """All tables and figures of the cities' tables.

    Args:
        cities: What `gather` gave, in any order.
        options: Settings.
        title: Campaign and version.
        built_up: Where built-up land was known from; None where shares are of all mapped ground.
        assessed: Areas of an assessment.
        borders: Polygons of cities by adcode, for contiguity.
        notes: What is to be known of the input.
        tell: Receives what is being computed.

    Raises:
        AnalysisError: there is no city, or tables contradict each other.
    """
    if not cities:
        raise AnalysisError("no city to analyse: none of the campaign has a product")
    cities = sorted(cities, key=lambda c: str(c.totals["adcode"]))
    totals = pd.DataFrame([c.totals for c in cities])
    of = "built-up land" if built_up is not None else "mapped ground"
    made = _Made(said=[*notes, *(n for c in cities for n in c.notes)])
    if built_up is None:
        made.said.append(
            "no built-up land was given: shares are of all mapped ground (the area of interest), which is not the"
            " published share of built-up land"
        )
    totals["share"] = city_shares(totals)
    tell(f"shares of {len(cities)} cities")
    _add_shares(made, totals, options, assessed, of)
    tell("clustering between cities")
    found = cluster_cities(totals, options, of=of, borders=borders)
    made.tables |= found.tables
    made.pictures |= found.pictures
    made.said += found.notes
    tell("patterns, villages, building form")
    _add_patterns(made, cities, options)
    _add_villages(made, cities)
    _add_form(made, cities, options)
    made.tables["sdg_11_1_1"], sdg_note = tabulate_sdg(totals, made.tables["shares"])
    made.said.append(f"SDG 11.1.1: {sdg_note}")
    headline = _headline(made.tables, totals, of)
    return Analysis(title, of, made.tables, made.pictures, headline, tuple(dict.fromkeys(made.said)), options)


@dataclass
class _Made:
    """What grows while an analysis is made."""

    said: list[str]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)


def _add_shares(
    made: _Made, totals: pd.DataFrame, options: AnalysisOptions, assessed: Assessed | None, of: str
) -> None:
    adjustment = None
    if assessed is None:
        made.said.append("no assessment was given: areas and shares are as mapped, with the map's errors in them")
    else:
        adjustment = make_adjustment(totals, assessed)
        made.said += adjustment.notes
        if adjustment.cities is None:
            made.said.append(
                "adjusted shares of provinces and cities take the factor of their region and have no interval: assess"
                " with --city-totals for a model of every city"
            )
    shares = tabulate_shares(totals, options, adjustment)
    made.tables |= {"cities": totals, "shares": shares}
    made.pictures["shares"] = shares_picture(shares, of=of)


def _add_patterns(made: _Made, cities: list[CityTables], options: AnalysisOptions) -> None:
    patterns = pd.DataFrame([c.pattern for c in cities if c.pattern is not None])
    if len(patterns):
        made.tables["pattern_cities"] = patterns
        made.tables["pattern"] = summarise_patterns(patterns, options)
        made.pictures["pattern"] = pattern_picture(made.tables["pattern"], options.radii_m)
    if (few := len(cities) - len(patterns)) > 0:
        made.said.append(
            f"{counted(few, 'city has', 'cities have')} fewer than {options.least_villages} villages: no pattern there"
        )


def _add_villages(made: _Made, cities: list[CityTables]) -> None:
    villages = pd.concat([c.villages for c in cities], ignore_index=True)
    gone = pd.concat([c.gone for c in cities], ignore_index=True)
    made.tables["villages"] = describe_villages(villages)
    made.tables["village_sizes"] = tabulate_sizes(villages)
    made.tables["size_distribution"] = describe_sizes(villages)
    if len(villages):
        made.pictures["sizes"] = sizes_picture(made.tables["village_sizes"])
        made.pictures["rank_size"] = rank_size_picture(rank_sizes(villages))
        made.pictures["villages"] = villages_picture(made.tables["villages"])
    persistence = tabulate_persistence(villages, gone)
    if persistence is None:
        made.said.append("villages were not matched with an earlier release: nothing is said of persistence")
    else:
        made.tables["persistence"] = persistence
        made.pictures["persistence"] = persistence_picture(persistence)


def _add_form(made: _Made, cities: list[CityTables], options: AnalysisOptions) -> None:
    form = pd.DataFrame([c.form for c in cities if c.form is not None])
    if len(form):
        made.tables["form_cities"] = form
        made.tables["form"] = tabulate_effects(form, options)
        made.tables["form_gradients"] = tabulate_gradients(form)
        if made.tables["form"]["effect"].notna().any():
            made.pictures["form"] = form_picture(made.tables["form"])
        if (thin := int((form["height_known_in"].fillna(0) < LEAST_KNOWN).sum())) > 0:
            made.said.append(
                f"building heights are known for less than {100 * LEAST_KNOWN:.0f} % of the villages' footprint in"
                f" {thin} of {len(form)} cities: heights, floor-area ratios, low-rise shares rest on these only"
            )
    if (without := len(cities) - len(form)) > 0:
        made.said.append(
            f"{without} of {len(cities)} cities have no map features here: nothing is known of their buildings"
        )


def write_analysis(analysis: Analysis, out: Path) -> dict[str, Any]:
    """Write report, tables and figures into a folder in one step; the same values give the same bytes.

    Returns:
        What `analysis.json` holds.
    """
    with replacing_folder(out) as folder:
        write_tables(analysis.tables, folder / "tables")
        write_pictures(analysis.pictures, folder / "figures")
        (folder / "report.html").write_text(render_analysis(analysis), encoding="utf-8")
        record = {
            "schema_version": SCHEMA_VERSION,
            "title": analysis.title,
            "shares_of": analysis.of,
            "headline": dict(analysis.headline),
            "options": analysis.options.model_dump(mode="json"),
            "notes": list(analysis.notes),
            "files": {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()},
        }
        write_json(folder / "analysis.json", record)
    return record


def _headline(tables: Mapping[str, pd.DataFrame], totals: pd.DataFrame, of: str) -> dict[str, Any]:
    nation = tables["shares"].iloc[0]
    head: dict[str, Any] = {
        "cities": len(totals),
        "villages": int(totals["villages"].sum()),
        "uv_km2": nation["uv_km2"],
        "shares_of": of,
        "share_ratio_of_areas": nation["share_area"],
        "share_mean_of_cities": nation["share_mean"],
        "share_mean_interval": [nation["share_mean_low"], nation["share_mean_high"]],
        "share_adjusted": nation["adjusted_share"],
        "share_adjusted_interval": [nation["adjusted_low"], nation["adjusted_high"]],
        "share_mean_adjusted": nation["adjusted_mean"],
        "share_mean_adjusted_interval": [nation["adjusted_mean_low"], nation["adjusted_mean_high"]],
    }
    if "clustering" in tables:
        first = tables["clustering"].iloc[0]
        head |= {"moran_i": first["moran_i"], "moran_p": first["p"], "weights": first["weights"]}
        head["hot_spots"] = int((tables["clustering_local"]["kind"] == "hot spot").sum())
    if "clustering_regions" in tables:
        first_weights = tables["clustering_regions"]["weights"].iloc[0]
        claims = tables["clustering_regions"]
        claims = claims[(claims["weights"] == first_weights) & claims["region"].str.startswith("claim: ")]
        if len(claims):
            row = claims.iloc[0]
            head["claim"] = {
                "regions": row["region"].removeprefix("claim: "),
                "p": row["p"],
                "p_beyond_likeness": row["p_beyond"],
                "found": bool(row["found"] and row["found_beyond"]),
            }
    if "form" in tables:
        whole = tables["form"][tables["form"]["name"] == "nation"].set_index("measure")
        head["form"] = {
            m: {"difference": r["difference"], "low": r["low"], "high": r["high"], "cities": int(r["cities"])}
            for m, r in whole.iterrows()
        }
    plain: dict[str, Any] = _plain(head)
    return plain


def _plain(value: Any) -> Any:
    """Plain values for JSON: NaN becomes null."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
