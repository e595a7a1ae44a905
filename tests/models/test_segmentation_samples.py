import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geolink.config import GeoLinkConfig
from models.geolink.graph import EDGE_TYPES, GEOMETRY_COLUMNS, NODE_TYPES, TileGraphs
from models.tiles.augmentation import (
    AugmentationConfig,
    augment,
    jittered,
    symmetric_array,
    symmetric_graphs,
    without_corner,
)
from models.tiles.batches import BatchMaker
from models.tiles.graphs import split_graphs
from models.tiles.samples import IGNORE, SampleSet, share_tables
from models.tiles.shards import SampleError
from tests.support.samples import assert_equal_graphs, random_graphs, random_samples


@given(seed=st.integers(0, 10_000), shard=st.integers(1, 7), n=st.integers(0, 6))
@settings(max_examples=15, deadline=None)
def test_saving_and_loading_change_nothing(tmp_path_factory, seed, shard, n):
    samples = random_samples(seed, n)
    folder = tmp_path_factory.mktemp("s")
    samples.save(folder, shard_tiles=shard)
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    read = SampleSet.load(folder)
    np.testing.assert_array_equal(read.images, samples.images)
    np.testing.assert_array_equal(read.labels, samples.labels)
    assert_equal_graphs(read.graphs, samples.graphs)
    assert (read.tag_sets, read.resolution_m, read.source) == (samples.tag_sets, 1.0, samples.source)
    np.testing.assert_array_equal(read.place, samples.place)
    assert read.places == samples.places and read.place.dtype == np.int32
    samples.save(folder, shard_tiles=shard)
    assert files == {p.name: p.read_bytes() for p in folder.iterdir()}


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_split_select_and_concat_agree_with_the_contract(seed):
    samples = random_samples(seed)
    assert_equal_graphs(TileGraphs.concat(split_graphs(samples.graphs)), samples.graphs)
    order = np.random.default_rng(seed).integers(0, len(samples), 7)
    assert_equal_graphs(samples.select(order).graphs, samples.graphs.select(order))


def test_concat_merges_tables_of_tag_sets():
    a, b = random_samples(1), random_samples(2)
    b = SampleSet(images=b.images, labels=b.labels, graphs=b.graphs, tag_sets=[{"x": "y"}, *a.tag_sets[:3]])
    both = SampleSet.concat([a, b])
    assert len(both) == 10 and both.source == "seed 1"
    for k, (part, offset) in enumerate(((a, 0), (b, len(a)))):
        for t in NODE_TYPES:
            kept = (both.graphs.node_tile[t] >= offset) & (both.graphs.node_tile[t] < offset + 5)
            meant = [part.tag_sets[i] for i in part.graphs.semantic_id[t]]
            assert [both.tag_sets[i] for i in both.graphs.semantic_id[t][kept]] == meant, k
    assert len(both.tag_sets) == 5
    assert share_tables([a, b])[1].tag_sets == both.tag_sets


def _named(samples: SampleSet) -> list[str]:
    return [samples.places[k] for k in samples.place]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_each_tile_keeps_its_place(seed):
    a, b = random_samples(seed), random_samples(seed + 1)
    both = SampleSet.concat([a, b])
    assert _named(both) == _named(a) + _named(b)
    assert both.places == ("common ground", f"ground {seed}", f"ground {seed + 1}")
    order = np.random.default_rng(seed).integers(0, len(both), 7)
    assert _named(both.select(order)) == [_named(both)[k] for k in order]
    assert [p.places for p in share_tables([a, b])] == [both.places] * 2
    assert set(_named(both.at("common ground"))) <= {"common ground"}
    assert len(both.at("common ground")) == _named(both).count("common ground")


def test_a_set_without_places_is_one_place(tmp_path):
    s = random_samples(3)
    plain = SampleSet(images=s.images, labels=s.labels, graphs=s.graphs, tag_sets=s.tag_sets, source="old")
    assert _named(plain) == ["old"] * 5
    s.save(tmp_path, shard_tiles=2)
    for shard in tmp_path.glob("*.npz"):  # as older versions wrote it
        arrays = dict(np.load(shard))
        del arrays["place"]
        np.savez(shard, **arrays)
    manifest = json.loads((tmp_path / "samples.json").read_text())
    del manifest["places"]
    (tmp_path / "samples.json").write_text(json.dumps(manifest))
    assert _named(SampleSet.load(tmp_path)) == ["seed 3"] * 5


def test_batches_carry_the_place():
    make = BatchMaker(random_samples(4), GeoLinkConfig.tiny())
    batch = make(np.array([3, 0, 3]), np.random.default_rng(0))
    want = random_samples(4).place[[3, 0, 3]]
    assert batch.place.dtype == torch.int64 and batch.place.tolist() == want.tolist() and len(batch) == 3
    moved = batch.to("meta")
    assert {t.device.type for t in (moved.images, moved.labels, moved.place, moved.graphs.points)} == {"meta"}


def test_parts_that_do_not_fit_are_named(tmp_path):
    s = random_samples(0)
    with pytest.raises(SampleError, match=r"place is int32 \(4,\), the images need int32 \(5,\)"):
        replace(s, place=s.place[:4])
    with pytest.raises(SampleError, match="a tile has place 2, there are 2 places"):
        replace(s, place=np.full(5, 2, np.int32))
    with pytest.raises(SampleError, match="name each place once"):
        replace(s, places=("a", "a"))
    with pytest.raises(SampleError, match="no place 'b' among the samples; there are common ground, ground 0"):
        s.at("b")
    with pytest.raises(SampleError, match=r"labels are uint8 \(4, 8, 8\), the images need uint8 \(5, 8, 8\)"):
        SampleSet(images=s.images, labels=s.labels[:4], graphs=s.graphs, tag_sets=s.tag_sets)
    with pytest.raises(SampleError, match="graphs hold 2 tiles, there are 5 images"):
        SampleSet(images=s.images, labels=s.labels, graphs=TileGraphs.empty(2))
    with pytest.raises(SampleError, match="the table has 0 tag sets"):
        SampleSet(images=s.images, labels=s.labels, graphs=s.graphs)
    with pytest.raises(SampleError, match="images are float64"):
        SampleSet(images=s.images / 1.0, labels=s.labels, graphs=s.graphs)
    with pytest.raises(SampleError, match="is no sample set"):
        SampleSet.load(tmp_path)
    s.save(tmp_path, shard_tiles=2)
    shard = tmp_path / "shard-00001.npz"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(SampleError, match=r"shard-00001\.npz cannot be read"):
        SampleSet.load(tmp_path)
    shard.unlink()
    with pytest.raises(SampleError, match=r"shard-00001\.npz cannot be read"):
        SampleSet.load(tmp_path)


@given(seed=st.integers(0, 10_000), symmetry=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_a_symmetry_keeps_pixels_and_nodes_in_step(seed, symmetry):
    rng = np.random.default_rng(seed)
    side = 32
    graphs = random_graphs(rng, 1)
    turned = symmetric_graphs(graphs, symmetry)
    for t in NODE_TYPES:
        xy = graphs.position[t].reshape(-1, 2)
        for place, moved in zip(xy, turned.position[t].reshape(-1, 2), strict=True):
            mark = np.zeros((side, side), np.uint8)
            col, row = np.minimum((place * side).astype(int), side - 1)
            mark[row, col] = 1
            r, c = np.argwhere(symmetric_array(mark, symmetry) == 1)[0]
            # the node lies within the pixel that moved, up to the rounding of 1 - x at a pixel's edge
            assert abs(moved[0] * side - (c + 0.5)) <= 0.5 + 1e-4
            assert abs(moved[1] * side - (r + 0.5)) <= 0.5 + 1e-4
    for src, dst in EDGE_TYPES:
        # bearings follow the moved points
        a, b = turned.edge_index[src, dst]
        step = turned.position[dst][b, :2] - turned.position[src][a, :2]
        length = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)
        got = turned.edge_attr[src, dst][:, -2:]
        np.testing.assert_allclose(got, np.stack([step[:, 0] / length, -step[:, 1] / length], 1), atol=2e-3)


@given(angle=st.floats(0, np.pi), symmetry=st.integers(0, 7))
def test_orientations_turn_with_the_tile(angle, symmetry):
    ends = np.array([[0.5, 0.5], [0.5 + 0.3 * np.cos(angle), 0.5 - 0.3 * np.sin(angle)]], np.float32)
    base = TileGraphs.empty(1)
    shape = np.zeros((1, len(GEOMETRY_COLUMNS)), np.float32)
    cos, sin = GEOMETRY_COLUMNS.index("cos_2_orientation"), GEOMETRY_COLUMNS.index("sin_2_orientation")
    shape[0, cos], shape[0, sin] = np.cos(2 * angle), np.sin(2 * angle)
    line = np.concatenate([ends[0], ends[0], ends[1]])[None].astype(np.float32)
    graphs = TileGraphs(
        1,
        {**base.node_tile, "line": np.zeros(1, np.int64)},
        {**base.semantic_id, "line": np.zeros(1, np.int64)},
        {**base.position, "line": line},
        {**base.geometry, "line": shape},
        base.edge_index,
        base.edge_attr,
    )
    turned = symmetric_graphs(graphs, symmetry)
    x0, y0, _, _, x1, y1 = turned.position["line"][0]
    after = np.arctan2(-(y1 - y0), x1 - x0)
    np.testing.assert_allclose(
        turned.geometry["line"][0, [cos, sin]], [np.cos(2 * after), np.sin(2 * after)], atol=1e-4
    )


def test_symmetries_are_eight_and_different():
    tile = np.arange(9, dtype=np.uint8).reshape(3, 3)
    assert len({symmetric_array(tile, k).tobytes() for k in range(8)}) == 8


def test_augmentation_is_repeatable_and_keeps_nodata():
    samples = random_samples(5, n=1, side=32)
    image = samples.images[0].copy()
    image[:, :4] = 0
    config = AugmentationConfig(drop_map=0.0, drop_nodata=1.0)
    one, two = (
        augment(image, samples.labels[0], samples.graphs, config=config, rng=np.random.default_rng(8)) for _ in range(2)
    )
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert_equal_graphs(one[2], two[2])
    assert one[0].dtype == np.uint8 and one[0].shape == image.shape
    blank = ~jittered(image, config, np.random.default_rng(1)).any(0)
    assert blank[:4].all()
    pixels, label = without_corner(image, samples.labels[0], np.random.default_rng(2))
    gone = ~pixels.any(0) & image.any(0)
    assert gone.any() and (label[gone] == IGNORE).all()


def test_dropping_the_map_leaves_an_empty_graph():
    samples = random_samples(6, n=1)
    _, _, graph = augment(
        samples.images[0],
        samples.labels[0],
        samples.graphs,
        config=AugmentationConfig(drop_map=1.0),
        rng=np.random.default_rng(0),
    )
    assert_equal_graphs(graph, TileGraphs.empty(1))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_colours_neither_make_nor_fill_no_data(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 6, (3, 24, 24)).astype(np.uint8)  # dark ground, as of a shadow
    image[:, :8] = 0
    strong = AugmentationConfig(brightness=0.5, contrast=0.9, saturation=0.9)
    changed = jittered(image, strong, np.random.default_rng(seed))
    np.testing.assert_array_equal(changed.any(0), image.any(0))


@given(seed=st.integers(0, 1000), blank=st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_no_data_does_not_move_the_centre_of_contrast(seed, blank):
    """A tile with a blank border gets the colours of the tile without it."""
    image = np.random.default_rng(seed).integers(1, 256, (3, 24, 24)).astype(np.uint8)
    image[:, :, :blank] = 0
    config = AugmentationConfig(noise=0.0)
    padded = np.concatenate([np.zeros_like(image), image], axis=2)
    one, two = (jittered(i, config, np.random.default_rng(seed)) for i in (image, padded))
    assert np.abs(one.astype(int) - two[:, :, 24:]).max() <= 1  # sums over two shapes round differently
