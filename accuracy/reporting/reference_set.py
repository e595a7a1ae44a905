"""The reference set as files that can be cited: points with labels and weights, replicate weights, and what they mean.

A table package after the Frictionless standard (`datapackage.json`), so that others can estimate from it again: the
weighted points give every figure, the replicate weights every standard error between cities, without our programs.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from accuracy.errors import AccuracyError
from accuracy.estimation.replication import draw_rao_wu_multipliers
from accuracy.survey.merging import tabulate_readings
from accuracy.survey.sample import ReferenceSample

POINTS, REPLICATES, PACKAGE = "points.csv", "replicate_weights.parquet", "datapackage.json"
FIELDS = {
    "point_id": ("string", "Key of the point."),
    "lon": ("number", "Longitude, degrees, WGS 84."),
    "lat": ("number", "Latitude, degrees, WGS 84."),
    "stratum": ("string", "First-stage stratum: region."),
    "city": ("string", "Primary unit: city."),
    "second_stage_stratum": ("string", "Stratum inside the city."),
    "map": ("integer", "1: the map shows an urban village here, 0: not."),
    "ref": ("integer", "1: urban village by the reference, 0: not, empty: no answer."),
    "weight": ("number", "Ground that the point stands for, in m² where units have a known area; 0 without an answer."),
    "readings": ("string", "What each interpreter answered, under a number that stands for them everywhere."),
    "date_ref": ("string", "Date of the youngest imagery that interpreters looked at."),
    "date_gap_days": ("number", "Days from the map's imagery to the labels', negative: before it."),
}  # fmt: skip


def write_reference_set(
    sample: ReferenceSample,
    folder: Path,
    *,
    title: str,
    response: str,
    replicates: int = 200,
    seed: int = 0,
    map_sha256: str = "",
) -> dict[str, Path]:
    """Write points, replicate weights and the package that describes them; the same sample gives the same bytes.

    Replicate weights are Rao & Wu's (1988) with n - 1 cities of each stratum, which are never negative: the standard
    error of any figure is the root of the mean squared difference of its replicates from it.

    Args:
        sample: The labelled sample.
        folder: Receives `points.csv`, `replicate_weights.parquet` and `datapackage.json`.
        title: Title of the set.
        response: The response design in words.
        replicates: Number of replicate weights; 0 for none.
        seed: Their seed.
        map_sha256: Checksum of the map that was assessed, where it is known.

    Returns:
        The files by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {POINTS: folder / POINTS}
    points = tabulate_points(sample)
    points.to_csv(files[POINTS], index=False, lineterminator="\n", float_format="%.12g")
    note = ""
    if replicates:
        try:
            weights = tabulate_replicates(sample, replicates=replicates, seed=seed)
            files[REPLICATES] = folder / REPLICATES
            weights.to_parquet(files[REPLICATES], index=False, compression="zstd")
        except AccuracyError as error:
            (folder / REPLICATES).unlink(missing_ok=True)
            note = f"No replicate weights: {error}."
    described = _describe(files, points, title=title, response=response, map_sha256=map_sha256, note=note)
    files[PACKAGE] = folder / PACKAGE
    files[PACKAGE].write_text(json.dumps(described, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return files


def tabulate_points(sample: ReferenceSample) -> pd.DataFrame:
    """One row per drawn point with the columns of `FIELDS` that are known."""
    table, design = sample.table, sample.design
    keys = design.keys(table)
    out = pd.DataFrame({"point_id": keys["ssu"].to_numpy()})
    if isinstance(table, gpd.GeoDataFrame) and table.crs is not None:
        places = table.geometry.to_crs("EPSG:4326")
        out["lon"], out["lat"] = places.x.round(7).to_numpy(), places.y.round(7).to_numpy()
    if design.stratum is not None:
        out["stratum"] = keys["stratum"].to_numpy()
    if design.psu is not None:
        out["city"] = keys["psu"].to_numpy()
    if design.second_stage_strata:
        out["second_stage_stratum"] = keys["second"].to_numpy()
    answered = sample.responded
    mapped = _as_answered(sample).mapped
    reference = np.full(len(table), np.nan)
    reference[answered] = sample.reference
    weight = np.zeros(len(table))
    weight[answered] = sample.arrays.weight
    out["map"], out["ref"], out["weight"] = mapped.astype(int), pd.array(reference, dtype="Int64"), weight
    if "readings" in table.columns:
        out["readings"] = _number_interpreters(table["readings"])
    for column in ("date_ref", "date_gap_days"):
        if column in table.columns:
            values = table[column]
            out[column] = (values.astype("string").str.slice(0, 10) if column == "date_ref" else values).to_numpy()
    return out


def tabulate_replicates(sample: ReferenceSample, *, replicates: int, seed: int) -> pd.DataFrame:
    """``point_id`` and ``rw_1`` …: float32 replicate weights of every drawn point, 0 without an answer.

    Raises:
        DesignError: The design knows no variance between cities.
        LonelyUnitError: A stratum with one city that is not a certainty.
    """
    arrays = sample.arrays
    multipliers = draw_rao_wu_multipliers(arrays, replicates=replicates, seed=seed)
    values = np.zeros((len(sample.table), replicates))
    values[sample.responded] = (multipliers[:, arrays.psu] * arrays.weight).T
    names = [f"rw_{k + 1}" for k in range(replicates)]
    out = pd.DataFrame(values, columns=names)
    out.insert(0, "point_id", sample.design.keys(sample.table)["ssu"].to_numpy())
    return out


def _as_answered(sample: ReferenceSample) -> ReferenceSample:
    """The sample with the map in place of the reference, so that every row counts as answered."""
    return sample.with_reference(sample.table[sample.map_column])


def _number_interpreters(column: pd.Series) -> list[str]:
    """Readings with numbers in place of names, in the order of how much each read."""
    table = tabulate_readings(column)
    number = {str(name): f"interpreter {k + 1}" for k, name in enumerate(table.columns)}
    out = []
    for text in column:
        parts = [p.rsplit("=", 1) for p in text.split("; ")] if isinstance(text, str) and text else []
        out.append("; ".join(f"{number.get(name, 'interpreter')}={answer}" for name, answer in parts))
    return out


def _describe(
    files: dict[str, Path], points: pd.DataFrame, *, title: str, response: str, map_sha256: str, note: str
) -> dict[str, Any]:
    resources: list[dict[str, Any]] = []
    for name, path in files.items():
        data = path.read_bytes()
        entry = {
            "name": path.stem,
            "path": name,
            "bytes": len(data),
            "hash": f"sha256:{hashlib.sha256(data).hexdigest()}",
        }
        if name == POINTS:
            fields = [{"name": c, "type": FIELDS[c][0], "description": FIELDS[c][1]} for c in points.columns]
            entry |= {"profile": "tabular-data-resource", "format": "csv", "encoding": "utf-8",
                      "schema": {"fields": fields, "primaryKey": ["point_id"], "missingValues": [""]}}  # fmt: skip
        else:
            entry |= {"format": "parquet", "description": "point_id and Rao-Wu bootstrap weights rw_1, rw_2, …"}
        resources.append(entry)
    text = {"response_design": response, "map_sha256": map_sha256, "note": note}
    return {
        "profile": "data-package",
        "name": "uvmap-reference-set",
        "title": title,
        "description": "Labelled points of a probability sample of a map of urban villages. Figures are ratios of sums"
        " of weights; the standard error of a figure is the root of the mean squared difference of its replicates.",
        **{k: v for k, v in text.items() if v},
        "resources": resources,
    }
