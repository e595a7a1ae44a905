import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geolink.graph import EDGE_TYPES, GEOMETRY_COLUMNS, NODE_TYPES, POSITION_POINTS, TileGraphs
from models.geolink.synthetic import random_tile_graphs
from models.pretraining.augmentation import PairAugmentation, augment_pair, cropped_image, draw_crop
from models.pretraining.pairs import MANIFEST_NAME, PairsError, PairSet, PairWriter
from models.tiles.crops import Crop, cropped_graph
from models.tiles.graphs import split_graphs
from models.tiles.shards import SampleError, graph_arrays

TAGS = [{"building": "yes"}, {"highway": "residential"}, {}, {"landuse": "farmland"}]


def _equal(a: TileGraphs, b: TileGraphs) -> None:
    left, right = graph_arrays(a), graph_arrays(b)
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name], err_msg=name)


def _pairs(seed: int, n: int, side: int = 12):
    rng = np.random.default_rng(seed)
    counts = [tuple(int(v) for v in c) for c in rng.integers(0, 4, (n, 3))]
    return rng.integers(0, 256, (n, 3, side, side), np.uint8), random_tile_graphs(
        counts, n_tag_sets=len(TAGS), seed=seed
    )


@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), shard=st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_what_is_written_is_read_however_it_was_added(tmp_path_factory, seed, sizes, shard):
    n = sum(sizes)
    images, graphs = _pairs(seed, n)
    singles = split_graphs(graphs)
    folders = [tmp_path_factory.mktemp("p") for _ in range(2)]
    for folder, cuts in zip(folders, (sizes, [1] * n), strict=True):
        with PairWriter(folder, shard_tiles=shard, source="x") as writer:
            start = 0
            for size in cuts:
                part = TileGraphs.concat(singles[start : start + size])
                writer.add(images[start : start + size], part, TAGS)
                start += size
    assert {p.name: p.read_bytes() for p in folders[0].iterdir()} == {
        p.name: p.read_bytes() for p in folders[1].iterdir()
    }
    pairs = PairSet(folders[0], cached_shards=2)
    assert len(pairs) == n and pairs.tag_sets == TAGS and pairs.tile_px == 12
    for k in np.random.default_rng(seed).permutation(n):
        image, graph = pairs[int(k)]
        np.testing.assert_array_equal(image, images[k])
        _equal(graph, singles[k])
    order = pairs.order(np.random.default_rng(seed))
    assert sorted(order) == list(range(n))
    with pytest.raises(IndexError):
        pairs[n]


def test_tables_of_several_cities_are_merged(tmp_path):
    images, graphs = _pairs(1, 4)
    with PairWriter(tmp_path, shard_tiles=3) as writer:
        writer.add(images, graphs, TAGS)
        writer.add(images, graphs, TAGS[::-1])
    pairs = PairSet(tmp_path)
    assert len(pairs.tag_sets) == 4
    for k in range(4):
        first, second = pairs[k][1], pairs[4 + k][1]
        for t in NODE_TYPES:
            meant = [TAGS[::-1][i] for i in graphs.select([k]).semantic_id[t]]
            assert [pairs.tag_sets[i] for i in second.semantic_id[t]] == meant
            assert [pairs.tag_sets[i] for i in first.semantic_id[t]] == [
                TAGS[i] for i in graphs.select([k]).semantic_id[t]
            ]


def test_an_order_reads_each_shard_once(tmp_path):
    images, graphs = _pairs(2, 12)
    with PairWriter(tmp_path, shard_tiles=2) as writer:
        writer.add(images, graphs, TAGS)
    pairs = PairSet(tmp_path, cached_shards=3)
    shards = [k // 2 for k in pairs.order(np.random.default_rng(0))]
    changes = [len(set(shards[i : i + 4])) for i in range(0, 12, 4)]
    assert changes == [2, 2, 2]


def test_unfinished_and_wrong_folders_are_refused(tmp_path):
    images, graphs = _pairs(3, 3)
    unfinished = PairWriter(tmp_path, shard_tiles=1)
    unfinished.add(images, graphs, TAGS)
    assert (tmp_path / "shard-00000.npz").exists()
    with pytest.raises(SampleError, match=f"has no {MANIFEST_NAME}"):
        PairSet(tmp_path)
    with PairWriter(tmp_path, shard_tiles=2) as writer:
        writer.add(images, graphs, TAGS)
        with pytest.raises(PairsError, match=r"needed are uint8 \(n, 3, 12, 12\)"):
            writer.add(images[..., :10, :10], graphs, TAGS)
        with pytest.raises(PairsError, match="3 images come with graphs of 2"):
            writer.add(images, graphs.select([0, 1]), TAGS)
        with pytest.raises(PairsError, match="cannot be mixed"):
            writer.add(images, TileGraphs.empty(3, rich=False), TAGS)
    assert len(PairSet(tmp_path)) == 3
    with pytest.raises(PairsError, match="holds pairs already"):
        PairWriter(tmp_path)
    with pytest.raises(PairsError, match="no pair was added"):
        PairWriter(tmp_path / "new").finish()
    (tmp_path / "shard-00001.npz").write_bytes(b"PK")
    with pytest.raises(SampleError, match=r"shard-00001\.npz cannot be read"):
        PairSet(tmp_path)[2]


@given(seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_crops_have_the_area_and_aspect_asked_for(seed):
    config = PairAugmentation()
    crop = draw_crop(config, np.random.default_rng(seed))
    assert 0 <= crop.left <= 1 - crop.width + 1e-12 and 0 <= crop.top <= 1 - crop.height + 1e-12
    if max(crop.width, crop.height) < 1:
        assert 0.4 - 1e-9 <= crop.width * crop.height <= 0.9 + 1e-9
        assert 0.75 - 1e-9 <= crop.width / crop.height <= 1.5 + 1e-9


def test_crops_are_wider_than_tall_and_taller_than_wide():
    rng = np.random.default_rng(0)
    ratios = np.array([c.width / c.height for c in (draw_crop(PairAugmentation(), rng) for _ in range(400))])
    assert (ratios > 1.05).mean() > 0.2 and (ratios < 0.95).mean() > 0.2


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_image_and_graph_stay_in_step(seed):
    """A bright pixel at each node's point is, after cropping, turning and resizing, still at the node's point."""
    rng = np.random.default_rng(seed)
    side = 64
    graph = random_tile_graphs([(1, 0, 0)], n_tag_sets=1, seed=seed)
    image = np.zeros((3, side, side), np.uint8)
    col, row = np.minimum((graph.position["point"][0] * side).astype(int), side - 1)
    image[:, max(0, row - 1) : row + 2, max(0, col - 1) : col + 2] = 255
    cut, seen = augment_pair(image, graph, side_px=48, config=PairAugmentation(colour_share=0), rng=rng)
    assert cut.shape == (3, 48, 48) and cut.dtype == np.uint8
    if seen.n_nodes("point") and cut.max() > 100:
        weight = cut[0].astype(float)
        rows, cols = np.mgrid[0:48, 0:48] + 0.5
        x, y = (weight * cols).sum() / weight.sum() / 48, (weight * rows).sum() / weight.sum() / 48
        at = seen.position["point"][0]
        assert np.hypot(at[0] - x, at[1] - y) < 3.5 / 48


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_crop_keeps_what_it_shows(seed):
    rng = np.random.default_rng(seed)
    graph = random_tile_graphs([tuple(int(v) for v in rng.integers(0, 8, 3))], n_tag_sets=3, seed=seed)
    crop = draw_crop(PairAugmentation(), rng)
    seen = cropped_graph(graph, crop)
    seen.validate()
    leaves = GEOMETRY_COLUMNS.index("leaves_tile")
    kept = {}
    for t in NODE_TYPES:
        xy = graph.position[t].reshape(-1, POSITION_POINTS[t], 2)
        inside = (
            (xy[..., 0] >= crop.left)
            & (xy[..., 0] <= crop.left + crop.width)
            & (xy[..., 1] >= crop.top)
            & (xy[..., 1] <= crop.top + crop.height)
        )
        kept[t] = [k for k in range(len(xy)) if inside[k].any()]
        assert seen.n_nodes(t) == len(kept[t])
        for new, old in enumerate(kept[t]):
            assert seen.semantic_id[t][new] == graph.semantic_id[t][old]
            back = seen.position[t][new].reshape(-1, 2) * [crop.width, crop.height] + [crop.left, crop.top]
            np.testing.assert_allclose(back, xy[old], atol=1e-5)
            if not inside[old].all():
                assert seen.geometry[t][new][leaves] == 1
    for src, dst in EDGE_TYPES:
        want = [(a, b) for a, b in graph.edge_index[src, dst].T if a in kept[src] and b in kept[dst]]
        got = [(kept[src][a], kept[dst][b]) for a, b in seen.edge_index[src, dst].T]
        assert got == [(int(a), int(b)) for a, b in want]


def test_the_whole_tile_is_the_identity():
    images, graphs = _pairs(4, 1)
    whole = Crop(left=0, top=0, width=1, height=1)
    cut, made = cropped_image(images[0], whole, 12)
    np.testing.assert_array_equal(cut, images[0])
    assert made == whole
    seen = cropped_graph(graphs, whole)
    leaves = GEOMETRY_COLUMNS.index("leaves_tile")
    for t in NODE_TYPES:
        np.testing.assert_array_equal(seen.position[t], graphs.position[t])
        np.testing.assert_array_equal(np.delete(seen.geometry[t], leaves, 1), np.delete(graphs.geometry[t], leaves, 1))


def test_augmentation_is_repeatable():
    images, graphs = _pairs(5, 1, side=40)
    one, two = (
        augment_pair(images[0], graphs, side_px=32, config=PairAugmentation(), rng=np.random.default_rng(3))
        for _ in "ab"
    )
    np.testing.assert_array_equal(one[0], two[0])
    _equal(one[1], two[1])
