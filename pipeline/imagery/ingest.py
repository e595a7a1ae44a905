"""Bring imagery onto a city's grid once: resample what is off the grid, write tiles where there were strips.

Kernel: bilinear, or Lanczos for what was resampled before; GDAL widens it where the source is finer than the grid, so
that no source pixel is left out; masked pixels weigh nothing, and a pixel is valid where at least half of its kernel
was. A scene that already lies on the grid is copied as it is, to the bit.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform
from rasterio.windows import Window as RasterioWindow

from pipeline.files import replacing
from pipeline.imagery.composite import Rule, Seen, first_of, median_of
from pipeline.imagery.datum import pixel_affines
from pipeline.imagery.errors import ImageryError, OffGridError, UntiledRasterError
from pipeline.imagery.opening import opened
from pipeline.imagery.scene import Scene, inspect
from pipeline.imagery.source import ImageSource, check_overlap, open_imagery, scene_bands, scene_stretch
from pipeline.imagery.stretch import Stretch
from regions.datum import Datum, is_shifted_datum
from regions.raster.grid import Grid, Window
from regions.raster.profiles import tiled_profile

Kernel = Literal["bilinear", "lanczos"]
INGEST_VERSION = 3
TILE_PX = 512
CHUNK_PX = 2048
MEDIAN_PX = 512
"""Side of the blocks of which all scenes are held at once."""
TAG = "UVMAP_INGEST"


def prepare_imagery(
    paths: Sequence[Path | str],
    *,
    grid: Grid,
    out: Path,
    bands: int = 3,
    band_indexes: tuple[int, ...] | None = None,
    crs: str | None = None,
) -> list[Path | str]:
    """The paths to open for a grid: the given ones where they can be read as they are, else ``[out]``, ingested.

    Raises:
        ImageryError: as `open_imagery` and `ingest` do.
    """
    try:
        open_imagery(paths, grid=grid, bands=bands, band_indexes=band_indexes, crs=crs).close()
    except (OffGridError, UntiledRasterError):
        return [ingest(paths, grid, out, bands=bands, band_indexes=band_indexes, crs=crs)]
    return list(paths)


def ingest(  # noqa: PLR0913 - all but the first three have defaults
    paths: Sequence[Path | str],
    grid: Grid,
    out: Path,
    *,
    bands: int = 3,
    band_indexes: tuple[int, ...] | None = None,
    crs: str | None = None,
    datum: Datum = "wgs84",
    kernel: Kernel = "bilinear",
    rule: Rule = "first",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the mosaic of all scenes on ``grid`` as one tiled GeoTIFF, uint8, with an internal mask.

    The same inputs give the same file; it is written beside its place and moved there when complete. Where it
    is there already and its inputs' stamp has not changed, nothing is done.

    Args:
        paths: Scenes in any CRS and orientation, topmost first.
        grid: Where they go.
        out: The file to write.
        bands: Bands to take.
        band_indexes: 1-based bands in this order; where None, red, green and blue as each file declares them, or its
            first ``bands``.
        crs: CRS of files that state none.
        datum: What the coordinates of the scenes are in truth, whatever CRS they declare: scenes in ``gcj02`` or
            ``bd09`` are resampled to where they truly lie.
        kernel: That resamples scenes off the grid. Lanczos (three lobes) keeps about a tenth more of the contrast
            between neighbouring pixels and takes two to three times as long.
        rule: What a pixel shows that several scenes cover: the topmost, or their median, for which all scenes are held
            of blocks of 512 px at once.
        progress: Called with (chunks done, chunks in all).

    Returns:
        ``out``.

    Raises:
        ImageryError: as `open_imagery`, but off-grid scenes and strips are what it mends.
    """
    if not paths:
        raise ImageryError("no imagery given: name at least one raster file")
    scenes = [inspect(p, bands=max(band_indexes or (bands,)), crs=crs, datum=datum) for p in paths]
    check_overlap(scenes, grid)
    indexes = scene_bands(scenes, bands, band_indexes)
    stretches = [scene_stretch(s, b) for s, b in zip(scenes, indexes, strict=True)]
    record = {
        "version": INGEST_VERSION,
        "kernel": kernel,
        "order": "first on top" if rule == "first" else rule,
        "grid": asdict(grid),
        "scenes": [
            {
                "file": Path(s.path).name,
                "stamp": _scene_stamp(s, b),
                "bands": list(b),
                "resampled": s.window_on(grid) is None,
                "stretch": None if t is None else asdict(t),
            }
            for s, t, b in zip(scenes, stretches, indexes, strict=True)
        ],
    }
    if is_shifted_datum(datum):
        record["datum"] = datum
    if _recorded(out) == record:
        return out
    layers = [_Layer(s, grid, b, Resampling[kernel]) for s, b in zip(scenes, indexes, strict=True)]
    colours = {"photometric": "RGB"} if len(indexes[0]) == 3 else {}
    profile = tiled_profile(
        grid, dtype="uint8", nodata=None, count=len(indexes[0]), blockxsize=TILE_PX, blockysize=TILE_PX,
        interleave="pixel", predictor=2, zlevel=6, sparse_ok=True, **colours,
    )  # fmt: skip
    compose, side_px = (first_of, CHUNK_PX) if rule == "first" else (median_of, MEDIAN_PX)
    chunks = list(grid.blocks(side_px))
    try:
        with (
            replacing(out) as part,
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(part, "w", **profile) as sink,
        ):
            sink.update_tags(**{TAG: json.dumps(record, sort_keys=True)})
            for n, chunk in enumerate(chunks):
                shape = (len(indexes[0]), chunk.height_px, chunk.width_px)
                pixels, valid = compose(_seen(layers, stretches, chunk), shape)
                place = RasterioWindow(chunk.col_px, chunk.row_px, chunk.width_px, chunk.height_px)
                if valid.any():
                    sink.write(pixels, window=place)
                sink.write_mask(valid, window=place)
                if progress is not None:
                    progress(n + 1, len(chunks))
    except RasterioError as error:
        raise ImageryError(
            f"{out}: cannot be written ({str(error.__cause__ or error).splitlines()[0]}): free space on that disk, "
            "then run again"
        ) from error
    return out


def _recorded(out: Path) -> object:
    if not out.exists():
        return None
    try:
        with rasterio.open(out) as dataset:
            return json.loads(dataset.tags().get(TAG, "null"))
    except (RasterioError, json.JSONDecodeError):
        return None


def _scene_stamp(scene: Scene, indexes: tuple[int, ...]) -> str:
    own = Window(0, 0, scene.height_px, scene.width_px)
    frame = Grid("EPSG:3857", 1.0, 0, 0, scene.height_px, scene.width_px)  # any: only the scene's own pixels count
    with ImageSource([scene], [own], grid=frame, band_indexes=[indexes], stretches=[None]) as source:
        return hashlib.sha256(f"{scene.transform} {scene.crs} {source.stamp(own)}".encode()).hexdigest()


class _Layer:
    """One scene as seen on the grid, resampled where need be."""

    def __init__(self, scene: Scene, grid: Grid, indexes: tuple[int, ...], kernel: Resampling) -> None:
        self.scene, self.grid, self.kernel = scene, grid, kernel
        # GDAL masks by every band that a file calls alpha: one that is data is left out of what GDAL sees
        self.address = f"vrt://{scene.path}?bands={','.join(map(str, indexes))}" if scene.ignored_alpha else scene.path
        self.indexes = tuple(range(1, len(indexes) + 1)) if scene.ignored_alpha else indexes
        self.window = scene.window_on(grid)
        left, bottom, right, top = scene.bounds_in(grid.crs)
        self.reach = grid.window_of_bounds((left, bottom, right, top)).padded(1)
        # GDAL takes the kernel's width from what of a chunk the scene covers: at a scene's edge it would be another
        self.scale = dict(zip(("XSCALE", "YSCALE"), _pixels_per_pixel(scene, grid), strict=True))

    def read(self, chunk: Window) -> tuple[NDArray[np.uint8 | np.uint16], NDArray[np.bool_]] | None:
        """Pixels (bands, H, W) and valid (H, W) of a chunk, or None where the scene does not reach it."""
        if self.reach.intersection(chunk).is_empty:
            return None
        if self.window is not None:
            return self._copied(chunk, self.window)
        if is_shifted_datum(self.scene.datum):
            return self._moved(chunk)
        return self._warped(chunk, self.scene.crs, self.grid.crs, self.grid[chunk].affine)

    def _copied(self, chunk: Window, own: Window) -> tuple[NDArray[np.uint8 | np.uint16], NDArray[np.bool_]]:
        pixels = np.zeros((len(self.indexes), chunk.height_px, chunk.width_px), self.scene.dtype)
        valid = np.zeros((chunk.height_px, chunk.width_px), np.bool_)
        part = chunk.intersection(own)
        if not part.is_empty:
            rows, cols = part.slices_in(chunk)
            inside = RasterioWindow(part.col_px - own.col_px, part.row_px - own.row_px, part.width_px, part.height_px)
            with opened(self.address) as dataset:
                pixels[:, rows, cols] = dataset.read(self.indexes, window=inside)
                valid[rows, cols] = dataset.dataset_mask(window=inside) > 0
        return pixels, valid

    def _moved(self, chunk: Window) -> tuple[NDArray[np.uint8 | np.uint16], NDArray[np.bool_]]:
        """As `_warped`, of a scene in a shifted datum: piece by piece, as each piece lies in the scene."""
        pixels = np.zeros((len(self.indexes), chunk.height_px, chunk.width_px), self.scene.dtype)
        valid = np.zeros((chunk.height_px, chunk.width_px), np.bool_)
        for piece, affine in pixel_affines(self.grid, chunk, self.scene.crs, self.scene.datum):
            rows, cols = piece.slices_in(chunk)
            pixels[:, rows, cols], valid[rows, cols] = self._warped(piece, self.scene.crs, self.scene.crs, affine)
        return pixels, valid

    def _warped(
        self, chunk: Window, src_crs: str, crs: str, affine: Affine
    ) -> tuple[NDArray[np.uint8 | np.uint16], NDArray[np.bool_]]:
        """A chunk of the grid resampled by GDAL; its pixels lie in ``crs`` by ``affine``."""
        add_alpha = self.scene.alpha_band is None
        with (
            opened(self.address) as dataset,
            WarpedVRT(
                dataset,
                src_crs=src_crs,
                src_transform=Affine(*self.scene.transform) if self.scene.is_from_gcps else None,
                crs=crs,
                transform=affine,
                height=chunk.height_px,
                width=chunk.width_px,
                resampling=self.kernel,
                add_alpha=add_alpha,
                dtype=self.scene.dtype,
                UNIFIED_SRC_NODATA="YES",
                **self.scale,
            ) as view,
        ):
            pixels = view.read(self.indexes)
            alpha = view.read(view.count if add_alpha else self.scene.alpha_band)
        return pixels, alpha > np.iinfo(alpha.dtype).max // 2


def _pixels_per_pixel(scene: Scene, grid: Grid) -> tuple[float, float]:
    """Pixels of the grid per pixel of a scene, along its rows and its columns, in its middle; 1 where within 5 %."""
    affine, column, row = Affine(*scene.transform), scene.width_px / 2, scene.height_px / 2
    corners = [affine @ (column, row), affine @ (column + 1, row), affine @ (column, row + 1)]
    xs, ys = transform(scene.crs, grid.crs, [p[0] for p in corners], [p[1] for p in corners])
    sides = [math.hypot(xs[k] - xs[0], ys[k] - ys[0]) / grid.resolution_m for k in (1, 2)]
    along, across = (1.0 if abs(s - 1) < 0.05 else s for s in sides)
    return along, across


def _seen(layers: Sequence[_Layer], stretches: Sequence[Stretch | None], chunk: Window) -> Iterator[Seen]:
    """What each scene that reaches a chunk shows there, as 8 bits, topmost first."""
    for layer, stretch in zip(layers, stretches, strict=True):
        seen = layer.read(chunk)
        if seen is None:
            continue
        values, there = seen
        if stretch is not None:
            table = stretch.tables()
            values = np.stack([np.take(table[b], values[b]) for b in range(len(values))])
        yield values.astype(np.uint8, copy=False), there
