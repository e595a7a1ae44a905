"""What is learnt from and what is validated on: never the same ground, and another place where one is named."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.city.ground import TILE_PX, CityGround
from pipeline.city.sources import CitySources, SourceNotes
from pipeline.learning.held_out import GAP_TILES, held_out_strips
from pipeline.learning.samples import NoSamplesError
from pipeline.learning.training import Grounds, Recipe, TrainingDataError, common_places, train_model, training_config
from tests.pipeline.test_samples_and_chips import write_chips
from tests.support.rasters import coordinate_pixels, grid_at, write_coordinates

LEFT, TOP = 893 * TILE_PX, 11_147 * TILE_PX  # in Shenzhen, on the lattice of tiles
SHAPE = (2 * TILE_PX, 6 * TILE_PX)
CRS = "EPSG:32650"


def write_polygons(path, *boxes, **columns):
    gpd.GeoDataFrame(columns, geometry=[shapely.box(*b) for b in boxes], crs=CRS).to_file(path)
    return path


def make_ground(folder, *, adcode="440300", left=LEFT, scenes=1, districts=None):
    """A strip of ground whose pixels say where they are, in scenes side by side, with a village in the middle."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = SHAPE
    part = width // scenes
    paths = tuple(
        write_coordinates(folder / f"scene{k}.tif", grid_at(left + k * part, TOP, (height, part), crs=CRS))
        for k in range(scenes)
    )
    middle = (left + width / 2 - 400, TOP - 300, left + width / 2 + 400, TOP - 100)
    sources = CitySources(
        adcode=adcode,
        imagery=paths,
        vectors=(),
        aoi=None,
        reference=(write_polygons(folder / "uv.gpkg", middle),),
        districts=districts,
        heights=(),
        notes=SourceNotes(),
    )
    return CityGround(sources=sources, crs=CRS, work=folder / "work")


def labelled_pixels(samples, left=LEFT):
    """Rows and columns of the labelled pixels of samples, found by what the pixels say, int64 (n, 2)."""
    whole = coordinate_pixels(grid_at(left, TOP, SHAPE)).astype(np.int64)
    code = (whole[0] << 16 | whole[1] << 8 | whole[2]).ravel()
    order = np.argsort(code)
    assert len(np.unique(code)) == len(code)
    found = []
    for image, label in zip(samples.images.astype(np.int64), samples.labels, strict=True):
        mine = (image[0] << 16 | image[1] << 8 | image[2])[label != 255]
        at = order[np.searchsorted(code, mine, sorter=order)]
        assert (code[at] == mine).all()
        found.append(at)
    return np.stack(np.unravel_index(np.unique(np.concatenate(found)), SHAPE), axis=1)


def cut(*grounds, chips=(), validate_on=None):
    from models.tiles.samples import SampleSet

    parts = {"train": [], "validation": []}
    for use, part in Grounds(grounds=grounds, chips=chips, validate_on=validate_on, stride_px=TILE_PX).tiles():
        assert len(part) <= 64
        parts[use].append(part)
    return tuple(SampleSet.concat(parts[use]) if parts[use] else None for use in ("train", "validation"))


@given(left=st.floats(0, 1000), width=st.floats(300, 4000), height=st.floats(300, 4000), hole=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_strips_are_apart_and_of_the_area(left, width, height, hole):
    area = shapely.box(left, 0, left + width, height)
    centre = shapely.Point(left + hole * width, height / 2).buffer(min(width, height) / 5)
    area = area.difference(centre)
    train, held = held_out_strips(area, tile_m=224.0)
    assert train.distance(held) >= GAP_TILES * 224.0 - 1e-6
    assert shapely.union(train, held).difference(area.buffer(1e-6)).is_empty
    assert 0.05 < held.area / area.area < 0.35
    assert train.area > held.area * 0.8


def test_strips_are_kept_at_a_distance(tmp_path):
    train, validation = cut(make_ground(tmp_path))
    learnt, judged = labelled_pixels(train), labelled_pixels(validation)
    gaps = np.abs(np.unique(learnt[:, 1])[:, None] - np.unique(judged[:, 1])[None])
    assert gaps.min() >= GAP_TILES * TILE_PX - 1
    assert common_places(train, validation) == ["440300 (scene0.tif)"]


def test_districts_without_validation_keep_strips_of_what_is_learnt_from(tmp_path):
    width = SHAPE[1]
    districts = write_polygons(
        tmp_path / "districts.gpkg",
        (LEFT, TOP - SHAPE[0], LEFT + width * 5 / 6, TOP),
        (LEFT + width / 2, TOP - SHAPE[0], LEFT + width, TOP),  # half of it lies in what says train
        role=["train", "assess"],
    )
    train, validation = cut(make_ground(tmp_path / "g", districts=districts))
    learnt, judged = labelled_pixels(train), labelled_pixels(validation)
    assert max(learnt[:, 1].max(), judged[:, 1].max()) < width / 2
    assert not {*map(tuple, learnt.tolist())} & {*map(tuple, judged.tolist())}
    assert np.abs(np.unique(learnt[:, 1])[:, None] - np.unique(judged[:, 1])[None]).min() >= GAP_TILES * TILE_PX - 1


def test_districts_for_validation_judge(tmp_path):
    half = LEFT + SHAPE[1] // 2
    boxes = ((LEFT, TOP - SHAPE[0], half, TOP), (half, TOP - SHAPE[0], LEFT + SHAPE[1], TOP))
    districts = write_polygons(tmp_path / "districts.gpkg", *boxes, role=["train", "validation"])
    train, validation = cut(make_ground(tmp_path / "g", districts=districts))
    assert labelled_pixels(train)[:, 1].max() == SHAPE[1] // 2 - 1
    assert labelled_pixels(validation)[:, 1].min() == SHAPE[1] // 2


def test_ground_too_small_for_strips_is_refused(tmp_path):
    sliver = (LEFT, TOP - SHAPE[0], LEFT + 30, TOP)
    districts = write_polygons(tmp_path / "districts.gpkg", sliver, role=["train"])
    with pytest.raises((TrainingDataError, NoSamplesError)):
        cut(make_ground(tmp_path / "g", districts=districts))


@pytest.mark.parametrize("name", ["440100", "guangzhou", "广州市"])
def test_a_city_that_is_validated_on_teaches_nothing(tmp_path, name):
    there = make_ground(tmp_path / "a"), make_ground(tmp_path / "b", adcode="440100", left=LEFT + 45 * TILE_PX)
    write_chips(tmp_path / "chips", size=(300, 300))
    train, validation = cut(*there, chips=[tmp_path / "chips"], validate_on=name)
    assert validation.places == ("440100 (scene0.tif)",)
    assert train.places == ("440300 (scene0.tif)", f"{tmp_path.name}/chips")
    assert common_places(train, validation) == []
    # the whole ground of both: nothing is kept back of the one that teaches
    assert len(labelled_pixels(train.at("440300 (scene0.tif)"))) == SHAPE[0] * SHAPE[1]
    assert len(labelled_pixels(validation, LEFT + 45 * TILE_PX)) == SHAPE[0] * SHAPE[1]


def test_a_scene_that_is_validated_on_teaches_nothing(tmp_path):
    train, validation = cut(make_ground(tmp_path, scenes=3), validate_on="scene1.tif")
    third = SHAPE[1] // 3
    learnt, judged = labelled_pixels(train), labelled_pixels(validation)
    assert {*np.unique(judged[:, 1]).tolist()} == {*range(third, 2 * third)}
    assert not ((learnt[:, 1] >= third) & (learnt[:, 1] < 2 * third)).any()
    assert (train.places, validation.places) == (("440300 (scene0.tif, scene2.tif)",), ("440300 (scene1.tif)",))


def test_chips_that_are_validated_on_teach_nothing(tmp_path):
    for name in ("one", "two"):
        write_chips(tmp_path / name, size=(300, 300))
        Image.new("RGB", (300, 300), (1 + len(name), 0, 0)).save(tmp_path / name / "a.jpg")
    folders = [tmp_path / "one", tmp_path / "two"]
    train, validation = cut(make_ground(tmp_path / "g"), chips=folders, validate_on="two")
    assert validation.places == (f"{tmp_path.name}/two",)
    assert train.places == ("440300 (scene0.tif)", f"{tmp_path.name}/one")
    assert common_places(*cut(chips=folders, validate_on=str(folders[0]))) == []


def test_chips_alone_are_held_out_whole(tmp_path):
    """Tiles of one chip never stand on both sides."""
    folder = tmp_path / "chips"
    write_chips(folder)
    (folder / "via.json").unlink()
    entries = {}
    for k in range(7):
        Image.new("RGB", (500, 300), (10 + 20 * k, 0, 0)).save(folder / f"{k}.png")
        entries[str(k)] = {"filename": f"{k}.png", "regions": []}
    import json

    (folder / "via.json").write_text(json.dumps(entries))
    train, validation = cut(chips=[folder])
    colours = [{*np.unique(s.images[:, 0]).tolist()} - {0} for s in (train, validation)]
    assert not colours[0] & colours[1]
    assert (len(colours[0]), len(colours[1])) == (5, 2)


def test_places_that_do_not_fit_are_named(tmp_path):
    ground = make_ground(tmp_path / "g")
    with pytest.raises(TrainingDataError, match=r"names 0 places, one is needed; there are 440300, scene0\.tif"):
        cut(ground, validate_on="somewhere")
    with pytest.raises(TrainingDataError, match="is the only place"):
        cut(ground, validate_on="scene0")
    with pytest.raises(TrainingDataError, match="is the only place"):
        cut(ground, validate_on="440300")
    other = make_ground(tmp_path / "h", adcode="440100")
    with pytest.raises(TrainingDataError, match="names 2 places"):
        cut(ground, other, validate_on="scene0.tif")


def test_training_says_that_it_knows_the_place_and_takes_tiles_from_disk(tmp_path):
    ground = make_ground(tmp_path / "g")
    said, digests = [], []
    for limit_gb in (2.0, 0.0):
        out = tmp_path / f"model-{limit_gb}"
        how = {"epochs": 1, "accelerator": "cpu", "batch_size": 4}
        made = train_model(
            Grounds(grounds=[ground], stride_px=224), out=out, tiles_in_memory_gb=limit_gb, warn=said.append, **how
        )
        digests.append(made.digest)
        assert not (out / "tiles").exists()
    assert digests[0] == digests[1]
    assert [s.split(": ")[0] for s in said] == ["training and validation come from one place (440300 (scene0.tif))"] * 2
    card = (made.checkpoint / "card.md").read_text()
    assert "validated on 440300 (scene0.tif); training has tiles of 440300 (scene0.tif)" in card


def test_what_does_not_fit_is_said_by_option(tmp_path):
    with pytest.raises(TrainingDataError, match=r"--batch-size: Input should be greater than 0"):
        training_config("tiny", batch_size=0)
    with pytest.raises(TrainingDataError, match=r"--precision: Input should be '32-true', 'bf16-mixed'"):
        training_config("tiny", precision="8")
    with pytest.raises(TrainingDataError, match="no augmentation 'wild'; there are plain, strong"):
        train_model([], out=tmp_path, recipe=Recipe(augment="wild"))
    assert training_config("tiny", patience=2).keep == "best"
    assert training_config("base", learning_rate=None).learning_rate == 3e-4
