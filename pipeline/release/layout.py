"""The files of a release: what each is called, where it lies, and how many there may be.

A release is a flat folder: its files are those of the repository's record, which knows no folders, and links between
them (STAC, README) hold there too. The one folder is `viewer/`, to be served as it is; in a record it is the file
`viewer.zip`.
"""

from __future__ import annotations

import re
from pathlib import Path

MAX_FILES = 100
MAX_BYTES = 50 * 10**9
"""What a record of Zenodo takes."""

VILLAGES = "urban_villages.parquet"
"""GeoParquet 1.1 in EPSG:4326: outlines and the model's own answers, in Hilbert order; the master file."""
PACKAGE = "urban_villages.gpkg"
LAYER = "urban_villages"
"""Layer of every GeoPackage and of the tiles."""
TILES = "urban_villages.pmtiles"
MAP_ATTRIBUTES = "map_attributes.parquet"
"""Columns that come from map features, by ``uv_id``, in the order of `VILLAGES`: a file and licence of its own."""
GRID = "density_100m.parquet"
GRID_RASTER = "density_100m.tif"
CITIES = "cities.csv"
PROVINCES = "provinces.csv"
DICTIONARY = "data_dictionary.csv"
README = "README.md"
CHANGELOG = "CHANGELOG.md"
CITATION = "CITATION.cff"
LICENSE = "LICENSE"
MODEL_CARD = "model_card.md"
ACCURACY = "accuracy.json"
ACCURACY_REPORT = "accuracy_report.html"
ACCURACY_SAMPLE = "accuracy_sample.zip"
"""The raw sample: points with labels and weights, and what describes them."""
CATALOG = "catalog.json"
COLLECTION = "collection.json"
CRATE = "ro-crate-metadata.json"
RECORD = "release.json"
"""`pipeline.release.record.ReleaseRecord`: all facts, from which the texts are written."""
SHA256 = "checksums.sha256"
MD5 = "checksums.md5"
VIEWER = "viewer"
VIEWER_ARCHIVE = "viewer.zip"

NATIONAL_DATA = (VILLAGES, PACKAGE, TILES, MAP_ATTRIBUTES, GRID, GRID_RASTER, CITIES, PROVINCES, DICTIONARY)
"""Data files of the nation, there in every release."""
ACCURACY_FILES = (ACCURACY, ACCURACY_REPORT, ACCURACY_SAMPLE)
"""Absent where no accuracy was given."""
TEXTS = (README, CHANGELOG, CITATION, LICENSE, MODEL_CARD, CATALOG, COLLECTION, CRATE, RECORD, SHA256, MD5)
"""Written anew from the record by `pipeline.release.seal.seal_release` whenever a fact changes (a DOI, a waiver)."""

_PROVINCE = re.compile(r"province_(\d{2})_([a-z_]+)\.zip")


def size_text(size: float) -> str:
    """Bytes for people: `81 kB`, `1.2 MB`, `3.4 GB`."""
    if size < 1e6:
        return f"{max(1, round(size / 1e3))} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def province_archive(code: str, name: str) -> str:
    """The archive of a province: ``province_44_guangdong.zip``; the code is the first two digits of its adcodes."""
    return f"province_{code}_{province_slug(name)}.zip"


def province_slug(name: str) -> str:
    """A province's English name as part of a file name."""
    return re.sub(r"[^a-z]+", "_", name.lower()).strip("_")


def is_province_archive(name: str) -> bool:
    """Whether a file of a release is the archive of a province."""
    return _PROVINCE.fullmatch(name) is not None


def item_file(item: str) -> str:
    """The STAC item with this id: ``item_44.json`` of a province, ``item_national.json``, ``item_model.json``."""
    return f"item_{item}.json"


def record_files(folder: Path) -> tuple[Path, ...]:
    """The files of a release that a repository's record holds, sorted by name: all that lie flat in its folder."""
    return tuple(sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")))
