"""Backbones of other people: their weights, their answer tile by tile, their statistics, what the map adds."""

import itertools

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoints import load_checkpoint
from models.encoders.pyramid import PyramidEncoder, make_backbone, pyramid_config, tile_moments
from models.encoders.share import estimated_share, scene_level
from models.encoders.statistics import SceneStatistics, SceneStatisticsError, TileMoments
from models.encoders.weights import PACKAGES, BackboneWeightsError, load_backbone
from models.geolink.packing import pack
from models.geolink.synthetic import random_tile_graphs
from models.segmentation.config import SegmentationConfig
from models.segmentation.head_training import HeadTraining, decided, train_head
from models.segmentation.predictor import PredictionError, SegmentationPredictor
from models.segmentation.pyramid_model import PyramidSegmenter, smoothed
from models.tiles.samples import SampleSet
from tests.support.samples import rough_and_smooth

NAME = "efficientnet_lite0"
HEAD = HeadTraining(steps=40, cells=256)


@pytest.fixture(scope="module")
def config():
    return SegmentationConfig(encoder=pyramid_config(NAME), dropout=0.3, smooth_cells=1.0, feature_noise=1.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    safetensors.torch.save_file(make_backbone(NAME).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def trained(config, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("head")
    both = SampleSet.concat([rough_and_smooth(0), rough_and_smooth(1, 60)])
    return train_head(both, rough_and_smooth(2, 30), config, out=out, weights=weights, training=HEAD)


@pytest.mark.parametrize("name", PACKAGES)
def test_packaged_weights_fit_in_order_and_tell_textures_apart(name):
    pytest.importorskip(PACKAGES[name].module)
    backbone = make_backbone(name)
    record = load_backbone(backbone, name, "imagenet")
    assert record.file.startswith(name.replace("_", "-")) and "Apache-2.0" in record.licence
    # a real network tells textures apart: its deepest features of noise and of a flat tile differ by far
    rng = np.random.default_rng(0)
    noise, flat = torch.from_numpy(rng.standard_normal((1, 3, 64, 64), np.float32)), torch.zeros(1, 3, 64, 64)
    with torch.inference_mode():
        one, other = (backbone.eval().forward_features(x).mean((2, 3)) for x in (noise, flat))
    assert torch.nn.functional.cosine_similarity(one, other).item() < 0.9


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"conv.weight": torch.zeros(3)}, path)
    with pytest.raises(BackboneWeightsError, match="conv_stem"):
        load_backbone(make_backbone(NAME), NAME, path)
    with pytest.raises(BackboneWeightsError, match="no such file"):
        load_backbone(make_backbone(NAME), NAME, tmp_path / "none.pth")
    torch.save([print], tmp_path / "code.pth")
    with pytest.raises(BackboneWeightsError, match="cannot be read"):
        load_backbone(make_backbone(NAME), NAME, tmp_path / "code.pth")
    with pytest.raises(BackboneWeightsError, match="--weights PATH"):
        load_backbone(make_backbone("resnet18"), "resnet18", "imagenet")
    with pytest.raises(BackboneWeightsError, match="timm knows no"):
        make_backbone("efficientnet_nonsense")


def test_weights_are_matched_by_order_where_names_differ(tmp_path):
    torch.manual_seed(1)
    made = make_backbone(NAME)
    renamed = {f"their_{k:04d}": v for k, v in enumerate(made.state_dict().values())}
    torch.save(renamed, tmp_path / "their.pth")
    other = make_backbone(NAME)
    load_backbone(other, NAME, tmp_path / "their.pth")
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), other.state_dict().values(), strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 5))
def test_moments_of_tiles_pool_to_those_of_all_cells(seed, tiles, side):
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(3, 2, (tiles, 4, side, side)).astype(np.float32))
    images = torch.from_numpy(rng.integers(1, 255, (tiles, 3, side * 2, side * 2)).astype(np.uint8))
    images[0, :, :2, :2] = 0  # the first cell of the first tile holds no data
    cells = features.permute(0, 2, 3, 1).reshape(-1, 4)[1:].numpy()
    moments = tile_moments(features, images)
    if not len(cells):
        with pytest.raises(SceneStatisticsError):
            moments.pooled()
        return
    mean, std = moments.pooled()
    np.testing.assert_allclose(mean, cells.mean(0), rtol=1e-4)
    np.testing.assert_allclose(std, np.maximum(cells.astype(np.float64).std(0), 1e-4), rtol=1e-3)
    order = rng.permutation(tiles)
    shuffled = TileMoments.concat([moments.at(np.array([k])) for k in order]).pooled()
    np.testing.assert_allclose(shuffled[0], mean, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.02, 0.98), st.floats(0.1, 0.9), st.integers(0, 1000))
def test_the_share_of_a_scene_is_found_from_its_scores(true, source, seed):
    # scores of a model that is right for the source share, on a scene of another share: two Gaussians of the logit
    rng = np.random.default_rng(seed)
    is_village = rng.random(20_000) < true
    evidence = rng.normal(np.where(is_village, 3.0, -3.0), np.sqrt(6.0))  # its log likelihood ratio is itself
    p = 1 / (1 + np.exp(-(evidence + np.log(source / (1 - source)))))
    assert estimated_share(p, source) == pytest.approx(true, abs=0.03)


def test_the_level_falls_only_where_the_share_is_clearly_lower():
    assert scene_level(0.10, 0.30) == pytest.approx(-1.35, abs=0.005)
    assert scene_level(0.25, 0.30) == 0 and scene_level(0.6, 0.3) == 0
    levels = [scene_level(s, 0.3) for s in np.linspace(0, 1, 101)]
    assert all(a <= b for a, b in itertools.pairwise(levels)) and np.isfinite(levels).all()


def test_smoothing_is_a_gaussian_that_keeps_the_mean():
    scipy = pytest.importorskip("scipy.ndimage")
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 2, 14, 14)).astype(np.float32))
    got = smoothed(x, 1.5).numpy()
    want = scipy.gaussian_filter(x.numpy(), (0, 0, 1.5, 1.5), mode="mirror", truncate=4.0)
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert torch.equal(smoothed(x, 0.0), x)


def test_the_map_adds_exactly_nothing_where_there_is_none(config):
    torch.manual_seed(0)
    model = PyramidSegmenter(config).eval()
    torch.nn.init.normal_(model.classifier.weight, std=0.1)
    torch.nn.init.normal_(model.map_classifier.weight)
    graphs = pack(random_tile_graphs([(3, 2, 4), (0, 0, 0), (5, 0, 1)], n_tag_sets=6, seed=0))
    table = torch.randn(6, 512)
    images = torch.rand(3, 3, 64, 64)
    packed = model.encoder.map_effect(
        model.encoder.standardised(model.encoder.grid_features(images), None, None), graphs, table
    )
    assert packed is not None and (packed[1] == 0).all() and (packed[0] != 0).any()
    with torch.inference_mode():
        seen, alone = model(images, graphs, table), model(images, None, None)
    assert torch.equal(seen[1], alone[1]) and not torch.equal(seen[0], alone[0])


def test_a_tile_depends_on_itself_and_its_scene_alone(trained):
    rng = np.random.default_rng(3)
    scenes = SceneStatistics(
        mean=rng.normal(size=(2, 496)).astype(np.float32),
        std=rng.uniform(0.5, 2, (2, 496)).astype(np.float32),
        level=np.array([0.0, -1.0], np.float32),
    )
    model = SegmentationPredictor.load(trained.checkpoint, batch_size=4, scenes=scenes, device="cpu")
    tiles = rng.integers(0, 255, (4, 3, 64, 64)).astype(np.uint8)
    shares = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.25, 0.75]], np.float32)
    together = model.predict(tiles, None, shares)
    for order in ([2], [3, 1], [1, 0, 2]):
        assert np.array_equal(model.predict(tiles[order], None, shares[order]), together[order])
    with pytest.raises(PredictionError, match="2 scenes"):
        model.predict(tiles, None)
    unadapted = SegmentationPredictor.load(trained.checkpoint, batch_size=4, device="cpu")
    assert unadapted.digest != model.digest
    assert not np.allclose(unadapted.predict(tiles, None), together)


def test_adaptation_takes_a_change_of_level_out_of_features(trained, weights):
    # the same ground, its features shifted and stretched: standardised by its own statistics it reads the same
    model = PyramidSegmenter(SegmentationConfig.model_validate(load_checkpoint(trained.checkpoint).config.model)).eval()
    load_checkpoint(trained.checkpoint).load_into(model)
    features = torch.randn(2, 496, 4, 4)
    images = torch.full((2, 3, 64, 64), 9, dtype=torch.uint8)
    gain, offset = torch.rand(496, 1, 1) + 0.5, torch.randn(496, 1, 1)

    def logits(x):
        mean, std = (torch.from_numpy(v) for v in tile_moments(x, images).pooled())
        with torch.inference_mode():
            return model.cell_logits(x, None, None, mean, std)

    torch.testing.assert_close(logits(features), logits(features * gain + offset), rtol=1e-3, atol=1e-3)


def test_training_is_the_same_twice_and_learns(trained, config, weights, tmp_path):
    both = SampleSet.concat([rough_and_smooth(0), rough_and_smooth(1, 60)])
    again = train_head(both, rough_and_smooth(2, 30), config, out=tmp_path, weights=weights, training=HEAD)
    assert again.digest == trained.digest
    assert trained.figures["iou"] > 0.5  # noise against flat ground, on a place and a look never learnt from
    card = (trained.checkpoint / "card.md").read_text(encoding="utf-8")
    assert "file given by the user" in card and "each left out in turn" in card


def test_the_decision_of_left_out_places_comes_to_the_default_thresholds():
    from models.calibration import Calibration
    from models.segmentation.calibration import CalibrationSample

    rng = np.random.default_rng(0)
    labels = (rng.random(20_000) < 0.2).astype(np.int64)
    margin = rng.normal(np.where(labels == 1, 0.5, -1.5), 1.2)
    sample = CalibrationSample(
        logits=np.column_stack([0 * margin, margin]).astype(np.float32),
        labels=labels,
        place=rng.integers(0, 2, 20_000),
    )
    moved = decided(Calibration(temperature=1.0, bias=(0.0, 0.0)), sample)

    def overlap(threshold: float, bias: float) -> float:
        chosen = 1 / (1 + np.exp(-(margin + bias))) >= threshold
        return float((chosen & (labels == 1)).sum() / (chosen | (labels == 1)).sum())

    best = max(overlap(t, 0.0) for t in np.arange(0.05, 0.96, 0.01))
    assert overlap(0.475, moved.bias[1]) == pytest.approx(best, abs=0.01)
    assert decided(Calibration(), None) == Calibration()


def test_statistics_survive_a_round_trip(tmp_path):
    one = SceneStatistics(
        mean=np.ones((2, 3), np.float32), std=np.full((2, 3), 2, np.float32), level=np.zeros(2, np.float32)
    )
    one.save(tmp_path / "s.npz")
    assert SceneStatistics.load(tmp_path / "s.npz").digest == one.digest
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(SceneStatisticsError, match="run the stage adapt again"):
        SceneStatistics.load(tmp_path / "bad.npz")


def test_a_vision_transformer_of_timm_is_a_pyramid_too():
    made = pyramid_config("vit_tiny_patch16_224")
    assert made.strides_px == (16, 16, 16, 16) and made.grid_stride_px == 16
    features = PyramidEncoder(made).eval().grid_features(torch.rand(1, 3, 224, 224))
    assert features.shape == (1, made.width, 14, 14)
