"""What the map adds to a frozen pyramid: learnt where it says something, taken back where it does not."""

from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoints import load_checkpoint
from models.encoders.pyramid import make_backbone, pyramid_config
from models.geolink.graph import EDGE_TYPES, NODE_TYPES, TileGraphs
from models.geolink.packing import pack
from models.geolink.synthetic import random_tile_graphs
from models.segmentation.config import SegmentationConfig
from models.segmentation.head_training import HeadTraining, train_head
from models.segmentation.map_training import MapTraining
from models.segmentation.predictor import SegmentationPredictor
from models.tiles.graphs import thinned_graphs
from models.tiles.samples import SampleSet

NAME = "efficientnet_lite0"
TAGS = [{"highway": "residential"}, {"place": "quarter"}]
TRAINING = HeadTraining(steps=20, cells=256, map=MapTraining(steps=60, tiles=8, learning_rate=5e-3))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    safetensors.torch.save_file(make_backbone(NAME).state_dict(), path)
    return path


def quarter(seed: int, *, tells: bool) -> SampleSet:
    """Noise whose labels no image shows: a tile is village or not; the map says which, or anything."""
    rng = np.random.default_rng(seed)
    n = 16
    village = rng.permutation(n) < n // 2
    images = rng.integers(1, 255, (n, 3, 64, 64)).astype(np.uint8)
    labels = np.repeat(village, 64 * 64).reshape(n, 64, 64).astype(np.uint8)
    graphs = random_tile_graphs([(4, 0, 0)] * n, n_tag_sets=2, seed=seed)
    said = village if tells else rng.permutation(n) < n // 2
    ids = {t: said[tile].astype(np.int64) for t, tile in graphs.node_tile.items()}
    return SampleSet(
        images=images,
        labels=labels,
        graphs=replace(graphs, semantic_id=ids),
        tag_sets=TAGS,
        resolution_m=1.0,
        source=f"quarter {seed}",
    )


def train(samples: SampleSet, validation: SampleSet | None, weights, out):
    config = SegmentationConfig(encoder=pyramid_config(NAME), dropout=0.3, smooth_cells=1.0, feature_noise=1.0)
    return train_head(samples, validation, config, out=out, weights=weights, training=TRAINING)


@pytest.fixture(scope="module")
def told(weights, tmp_path_factory):
    return train(quarter(0, tells=True), quarter(3, tells=True), weights, tmp_path_factory.mktemp("told"))


def test_a_map_that_tells_is_learnt(told):
    assert told.figures["loss_map"] < 0.9 * told.figures["loss_image"]
    assert told.figures["loss_map"] < told.figures["loss_wrong_map"] - 0.1
    assert "The map takes part" in (told.checkpoint / "card.md").read_text(encoding="utf-8")


def test_the_answer_without_a_map_is_that_of_a_model_that_never_saw_one(told, weights, tmp_path):
    alone = train(quarter(0, tells=True).without_map(), quarter(3, tells=True).without_map(), weights, tmp_path)
    one, other = (load_checkpoint(t.checkpoint) for t in (told, alone))
    assert other.config.tag_encoder is None and one.config.tag_encoder is not None
    assert one.config.calibration == other.config.calibration
    for name, value in other.weights.items():
        if not name.startswith(("encoder.osm", "encoder.fusion", "map_classifier")):
            assert torch.equal(value, one.weights[name]), name
    samples = quarter(2, tells=True)
    answers = [
        SegmentationPredictor.load(t.checkpoint, TAGS, batch_size=4, device="cpu").predict(samples.images[:4], None)
        for t in (told, alone)
    ]
    assert np.array_equal(*answers)


def test_tiles_without_objects_and_batch_mates(told):
    samples = quarter(2, tells=True)
    model = SegmentationPredictor.load(told.checkpoint, TAGS, batch_size=4, device="cpu")
    singles = [samples.tile(k)[2] for k in range(4)]
    singles[1] = TileGraphs.empty(1, rich=samples.graphs.is_rich)
    together = model.predict(samples.images[:4], TileGraphs.concat(singles))
    alone = model.predict(samples.images[:4], None)
    assert np.array_equal(together[1], alone[1]) and not np.array_equal(together[0], alone[0])
    for order in ([2], [3, 1], [1, 0, 2]):
        graphs = TileGraphs.concat([singles[k] for k in order])
        assert np.array_equal(model.predict(samples.images[order], graphs), together[order])


def test_a_map_that_says_anything_is_taken_back(weights, tmp_path):
    random = train(quarter(0, tells=False), quarter(1, tells=False), weights, tmp_path)
    read = load_checkpoint(random.checkpoint)
    assert read.config.tag_encoder is None and (read.weights["map_classifier.weight"] == 0).all()
    assert random.figures["loss_map"] >= min(random.figures["loss_image"], random.figures["loss_wrong_map"])
    assert "not used" in (random.checkpoint / "card.md").read_text(encoding="utf-8")


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.integers(0, 10_000))
def test_thinned_graphs_are_graphs_of_what_is_left(share, seed):
    graphs = random_tile_graphs([(3, 2, 4), (0, 0, 0), (5, 0, 1)], n_tag_sets=6, seed=seed)
    left = thinned_graphs(graphs, share, np.random.default_rng(seed))
    left.validate()
    assert left.n_tiles == 3
    draws = np.random.default_rng(seed)
    for t in NODE_TYPES:  # the same draws, one by one
        kept = draws.random(len(graphs.node_tile[t])) >= share
        kept = kept if share > 0 else np.ones(len(kept), bool)
        assert np.array_equal(left.position[t], graphs.position[t][kept])
    for src, dst in EDGE_TYPES:
        ends = {tuple(np.r_[left.position[src][a], left.position[dst][b]]) for a, b in left.edge_index[src, dst].T}
        known = {
            tuple(np.r_[graphs.position[src][a], graphs.position[dst][b]]) for a, b in graphs.edge_index[src, dst].T
        }
        assert ends <= known and len(ends) <= len(known)
    if any(len(v) for v in left.node_tile.values()):
        pack(left)
