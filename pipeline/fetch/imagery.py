"""Imagery of an area, brought here and laid onto the city's grid once."""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.shutil import copy as copy_raster

from pipeline.city.looks import CELL_PX, NOBODY, Looks, scene_owners
from pipeline.fetch.area import FetchArea
from pipeline.fetch.confidential import public_url
from pipeline.fetch.errors import FetchError
from pipeline.fetch.stac import StacScene, find_scenes
from pipeline.fetch.stac_assets import read_scene
from pipeline.fetch.tiles import TileCache, ground_resolution_m, tile_range, write_scene, zoom_for
from pipeline.fetch.web import Session
from pipeline.files import replacing, source_digest
from pipeline.imagery.acquired import date_of_scenes
from pipeline.imagery.composite import Rule
from pipeline.imagery.grids import grid_of_scenes
from pipeline.imagery.ingest import Kernel, ingest
from pipeline.imagery.scene import inspect
from regions.datum import is_shifted_datum
from regions.raster.grid import Grid
from regions.raster.profiles import cog_options
from regions.sources import ImagerySource, LocalImagery, StacImagery, XyzImagery

Progress = Callable[[int], None]
BLOCK_PX = 512
"""Side of the blocks whose scenes are kept for lineage."""


@dataclass(frozen=True)
class Scenes:
    """Scenes of one source, as files in their own CRS.

    Attributes:
        paths: Topmost first.
        dates: Days or periods that are known of them, ISO 8601.
        records: One per scene, for lineage; without secrets.
        crs: CRS of those that declare none.
        datum: What their coordinates are in truth.
        kernel: That resamples them: tiles were resampled once already, and what bilinear takes again of their contrast
            a model sees.
        rule: What a pixel shows that several of them cover.
    """

    paths: tuple[Path, ...]
    dates: tuple[str, ...]
    records: tuple[dict[str, Any], ...]
    crs: str | None = None
    datum: Any = "wgs84"
    kernel: Kernel = "bilinear"
    rule: Rule = "first"


@dataclass(frozen=True)
class Wanted:
    """What a source will give, before anything is brought.

    Attributes:
        what: In words, such as "64 tiles of zoom 17".
        bytes_to_come: Estimate, None where nothing is known.
        identity: What decides whether it has changed.
        stac: Items, of a STAC source.
    """

    what: str
    bytes_to_come: int | None
    identity: Any
    stac: tuple[StacScene, ...] = ()


TILE_BYTES = 25_000
"""Usual size of a tile of imagery, for estimates."""


def settled(source: ImagerySource, area: FetchArea, resolution_m: float | None) -> ImagerySource:
    """The source with what it leaves open: of tiles the zoom, by the campaign's resolution.

    Raises:
        FetchError: nothing says how fine tiles are wanted.
    """
    if not isinstance(source, XyzImagery) or source.zoom is not None:
        return source
    if resolution_m is None:
        raise FetchError(
            f"{public_url(source.url)}: neither the source names a zoom nor the campaign grid.resolution_m: give one"
        )
    return source.model_copy(update={"zoom": zoom_for(source, area.bounds_lonlat, resolution_m)})


def survey_imagery(source: ImagerySource, adcode: str, area: FetchArea, cache: Path) -> Wanted:
    """What there is of a source over an area; searches, but brings nothing.

    Raises:
        FetchError: nothing is there.
    """
    if isinstance(source, XyzImagery):
        tiles, store = tile_range(source, area.bounds_lonlat), TileCache(source, cache / "xyz")
        missing = [t for t in tiles if not store.has(*t)]
        text = f"{len(tiles)} tiles of zoom {tiles.zoom}, {len(missing)} not here yet"
        return Wanted(
            text, len(missing) * TILE_BYTES, [tiles.zoom, tiles.first_x, tiles.first_y, tiles.last_x, tiles.last_y]
        )
    if isinstance(source, StacImagery):
        scenes = find_scenes(source, area.bounds_lonlat)
        text = f"{len(scenes)} items from {min(s.date for s in scenes)} to {max(s.date for s in scenes)}"
        return Wanted(text, None, [s.record for s in scenes], scenes)
    files = local_scenes(source, adcode)
    size = sum(f.stat().st_size for f in files)
    return Wanted(f"{len(files)} files, {size / 1e6:.1f} MB", 0, [source_digest(f) for f in files])


def bring_imagery(
    source: ImagerySource, adcode: str, area: FetchArea, cache: Path, wanted: Wanted, *,
    refresh: bool = False, progress: Progress | None = None,
) -> Scenes:  # fmt: skip
    """The scenes of a source as local files, each as it is.

    Raises:
        FetchError: a source does not answer, or nothing of it covers the area.
    """
    if isinstance(source, XyzImagery):
        tiles, store = tile_range(source, area.bounds_lonlat), TileCache(source, cache / "xyz", refresh=refresh)
        with Session(per_second=source.per_second) as session:
            store.fetch_all(session, tiles, progress)
        out = store.root / f"{adcode}_{tiles.zoom}_{tiles.first_x}_{tiles.first_y}_{len(tiles)}.tif"
        counts = write_scene(store, tiles, out)
        record = {"kind": "xyz", "from": public_url(source.url), "zoom": tiles.zoom, "date": source.date, **counts}
        return Scenes((out,), (source.date,) if source.date else (), (record,), datum=source.datum, kernel="lanczos")
    if isinstance(source, StacImagery):
        folder = cache / "stac" / adcode
        read = [
            (s, p)
            for s in wanted.stac
            if (p := read_scene(s, source, area.bounds_lonlat, folder, progress=progress)) is not None
        ]
        if not read:
            raise FetchError(f"{public_url(source.url)}: the assets of {len(wanted.stac)} items do not reach the area")
        records = tuple({"kind": "stac", "from": public_url(source.url), **s.record} for s, _ in read)
        rule: Rule = "median" if source.composite == "median" else "first"
        return Scenes(tuple(p for _, p in read), tuple(s.date for s, _ in read), records, rule=rule)
    files = local_scenes(source, adcode)
    dates = (source.date,) if source.date else tuple(str(d) for d in (_date(f) for f in files) if d is not None)
    records = tuple({"kind": "local", "file": f.name, "date": str(_date(f) or source.date or "")} for f in files)
    return Scenes(tuple(files), dates, records, source.crs, source.datum)


def local_scenes(source: LocalImagery, adcode: str) -> list[Path]:
    """Files of a pattern, the one on top first.

    Raises:
        FetchError: there is none.
    """
    pattern = source.path.replace("{adcode}", adcode)
    files = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if Path(p).is_file()]  # noqa: PTH207 - may be absolute
    if not files:
        raise FetchError(f"{pattern}: no scene of {adcode} there")
    if source.order == "last":
        return files[::-1]
    if source.order == "newest":
        undated = [f.name for f in files if _date(f) is None]
        if undated:
            raise FetchError(
                f"{pattern}: order newest needs the date of every scene, and {len(undated)} have none"
                f" ({', '.join(undated[:3])}): write it as TIFFTAG_DATETIME, or order them by name"
            )
        return sorted(files, key=lambda f: (str(_date(f)), f.name), reverse=True)
    return files


def city_grid(area: FetchArea, scenes: Scenes, source: ImagerySource, resolution_m: float | None) -> Grid:
    """The grid that all imagery of the city is laid onto: the campaign's resolution, else that of the first source."""
    if resolution_m is None and isinstance(source, XyzImagery):
        _, south, _, north = area.bounds_lonlat
        resolution_m = round(ground_resolution_m(source, (south + north) / 2), 3)
    if resolution_m is None:
        found = grid_of_scenes([inspect(p, crs=scenes.crs) for p in scenes.paths], resolution_m=None, crs=area.crs)
        resolution_m = found.resolution_m
    return Grid.covering(area.bounds_m, crs=area.crs, resolution_m=resolution_m)


def lay_onto(scenes: Scenes, grid: Grid, out: Path) -> Path:
    """Resample scenes onto the grid, the first on top, as a COG with a mask."""
    flat = out.with_name(f".{out.stem}.flat.tif")
    try:
        ingest(
            list(scenes.paths), grid, flat, crs=scenes.crs, datum=scenes.datum, kernel=scenes.kernel, rule=scenes.rule
        )
        with replacing(out) as part, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            copy_raster(flat, part, **cog_options(predictor=True, resampling="average"))
    finally:
        flat.unlink(missing_ok=True)
    return out


def block_lineage(scenes: Scenes, grid: Grid) -> list[list[float]]:
    """Which scenes each block shows: [row, column, number of the scene, share of the block's cells], by block.

    Blocks are `BLOCK_PX` on a side; scenes are numbered as in the record of the file. Empty where there is one scene,
    which all blocks show. Told apart in cells of `pipeline.city.looks.CELL_PX`, where the first scene with data counts;
    in a median every scene with data does, so that shares of a block add up to more than 1.
    """
    count = len(scenes.paths)
    if count < 2 or count >= NOBODY or is_shifted_datum(scenes.datum):
        return []
    if scenes.rule == "median":
        groups: list[tuple[tuple[Path, ...], tuple[int, ...]]] = [((p,), (k,)) for k, p in enumerate(scenes.paths)]
    else:
        groups = [(scenes.paths, tuple(range(count)))]
    looks = [
        scene_owners(paths, Looks(tuple(map(str, numbers)), numbers), grid=grid, crs=scenes.crs)
        for paths, numbers in groups
    ]
    side = BLOCK_PX // CELL_PX
    rows: list[list[float]] = []
    for r in range(0, looks[0].shape[0], side):
        for c in range(0, looks[0].shape[1], side):
            for cells in looks:
                block = cells[r : r + side, c : c + side]
                seen = np.bincount(block.ravel(), minlength=NOBODY + 1)[:count]
                rows += [
                    [r // side, c // side, int(k), round(float(seen[k]) / block.size, 3)] for k in np.flatnonzero(seen)
                ]
    return rows


def _date(path: Path) -> Any:
    return date_of_scenes((path,))[0]
