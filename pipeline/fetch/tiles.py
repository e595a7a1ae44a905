"""Map tiles of web mercator: which ones cover an area, fetched side by side into a cache, put together as one scene."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from rasterio.transform import from_origin
from rasterio.windows import Window

from pipeline.fetch.confidential import public_url, secret
from pipeline.fetch.errors import FetchError
from pipeline.fetch.web import Session
from pipeline.files import replacing
from regions.datum import from_wgs84
from regions.sources import XyzImagery

EARTH_M = 20037508.342789244
"""Half the side of the square that web mercator maps the earth to."""
COARSEST_PIXEL = 0.6
"""Side of a tile's pixel by the grid's, at most, where the zoom is left to us: finer than the grid at any latitude."""
FINEST_ZOOM = 23
CORRUPT_TRIES = 3
Progress = Callable[[int], None]


@dataclass(frozen=True)
class TileRange:
    """The tiles of one zoom level that cover an area: columns and rows, ends included.

    At zoom 1 the earth is 2 x 2 tiles, (0, 0) in the north-west.
    """

    zoom: int
    first_x: int
    first_y: int
    last_x: int
    last_y: int

    @property
    def columns(self) -> int:
        """Tiles from west to east."""
        return self.last_x - self.first_x + 1

    @property
    def rows(self) -> int:
        """Tiles from north to south."""
        return self.last_y - self.first_y + 1

    def __len__(self) -> int:
        return self.columns * self.rows

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(x, y) of every tile, row by row."""
        for y in range(self.first_y, self.last_y + 1):
            for x in range(self.first_x, self.last_x + 1):
                yield x, y

    @property
    def tile_m(self) -> float:
        """Side of a tile in units of web mercator."""
        return 2 * EARTH_M / float(2**self.zoom)

    @property
    def left_top_m(self) -> tuple[float, float]:
        """North-western corner in web mercator."""
        return -EARTH_M + self.first_x * self.tile_m, EARTH_M - self.first_y * self.tile_m


def tile_range(source: XyzImagery, bounds_lonlat: tuple[float, float, float, float]) -> TileRange:
    """Tiles that cover a box of WGS84 degrees, where the tiles are in the datum of their source."""
    west, south, east, north = bounds_lonlat
    lon, lat = from_wgs84(np.array([west, west, east, east]), np.array([south, north, south, north]), source.datum)
    zoom = level_of(source)
    n = 1 << zoom

    def column(degrees: float) -> int:
        return min(max(math.floor((degrees + 180) / 360 * n), 0), n - 1)

    def row(degrees: float) -> int:
        angle = math.radians(min(max(degrees, -85.05), 85.05))
        return min(max(math.floor((1 - math.asinh(math.tan(angle)) / math.pi) / 2 * n), 0), n - 1)

    return TileRange(
        zoom, column(float(lon.min())), row(float(lat.max())), column(float(lon.max())), row(float(lat.min()))
    )


def ground_resolution_m(source: XyzImagery, latitude: float) -> float:
    """Side of a pixel on the ground."""
    return _pixel_m(level_of(source), source.tile_px, latitude)


def level_of(source: XyzImagery) -> int:
    """The zoom of a source for which one is named or was chosen by `zoom_for`.

    Raises:
        FetchError: neither.
    """
    if source.zoom is None:
        raise FetchError(
            f"{public_url(source.url)}: no zoom is named and none was chosen: write `zoom:` into the source"
        )
    return source.zoom


def zoom_for(source: XyzImagery, bounds_lonlat: tuple[float, float, float, float], resolution_m: float) -> int:
    """The coarsest zoom whose pixels, where they are largest in the area, are at most 0.6 of the grid's.

    Args:
        source: Of tiles.
        bounds_lonlat: The area.
        resolution_m: Side of the grid's pixels.
    """
    _, south, _, north = bounds_lonlat
    widest = 0.0 if south <= 0 <= north else min(abs(south), abs(north))
    limit = COARSEST_PIXEL * resolution_m
    fits = (z for z in range(FINEST_ZOOM) if _pixel_m(z, source.tile_px, widest) <= limit)
    return next(fits, FINEST_ZOOM)


def _pixel_m(zoom: int, tile_px: int, latitude: float) -> float:
    return 2 * EARTH_M / float(2**zoom) / tile_px * math.cos(math.radians(latitude))


class TileCache:
    """Tiles of one source on disk: ``z/x/y`` with what the server said of each.

    A tile that is there is not asked for again; with ``refresh`` it is, by its ETag, and comes only where it changed.
    """

    def __init__(self, source: XyzImagery, folder: Path, *, refresh: bool = False) -> None:
        name = hashlib.sha256(f"{source.url} {source.tile_px}".encode()).hexdigest()[:16]
        self.source, self.root, self.refresh, self.zoom = source, folder / name, refresh, level_of(source)
        self._key = None if source.key_env is None else secret(source.key_env, wanted_by=public_url(source.url))

    def path(self, x: int, y: int) -> Path:
        """Where a tile lies; empty for a tile that the server does not have."""
        return self.root / str(self.zoom) / str(x) / f"{y}.tile"

    def has(self, x: int, y: int) -> bool:
        """Whether it is there, or known not to exist."""
        return self.path(x, y).exists()

    def url(self, x: int, y: int) -> str:
        """Address of a tile, with its key."""
        z = self.zoom
        values = {
            "{z}": z, "{TileMatrix}": z, "{x}": x, "{TileCol}": x, "{y}": y, "{TileRow}": y, "{-y}": 2**z - 1 - y,
        }  # fmt: skip
        text = self.source.url
        for place, value in values.items():
            text = text.replace(place, str(value))
        return text if self._key is None else text.replace("{key}", self._key)

    def fetch(self, session: Session, x: int, y: int) -> int:
        """Bring one tile here; bytes that came.

        Raises:
            FetchError: no answer, or no picture after several tries.
        """
        path, url = self.path(x, y), self.url(x, y)
        note = path.with_suffix(".json")
        known = json.loads(note.read_text(encoding="utf-8")) if path.exists() and note.exists() else {}
        ask = {"if-none-match": known["etag"]} if known.get("etag") else {}
        for attempt in range(CORRUPT_TRIES):
            response = session.get(url, headers=ask)
            if response.status_code == 304:
                return 0
            body = b"" if response.status_code == 404 else response.content
            try:
                if body:
                    _picture(body, self.source.tile_px)
            except (UnidentifiedImageError, OSError, ValueError) as error:
                if attempt + 1 < CORRUPT_TRIES:
                    continue
                raise FetchError(
                    f"{public_url(url)}: tile {self.zoom}/{x}/{y} is no picture of {self.source.tile_px} px"
                    f" ({error}); look at it in a browser"
                ) from error
            with replacing(path, sweep=False) as part:
                part.write_bytes(body)
            with replacing(note, sweep=False) as part:
                part.write_text(json.dumps({"etag": response.headers.get("etag")}), encoding="utf-8")
            return len(body)
        return 0

    def fetch_all(self, session: Session, tiles: TileRange, progress: Progress | None = None) -> int:
        """Bring all tiles here, so many at a time; bytes that came. What has come stays where one fails."""
        wanted = [t for t in tiles if self.refresh or not self.has(*t)]
        came = 0
        rest = iter(wanted)
        with ThreadPoolExecutor(max_workers=self.source.in_flight) as pool:
            running: set[Future[int]] = set()
            try:
                while True:
                    while len(running) < 2 * self.source.in_flight and (tile := next(rest, None)) is not None:
                        running.add(pool.submit(self.fetch, session, *tile))
                    if not running:
                        return came
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        size = future.result()
                        came += size
                        if progress is not None:
                            progress(size)
            finally:
                for future in running:
                    future.cancel()

    def picture(self, x: int, y: int) -> NDArray[np.uint8] | None:
        """uint8 (tile_px, tile_px, 4), or None where the server has none."""
        body = self.path(x, y).read_bytes()
        return _picture(body, self.source.tile_px) if body else None


def write_scene(cache: TileCache, tiles: TileRange, out: Path) -> dict[str, int]:
    """Put tiles together as one GeoTIFF in web mercator with a mask; how many there are and how many are missing.

    Raises:
        FetchError: no tile of the area exists.
    """
    side = cache.source.tile_px
    left, top = tiles.left_top_m
    pixel = tiles.tile_m / side
    empty = 0
    profile = {
        "driver": "GTiff", "width": tiles.columns * side, "height": tiles.rows * side, "count": 3, "dtype": "uint8",
        "crs": "EPSG:3857", "transform": from_origin(left, top, pixel, pixel), "tiled": True, "blockxsize": side,
        "blockysize": side, "compress": "deflate", "predictor": 2, "interleave": "pixel", "photometric": "RGB",
        "sparse_ok": True, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    with (
        replacing(out) as part,
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(part, "w", **profile) as sink,
    ):
        for x, y in tiles:
            window = Window((x - tiles.first_x) * side, (y - tiles.first_y) * side, side, side)
            picture = cache.picture(x, y)
            if picture is None:
                empty += 1
                sink.write_mask(np.zeros((side, side), bool), window=window)
                continue
            sink.write(np.moveaxis(picture[..., :3], -1, 0), window=window)
            sink.write_mask(picture[..., 3] > 127, window=window)
        if empty == len(tiles):
            raise FetchError(
                f"{public_url(cache.source.url)}: none of the {len(tiles)} tiles of this area exists at zoom"
                f" {tiles.zoom}; try another zoom"
            )
    return {"tiles": len(tiles), "tiles_missing": empty}


def _picture(body: bytes, side_px: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(body)) as image:
        if image.size != (side_px, side_px):
            raise ValueError(f"{image.size[0]} x {image.size[1]} px")
        return np.asarray(image.convert("RGBA"))
