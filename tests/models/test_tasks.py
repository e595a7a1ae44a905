from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.checkpoints import CheckpointError, load_checkpoint
from models.geolink.config import GeoLinkConfig
from models.geolink.graph import TileGraphs
from models.geolink.synthetic import random_tile_graphs
from models.segmentation.config import SegmentationConfig
from models.segmentation.predictor import SegmentationPredictor
from models.segmentation.trainer import train_segmenter
from models.tasks.change import ChangeDetector, ChangeError, ChangeSet, detect_change, train_change
from models.tasks.encodings import TileEncoder, encode_tiles, pooled
from models.tasks.probes import linear_probe, nearest_neighbours, scene_figures
from models.tasks.scenes import (
    SceneError,
    SceneSet,
    fine_tune_classifier,
)
from models.tasks.zones import ZONES, zone_labels
from models.tiles.augmentation import AugmentationConfig
from models.tiles.samples import IGNORE, SampleSet
from models.training import TrainingConfig

SIDE = 32
ENCODER = GeoLinkConfig.tiny(
    image_px=SIDE,
    patch_px=8,
    width=16,
    depth=2,
    heads=2,
    output_layers=(0, 1),
    stem_widths=(8, 8),
    osm_width=16,
    fusion_width=16,
    semantic_width=16,
)
CONFIG = SegmentationConfig(encoder=ENCODER, decoder_channels=16, detail_channels=8, dropout=0.0)
TRAINING = TrainingConfig(batch_size=8, epochs=15, learning_rate=5e-3, accelerator="cpu", validate_every=15)
TAGS = [{"building": "yes"}, {"highway": "path"}]


def _scenes(seed: int, n: int = 24) -> SceneSet:
    """Three textures, one per class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    images = np.stack(
        [np.where((x, y, x + y)[k] % 8 < 4, 60, 170)[None] + rng.integers(0, 40, (3, SIDE, SIDE)) for k in labels]
    )
    counts = [(1, 0, int(k)) for k in labels]
    graphs = random_tile_graphs(counts, n_tag_sets=2, seed=seed)
    return SceneSet(images=images.astype(np.uint8), labels=labels.astype(np.int64), graphs=graphs, tag_sets=TAGS)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return fine_tune_classifier(
        _scenes(0),
        _scenes(1),
        ENCODER,
        classes=("a", "b", "c"),
        out=tmp_path_factory.mktemp("scenes"),
        training=TRAINING,
        augmentation=AugmentationConfig(symmetries=False, drop_nodata=0.0),
        progress=False,
    )


def test_scenes_are_told_apart_by_fine_tuning(classifier):
    assert classifier.figures["accuracy"] > 0.8
    assert load_checkpoint(classifier.checkpoint, kind="classification").config.classes == ("a", "b", "c")


def test_scenes_are_told_apart_by_vectors(classifier):
    train, test = _scenes(2), _scenes(3)
    a, b = (pooled(encode_tiles(classifier.checkpoint, s.images, s.graphs, TAGS)) for s in (train, test))
    assert a.shape == (24, 2 * ENCODER.fusion_width)
    for guess in (nearest_neighbours(a, train.labels, b, neighbours=5), linear_probe(a, train.labels, b)):
        assert scene_figures(guess, test.labels, classes=3)["accuracy"] > 0.8


def test_scene_figures_are_those_of_the_counts():
    figures = scene_figures(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), classes=3)
    assert figures["accuracy"] == pytest.approx(3 / 4)
    assert figures["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_scenes_that_do_not_fit_are_refused(tmp_path):
    scenes = _scenes(0)
    with pytest.raises(SceneError, match="23 labels"):
        replace(scenes, labels=scenes.labels[:23])
    with pytest.raises(SceneError, match="label 2, there are 2 classes"):
        fine_tune_classifier(scenes, scenes, ENCODER, classes=("a", "b"), out=tmp_path)
    with pytest.raises(SceneError, match="two tables of tag sets"):
        fine_tune_classifier(
            scenes, replace(scenes, tag_sets=TAGS[::-1]), ENCODER, classes=("a", "b", "c"), out=tmp_path
        )


@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_an_encoding_depends_on_its_tile_alone(classifier, data):
    encoder = TileEncoder.load(classifier.checkpoint, TAGS, batch_size=4)
    scenes = _scenes(4, 9)
    tiles = data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=9))
    whole = encoder.encode_tiles(scenes.images, scenes.graphs)
    some = encoder.encode_tiles(scenes.images[tiles], scenes.graphs.select(tiles))
    np.testing.assert_array_equal(some, whole[tiles])
    assert whole.shape == (9, ENCODER.fusion_width, 4, 4) and whole.dtype == np.float32


def test_multimodal_and_image_only_encodings(classifier):
    scenes = _scenes(5, 6)
    alone = encode_tiles(classifier.checkpoint, scenes.images)
    blank = encode_tiles(classifier.checkpoint, scenes.images, TileGraphs.empty(6), TAGS)
    both = encode_tiles(classifier.checkpoint, scenes.images, scenes.graphs, TAGS)
    np.testing.assert_array_equal(alone, blank)
    assert (both != alone).any()
    assert encode_tiles(classifier.checkpoint, scenes.images[:0]).shape == (0, 16, 4, 4)


def _changes(seed: int, n: int = 24) -> ChangeSet:
    """A bright square that is new at the second date; another one that was there before."""
    rng = np.random.default_rng(seed)
    before = rng.integers(30, 90, (n, 3, SIDE, SIDE)).astype(np.int64)
    after = before + rng.integers(-8, 8, before.shape)
    labels = np.zeros((n, SIDE, SIDE), np.uint8)
    for k in range(n):
        (y, x), (v, u) = rng.integers(0, SIDE - 12, (2, 2))
        before[k, :, v : v + 10, u : u + 10] += 100
        after[k, :, v : v + 10, u : u + 10] += 100
        after[k, :, y : y + 12, x : x + 12] = 210
        labels[k, y : y + 12, x : x + 12] = 1
        labels[k][before[k, 0] > 110] = IGNORE
    images = np.stack([before, after], 1).clip(0, 255).astype(np.uint8)
    return ChangeSet(images=images, labels=labels)


def test_change_is_found_between_two_dates(tmp_path):
    test = _changes(9, 5)
    result = train_change(
        _changes(0),
        _changes(1),
        CONFIG,
        out=tmp_path,
        training=TRAINING,
        progress=False,
        augmentation=AugmentationConfig(),
    )
    assert result.figures["iou"] > 0.5
    score = detect_change(result.checkpoint, test.images[:, 0], test.images[:, 1], batch_size=3)
    assert score.shape == (5, SIDE, SIDE)
    known = test.labels != IGNORE
    assert score[known & (test.labels == 1)].mean() > score[known & (test.labels == 0)].mean() + 0.3
    np.testing.assert_array_equal(
        detect_change(result.checkpoint, test.images[2:3, 0], test.images[2:3, 1], batch_size=3)[0], score[2]
    )
    with pytest.raises(CheckpointError, match="needed is 'segmentation'"):
        SegmentationPredictor.load(result.checkpoint, device="cpu")
    with pytest.raises(ChangeError, match="cut both dates on one grid"):
        detect_change(result.checkpoint, test.images[:, 0], test.images[:2, 1])


def test_equal_dates_give_one_answer_everywhere():
    torch.manual_seed(0)
    model = ChangeDetector(CONFIG).eval()
    image = torch.randn(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        out = model.compare(image, image)
    assert torch.equal(out[0], out[1])


def test_change_sets_that_do_not_fit_are_refused(tmp_path):
    good = _changes(0, 2)
    with pytest.raises(ChangeError, match="both dates of each tile"):
        ChangeSet(images=good.images[:, :1], labels=good.labels)
    with pytest.raises(ChangeError, match="3 class names"):
        train_change(good, None, CONFIG, out=tmp_path, classes=("a", "b", "c"))


def test_zones_beyond_the_nine_are_ignored():
    labels = np.array([[0, 8, 9, 255]], np.uint8)
    np.testing.assert_array_equal(zone_labels(labels), [[0, 8, IGNORE, IGNORE]])
    assert len(ZONES) == 9


@pytest.mark.shared
def test_function_zones_are_learnt_from_real_tiles(shared, tmp_path):
    folder = shared / "reference" / "ufz"
    names = sorted(p.name for p in (folder / "img").glob("*.png"))
    images = np.stack([np.asarray(Image.open(folder / "img" / n).convert("RGB")).transpose(2, 0, 1) for n in names])
    labels = zone_labels(np.stack([np.asarray(Image.open(folder / "label" / n)) for n in names]))
    samples = SampleSet.image_only(images, labels, source="urban function zones")
    config = SegmentationConfig.of_size("tiny", classes=9)
    training = TrainingConfig(batch_size=6, epochs=12, learning_rate=3e-3, accelerator="cpu", validate_every=20)
    result = train_segmenter(
        samples,
        samples,
        config,
        out=tmp_path,
        training=training,
        augmentation=AugmentationConfig(symmetries=False, drop_nodata=0.0),
        classes=ZONES,
        progress=False,
    )
    present = sorted({int(v) for v in np.unique(labels)} - {IGNORE})
    chance = 1 / len(present)
    # twelve steps on its own tiles: it must at least do better than naming one class everywhere
    best_single = max((labels == k).sum() for k in present) / (labels != IGNORE).sum()
    predictor = SegmentationPredictor.load(result.checkpoint, device="cpu", batch_size=6)
    guess = predictor.probabilities(images, None).argmax(1)
    known = labels != IGNORE
    assert (guess == labels)[known].mean() > best_single
    assert result.figures["miou_present"] > chance / 2
    assert set(result.figures) >= {"miou", "iou_water", "iou_transport"}
