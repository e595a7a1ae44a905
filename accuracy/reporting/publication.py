"""What a data journal asks for beside the figures.

Strata with areas and inclusion probabilities, areas in km² by region, accuracy by size, the response design in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from accuracy.estimation.estimation import WHOLE, estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.reporting.reference_quality import ReferenceQuality
from accuracy.survey.design import CELL, codes
from accuracy.survey.rereading import REST, find_single_omissions
from accuracy.survey.sample import ReferenceSample

MAPPED = "mapped"
CITY_SIZES: tuple[tuple[str, float], ...] = (
    ("less than 1 km² mapped", 1e6),
    ("1 to 10 km² mapped", 1e7),
    ("10 km² mapped or more", np.inf),
)
VILLAGE_SIZES: tuple[tuple[str, float], ...] = (
    ("village of less than 1 ha", 1e4),
    ("village of 1 to 5 ha", 5e4),
    ("village of 5 to 20 ha", 2e5),
    ("village of 20 ha or more", np.inf),
)
"""Classes of size with their upper bounds in m² (excluded)."""
SIZE_MEASURES = ("UA", "PA", "F1", "IoU", "area")


@dataclass(frozen=True, kw_only=True)
class Publication:
    """Tables and sentences for the paper that describes the data.

    Attributes:
        strata: One row per city and second-stage stratum: ``stratum``, ``city``, ``second``, ``units``, ``area_km2``
            (NaN where units have no known area), ``drawn``, ``answered``, ``pi`` (probability that a unit was drawn),
            ``weight`` (units per answered point).
        areas: ``value``, ``mapped_km2``, ``estimated_km2``, ``se_km2``, ``low_km2``, ``high_km2``, ``basis``; None
            where units have no known area.
        sizes: ``kind`` (``city``, ``village``), ``size``, and the columns of an estimate table; empty where sizes are
            not known.
        response: The response design, a sentence each.
    """

    strata: pd.DataFrame
    areas: pd.DataFrame | None
    sizes: pd.DataFrame
    response: tuple[str, ...]


def describe_publication(
    sample: ReferenceSample,
    options: EstimateOptions,
    reference: ReferenceQuality,
    *,
    unit_area_m2: float | None,
    calibrated: pd.DataFrame | None,
    totals: Mapping[tuple[str, ...], float] | None,
) -> Publication:
    """Make the tables.

    Args:
        sample: The labelled sample.
        options: The variance that the design calls for, and its rules.
        reference: What is known of the labels.
        unit_area_m2: Area of a unit of the weights in m², None where it is not known.
        calibrated: Estimates calibrated to ``totals``, None without.
        totals: Known sizes of the map by stratum and map class, in units of the weights.
    """
    return Publication(
        strata=tabulate_strata(sample, unit_area_m2),
        areas=None if unit_area_m2 is None else _areas(sample, options, unit_area_m2, calibrated, totals),
        sizes=_sizes(sample, options),
        response=tuple(_response(sample, reference)),
    )


def tabulate_strata(sample: ReferenceSample, unit_area_m2: float | None) -> pd.DataFrame:
    """Sizes, points and probabilities of every cell of the design; see `Publication.strata`."""
    design, table, arrays = sample.design, sample.table, sample.arrays
    keys = design.keys(table)
    cell, _ = codes(keys, CELL)
    own = design.has_unit_area(table)
    each = pd.to_numeric(table[design.unit_area]).to_numpy(dtype=float) if own else np.ones(len(table))
    area = each if own else np.full(len(table), np.nan if unit_area_m2 is None else unit_area_m2)
    known = design.ssu_population is not None and design.ssu_population in table.columns
    units = pd.to_numeric(table[design.ssu_population]).to_numpy(dtype=float) if known else np.full(len(table), np.nan)
    weight = np.full(len(table), np.nan)
    weight[sample.responded] = arrays.weight / each[sample.responded]
    rows = keys[CELL].assign(cell=cell, units=units, area=area, weight=weight, answered=sample.responded)
    grouped = rows.groupby("cell", sort=True)
    out = grouped[[*CELL, "units"]].first().rename(columns={"psu": "city"})
    out["area_km2"] = out["units"] * grouped["area"].first() / 1e6
    out["drawn"], out["answered"] = grouped.size(), grouped["answered"].sum()
    out["weight"] = grouped["weight"].max()  # one value for the answered points of a cell
    out["pi"] = out["drawn"] / out["answered"] / out["weight"]
    columns = ["stratum", "city", "second", "units", "area_km2", "drawn", "answered", "pi", "weight"]
    return out[columns].reset_index(drop=True)


def _areas(
    sample: ReferenceSample,
    options: EstimateOptions,
    unit_area_m2: float,
    calibrated: pd.DataFrame | None,
    totals: Mapping[tuple[str, ...], float] | None,
) -> pd.DataFrame:
    """Mapped and error-adjusted km² for the whole and each region."""
    km2 = unit_area_m2 / 1e6
    stratum = sample.design.stratum
    domains = [None, *([stratum] if stratum else [])]
    rows = []
    if totals is None or calibrated is None:
        own = replace(options, measures=("area_total",))
        weight, mapped = sample.arrays.weight, sample.mapped
        for domain in domains:
            values = None if domain is None else sample.codes(domain).to_numpy()
            for r in estimate(sample, own, domain=domain).frame.to_dict("records"):
                here = mapped if values is None else mapped & (values == r["value"])
                ends = [max(0.0, v * km2) for v in (r["ci_low"], r["ci_high"])]
                figures = [weight[here].sum() * km2, r["estimate"] * km2, r["se"] * km2, *ends]
                rows.append((r["value"], *figures, "expanded from the sample"))
    else:
        of_area = calibrated[(calibrated["measure"] == "area") & (calibrated["variance"] == options.variance)]
        for r in of_area[of_area["domain"].isin(["", stratum or ""])].to_dict("records"):
            cells = {k: v for k, v in totals.items() if r["value"] == WHOLE or k[0] == r["value"]}
            size = sum(cells.values()) * km2
            mapped_km2 = sum(v for k, v in cells.items() if k[-1] in {"1", "true", "True"}) * km2
            figures = [r[c] * size for c in ("estimate", "se", "ci_low", "ci_high")]
            rows.append((r["value"], mapped_km2, *figures, "share of the known area"))
    columns = ["value", "mapped_km2", "estimated_km2", "se_km2", "low_km2", "high_km2", "basis"]
    return pd.DataFrame(rows, columns=columns)


def _sizes(sample: ReferenceSample, options: EstimateOptions) -> pd.DataFrame:
    """Accuracy by mapped area of the city, and precision by size of the mapped village."""
    parts = []
    table = sample.table
    size = _mapped_of_city(sample)
    if size is not None:
        named = replace(sample, table=table.assign(_size=[_class_of(v, CITY_SIZES) for v in size]))
        own = replace(options, measures=SIZE_MEASURES)
        parts.append(estimate(named, own, domain="_size").frame.assign(kind="city"))
    if "village_m2" in table.columns and (village := pd.to_numeric(table["village_m2"])).notna().any():
        inside = [_class_of(v, VILLAGE_SIZES) if np.isfinite(v) else "off the map" for v in village]
        named = replace(sample, table=table.assign(_size=inside))
        got = estimate(named, replace(options, measures=("UA",)), domain="_size").frame
        parts.append(got[got["value"] != "off the map"].assign(kind="village"))
    if not parts:
        return pd.DataFrame(columns=["kind", "size"])
    order = {name: k for k, (name, _) in enumerate((*CITY_SIZES, *VILLAGE_SIZES))}
    frame = pd.concat(parts, ignore_index=True).rename(columns={"value": "size"})
    return frame.sort_values("size", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def _mapped_of_city(sample: ReferenceSample) -> pd.Series | None:
    """Mapped m² of every row's city, from the sizes of its stratum ``mapped``; None where they are not known."""
    design, table = sample.design, sample.table
    if design.psu is None or not design.has_unit_area(table) or design.ssu_population not in table.columns:
        return None
    keys = design.keys(table)
    mapped = keys["second"] == MAPPED
    if not mapped.any():
        return None
    area = pd.to_numeric(table[design.ssu_population]) * pd.to_numeric(table[design.unit_area])
    of_city = area[mapped].groupby([keys["stratum"][mapped], keys["psu"][mapped]]).first()
    pairs = pd.MultiIndex.from_arrays([keys["stratum"], keys["psu"]])
    return pd.Series(of_city.reindex(pairs).fillna(0.0).to_numpy(), index=table.index)


def _class_of(size_m2: float, classes: tuple[tuple[str, float], ...]) -> str:
    return next(name for name, upper in classes if size_m2 < upper)


def _response(sample: ReferenceSample, reference: ReferenceQuality) -> list[str]:
    """What the tables say of how labels came about; never what they do not."""
    table, design = sample.table, sample.design
    found = []
    if design.has_unit_area(table):
        sides = sorted({round(float(v) ** 0.5, 2) for v in pd.to_numeric(table[design.unit_area])})
        text = f"{sides[0]:g}" if len(sides) == 1 else f"{sides[0]:g} to {sides[-1]:g}"
        found.append(f"Unit of assessment: a pixel of the map, a square of {text} m on the ground.")
    silent = int((~sample.responded).sum())
    found.append(
        f"Answers: 1 (urban village), 0 (not) or cannot say. {len(table)} units were drawn, {silent} have no answer;"
        " these are non-response, their weight is spread over the answered units of their cell."
    )
    if "readings" in table.columns and reference.interpreters is not None:
        times = pd.to_numeric(table["n_answers"]) if "n_answers" in table.columns else pd.Series(np.nan, table.index)
        counts = [int((times == 1).sum()), int((times == 2).sum()), int((times > 2).sum())]
        found.append(
            f"{len(reference.interpreters)} interpreters: {counts[0]} units were"
            f" answered once, {counts[1]} twice, {counts[2]} three times or more. The majority counts."
        )
    if {"disagreed", "adjudicated"} <= set(table.columns):
        apart, settled = (
            int(table[c].astype("string").str.lower().eq("true").sum()) for c in ("disagreed", "adjudicated")
        )
        found.append(f"Interpreters differed on {apart} units; {settled} units were adjudicated.")
    if sample.positive is None and "readings" in table.columns and REST in set(design.keys(table)["second"]):
        columns = {"map_column": sample.map_column, "ref_column": sample.reference_column}
        single = int(find_single_omissions(table, **columns).sum())
        rest = (design.keys(table.loc[sample.responded])["second"] == REST).to_numpy()
        omitted = int((rest & ~sample.mapped & sample.reference).sum())
        found.append(
            f"Of {omitted} omissions in the rest stratum {omitted - single} were confirmed by another reading."
        )
    if reference.dates_text:
        found.append(reference.dates_text)
    return found
