"""Assets of STAC items, read by window as local scenes; what came corrupt is asked for again."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds
from rasterio.windows import Window, from_bounds

from pipeline.fetch import web
from pipeline.fetch.confidential import public_text, public_url, secret
from pipeline.fetch.errors import FetchError
from pipeline.fetch.stac import StacScene
from pipeline.files import digest_of, replacing
from regions.sources import StacImagery

ATTEMPTS = 4
"""Times that an asset whose bytes are no picture is asked for."""
REFUSED = re.compile(r"HTTP response code:? *[45]\d\d|\b(AccessDenied|NoSuchKey|InvalidAccessKeyId)\b")
"""The server said no, or not now for as long as GDAL asked."""
BLOCK_PX = 1024
SCENE_VERSION = 1
GDAL_OPTIONS: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MAX_RETRY": 5,
    "GDAL_HTTP_RETRY_DELAY": 1,
    "GDAL_HTTP_RETRY_CODES": "429,500,502,503,504",
    "GDAL_HTTP_TIMEOUT": 120,
    "CPL_VSIL_CURL_CACHE_SIZE": 64 << 20,
    "GDAL_HTTP_MULTIPLEX": "YES",
}
Progress = Callable[[int], None]


def read_scene(
    scene: StacScene, source: StacImagery, bounds_lonlat: tuple[float, float, float, float], folder: Path,
    *, progress: Progress | None = None,
) -> Path | None:  # fmt: skip
    """The part of a scene over an area as a local GeoTIFF of its own pixels with a mask; found again where it is there.

    Returns:
        The file, or None where the assets do not reach the area.

    Raises:
        FetchError: an asset cannot be read after several attempts, named with its item.
    """
    key = digest_of({"version": SCENE_VERSION, "scene": scene.record, "bounds": bounds_lonlat,
                     "bands": source.bands, "mask": [source.mask_asset, list(source.mask_values)]})  # fmt: skip
    name = hashlib.sha256(f"{scene.collection} {scene.item_id}".encode()).hexdigest()[:10]
    out = folder / f"{scene.date}_{name}_{key[:10]}.tif"
    nothing = out.with_suffix(".none")
    if out.exists():
        return out
    if nothing.exists():
        return None
    if _patiently(scene, source, lambda: _cut(scene, source, bounds_lonlat, out, progress)):
        return out
    nothing.parent.mkdir(parents=True, exist_ok=True)
    nothing.touch()
    return None


class _AssetError(Exception):
    """An asset gave no pixels.

    Attributes:
        number: Its place among the scene's addresses.
        is_refused: Whether the server said so: to ask again helps nothing.
    """

    def __init__(self, number: int, error: RasterioError) -> None:
        text = public_text(str(error.__cause__ or error)).splitlines()[0]
        super().__init__(text)
        self.number, self.is_refused = number, REFUSED.search(text) is not None


@contextmanager
def _asset(number: int) -> Iterator[None]:
    try:
        yield
    except RasterioError as error:
        raise _AssetError(number, error) from None


def _patiently(scene: StacScene, source: StacImagery, once: Callable[[], bool]) -> bool:
    """What ``once`` says, tried again where an asset's bytes are no picture; blocks that came are kept between."""
    for attempt in range(ATTEMPTS):
        try:
            with _reading(source):
                return once()
        except _AssetError as error:
            address = scene.addresses[error.number]
            if not error.is_refused and attempt + 1 < ATTEMPTS:
                time.sleep(web.FIRST_WAIT_S * 2**attempt)
                with _reading(source):
                    _forget(address)
                continue
            names = (*source.assets, source.mask_asset)
            tries = "" if error.is_refused else f" in {attempt + 1} attempts"
            raise FetchError(
                f"{public_url(address)}: asset {names[error.number]} of item {scene.item_id} cannot be read{tries}:"
                f" {error}; run the same command again, or leave the item out by its date or cloud"
            ) from None
    return False


def _forget(address: str) -> None:
    """Drop what GDAL has cached of an address: it does so when a file that is not to be cached is closed."""
    with rasterio.Env(CPL_VSIL_CURL_NON_CACHED="/vsicurl/:/vsis3/"), suppress(RasterioError):
        rasterio.open(address).close()


def estimated_bytes(scene: StacScene, source: StacImagery, bounds_lonlat: tuple[float, float, float, float]) -> int:
    """Bytes of the pixels of one scene over an area before packing, by the header of its first asset.

    Raises:
        FetchError: the asset cannot be read.
    """
    found: list[int] = []

    def once() -> bool:
        with _asset(0), rasterio.open(scene.addresses[0]) as first:
            left, bottom, right, top = transform_bounds("EPSG:4326", first.crs, *bounds_lonlat, densify_pts=21)
            west, south, east, north = first.bounds
            width = max(min(right, east) - max(left, west), 0.0) / first.res[0]
            height = max(min(top, north) - max(bottom, south), 0.0) / first.res[1]
            layers = 3 + (source.mask_asset is not None)
            found.append(round(width) * round(height) * layers * np.dtype(first.dtypes[0]).itemsize)
        return True

    _patiently(scene, source, once)
    return found[-1]


def _cut(
    scene: StacScene, source: StacImagery, bounds_lonlat: tuple[float, float, float, float], out: Path,
    progress: Progress | None,
) -> bool:  # fmt: skip
    with _asset(0):
        opened = rasterio.open(scene.addresses[0])
    with opened as first:
        bounds = transform_bounds("EPSG:4326", first.crs, *bounds_lonlat, densify_pts=21)
        window = from_bounds(*bounds, transform=first.transform)
        row, column = int(np.floor(window.row_off)), int(np.floor(window.col_off))
        end_row, end_column = int(np.ceil(window.row_off + window.height)), int(np.ceil(window.col_off + window.width))
        row, column = max(row - 2, 0), max(column - 2, 0)  # the kernel of resampling reaches over the edge
        end_row, end_column = min(end_row + 2, first.height), min(end_column + 2, first.width)
        if row >= end_row or column >= end_column:
            return False
        whole = Window(column, row, end_column - column, end_row - row)
        parts = out.with_suffix(".parts")
        profile = {
            "driver": "GTiff", "width": int(whole.width), "height": int(whole.height), "count": 3,
            "dtype": first.dtypes[0], "crs": first.crs, "transform": first.window_transform(whole), "tiled": True,
            "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 2, "interleave": "pixel",
            "photometric": "RGB", "BIGTIFF": "IF_SAFER",
        }  # fmt: skip
        with (
            replacing(out) as part,
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(part, "w", **profile) as sink,
        ):
            sink.update_tags(TIFFTAG_DATETIME=scene.date.replace("-", ":") + " 00:00:00")
            for r in range(0, int(whole.height), BLOCK_PX):
                for c in range(0, int(whole.width), BLOCK_PX):
                    here = Window(c, r, min(BLOCK_PX, whole.width - c), min(BLOCK_PX, whole.height - r))
                    there = Window(here.col_off + column, here.row_off + row, here.width, here.height)
                    kept = parts / f"{r}_{c}.npz"
                    if kept.exists():
                        pixels, valid = _kept(kept)
                    else:
                        pixels, valid = _read(first, scene, source, there)
                        _keep(kept, pixels, valid)
                        if progress is not None:
                            progress(pixels.nbytes)
                    sink.write(pixels, window=here)
                    sink.write_mask(valid, window=here)
    shutil.rmtree(parts, ignore_errors=True)
    return True


def _keep(path: Path, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> None:
    """Keep a block that came, so that a fetch that is killed within a scene does not ask for it again."""
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, pixels=pixels, valid=np.packbits(valid))


def _kept(path: Path) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    with np.load(path) as file:
        pixels = file["pixels"]
        shape = pixels.shape[1:]
        valid = np.unpackbits(file["valid"], count=shape[0] * shape[1]).reshape(shape).astype(np.bool_)
    return pixels, valid


def _read(
    first: rasterio.DatasetReader, scene: StacScene, source: StacImagery, window: Window
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pixels (3, h, w) and valid (h, w) of a window of the first asset's grid."""
    shape = (int(window.height), int(window.width))
    count = len(source.assets)
    with _asset(0):
        pixels = first.read(list(source.bands) if count == 1 else [1], window=window)
        valid = first.dataset_mask(window=window) > 0
    if count > 1:
        box, bands = first.window_bounds(window), [pixels[0]]
        for k, address in enumerate(scene.addresses[1:count], 1):
            with _asset(k), rasterio.open(address) as other:
                bands.append(_same_ground(other, first, box, shape, Resampling.bilinear))
        pixels = np.stack(bands)
    if source.mask_asset is not None:
        with _asset(count), rasterio.open(scene.addresses[count]) as classes:
            found = _same_ground(classes, first, first.window_bounds(window), shape, Resampling.nearest)
        valid &= ~np.isin(found, source.mask_values)
    return pixels, valid


def _same_ground(
    other: rasterio.DatasetReader, first: rasterio.DatasetReader, box: tuple[float, float, float, float],
    shape: tuple[int, int], resampling: Resampling,
) -> NDArray[Any]:  # fmt: skip
    if other.crs != first.crs:
        raise FetchError(f"{public_url(other.name)}: is in {other.crs}, its item's first asset in {first.crs}")
    window = from_bounds(*box, transform=other.transform)
    return np.asarray(
        other.read(1, window=window, out_shape=shape, resampling=resampling, boundless=True, fill_value=0)
    )


@contextmanager
def _reading(source: StacImagery) -> Iterator[None]:
    options = dict(GDAL_OPTIONS)
    if source.token_env is not None:
        token = secret(source.token_env, wanted_by=public_url(source.url))
        options["GDAL_HTTP_HEADERS"] = f"Authorization: Bearer {token}"
        options["CPL_VSIL_CURL_NON_CACHED"] = "/vsicurl/"  # a refusal of yesterday's token must not be remembered
    if source.s3_endpoint is not None:
        parts = urlsplit(source.s3_endpoint if "://" in source.s3_endpoint else f"https://{source.s3_endpoint}")
        options |= {
            "AWS_S3_ENDPOINT": parts.netloc,
            "AWS_HTTPS": "NO" if parts.scheme == "http" else "YES",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
    with rasterio.Env(**options):
        yield
