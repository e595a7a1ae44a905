"""Rasters opened for reading, with GDAL's and rasterio's errors turned into ours where the file is opened."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from pipeline.imagery.errors import UnreadableImageryError


@contextmanager
def opened(path: Path | str) -> Iterator[DatasetReader]:
    """A dataset, with rasterio's errors turned into ours.

    Raises:
        UnreadableImageryError: where the file cannot be opened or read.
    """
    dataset = open_dataset(path)
    try:
        yield dataset
    except RasterioError as error:
        raise UnreadableImageryError(f"{path}: cannot be read ({_cause(error)}): copy or download it again") from error
    finally:
        dataset.close()


def open_dataset(path: Path | str) -> DatasetReader:
    """Open a raster for reading; the caller closes it.

    Raises:
        UnreadableImageryError: where there is no such file, or GDAL cannot read it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioError as error:
        is_local = "://" not in str(path) and not str(path).startswith("/vsi")
        if is_local and not Path(path).exists():
            raise UnreadableImageryError(f"{path}: no such file") from error
        raise UnreadableImageryError(
            f"{path}: not a raster that can be read ({_cause(error)}): the file may be truncated; copy it again"
        ) from error


def _cause(error: Exception) -> str:
    return str(error.__cause__ or error).split("\n", maxsplit=1)[0]
