"""Demo cities for the benchmarks that train: made once, kept in the benchmark's work folder."""

from pathlib import Path

from models.tiles.samples import SampleSet, share_tag_sets
from pipeline.city.ground import open_city
from pipeline.city.job import CityJob
from pipeline.city.sources import find_sources
from pipeline.learning.samples import cut_samples
from pipeline.reference.areas import read_polygons
from regions.demo import DEMO_ADCODE, generate_demo_city
from regions.raster.grid import Tiling
from regions.registry import find_city
from regions.settings import GridConfig


def demo_job(work: Path, *, seed: int, side_m: int) -> CityJob:
    """A demo city in ``work/city-<seed>-<side>``."""
    folder = work / f"city-{seed}-{side_m}"
    data = folder / "data"
    if not data.exists():
        making = folder / "making"
        generate_demo_city(making, seed=seed, side_m=side_m)
        making.rename(data)
    return CityJob(
        adcode=DEMO_ADCODE,
        sources=find_sources(data, DEMO_ADCODE),
        crs=find_city(DEMO_ADCODE).crs,
        out=folder / "out",
        work=folder / "stages",
        checkpoint=folder / "none",
        grid=GridConfig(),
    )


def seen_and_unseen(job: CityJob, *, tile_px: int, stride_px: int) -> tuple[SampleSet, SampleSet]:
    """Tiles of the training districts at a stride, and those of all other districts side by side."""
    if job.sources.districts is None:
        raise SystemExit("a demo city has districts")
    with open_city(job) as city:
        grid = city.extent.grid
        reference = read_polygons(job.sources.reference, crs=grid.crs)
        districts = read_polygons([job.sources.districts], crs=grid.crs)
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
    first, second = share_tag_sets([seen, unseen])
    return first, second
