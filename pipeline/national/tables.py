"""Tables of the nation from the products of its cities: villages in Hilbert order, cities, provinces, the 100 m grid.

Provinces are the partitions: each is written by one worker from the files of its cities, so that no table of the nation
is ever held whole. What comes out does not depend on the cluster, nor on how many workers it has.

========================== ===========================================================================================
file                       rows
========================== ===========================================================================================
villages/{province}.parquet villages of a province (first two digits of the adcode), in Hilbert order over the nation
density/{province}.parquet cells of the 100 m grid that hold village; a cell on a border is in several, see `density`
cities.csv                 one per city: villages, areas, pixels predicted and not
provinces.csv              the same by province
tables.json                checksums of all of them, and what they were made of
========================== ===========================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import shapely

from pipeline.files import replacing, replacing_folder, sha256_of, write_json
from pipeline.national.cluster import in_order
from pipeline.national.products import CityProduct, NationalProductsError
from regions.raster.equal_area import CHINA_ALBERS

TABLES_VERSION = 1
HILBERT_BOX_M = (-3_000_000.0, 1_500_000.0, 3_000_000.0, 6_500_000.0)
"""Corners in the national CRS over which places are ordered, the same for every release: China with a margin."""
ROW_GROUP = 20_000


@dataclass(frozen=True)
class ProvinceFiles:
    """The products of one province: small, so that a worker can be given it.

    Attributes:
        province: First two digits of the adcodes.
        products: Adcode, villages and density cells of each city, in order of adcode.
    """

    province: str
    products: tuple[tuple[str, Path, Path], ...]


def provinces_of(products: Iterable[CityProduct]) -> list[ProvinceFiles]:
    """Products by province, in order of adcode."""
    ordered = sorted(products, key=lambda p: p.adcode)
    return [
        ProvinceFiles(code, tuple((p.adcode, p.polygons, p.density) for p in group))
        for code, group in groupby(ordered, key=lambda p: p.adcode[:2])
    ]


def write_province(folder: Path, province: ProvinceFiles) -> dict[str, Any]:
    """Write villages and density of one province; done by a worker.

    Returns:
        ``province``, ``villages``, ``cells``, ``sha256`` of both files.
    """
    villages = in_hilbert_order(
        _joined(path.to_crs(CHINA_ALBERS) for path in _read(f for _, f, _ in province.products))
    )
    cells = summed_cells(pd.concat(list(_read(f for _, _, f in province.products)), ignore_index=True))
    found: dict[str, Any] = {"province": province.province, "villages": len(villages), "cells": len(cells)}
    for kind, table in (("villages", villages), ("density", cells)):
        target = folder / kind / f"{province.province}.parquet"
        with replacing(target) as part:
            table.to_parquet(
                part,
                compression="zstd",
                index=False,
                write_covering_bbox=True,
                schema_version="1.1.0",
                row_group_size=ROW_GROUP,
            )
        found[f"{kind}_sha256"] = sha256_of(target)
    return found


def in_hilbert_order(villages: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Rows by their place on one Hilbert curve over the nation, then by id: neighbours lie together in the file."""
    if not len(villages):
        return villages
    place = villages.geometry.hilbert_distance(total_bounds=HILBERT_BOX_M, level=16).to_numpy()
    return villages.iloc[np.lexsort((villages["uv_id"].to_numpy(str), place))].reset_index(drop=True)


def summed_cells(cells: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Cells that several cities share become one, areas added; by row from the south, then column."""
    if not len(cells):
        return cells
    areas = cells.groupby("cell_id", sort=False)[["uv_area_m2", "uv_share"]].sum()
    once = cells.drop_duplicates("cell_id").drop(columns=["uv_area_m2", "uv_share"])
    once = once.join(areas, on="cell_id")[list(cells.columns)]
    once["uv_share"] = np.minimum(once["uv_share"], 1.0)
    return once.sort_values(["cell_y", "cell_x"], ignore_index=True)


def city_table(products: Iterable[CityProduct], names: Mapping[str, tuple[str, str, str]]) -> pd.DataFrame:
    """One row per city, in order of adcode.

    Args:
        products: The products.
        names: English name, Chinese name and province of adcodes; those that are not there stay empty.
    """
    rows = []
    for p in sorted(products, key=lambda p: p.adcode):
        english, chinese, province = names.get(p.adcode, ("", "", ""))
        rows.append(
            {
                "adcode": p.adcode,
                "name_en": english,
                "name_zh": chinese,
                "province": province,
                "villages": p.villages,
                "uv_area_m2": p.uv_area_m2,
                "predicted_km2": p.predicted_px * p.pixel_m2 / 1e6,
                "not_predicted_km2": p.not_predicted_px * p.pixel_m2 / 1e6,
                "release": p.release,
            }
        )
    return pd.DataFrame(rows)


def province_table(cities: pd.DataFrame) -> pd.DataFrame:
    """One row per province: sums over its cities, and the share of village in what was predicted."""
    code = cities["adcode"].str[:2].rename("province_code")
    amounts = ["villages", "uv_area_m2", "predicted_km2", "not_predicted_km2"]
    table = cities.groupby(code)[amounts].sum()
    table.insert(0, "province", cities.groupby(code)["province"].first())
    table.insert(1, "cities", cities.groupby(code).size())
    table["uv_share"] = table["uv_area_m2"] / 1e6 / table["predicted_km2"].where(table["predicted_km2"] > 0)
    return table.reset_index()


def write_tables(
    products: Sequence[CityProduct],
    out: Path,
    *,
    names: Mapping[str, tuple[str, str, str]],
    client: Any | None = None,
) -> dict[str, Any]:
    """Write all tables of the nation into ``out``, replaced in one step.

    Args:
        products: Whole products (`pipeline.national.products.find_products`).
        out: Folder; on a cluster one that all workers reach.
        names: As for `city_table`.
        client: Of `pipeline.national.cluster.open_cluster`; None works in this process.

    Returns:
        What `tables.json` holds: version, cities, villages, cells, and the checksum of every file.

    Raises:
        NationalProductsError: no products.
    """
    if not products:
        raise NationalProductsError(f"{out}: no products to make tables of")
    provinces = provinces_of(products)
    with replacing_folder(out) as folder:
        for kind in ("villages", "density"):
            (folder / kind).mkdir()
        done = list(in_order(client, partial(write_province, folder), provinces))
        cities = city_table(products, names)
        for name, table in (("cities.csv", cities), ("provinces.csv", province_table(cities))):
            table.to_csv(folder / name, index=False, lineterminator="\n")
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        record = {
            "version": TABLES_VERSION,
            "cities": len(products),
            "provinces": len(provinces),
            "villages": sum(d["villages"] for d in done),
            "cells": sum(d["cells"] for d in done),
            "files": {p.relative_to(folder).as_posix(): sha256_of(p) for p in files},
        }
        write_json(folder / "tables.json", record)
    return record


def open_villages(folder: Path) -> Any:
    """The villages of the nation as a `dask_geopandas.GeoDataFrame`, one partition per province, nothing read yet.

    Partitions know their bounds (``.cx[...]`` reads those that a box touches), and cheap work by rows, `join_areas`
    and ``map_partitions`` run on any cluster; to compute on one, ``client.compute(...)``.
    """
    import dask_geopandas  # noqa: PLC0415 - a second of imports that only those pay who ask

    files = sorted(str(p) for p in (folder / "villages").glob("*.parquet"))
    if not files:
        raise NationalProductsError(f"{folder}: no tables of villages; write them with `uvmap tables`")
    villages = dask_geopandas.read_parquet(files, gather_spatial_partitions=False)
    bounds = [json.loads(pq.read_schema(f).metadata[b"geo"])["columns"]["geometry"].get("bbox") for f in files]
    boxes = [shapely.box(*b) if b and np.isfinite(b).all() else shapely.Polygon() for b in bounds]
    villages.spatial_partitions = gpd.GeoSeries(boxes, crs=CHINA_ALBERS)  # the reader finds those of folders alone
    return villages


def density(folder: Path, box_m: tuple[float, float, float, float] | None = None) -> gpd.GeoDataFrame:
    """The 100 m grid, read where it touches a box of `CHINA_ALBERS`; cells on borders of provinces are added up."""
    files = sorted((folder / "density").glob("*.parquet"))
    return summed_cells(pd.concat([gpd.read_parquet(f, bbox=box_m) for f in files], ignore_index=True))


def join_areas(villages: Any, areas: gpd.GeoDataFrame, columns: Sequence[str]) -> Any:
    """Which area holds each village's inner point, as a lazy table: partition by partition, one row per village.

    Args:
        villages: Of `open_villages`.
        areas: Polygons that do not overlap, in any CRS.
        columns: Their columns to take over; null where no area holds the village.
    """
    there = areas.to_crs(CHINA_ALBERS)[[*columns, "geometry"]].reset_index(drop=True)
    meta = _join_part(villages._meta, there, list(columns))  # noqa: SLF001 - Dask's name for the empty partition
    return villages.map_partitions(_join_part, there, list(columns), meta=meta)


def _join_part(part: gpd.GeoDataFrame, areas: gpd.GeoDataFrame, columns: list[str]) -> gpd.GeoDataFrame:
    points = part.geometry.representative_point()
    owner, village = areas.sindex.query(points, predicate="within")[::-1]
    first = np.unique(village, return_index=True)[1]
    row = np.full(len(part), -1)
    row[village[first]] = owner[first]
    joined = part.copy()
    for name in columns:
        joined[name] = areas[name].astype("object").reindex(row).to_numpy()
    return joined


def _read(files: Iterable[Path]) -> Iterable[gpd.GeoDataFrame]:
    return (gpd.read_parquet(f) for f in files)


def _joined(tables: Iterable[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """All rows; columns that are empty in a city take the type they have where they are not."""
    parts = list(tables)
    full = [p for p in parts if len(p)] or parts[:1]
    return gpd.GeoDataFrame(pd.concat(full, ignore_index=True), crs=CHINA_ALBERS)
