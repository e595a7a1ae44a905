"""Reading tables of points: CSV (comma, semicolon or tab), Parquet, GeoPackage, GeoJSON; ids stay text."""

from __future__ import annotations

import codecs
import io
import re
from pathlib import Path

import geopandas as gpd
import pandas as pd

from accuracy.errors import SampleTableError
from regions.raster.gdal_clock import fixed_gdal_clock

VECTOR = {".gpkg", ".geojson", ".json", ".shp", ".fgb"}


def read_table(path: Path | str) -> pd.DataFrame:
    """A table of points or blocks; a GeoDataFrame where the file holds geometry.

    CSV is read as text (ids keep their zeros), in UTF-8 or in UTF-16 with its mark; a first line `sep=;` names the
    separator. Empty cells are missing and the text "NA" is a name.

    Raises:
        SampleTableError: No such file, an unknown kind of file, or one that cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise SampleTableError(f"{path} does not exist: check the path")
    suffix = path.suffix.lower()
    try:
        if suffix in {".csv", ".tsv", ".txt"}:
            return _read_csv(path)
        if suffix in {".parquet", ".geoparquet"}:
            return _read_parquet(path)
        if suffix in VECTOR:
            return _frame(gpd.read_file(path))
    except (ValueError, OSError, RuntimeError) as error:
        raise SampleTableError(f"{path} cannot be read as {suffix[1:]} ({error}): check the file") from error
    raise SampleTableError(f"{path} is of unknown kind {suffix!r}: give CSV, Parquet, GeoPackage or GeoJSON")


def read_places(path: Path | str) -> gpd.GeoDataFrame:
    """A table that must hold places: areas, blocks, digitised villages.

    Raises:
        SampleTableError: As `read_table`, or it has no geometry or no CRS.
    """
    table = read_table(path)
    if not isinstance(table, gpd.GeoDataFrame):
        raise SampleTableError(f"{path} holds no geometry: give GeoPackage, GeoParquet or GeoJSON")
    if table.crs is None:
        raise SampleTableError(f"{path} has no CRS: write one into the file, for instance with `ogr2ogr -a_srs`")
    return table


def write_table(table: pd.DataFrame, path: Path | str) -> Path:
    """Write a table by its file name's ending; geometry goes into GeoPackage, GeoParquet or GeoJSON only.

    Raises:
        SampleTableError: The ending is unknown.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".csv":
        plain = pd.DataFrame(table.drop(columns="geometry")) if isinstance(table, gpd.GeoDataFrame) else table
        plain.to_csv(path, index=False, lineterminator="\n")
    elif suffix in {".parquet", ".geoparquet"}:
        table.to_parquet(path, index=False)
    elif suffix in {".gpkg", ".geojson"} and isinstance(table, gpd.GeoDataFrame):
        path.unlink(missing_ok=True)
        with fixed_gdal_clock():
            if suffix == ".gpkg":
                table.to_file(path, driver="GPKG", layer="sample")
            else:
                table.to_file(path, driver="GeoJSON")
    else:
        raise SampleTableError(f"{path}: cannot write this table as {suffix!r}; use .gpkg, .parquet, .geojson or .csv")
    return path


def _read_csv(path: Path) -> pd.DataFrame:
    text = _decode(path)
    first, _, rest = text.partition("\n")
    declared = re.fullmatch(r'"?sep=(.)"?\s*', first, flags=re.IGNORECASE)  # the line that Excel reads and writes
    if declared is not None:
        text = rest
    header = text.partition("\n")[0]
    if not header.strip():
        raise SampleTableError(f"{path} is empty: its first line must name the columns")
    separator = max(",;\t", key=header.count) if declared is None else declared.group(1)
    table = pd.read_csv(
        io.StringIO(text),
        sep=separator,
        dtype=str,
        keep_default_na=False,
        na_values=[""],
        skip_blank_lines=True,
    )
    table.columns = table.columns.str.strip()
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise SampleTableError(f"{path} has two columns named {repeated[0]!r}: rename one")
    return table


def _decode(path: Path) -> str:
    """Text of a table in UTF-8, or in UTF-16 with its mark; another encoding is never guessed.

    Raises:
        SampleTableError: It is in another encoding.
    """
    data = path.read_bytes()
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in data and not utf16:
        raise SampleTableError(f"{path} holds zero bytes, so it is no CSV in UTF-8: save it as CSV UTF-8")
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise SampleTableError(
            f"{path} is not in UTF-8 (byte {data[error.start]:#x} at {error.start}; Excel in Chinese writes GBK):"
            " save it as CSV UTF-8"
        ) from error


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return _frame(gpd.read_parquet(path))
    except ValueError:
        return pd.read_parquet(path)


def _frame(table: pd.DataFrame) -> pd.DataFrame:
    return table
