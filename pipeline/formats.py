"""The tables of formats: what a city's folder may hold, what the readers take and what the documents list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VectorFormat:
    """A format of map features.

    Attributes:
        name: What it is called.
        suffixes: How names of its files end, in lower case.
        reader: What reads it: osmium, table (GDAL) or parquet.
        folder: Whether a folder of such files, or of this name, is one source.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: str
    folder: bool = False


VECTOR_FORMATS = (
    VectorFormat("OpenStreetMap PBF", (".osm.pbf", ".pbf"), "osmium"),
    VectorFormat("OpenStreetMap XML", (".osm", ".osm.gz", ".osm.bz2"), "osmium"),
    VectorFormat("OpenStreetMap history", (".osh", ".osh.pbf", ".osh.gz", ".osh.bz2"), "osmium"),
    VectorFormat("GeoPackage", (".gpkg",), "table"),
    VectorFormat("GeoJSON", (".geojson", ".json"), "table"),
    VectorFormat("GeoJSON, a feature per line", (".geojsonl", ".geojsons"), "table"),
    VectorFormat("Shapefile", (".shp",), "table"),
    VectorFormat("FlatGeobuf", (".fgb",), "table"),
    VectorFormat("GML", (".gml",), "table"),
    VectorFormat("KML", (".kml",), "table"),
    VectorFormat("File geodatabase", (".gdb",), "table", folder=True),
    VectorFormat("GeoParquet or plain Parquet with WKB", (".parquet", ".geoparquet"), "parquet", folder=True),
)
"""Formats that are read, in the order in which documents list them."""

PARQUET_SUFFIXES = next(item.suffixes for item in VECTOR_FORMATS if item.reader == "parquet")


@dataclass(frozen=True)
class RasterFormat:
    """A format of imagery or of height rasters.

    Attributes:
        name: What it is called.
        suffixes: How names of its files end, in lower case.
        driver: GDAL's driver that reads it.
        heights: Whether it is taken from the folder of heights too; pictures hold no heights.
    """

    name: str
    suffixes: tuple[str, ...]
    driver: str
    heights: bool = True


RASTER_FORMATS = (
    RasterFormat("GeoTIFF, COG", (".tif", ".tiff"), "GTiff"),
    RasterFormat("GDAL virtual raster", (".vrt",), "VRT"),
    RasterFormat("PNG with world file", (".png",), "PNG", heights=False),
    RasterFormat("JPEG with world file", (".jpg", ".jpeg"), "JPEG", heights=False),
    RasterFormat("JPEG 2000", (".jp2", ".j2k"), "JP2OpenJPEG"),
    RasterFormat("ERDAS Imagine", (".img",), "HFA"),
    RasterFormat("WebP with world file", (".webp",), "WEBP", heights=False),
    RasterFormat("ENVI, BIL, BIP, BSQ", (".bil", ".bip", ".bsq", ".dat"), "ENVI"),
    RasterFormat("ER Mapper", (".ers",), "ERS"),
    RasterFormat("PCIDSK", (".pix",), "PCIDSK"),
)
"""Formats of rasters that are read, in the order in which documents list them."""

RASTER_SUFFIXES = tuple(suffix for item in RASTER_FORMATS for suffix in item.suffixes)
HEIGHT_SUFFIXES = tuple(suffix for item in RASTER_FORMATS for suffix in item.suffixes if item.heights)
AREA_SUFFIXES = tuple(suffix for item in VECTOR_FORMATS if item.reader != "osmium" for suffix in item.suffixes)
"""Endings of areas, districts and reference polygons, in the order in which they are looked for."""


def vector_format(path: Path) -> VectorFormat | None:
    """The format of a file or folder by its name; None where the name says none.

    A folder is GeoParquet where Parquet files lie somewhere in it.
    """
    name = path.name.lower()
    found = None if name.startswith(".") else _by_suffix(name)
    if not path.is_dir():
        return found
    if found is not None and found.folder:
        return found
    return next(item for item in VECTOR_FORMATS if item.reader == "parquet") if parquet_files(path) else None


def is_vector_source(path: Path) -> bool:
    """Whether `pipeline.vectors.read_features` reads this file or folder; hidden files are no sources."""
    return vector_format(path) is not None


def parquet_files(folder: Path) -> tuple[Path, ...]:
    """The Parquet files in a folder and the folders in it, sorted; hidden ones and ``_...`` are not data."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in PARQUET_SUFFIXES and p.is_file())
    return tuple(sorted(p for p in found if not any(n[0] in "._" for n in p.relative_to(folder).parts)))


def _by_suffix(name: str) -> VectorFormat | None:
    return next((item for item in VECTOR_FORMATS if name.endswith(item.suffixes)), None)
