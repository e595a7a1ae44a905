"""What an analysis takes from one city's product: a row of totals, its villages, its pattern, its building form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import momepy
import numpy as np
import pandas as pd
import pyproj
import shapely

from pipeline.analysis.built_up import BuiltUp, measure_built_up
from pipeline.analysis.form import measure_city_form
from pipeline.analysis.ground_pixels import MappedGround, read_ground_pixels
from pipeline.analysis.options import AnalysisOptions
from pipeline.analysis.sdg import count_people
from pipeline.analysis.villages import compactness
from pipeline.analysis.within import describe_pattern
from pipeline.attributes import read_fabric
from pipeline.city.stage_store import stage_result
from pipeline.files import sha256_of, source_digest
from pipeline.national.products import CityProduct
from pipeline.product.identity import match_villages
from regions.raster.equal_area import CHINA_ALBERS
from regions.registry import City

FORM_VERSION = 2


@dataclass(frozen=True)
class CityTask:
    """One city to be read; small, so that a worker can be given it.

    Attributes:
        product: Its product.
        city: Its entry of the registry.
        options: Settings.
        built_up: Built-up land, None for all mapped ground.
        population: Raster of people per cell, or None.
        features: Map features of the graph stage (`features.parquet`), None where building form is not asked for or
            the work folder is gone.
        heights: Height rasters of the city.
        previous: GeoParquet of the villages of the release before, or None.
    """

    product: CityProduct
    city: City
    options: AnalysisOptions
    built_up: BuiltUp | None = None
    population: Path | None = None
    features: Path | None = None
    heights: tuple[Path, ...] = ()
    previous: Path | None = None


@dataclass(frozen=True)
class CityTables:
    """What a city gives.

    Attributes:
        totals: One row of the table of cities.
        villages: ``region``, ``status``, ``area_m2``, ``compactness``, ``elongation``, ``centre_km``,
            ``road_density``; of 342 cities millions of rows, so nothing that is not used.
        gone: Villages of the release before without a successor: ``region``, ``adcode``, ``area_m2``.
        pattern: The pattern of its villages, None where they are too few.
        form: Its building form, None where no map features were given.
        notes: What is to be known of it.
    """

    totals: dict[str, object]
    villages: pd.DataFrame
    gone: pd.DataFrame
    pattern: dict[str, object] | None
    form: dict[str, object] | None
    notes: tuple[str, ...]


def read_city_tables(task: CityTask) -> CityTables:
    """Read and measure one city; everything that is slow happens here, city by city.

    Raises:
        PipelineError: a file of the product or a raster cannot be used; the city is named.
    """
    product, city, options = task.product, task.city, task.options
    villages = gpd.read_parquet(product.polygons)
    names = {"adcode": city.adcode, "province": city.province, "region": city.region}
    pixels = read_ground_pixels(product)
    seat = _seat(city, str(villages.crs))
    notes: list[str] = []
    uv_m2 = float(villages["area_m2"].astype(float).sum())
    ground_m2, built_share = pixels.predicted_m2, float("nan")
    if task.built_up is not None:
        ground_m2 = measure_built_up(product, task.built_up, pixels, uv_m2=uv_m2)
        built_share = ground_m2 / pixels.predicted_m2 if pixels.predicted_m2 else float("nan")
    totals: dict[str, object] = {
        **names,
        "name_en": city.name_en,
        "name_zh": city.name_zh,
        **_place(city),
        "villages": len(villages),
        "uv_m2": uv_m2,
        "mapped_ground_m2": pixels.predicted_m2,
        "ground_m2": max(ground_m2, uv_m2),
        "built_up_share_of_mapped": built_share,
        "release": product.release,
        "model_version": product.model_version,
        "image_date": product.lineage.get("image_date"),
    }
    if product.not_predicted_px:
        asked = product.predicted_px + product.not_predicted_px
        totals["not_predicted_share"] = product.not_predicted_px / asked
    else:
        totals["not_predicted_share"] = 0.0
    if task.population is not None:
        totals["people_in"], totals["people"] = count_people(product.mask, task.population)
    pattern: dict[str, object] | None = None
    if len(villages) >= options.least_villages and len(pixels.ground.centres):
        inner = shapely.get_coordinates(shapely.point_on_surface(villages.geometry.to_numpy()))
        pattern = {**names, **describe_pattern(inner, pixels.ground, options, key=city.adcode, centre=seat)}
    form = None
    if task.features is not None and len(villages):
        row = _form(task, task.features, villages, pixels)
        if row["buildings"]:
            form = {**names, **row}
        else:
            notes.append(f"{city.adcode} {city.name_en}: no mapped building, so nothing is known of their form")
    key = product.manifest["inputs"].get("key", {})
    matched = task.previous is not None or key.get("previous") is not None
    table = _villages(villages, names, seat, matched=matched)
    return CityTables(totals, table, _gone(task, villages, names), pattern, form, tuple(notes))


def _form(task: CityTask, features: Path, villages: gpd.GeoDataFrame, pixels: MappedGround) -> dict[str, Any]:
    """Building form, kept in the city's work folder under the digest of all that shapes it."""
    inputs = {
        "version": FORM_VERSION,
        "villages": task.product.files[task.product.polygons.name]["sha256"],
        "mask": task.product.files[task.product.mask.name]["sha256"],
        "features": sha256_of(features),
        "heights": [source_digest(p) for p in task.heights],
        "surroundings_m": task.options.surroundings_m,
    }

    def build(_folder: Path) -> dict[str, Any]:
        vectors = gpd.read_parquet(features)
        fabric = read_fabric(vectors.to_crs(villages.crs), height_rasters=task.heights)
        if len(fabric.buildings) == 0:
            return {"buildings": 0}
        row = measure_city_form(
            villages.geometry, fabric, area=pixels.area_polygon(), surroundings_m=task.options.surroundings_m
        )
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}

    kept = stage_result(features.parent.parent, "form", inputs, build).summary
    return {k: float("nan") if v is None else v for k, v in kept.items()}


def _villages(
    villages: gpd.GeoDataFrame, names: dict[str, str], seat: tuple[float, float], *, matched: bool
) -> pd.DataFrame:
    """Without a release before (``matched``) a status of "new" says nothing and is left out."""
    area = villages["area_m2"].to_numpy(dtype=float)
    table = pd.DataFrame(
        {
            "region": [names["region"]] * len(villages),
            "status": villages["status"].astype("string").to_numpy() if matched else pd.NA,
            "area_m2": area,
            "compactness": compactness(area, villages["perimeter_m"].to_numpy(dtype=float)),
            "elongation": momepy.elongation(villages.geometry).to_numpy(dtype=float) if len(villages) else area,
            "centre_km": np.hypot(*(shapely.get_coordinates(villages.geometry.centroid.to_numpy()) - np.array(seat)).T)
            / 1000,
        }
    )
    return table.assign(road_density=villages["road_density"].to_numpy(dtype=float, na_value=np.nan))


def _gone(task: CityTask, villages: gpd.GeoDataFrame, names: dict[str, str]) -> pd.DataFrame:
    columns = ["region", "adcode", "area_m2"]
    if task.previous is None:
        return pd.DataFrame({c: pd.Series(dtype=float if c == "area_m2" else object) for c in columns})
    before = gpd.read_parquet(task.previous)
    gone = match_villages(before.geometry.to_crs(villages.crs), villages.geometry).gone
    area = before["area_m2"].to_numpy(dtype=float)[gone]
    return pd.DataFrame({"region": names["region"], "adcode": names["adcode"], "area_m2": area})[columns]


def _seat(city: City, crs: str) -> tuple[float, float]:
    x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(city.seat_lon, city.seat_lat)
    return float(x), float(y)


def _place(city: City) -> dict[str, float]:
    to_albers = pyproj.Transformer.from_crs("EPSG:4326", CHINA_ALBERS, always_xy=True)
    x, y = to_albers.transform(city.seat_lon, city.seat_lat)
    return {"x_m": float(x), "y_m": float(y)}
