"""STAC items of an area: searched by an API or in a static catalog, their assets read by window as local scenes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pystac
import rasterio
import shapely
from numpy.typing import NDArray
from pystac_client import Client
from pystac_client.exceptions import APIError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds
from rasterio.windows import Window, from_bounds

from pipeline.fetch.confidential import public, public_url, secret
from pipeline.fetch.errors import FetchError
from pipeline.files import digest_of, replacing
from regions.sources import StacImagery

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


@dataclass(frozen=True)
class StacScene:
    """One item that is read.

    Attributes:
        item_id: Its id.
        collection: Its collection.
        date: Day of acquisition, ISO 8601.
        cloud: eo:cloud_cover, None where it states none.
        addresses: Of its assets, red, green and blue or one; then the mask's where there is one.
    """

    item_id: str
    collection: str | None
    date: str
    cloud: float | None
    addresses: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        """What is written down of it; addresses without secrets."""
        return {
            "item": self.item_id,
            "collection": self.collection,
            "date": self.date,
            "cloud": self.cloud,
            "assets": [public_url(a) for a in self.addresses],
        }


def find_scenes(source: StacImagery, bounds_lonlat: tuple[float, float, float, float]) -> tuple[StacScene, ...]:
    """Items that meet an area, the one on top first; the order is total, whatever order the server gives.

    Raises:
        FetchError: no answer, no item, or an item without an asset that is asked for.
    """
    token = None if source.token_env is None else secret(source.token_env, wanted_by=public_url(source.url))
    try:
        items = [i for i in _items(source, bounds_lonlat, token) if _wanted(i, source, bounds_lonlat)]
    except (APIError, pystac.STACError, OSError, ValueError, KeyError) as error:
        raise FetchError(f"{public_url(source.url)}: no STAC that can be read: {public(str(error))}") from error
    if not items:
        raise FetchError(
            f"{public_url(source.url)}: no item of {', '.join(source.collections) or 'any collection'} from"
            f" {source.start or 'any day'} to {source.end or 'any day'} with at most {source.max_cloud:g} % cloud meets"
            f" {tuple(round(v, 4) for v in bounds_lonlat)}"
        )
    scenes = [_scene(i, source) for i in items]
    if source.order == "newest":
        scenes.sort(key=lambda s: (_descending(s.date), s.item_id))
    else:
        scenes.sort(key=lambda s: (s.cloud if s.cloud is not None else 100.0, _descending(s.date), s.item_id))
    return tuple(scenes[: source.most_items])


def read_scene(
    scene: StacScene, source: StacImagery, bounds_lonlat: tuple[float, float, float, float], folder: Path,
    *, progress: Progress | None = None,
) -> Path | None:  # fmt: skip
    """The part of a scene over an area as a local GeoTIFF of its own pixels with a mask; found again where it is there.

    Returns:
        The file, or None where the assets do not reach the area.

    Raises:
        FetchError: an asset cannot be read.
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
    try:
        with _reading(source):
            if _cut(scene, source, bounds_lonlat, out, progress):
                return out
    except RasterioError as error:
        first = next((a for a in scene.addresses), "")
        text = public(str(error.__cause__ or error)).splitlines()[0]
        raise FetchError(
            f"{public_url(first)}: item {scene.item_id} cannot be read: {_without_queries(text)}; run the same command"
            " again, or leave the item out by its date or cloud"
        ) from None
    nothing.parent.mkdir(parents=True, exist_ok=True)
    nothing.touch()
    return None


def _cut(
    scene: StacScene, source: StacImagery, bounds_lonlat: tuple[float, float, float, float], out: Path,
    progress: Progress | None,
) -> bool:  # fmt: skip
    with rasterio.open(scene.addresses[0]) as first:
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
    if count == 1:
        pixels, valid = first.read(list(source.bands), window=window), first.dataset_mask(window=window) > 0
    else:
        bands, valid = [first.read(1, window=window)], first.dataset_mask(window=window) > 0
        box = first.window_bounds(window)
        for address in scene.addresses[1:count]:
            with rasterio.open(address) as other:
                bands.append(_same_ground(other, first, box, shape, Resampling.bilinear))
        pixels = np.stack(bands)
    if source.mask_asset is not None:
        with rasterio.open(scene.addresses[count]) as classes:
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


def _items(source: StacImagery, bounds: tuple[float, float, float, float], token: str | None) -> Iterator[pystac.Item]:
    headers = {"authorization": f"Bearer {token}"} if token else None
    if _is_api(source):
        client = Client.open(source.url, headers=headers)
        if client.conforms_to("ITEM_SEARCH"):
            days = (
                None if source.start is None and source.end is None else f"{source.start or '..'}/{source.end or '..'}"
            )
            search = client.search(bbox=list(bounds), collections=list(source.collections) or None, datetime=days)
            yield from search.items()
            return
        yield from client.get_items(recursive=True)
        return
    root = pystac.read_file(source.url)
    if isinstance(root, pystac.Item):
        yield root
    elif isinstance(root, pystac.Catalog):
        yield from root.get_items(recursive=True)


def _is_api(source: StacImagery) -> bool:
    return source.url.startswith(("http://", "https://")) and not source.url.rstrip("/").endswith(".json")


def _wanted(item: pystac.Item, source: StacImagery, bounds: tuple[float, float, float, float]) -> bool:
    if source.collections and item.collection_id not in source.collections:
        return False
    if item.geometry is not None and not shapely.geometry.shape(item.geometry).intersects(shapely.box(*bounds)):
        return False
    day = _day(item)
    if (source.start and day < source.start) or (source.end and day > source.end[:10]):
        return False
    cloud = item.properties.get("eo:cloud_cover")
    return cloud is None or float(cloud) <= source.max_cloud


def _scene(item: pystac.Item, source: StacImagery) -> StacScene:
    names = (*source.assets, *((source.mask_asset,) if source.mask_asset else ()))
    absent = [n for n in names if n not in item.assets]
    if absent:
        raise FetchError(
            f"{public_url(source.url)}: item {item.id} has no asset {', '.join(absent)}; it has"
            f" {', '.join(sorted(item.assets))}"
        )
    addresses = tuple(_address(str(item.assets[n].get_absolute_href())) for n in names)
    cloud = item.properties.get("eo:cloud_cover")
    return StacScene(item.id, item.collection_id, _day(item), None if cloud is None else float(cloud), addresses)


def _address(href: str) -> str:
    return href.replace("s3://", "/vsis3/", 1) if href.startswith("s3://") else href


def _day(item: pystac.Item) -> str:
    when = item.datetime or item.common_metadata.start_datetime
    if not isinstance(when, datetime):
        raise FetchError(f"item {item.id} has no date")
    return when.astimezone(UTC).date().isoformat() if when.tzinfo else when.date().isoformat()


def _descending(day: str) -> tuple[int, ...]:
    return tuple(-ord(c) for c in day)


def _without_queries(text: str) -> str:
    return " ".join(public_url(w) if "://" in w else w for w in text.split())
