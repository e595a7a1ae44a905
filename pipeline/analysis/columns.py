"""What the columns of the CSV tables mean: the table `columns.csv` beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

from pipeline.analysis.form import FORM_MEASURES

_WORDS: dict[str, tuple[str, str]] = {
    "adcode": ("code of the city (GB/T 2260)", ""),
    "name": ("nation, region, province or city", ""),
    "name_en": ("English name; not unique", ""),
    "name_zh": ("Chinese name", ""),
    "province": ("province", ""),
    "region": ("one of seven regions", ""),
    "level": ("nation, region, province or city", ""),
    "x_m": ("place of the seat, east, Albers equal-area", "m"),
    "y_m": ("place of the seat, north, Albers equal-area", "m"),
    "villages": ("number of villages", ""),
    "cities": ("number of cities that the row rests on", ""),
    "uv_m2": ("mapped urban village", "m2"),
    "uv_km2": ("mapped urban village", "km2"),
    "ground_m2": ("land that shares are of", "m2"),
    "ground_km2": ("land that shares are of", "km2"),
    "mapped_ground_m2": ("ground with a prediction", "m2"),
    "built_up_share_of_mapped": ("land that shares are of, by mapped ground", "share"),
    "not_predicted_share": ("ground of the area of interest without a prediction", "share"),
    "release": ("release of the product", ""),
    "model_version": ("model of the product", ""),
    "image_date": ("date of the imagery", ""),
    "people": ("people on mapped ground", ""),
    "people_in": ("people in mapped villages", ""),
    "people_in_villages": ("people in mapped villages", ""),
    "share_of_people": ("people in mapped villages by all on mapped ground", "share"),
    "share_of_land": ("ratio of areas as mapped", "share"),
    "share": ("urban village by the land that shares are of", "share"),
    "share_area": ("ratio of areas as mapped: all urban village by all land", "share"),
    "share_mean": ("mean of the cities' shares as mapped", "share"),
    "share_mean_low": ("low end of its bootstrap interval of cities", "share"),
    "share_mean_high": ("high end of its bootstrap interval of cities", "share"),
    "share_median": ("median of the cities' shares as mapped", "share"),
    "adjusted_km2": ("urban village adjusted for the map's errors", "km2"),
    "adjusted_share": ("ratio of areas adjusted for the map's errors", "share"),
    "adjusted_low": ("low end of its interval", "share"),
    "adjusted_high": ("high end of its interval", "share"),
    "adjusted_mean": ("mean of the cities' shares adjusted for the map's errors", "share"),
    "adjusted_mean_low": ("low end of its interval", "share"),
    "adjusted_mean_high": ("high end of its interval", "share"),
    "basis": ("what the adjusted figures rest on", ""),
    "weights": ("which cities are neighbours", ""),
    "islands": ("cities without a neighbour", ""),
    "moran_i": ("Moran's I; of one city, its local form", ""),
    "expected": ("mean of the permutations (Moran's I: -1 / (n - 1))", ""),
    "z": ("standard deviations of the permutations from their mean", ""),
    "p": ("p value: permutations (clustering), t (differences), F (gradients)", ""),
    "high_joins": ("pairs of neighbours that are both among the cities of highest share", ""),
    "high_expected": ("mean of them in the permutations", ""),
    "high_p": ("p value of them", ""),
    "mean_value": ("mean share of the cities", "share"),
    "statistic": ("clustering of high shares here less elsewhere", ""),
    "spread": ("standard deviation of the permutations", ""),
    "found": ("found against permuted shares", "yes/no"),
    "likeness": ("autoregression of neighbours within regions (rho, REML)", ""),
    "beyond_expected": ("mean of the statistic under likeness alone", ""),
    "beyond_spread": ("standard deviation of the statistic under likeness alone", ""),
    "p_beyond": ("p value against likeness alone", ""),
    "found_beyond": ("found against likeness alone", "yes/no"),
    "value": ("share of the city", "share"),
    "neighbours": ("mean share of its neighbours", "share"),
    "quadrant": ("city and neighbours above (high) or below (low) the mean", ""),
    "moran_p": ("p value of the local Moran's I, two-sided", ""),
    "moran_found": ("local Moran's I within the rate of false discoveries", "yes/no"),
    "gi_z": ("Getis-Ord Gi*, standardised", ""),
    "gi_p": ("its p value, two-sided", ""),
    "gi_found": ("Gi* within the rate of false discoveries", "yes/no"),
    "kind": ("hot spot, cold spot or none, by Gi*", ""),
    "nearest_m": ("median distance to the nearest village", "m"),
    "nearest_ratio": ("mean distance to the nearest village by that under chance", ""),
    "nearest_p": ("its p value, two-sided", ""),
    "clustered": ("cities clustered at any distance within the rate of false discoveries", ""),
    "clustered_p": ("p value of clustering at any distance, one-sided", ""),
    "clustered_at_m": ("class of distance, up to, of the most excess pairs", "m"),
    "simulations": ("simulated patterns of the city", ""),
    "centre_km": ("distance to the seat of the city, median", "km"),
    "centre_ratio": ("median distance to the seat, by that of the mapped ground", ""),
    "size": ("class of size", ""),
    "share_of_villages": ("of all villages", "share"),
    "share_of_area": ("of the villages' area", "share"),
    "area_km2": ("area", "km2"),
    "median_ha": ("median size", "ha"),
    "geometric_sd": ("factor by which sizes scatter (log-normal)", ""),
    "lognormal_distance": ("largest distance of the distribution from the fitted log-normal", ""),
    "tail_index": ("P(size > x) falls as x to minus this power in the largest tenth (Hill)", ""),
    "tail_low": ("low end of its 95 % interval", ""),
    "tail_high": ("high end of its 95 % interval", ""),
    "gini": ("Gini coefficient of sizes", ""),
    "largest_tenth_share": ("area of the largest tenth of villages by all", "share"),
    "measure": ("what is measured", ""),
    "known": ("villages where it is known", ""),
    "unknown": ("villages or cities where it is not known", ""),
    "mean": ("mean of villages", ""),
    "mean_by_area": ("mean weighted by area", ""),
    "event": ("what became of villages since the release before", ""),
    "inside": ("mean of cities, villages", ""),
    "outside": ("mean of cities, built-up land around villages", ""),
    "difference": ("inside less outside, mean of cities", ""),
    "low": ("low end of its t interval", ""),
    "high": ("high end of its t interval", ""),
    "effect": ("Hedges' g of paired differences", ""),
    "effect_low": ("low end of its interval", ""),
    "effect_high": ("high end of its interval", ""),
    "regions": ("regions compared", ""),
    "f": ("Welch's F", ""),
    "df": ("degrees of freedom between", ""),
    "df_within": ("degrees of freedom within", ""),
    "largest": ("region of the largest mean difference", ""),
    "smallest": ("region of the smallest mean difference", ""),
    "villages_mapped": ("villages with a mapped building", ""),
    "cells": ("built-up 100 m cells around villages", ""),
    "buildings": ("mapped buildings of the city", ""),
    "height_known_in": ("footprint in villages with a known height", "share"),
    "height_known_out": ("footprint around villages with a known height", "share"),
}
_UNITS = {
    "coverage": ("footprint by ground", "share"),
    "height_mean_m": ("height, mean by footprint", "m"),
    "floor_area_ratio": ("floor area by ground", ""),
    "low_rise_share": ("footprint up to 10 m high, of that with a known height", "share"),
    "footprint_mean_m2": ("mean footprint of a building", "m2"),
    "spacing_m": ("mean distance to the three nearest buildings", "m"),
    "orientation_entropy": ("entropy of orientations; 0 all alike, 1 none in common", ""),
}


def meaning(column: str) -> tuple[str, str] | None:
    """Words and unit of a column; None where nobody has said what it is."""
    if column in _WORDS:
        return _WORDS[column]
    if match := re.fullmatch(r"q(\d\d)", column):
        return f"quantile {int(match[1])} % of villages", ""
    if match := re.fullmatch(r"g_([\d.e+]+)(_low|_high|_q25|_q75)?", column):
        end = {None: "", "_low": ", low end of chance (95 %)", "_high": ", high end of chance (95 %)",
               "_q25": ", lower quartile of cities", "_q75": ", upper quartile of cities"}[match[2]]  # fmt: skip
        return f"pair correlation, class of distance up to {match[1]} m{end}", ""
    for side, where in (("_in", "villages"), ("_out", "built-up land around villages")):
        if column.endswith(side) and column.removesuffix(side) in FORM_MEASURES:
            words, unit = _UNITS[column.removesuffix(side)]
            return f"{words}; {where}", unit
    return None


def tabulate_columns(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """``table``, ``column``, ``meaning``, ``unit`` of every column."""
    rows = []
    for name, table in tables.items():
        for column in table.columns:
            words, unit = meaning(str(column)) or ("", "")
            rows.append({"table": name, "column": column, "meaning": words, "unit": unit})
    return pd.DataFrame(rows, columns=["table", "column", "meaning", "unit"])
