"""Demo cities for the benchmarks that train: made once, kept in the benchmark's work folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from scipy import ndimage

from models.tiles.samples import SampleSet, share_tables
from pipeline.city.ground import CityGround
from pipeline.city.sources import find_sources
from pipeline.learning.samples import cut_samples
from pipeline.reference.areas import read_polygons
from regions.demo import DEMO_ADCODE, generate_demo_city
from regions.raster.grid import Tiling
from regions.registry import find_city


def demo_ground(work: Path, *, seed: int, side_m: int, blur_m: float = 0.0) -> CityGround:
    """A demo city in ``work/city-<seed>-<side>``, its imagery seen through a Gaussian of ``blur_m``."""
    folder = work / f"city-{seed}-{side_m}"
    data = folder / "data"
    if not data.exists():
        making = folder / "making"
        generate_demo_city(making, seed=seed, side_m=side_m)
        making.rename(data)
    sources, stages = find_sources(data, DEMO_ADCODE), folder / "stages"
    if blur_m:
        seen = folder / f"blurred-{blur_m:g}"
        seen.mkdir(exist_ok=True)
        sources = replace(sources, imagery=tuple(blurred(p, seen / p.name, blur_m) for p in sources.imagery))
        stages = seen / "stages"
    return CityGround(sources=sources, crs=find_city(DEMO_ADCODE).crs, work=stages)


def blurred(scene: Path, out: Path, blur_m: float) -> Path:
    """A scene of 1 m seen through a Gaussian."""
    with rasterio.open(scene) as given:
        pixels = np.stack([ndimage.gaussian_filter(band, blur_m / given.res[0]) for band in given.read()])
        with rasterio.open(out, "w", **given.profile) as written:
            written.write(pixels)
            written.write_mask(given.dataset_mask())
    return out


def seen_and_unseen(ground: CityGround, *, tile_px: int, stride_px: int) -> tuple[SampleSet, SampleSet]:
    """Tiles of the training districts at a stride, and those of all other districts side by side."""
    if ground.sources.districts is None:
        raise SystemExit("a demo city has districts")
    with ground.open() as city:
        grid = city.extent.grid
        reference = read_polygons(ground.sources.reference, crs=grid.crs)
        districts = read_polygons([ground.sources.districts], crs=grid.crs)
        trained = districts["role"] == "train"
        seen, unseen = (
            cut_samples(
                city.imagery,
                reference,
                grid=grid,
                tiling=Tiling(tile_px, stride),
                area=districts[rows].union_all(),
                city_map=city.city_map,
                source=city.name,
            )
            for rows, stride in ((trained, stride_px), (~trained, tile_px))
        )
    first, second = share_tables([seen, unseen])
    return first, second
