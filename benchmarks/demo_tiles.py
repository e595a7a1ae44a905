"""Demo cities for the benchmarks that train: made once, kept in the benchmark's work folder."""

from pathlib import Path

from models.tiles.samples import SampleSet, share_tables
from pipeline.city.ground import CityGround
from pipeline.city.sources import find_sources
from pipeline.learning.samples import cut_samples
from pipeline.reference.areas import read_polygons
from regions.demo import DEMO_ADCODE, generate_demo_city
from regions.raster.grid import Tiling
from regions.registry import find_city


def demo_ground(work: Path, *, seed: int, side_m: int) -> CityGround:
    """A demo city in ``work/city-<seed>-<side>``."""
    folder = work / f"city-{seed}-{side_m}"
    data = folder / "data"
    if not data.exists():
        making = folder / "making"
        generate_demo_city(making, seed=seed, side_m=side_m)
        making.rename(data)
    return CityGround(sources=find_sources(data, DEMO_ADCODE), crs=find_city(DEMO_ADCODE).crs, work=folder / "stages")


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
