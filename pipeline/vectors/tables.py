"""Vector tables: GeoPackage, GeoJSON, Shapefile, FlatGeobuf and others through pyogrio, and GeoParquet."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError

from pipeline.vectors import tags as tagging
from pipeline.vectors.errors import VectorError
from pipeline.vectors.project import bounds_in
from pipeline.vectors.raw import RawFeatures


def read_table(
    path: Path,
    *,
    crs: CRS,
    bounds_m: tuple[float, float, float, float] | None,
    assumed_crs: str | None,
    counts: Counter[str],
) -> Iterator[tuple[RawFeatures, CRS]]:
    """The layers of a table file, each with its CRS; only rows whose envelope meets ``bounds_m`` (in ``crs``).

    Raises:
        VectorError: no CRS, or the file cannot be read.
    """
    try:
        if path.suffix.lower() in {".parquet", ".geoparquet"} or path.is_dir():
            yield from _parquet(path, crs, bounds_m, assumed_crs, counts)
        else:
            yield from _ogr(path, crs, bounds_m, assumed_crs, counts)
    except (OSError, ValueError, RuntimeError, pa.ArrowException, shapely.errors.ShapelyError) as error:
        raise VectorError(
            f"{path}: cannot be read as a vector table ({str(error).splitlines()[0]}); the file may be truncated or of"
            " another format: open it with `ogrinfo`, or fetch it again"
        ) from error


def _crs_of(declared: object, assumed: str | None, path: Path, layer: str) -> CRS:
    if declared is not None:
        try:
            return CRS.from_user_input(declared)
        except CRSError as error:
            raise VectorError(
                f"{path}: layer {layer}: unusable CRS {declared!r} ({error}); give the right one"
            ) from error
    if assumed is None:
        raise VectorError(
            f"{path}: layer {layer} has no CRS; write one into the file (for a Shapefile its .prj) or say which it is"
            " with assumed_crs"
        )
    return CRS.from_user_input(assumed)


def _ogr(
    path: Path,
    crs: CRS,
    bounds_m: tuple[float, float, float, float] | None,
    assumed_crs: str | None,
    counts: Counter[str],
) -> Iterator[tuple[RawFeatures, CRS]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # repeated ids and odd fields are counted below, not warned of
        layers = pyogrio.list_layers(path)
        if not len(layers):
            raise VectorError(f"{path}: no layer can be found in it; the file may be truncated: fetch it again")
        _refuse_short_shapefile(path)
        for layer, geometry_type in layers:
            if geometry_type is None:
                counts["layers_without_geometry"] += 1
                continue
            info = pyogrio.read_info(path, layer=layer, force_feature_count=True)
            source_crs = _crs_of(info["crs"], assumed_crs, path, layer)
            box = None if bounds_m is None else bounds_in(bounds_m, crs, source_crs)
            table = pyogrio.read_dataframe(path, layer=layer, bbox=box, on_invalid="ignore", datetime_as_string=True)
            if box is None and len(table) < int(info["features"]):
                raise VectorError(
                    f"{path}: layer {layer} declares {info['features']} features but holds {len(table)}; the file is"
                    " truncated: fetch it again"
                )
            counts["read"] += int(info["features"])
            # rows without geometry never meet a box: they are told apart from what lies outside by the cleaning
            counts["outside"] += max(0, int(info["features"]) - len(table))
            yield _raw(table, counts), source_crs


def _refuse_short_shapefile(path: Path) -> None:
    """GDAL reads what a cut Shapefile lacks as null geometry; its header says how long it should be."""
    if path.suffix.lower() == ".shp":
        with path.open("rb") as file:
            declared = 2 * int.from_bytes(file.read(28)[24:28], "big")
        if declared > path.stat().st_size:
            raise VectorError(
                f"{path}: {path.stat().st_size} bytes of {declared} that its header declares; the file is truncated:"
                " fetch it again"
            )


def _parquet(
    path: Path,
    crs: CRS,
    bounds_m: tuple[float, float, float, float] | None,
    assumed_crs: str | None,
    counts: Counter[str],
) -> Iterator[tuple[RawFeatures, CRS]]:
    for file in sorted(path.rglob("*.parquet")) if path.is_dir() else [path]:
        metadata = pq.read_metadata(file)
        if b"geo" in (metadata.metadata or {}):
            box = None
            if bounds_m is not None and b'"covering"' in metadata.metadata[b"geo"]:
                declared = gpd.read_parquet(file, bbox=(0, 0, 0, 0)).crs
                box = bounds_in(bounds_m, crs, _crs_of(declared, assumed_crs, file, "geometry"))
            table = gpd.read_parquet(file, bbox=box)
        else:  # plain Parquet with WKB in lon/lat, as older Overture and data-base exports are
            frame = pq.read_table(file).to_pandas()
            if "geometry" not in frame:
                raise VectorError(f"{file}: no column `geometry`; convert it to GeoParquet")
            table = gpd.GeoDataFrame(
                frame.drop(columns="geometry"),
                geometry=shapely.from_wkb(frame["geometry"].to_numpy(), on_invalid="ignore"),
                crs=assumed_crs or "OGC:CRS84",
            )
        counts["read"] += metadata.num_rows
        counts["outside"] += metadata.num_rows - len(table)
        yield _raw(table, counts), _crs_of(table.crs, assumed_crs, file, "geometry")


def _raw(table: gpd.GeoDataFrame, counts: Counter[str]) -> RawFeatures:
    attributes = table.drop(columns=table.geometry.name)
    return RawFeatures(
        np.asarray(table.geometry.to_numpy(), object),
        tagging.from_columns(attributes, counts),
        tagging.ids_of(attributes),
    )
