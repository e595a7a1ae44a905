"""Ground to be mapped, given to a training: which files it is, and what is read of them."""

import numpy as np
import pytest

from flows.commands.options import OptionError, ground_from, scenes_of
from models.tiles.samples import IGNORE
from pipeline.city.sources import MissingSourcesError
from pipeline.learning.samples import NoSamplesError
from pipeline.learning.training import Grounds, TrainingDataError, train_model
from pipeline.learning.unlabelled import unlabelled_tiles
from regions.settings import GridConfig
from tests.support.command_line import json_of
from tests.support.rasters import grid_at, write_raster

SIDE = 448


def scene(path, *, empty_columns: int = 0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(1, 255, (3, SIDE, SIDE)).astype(np.uint8)
    pixels[:, :, :empty_columns] = 0
    return write_raster(path, grid_at(500_000, 2_500_000, (SIDE, SIDE)), pixels, nodata=0)


def ground(sources, tmp_path):
    return ground_from(sources, work=tmp_path / "work", grid=GridConfig(resolution_m=1.0, stride_px=224))


def test_tiles_say_where_there_is_data_and_nothing_else(tmp_path):
    scene(tmp_path / "scenes" / "a.tif", empty_columns=100)
    found = unlabelled_tiles(ground(scenes_of(str(tmp_path / "scenes"), data_root=tmp_path), tmp_path), stride_px=224)
    empty = (found.images == 0).all(1)
    assert len(found) >= 4 and empty.any() and not empty.all()
    assert np.array_equal(found.labels, np.where(empty, IGNORE, 0)) and len(found.places) == 1


def test_a_folder_of_scenes_and_one_of_a_city_are_the_same_ground(tmp_path):
    one = scene(tmp_path / "flat" / "a.tif")
    (tmp_path / "flat" / "notes.md").write_text("no scene")
    two = scene(tmp_path / "city" / "imagery" / "a.tif")
    flat, city = (scenes_of(str(tmp_path / k), data_root=tmp_path, imagery_crs="EPSG:3857") for k in ("flat", "city"))
    assert flat.imagery == (one,) and city.imagery == (two,)
    assert flat.notes.imagery_crs == city.notes.imagery_crs == "EPSG:3857"
    (tmp_path / "none").mkdir()
    with pytest.raises(MissingSourcesError, match="neither a folder imagery/ nor a scene"):
        scenes_of(str(tmp_path / "none"), data_root=tmp_path)


def test_ground_without_data_and_models_that_do_not_adapt_are_refused(tmp_path):
    scene(tmp_path / "scenes" / "a.tif", empty_columns=SIDE - 20)
    target = ground(scenes_of(str(tmp_path / "scenes"), data_root=tmp_path), tmp_path)
    with pytest.raises(NoSamplesError, match="self-training"):
        unlabelled_tiles(target, stride_px=224)
    with pytest.raises(TrainingDataError, match="--self-train needs --encoder"):
        train_model(Grounds(grounds=[]), out=tmp_path / "out", self_train=target)
    with pytest.raises(OptionError, match="--self-train"):
        json_of("train", "--chips", tmp_path, "--self-train", tmp_path / "scenes", "--out", tmp_path / "out", "--json")
