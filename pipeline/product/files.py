"""The product of a city: its files, their lineage and checksums, written in one step.

Files, named by adcode:

- `{adcode}_scores.tif`: COG of scores;
- `{adcode}_uv.parquet` (GeoParquet 1.1, Hilbert order, bbox covering) and `{adcode}_uv.gpkg`: the villages;
- `{adcode}_uv_mask.tif`: COG, 1 in the villages, 0 outside, 255 not predicted: the map that is assessed;
- `{adcode}_density_100m.parquet` and `.tif`: share of urban village per cell of the national 100 m grid;
- `{adcode}_removed.parquet`: villages removed for excluding land use, with the reason, where there are any;
- `building_form.csv`: buildings of the villages against the built-up land outside;
- `{adcode}_item.json` (STAC), `manifest.json`, `data_dictionary.csv`, `report.html`.

Same inputs give the same bytes: nothing here reads the clock.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pystac
import rasterio
import shapely
from numpy.typing import NDArray
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension

from pipeline.dates import SourceDate, parse_date
from pipeline.errors import PipelineError
from pipeline.files import sha256_of, write_json
from pipeline.product.report_page import MAX_SIDE_PX, MapLayers, ReportPage, render_report
from regions.raster.gdal_clock import fixed_gdal_clock
from regions.raster.grid import Grid

SCHEMA_VERSION = "1.0.0"
LIBRARIES = ("torch", "timm", "segmentation-models-pytorch", "rasterio", "pyogrio", "shapely", "geopandas", "osmium")
UNKNOWN_START, UNKNOWN_END = "1970-01-01T00:00:00Z", "2099-12-31T00:00:00Z"


class ProductError(PipelineError):
    """A product is incomplete or damaged."""


def polygon_paths(folder: Path, adcode: str) -> tuple[Path, Path]:
    """GeoParquet and GeoPackage of a product."""
    return folder / f"{adcode}_uv.parquet", folder / f"{adcode}_uv.gpkg"


def scores_path(folder: Path, adcode: str) -> Path:
    """Score COG of a product."""
    return folder / f"{adcode}_scores.tif"


def mask_path(folder: Path, adcode: str) -> Path:
    """Mask COG of a product: 1 in its polygons, 0 outside, 255 where nothing was predicted; the scores' grid."""
    return folder / f"{adcode}_uv_mask.tif"


def write_polygons(polygons: gpd.GeoDataFrame, folder: Path, adcode: str) -> None:
    """Write the polygons as GeoParquet and GeoPackage, byte-reproducibly, in Hilbert order."""
    order: list[int] = (
        np.argsort(polygons.hilbert_distance().to_numpy(), kind="stable").tolist() if len(polygons) else []
    )
    ordered = polygons.iloc[order].reset_index(drop=True)
    parquet, package = polygon_paths(folder, adcode)
    ordered.to_parquet(
        parquet,
        compression="zstd",
        index=False,
        write_covering_bbox=True,
        schema_version="1.1.0",
        row_group_size=20_000,
    )
    with fixed_gdal_clock():
        _without_nested(ordered).to_file(package, layer="urban_villages", driver="GPKG", engine="pyogrio")


def write_manifest(
    folder: Path,
    *,
    adcode: str,
    inputs: Mapping[str, Any],
    parameters: Mapping[str, Any],
    figures: Mapping[str, Any],
    counts: Mapping[str, Any],
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Write `manifest.json`: lineage, parameters, figures, warnings, and size and SHA-256 of every other file."""
    files = {
        p.name: {"sha256": sha256_of(p), "bytes": p.stat().st_size}
        for p in sorted(folder.iterdir())
        if p.is_file() and p.name != "manifest.json"
    }
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "adcode": adcode,
        "software": {"uvmap": version("uvmap"), "python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES},
        "inputs": dict(inputs),
        "parameters": dict(parameters),
        "counts": dict(counts),
        "figures": dict(figures),
        "warnings": list(warnings),
        "files": files,
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a product.

    Raises:
        ProductError: there is none, or it is not JSON.
    """
    path = folder / "manifest.json"
    if not path.exists():
        raise ProductError(f"{folder}: no manifest.json, so this is no product; `uvmap map` writes one")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ProductError(f"{path}: not valid JSON ({error}); run `uvmap map` again") from error


def check_product(folder: Path) -> list[str]:
    """Faults of a product: files that are missing or differ from the manifest's checksums; empty when it is whole."""
    faults = []
    for name, known in read_manifest(folder)["files"].items():
        path = folder / name
        if not path.exists():
            faults.append(f"{name} is missing")
        elif sha256_of(path) != known["sha256"]:
            faults.append(f"{name} has SHA-256 {sha256_of(path)}, the manifest says {known['sha256']}")
    return faults


def write_stac_item(
    folder: Path, *, adcode: str, name: str, grid: Grid, image_date: str | None, properties: Mapping[str, Any]
) -> Path:
    """Write the STAC 1.1 item of the product, its assets being the other files of the folder."""
    footprint = gpd.GeoSeries([shapely.box(*grid.bounds_m)], crs=grid.crs).to_crs("EPSG:4326").iloc[0]
    when, known = _stac_time(None if image_date is None else parse_date(image_date, adcode))
    item = pystac.Item(
        id=f"uvmap-{adcode}",
        geometry=shapely.geometry.mapping(footprint),
        bbox=[round(v, 8) for v in footprint.bounds],
        datetime=when,
        properties={"title": f"Urban villages of {name}", **known, **properties},
    )
    projection = ProjectionExtension.ext(item, add_if_missing=True)
    projection.code = grid.crs if grid.crs.startswith("EPSG") else None
    projection.shape = [grid.height_px, grid.width_px]
    projection.transform = list(grid.transform)
    media = {
        ".tif": pystac.MediaType.COG,
        ".parquet": "application/vnd.apache.parquet",
        ".gpkg": "application/geopackage+sqlite3",
    }
    media |= {".html": "text/html", ".csv": "text/csv"}
    for path in sorted(p for p in folder.iterdir() if p.suffix in media):
        asset = pystac.Asset(href=f"./{path.name}", media_type=media[path.suffix], roles=["data"])
        item.add_asset(path.stem.removeprefix(f"{adcode}_") + path.suffix.replace(".", "_"), asset)
        file = FileExtension.ext(asset, add_if_missing=True)
        file.checksum, file.size = f"1220{sha256_of(path)}", path.stat().st_size
    target = folder / f"{adcode}_item.json"
    write_json(target, item.to_dict(include_self_link=False))
    return target


def _stac_time(when: SourceDate | None) -> tuple[datetime | None, dict[str, str]]:
    """The item's datetime, and its start and end where the day is not known."""
    if when is None:
        return None, {"start_datetime": UNKNOWN_START, "end_datetime": UNKNOWN_END}
    if when.is_day:
        return datetime.combine(when.first, time(), UTC), {}
    return None, {"start_datetime": f"{when.first}T00:00:00Z", "end_datetime": f"{when.last}T23:59:59Z"}


def write_report(
    folder: Path,
    page: ReportPage,
    *,
    adcode: str,
    grid: Grid,
    image: NDArray[np.uint8] | None,
    outlines: Sequence[tuple[str, gpd.GeoDataFrame, str]],
) -> Path:
    """Write `report.html` from the product's own files and an overview of the imagery."""
    layers = MapLayers(grid, image, score_overview(scores_path(folder, adcode)), outlines)
    target = folder / "report.html"
    target.write_text(render_report(page, layers), encoding="utf-8")
    return target


def score_overview(path: Path) -> NDArray[np.uint8]:
    """uint8 (h, w) view of the score COG at most `MAX_SIDE_PX` on a side, from its overviews."""
    with rasterio.open(path) as raster:
        shrink = max(1.0, max(raster.shape) / MAX_SIDE_PX)
        shape = (max(1, round(raster.height / shrink)), max(1, round(raster.width / shrink)))
        return np.asarray(raster.read(1, out_shape=shape))


def _without_nested(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """GeoPackage has no lists or dictionaries: they are written as JSON text."""
    result = table.copy()
    for column in result.columns.drop("geometry"):
        values = result[column]
        if values.dtype == object and values.map(lambda v: isinstance(v, list | dict | np.ndarray)).any():
            result[column] = values.map(
                lambda v: None if v is None else json.dumps(v, ensure_ascii=False, default=list)
            )
    return result
