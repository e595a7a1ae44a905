"""Imagery of a city on its grid: several scenes, one reader, safe to call from several threads."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterioWindow

from pipeline.imagery.bands import sampled
from pipeline.imagery.errors import (
    ImageryError,
    NoOverlapError,
    OffGridError,
    UnreadableImageryError,
    UntiledRasterError,
)
from pipeline.imagery.grids import grid_of_scenes
from pipeline.imagery.opening import open_dataset
from pipeline.imagery.scene import Scene, encoded_blocks, inspect
from pipeline.imagery.stamp import file_stamp, is_remote
from pipeline.imagery.stretch import Stretch
from regions.raster.grid import Grid, Window

MAX_OPEN_PER_THREAD = 32


def content_digest(pixels: NDArray[np.uint8], valid: NDArray[np.bool_]) -> str:
    """SHA-256 of what `ImageSource.read` gave: shape, pixels, and the mask packed to bits."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    digest.update(np.packbits(valid).data)
    return digest.hexdigest()


class ImageSource:
    """Scenes mosaicked on a grid; where they overlap, the one named first lies on top.

    Every thread that reads gets dataset handles of its own (GDAL's are not thread-safe). Use as a context
    manager, or call `close`.

    Attributes:
        grid: The grid that windows refer to. Pixels of scenes past its edge are read too where a window reaches
            there, so that what a tile sees does not depend on the grid's extent.
        bands: Bands per pixel.
        scenes: The scenes, topmost first.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        windows: Sequence[Window],
        *,
        grid: Grid,
        band_indexes: Sequence[tuple[int, ...]],
        stretches: Sequence[Stretch | None],
    ) -> None:
        self.grid = grid
        self.bands = len(band_indexes[0])
        self.scenes = tuple(scenes)
        self._windows = tuple(windows)
        self._edges = np.array([(w.row_px, w.col_px, w.stop_row_px, w.stop_col_px) for w in windows], np.int64)
        self._band_indexes = tuple(band_indexes)  # per scene: files store their colours in different orders
        self._stretches = tuple(stretches)
        self._tables = [None if s is None else s.tables() for s in stretches]
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all_open: set[DatasetReader] = set()
        self._file_stamps: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the handles of all threads; the next read opens them again."""
        with self._lock:
            for dataset in self._all_open:
                dataset.close()
            self._all_open.clear()
        self._local = threading.local()

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Pixels of any window of the grid.

        Args:
            window: Pixels of the grid; it may reach past the grid and past the data.

        Returns:
            Pixels uint8 (bands, H, W), 0 where invalid, and valid bool (H, W).

        Raises:
            UnreadableImageryError: where a file cannot be read, named with the window.
        """
        shape = (window.height_px, window.width_px)
        hit = self._scenes_on(window)
        if hit and window.intersection(self._windows[hit[0]]) == window:
            # the usual case: the topmost scene fills the window, so what was read is the answer, or its beginning
            pixels, whole = self._read_scene(hit[0], window)
            if whole is None:
                return pixels, np.ones(shape, np.bool_)
            pixels *= whole.view(np.uint8)  # of one type: several times as fast
            valid, hit = whole, hit[1:]
        else:
            pixels, valid = np.zeros((self.bands, *shape), np.uint8), np.zeros(shape, np.bool_)
        for k in hit:
            part = window.intersection(self._windows[k])
            rows, cols = part.slices_in(window)
            below = valid[rows, cols]
            if below.all():
                continue
            new_pixels, new_valid = self._read_scene(k, part)
            if new_valid is None and not below.any():
                pixels[:, rows, cols] = new_pixels
                below[...] = True
                continue
            take = ~below if new_valid is None else new_valid & ~below
            np.copyto(pixels[:, rows, cols], new_pixels, where=take)
            below |= take
        return pixels, valid

    def digest(self, window: Window) -> str:
        """Digest of the content of a window: what `read` gives, independent of how the files store it."""
        return content_digest(*self.read(window))

    def stamp(self, window: Window) -> str:
        """A cheap digest of the stored bytes that a window depends on: equal stamps mean equal content.

        The rule, per scene under the window: a local TIFF gives the encoded bytes of the blocks that the window
        touches (and its mask's pixels there); other local files give the bytes of the whole file and of those
        beside it; an address gives ETag, length and date of last change as its server states them.
        Not the other way round: a file that was packed anew has another stamp and maybe the same content.
        """
        digest = hashlib.sha256(json.dumps([window.height_px, window.width_px]).encode())
        for k in self._scenes_on(window):
            scene, own = self.scenes[k], self._windows[k]
            part = window.intersection(own)
            stretch = self._stretches[k]
            facts = asdict(scene) | {"path": "", "warnings": [], "bands": self._band_indexes[k]}
            facts.pop("datum")  # a scene in a shifted one is not read as it is
            facts["stretch"] = None if stretch is None else asdict(stretch)
            facts["place"] = [part.row_px - window.row_px, part.col_px - window.col_px, part.height_px, part.width_px]
            digest.update(json.dumps(facts, sort_keys=True).encode())
            inside = part.shifted(-own.row_px, -own.col_px)
            if scene.driver == "GTiff" and not is_remote(scene.path):
                digest.update(self._encoded_stamp(k, inside).encode())
            else:
                digest.update(json.dumps([inside.row_px, inside.col_px]).encode())
                digest.update(self._whole_stamp(k).encode())
        return digest.hexdigest()

    def may_have_data(self, window: Window) -> bool:
        """Whether a window may hold a valid pixel, judged without decoding pixels.

        False is certain. Scenes' outlines, blocks never written in sparse TIFFs, and masks are looked at; nodata
        values are not (they come with the pixels).
        """
        for k in self._scenes_on(window):
            scene, own = self.scenes[k], self._windows[k]
            inside = window.intersection(own).shifted(-own.row_px, -own.col_px)
            if scene.has_mask:
                if self._mask(k, inside).any():
                    return True
            elif scene.nodata is not None and scene.driver == "GTiff":
                if any(b is not None for b in encoded_blocks(self._handle(k), inside)):
                    return True
            else:
                return True
        return False

    def record(self) -> dict[str, object]:
        """What a manifest keeps of the imagery: the scenes in order, their stretch and rule of precedence."""
        return {
            "order": "first on top",
            "scenes": [
                {
                    "file": Path(s.path).name,
                    "bands": list(b),
                    "crs": s.crs,
                    "size_px": [s.height_px, s.width_px],
                    "dtype": s.dtype,
                    "nodata": s.nodata,
                    "stretch": None if t is None else asdict(t),
                    "warnings": list(s.warnings),
                }
                for s, t, b in zip(self.scenes, self._stretches, self._band_indexes, strict=True)
            ],
        }

    def _scenes_on(self, window: Window) -> list[int]:
        e = self._edges
        hit = (
            (e[:, 0] < window.stop_row_px)
            & (e[:, 2] > window.row_px)
            & (e[:, 1] < window.stop_col_px)
            & (e[:, 3] > window.col_px)
        )
        return [] if window.is_empty else [int(k) for k in np.flatnonzero(hit)]

    def _handle(self, k: int) -> DatasetReader:
        handles: OrderedDict[int, DatasetReader] | None = getattr(self._local, "handles", None)
        if handles is None:
            handles = self._local.handles = OrderedDict()
        if k in handles:
            handles.move_to_end(k)
            return handles[k]
        dataset = open_dataset(self.scenes[k].path)
        handles[k] = dataset
        with self._lock:
            self._all_open.add(dataset)
            if len(handles) > MAX_OPEN_PER_THREAD:
                _, oldest = handles.popitem(last=False)
                self._all_open.discard(oldest)
                oldest.close()
        return dataset

    def _read_scene(self, k: int, part: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        """Pixels (bands, H, W) and valid (H, W), None where all are, of a part that lies inside scene ``k``."""
        scene, own = self.scenes[k], self._windows[k]
        inside = part.shifted(-own.row_px, -own.col_px)
        indexes = self._band_indexes[k] + (() if scene.alpha_band is None else (scene.alpha_band,))
        try:
            raw = self._handle(k).read(indexes, window=_rasterio_window(inside))
        except RasterioError as error:
            raise UnreadableImageryError(
                f"{scene.path}: rows {inside.row_px}..{inside.stop_row_px}, columns {inside.col_px}.."
                f"{inside.stop_col_px} cannot be decoded ({str(error.__cause__ or error).splitlines()[0]}): "
                "the file is damaged or cut off; copy or download it again"
            ) from error
        pixels = raw[: self.bands]
        valid: NDArray[np.bool_] | None = None
        if scene.alpha_band is not None:
            valid = raw[-1] > 0
        elif scene.has_mask:
            valid = self._mask(k, inside)
        elif scene.nodata is not None:
            valid = (pixels != scene.nodata).any(axis=0)
        if valid is not None and valid.all():
            valid = None
        table = self._tables[k]
        if table is not None:
            pixels = np.stack([np.take(table[b], pixels[b]) for b in range(self.bands)])
        return pixels, valid

    def _mask(self, k: int, inside: Window) -> NDArray[np.bool_]:
        mask: NDArray[np.uint8] = self._handle(k).read_masks(1, window=_rasterio_window(inside))
        valid: NDArray[np.bool_] = mask.view(np.bool_)
        return np.not_equal(mask, 0, out=valid)  # in place: fresh memory costs as much as the rest

    def _encoded_stamp(self, k: int, inside: Window) -> str:
        dataset = self._handle(k)
        digest = hashlib.sha256((dataset.get_tag_item("JPEGTABLES", "TIFF", bidx=1) or "").encode())
        block_h, block_w = dataset.block_shapes[0]
        digest.update(json.dumps([inside.row_px % block_h, inside.col_px % block_w, str(dataset.compression)]).encode())
        with Path(self.scenes[k].path).open("rb") as file:
            for block in encoded_blocks(dataset, inside):
                if block is None:
                    digest.update(b"sparse")
                else:
                    file.seek(block[0])
                    digest.update(file.read(block[1]))
        if self.scenes[k].has_mask:
            digest.update(np.packbits(self._mask(k, inside)).data)
        return digest.hexdigest()

    def _whole_stamp(self, k: int) -> str:
        with self._lock:
            known = self._file_stamps.get(k)
        if known is None:
            known = file_stamp(self.scenes[k].path, self._handle(k).files)
            with self._lock:
                self._file_stamps[k] = known
        return known


def _rasterio_window(window: Window) -> RasterioWindow:
    return RasterioWindow(window.col_px, window.row_px, window.width_px, window.height_px)


def scene_stretch(scene: Scene, band_indexes: tuple[int, ...]) -> Stretch | None:
    """The stretch of a 16-bit scene from its own valid pixels; None for 8 bits."""
    if scene.dtype == "uint8":
        return None
    sample = sampled(scene.path, band_indexes)
    if scene.alpha_band is not None:
        valid = sampled(scene.path, (scene.alpha_band,))[0] > 0
    elif scene.has_mask:
        valid = sampled(scene.path, (0,))[0] > 0
    elif scene.nodata is not None:
        valid = (sample != scene.nodata).any(axis=0)
    else:
        valid = np.ones(sample.shape[1:], np.bool_)
    return Stretch.fitted(sample, valid)


def scene_bands(scenes: Sequence[Scene], bands: int, chosen: tuple[int, ...] | None) -> list[tuple[int, ...]]:
    """1-based bands to read of each scene: those chosen, or its first picture bands (red, green, blue if declared)."""
    return [chosen or s.picture_bands[:bands] for s in scenes]


def open_imagery(
    paths: Sequence[Path | str],
    *,
    grid: Grid | None = None,
    bands: int = 3,
    band_indexes: tuple[int, ...] | None = None,
    crs: str | None = None,
) -> ImageSource:
    """Open scenes that lie on one grid, the first on top.

    Args:
        paths: Scene files or addresses, topmost first.
        grid: The city's grid; where None, the smallest that holds all scenes.
        bands: Bands to read.
        band_indexes: 1-based bands to read in this order; where None, red, green and blue as each file declares them,
            or its first ``bands``.
        crs: CRS of files that state none.

    Raises:
        UnreadableImageryError: a file is missing, truncated or no raster.
        MissingCrsError: a file has no CRS and ``crs`` is None.
        BandCountError: a file has too few bands.
        PixelTypeError: pixels are neither uint8 nor uint16.
        OffGridError: a scene has to be resampled first (`ingest`).
        UntiledRasterError: a TIFF in strips has to be written in tiles first (`ingest`).
        NoOverlapError: no scene touches the grid.
    """
    if not paths:
        raise ImageryError("no imagery given: name at least one raster file")
    scenes = [inspect(p, bands=max(band_indexes or (bands,)), crs=crs) for p in paths]
    on = grid or grid_of_scenes(scenes)
    windows = []
    for scene in scenes:
        window = scene.window_on(on)
        if window is None:
            raise OffGridError(
                f"{scene.path}: does not lie on the grid: {scene.why_off(on)}; resample it once with "
                "pipeline.imagery.ingest"
            )
        if scene.in_strips:
            raise UntiledRasterError(
                f"{scene.path}: stored in strips over {scene.width_px} columns instead of tiles, so each block would "
                "decode whole rows; retile it once with pipeline.imagery.ingest, or `gdal_translate -co TILED=YES`"
            )
        windows.append(window)
    check_overlap(scenes, on)
    indexes = scene_bands(scenes, bands, band_indexes)
    stretches = [scene_stretch(s, b) for s, b in zip(scenes, indexes, strict=True)]
    return ImageSource(scenes, windows, grid=on, band_indexes=indexes, stretches=stretches)


def check_overlap(scenes: Sequence[Scene], grid: Grid) -> None:
    """Check that a scene touches the grid.

    Raises:
        NoOverlapError: naming both extents.
    """
    left, bottom, right, top = grid.bounds_m
    boxes = [s.bounds_in(grid.crs) for s in scenes]
    if any(b[0] < right and b[2] > left and b[1] < top and b[3] > bottom for b in boxes):
        return
    union = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
    raise NoOverlapError(
        f"{scenes[0].path}{f' and {len(scenes) - 1} more' if len(scenes) > 1 else ''}: imagery covers "
        f"{_box(union)}, the area asked for is {_box(grid.bounds_m)} ({grid.crs}): give imagery of this place, "
        "or check the CRS of both"
    )


def _box(bounds: tuple[float, float, float, float]) -> str:
    return "({:.0f}, {:.0f})..({:.0f}, {:.0f})".format(*bounds)
