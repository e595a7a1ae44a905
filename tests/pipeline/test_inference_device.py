"""What a GPU will be asked to do, counted without one: shapes, copies, operations, memory that ends.

On torch's meta device nothing can be waited for: a forward pass that asks for a value fails there.
"""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.checkpoints import CheckpointConfig, TagEncoderId
from models.geolink.packing import Buckets, pack
from models.geolink.staging import staged
from models.geolink.text import HashedTagEncoder, tag_set_embeddings
from models.segmentation.config import SegmentationConfig
from models.segmentation.device import DeviceMemoryError, default_batch, keep_weights_in
from models.segmentation.model import GeoLinkSegmenter
from models.segmentation.predictor import SegmentationPredictor
from pipeline.graph import CityGraph
from pipeline.imagery import open_imagery
from pipeline.inference import predict_scores
from pipeline.inference.blocks import BlockPlan
from pipeline.inference.halving import halving
from pipeline.inference.sums import DeviceSums
from pipeline.inference.uncertainty import SymmetryEnsemble
from pipeline.vectors import read_features
from regions.demo import generate_demo_city
from regions.raster.grid import Tiling

pytestmark = pytest.mark.xdist_group("inference-device")
TILING = Tiling(224, 168)


class Operations(TorchDispatchMode):
    """Counts operations, and among them the copies from the host to another device."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()
        self.copies = self.casts = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.seen[func.overloadpacket.__name__] += 1
        source = next((a for a in args if isinstance(a, torch.Tensor)), None)
        if isinstance(out, torch.Tensor) and source is not None and func.overloadpacket.__name__ in {"to", "_to_copy"}:
            self.copies += source.device != out.device
            self.casts += source.dtype != out.dtype
        return out


class City:
    """A demo city, its graph and its tiles."""

    def __init__(self, folder):
        city = generate_demo_city(folder / "city", side_m=1000)
        self.scenes = city.imagery
        with open_imagery(self.scenes) as imagery:
            self.grid = imagery.grid
            self.plan = BlockPlan.of_size(self.grid, TILING, block_px=1024)
        features = read_features([city.osm_pbf], crs=self.grid.crs, bounds_m=self.grid.bounds_m)
        CityGraph.build(features).save(folder / "graph")
        self.graph = CityGraph.load(folder / "graph")
        self.blocks = [self.plan.tiles(b) for b in self.plan.blocks()]
        self.tiles = np.concatenate(self.blocks)

    def graphs(self, tiles):
        return self.graph.tile_graphs(self.plan.tile_bounds_m(tiles))

    def batches(self, size):
        return [self.graphs(self.tiles[k : k + size]) for k in range(0, len(self.tiles), size)]


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    return City(tmp_path_factory.mktemp("city"))


def predictor(city, *, device="cpu", batch_size=8, **how):
    torch.manual_seed(5)
    torch.set_num_threads(1)
    config = SegmentationConfig.of_size("tiny")
    encoder = HashedTagEncoder(width=config.encoder.semantic_width)
    return SegmentationPredictor(
        GeoLinkSegmenter(config),
        CheckpointConfig(
            kind="segmentation",
            model=config.model_dump(mode="json"),
            tag_encoder=TagEncoderId(name=encoder.name, digest=encoder.digest, width=encoder.width),
        ),
        semantics=tag_set_embeddings(city.graph.tag_sets, encoder),
        device=torch.device(device),
        batch_size=batch_size,
        **how,
    )


def images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 224, 224)).astype(np.uint8)


def equal_graphs(a, b):
    return a.n_tiles == b.n_tiles and all(
        np.array_equal(getattr(a, name)[key], getattr(b, name)[key])
        for name in ("node_tile", "semantic_id", "position", "geometry", "edge_index", "edge_attr")
        for key in getattr(a, name)
    )


def test_graphs_of_a_block_at_once_are_those_of_its_batches(city):
    for tiles in city.blocks:
        whole = city.graphs(tiles)
        for first in range(0, len(tiles), 5):
            stop = min(first + 5, len(tiles))
            assert equal_graphs(whole.part(first, stop), city.graphs(tiles[first:stop]))


def test_a_run_meets_a_handful_of_shapes(city):
    ladders = {pack(g).buckets for g in city.batches(4)}
    levels = {pack(g, few_shapes=True).buckets for g in city.batches(4)[:-1]}
    assert len(levels) <= 4 < len(ladders)


@pytest.mark.parametrize("n_tiles", [1, 8, 64])
def test_levels_hold_and_double(n_tiles):
    rng = np.random.default_rng(n_tiles)
    for _ in range(50):
        need = Buckets(*(int(v) for v in rng.integers(1, 100_000, 5)))
        got = need.levelled(n_tiles)
        assert got.union(need) == got
        assert np.log2(got.nodes / (32 * n_tiles)).is_integer()
    assert Buckets(1, 0, 0, 1, 0).levelled(n_tiles).nodes == 32 * n_tiles


def test_padding_to_levels_changes_no_byte(city):
    graphs = city.batches(2)[3]
    usual, padded = (predictor(city, batch_size=2, few_shapes=f).predict(images(2), graphs) for f in (False, True))
    np.testing.assert_array_equal(usual, padded)


def test_two_copies_per_batch_and_nothing_is_waited_for(city):
    model = predictor(city, device="meta", few_shapes=True)
    ready = model.prepare(city.batches(8)[0])
    with Operations() as counted:
        answer = model.predict_tensor(torch.from_numpy(images(8)), ready)
    assert answer.shape == (8, 224, 224)
    assert counted.copies == 2, "images, and all arrays of the graphs in one piece"
    assert not counted.seen["_local_scalar_dense"], "no value is asked for"


def test_staged_graphs_are_the_same_arrays(city):
    packed = pack(city.batches(8)[0])
    again = staged(packed, pinned=False).to(torch.device("cpu"))
    for name in ("node_row", "points", "edge_attr", "chunk_valid", "pair_key", "tile_has_nodes"):
        assert torch.equal(getattr(packed, name), getattr(again, name)), name


def test_views_are_turned_and_added_up_on_the_device(city):
    single = predictor(city)
    several = SymmetryEnsemble(single, symmetries=(0, 3, 6))
    graphs = city.batches(8)[0]
    on_device = several.predict_tensor(torch.from_numpy(images(8)), several.prepare(graphs))
    np.testing.assert_array_equal(on_device.numpy(), several.predict(images(8), graphs))
    far = SymmetryEnsemble(predictor(city, device="meta"), symmetries=(0, 3, 6))
    views = far.prepare(graphs)
    with Operations() as counted:
        assert far.predict_tensor(torch.from_numpy(images(8)), views).shape == (8, 2, 224, 224)
    assert counted.copies == 1 + 3, "the images once, the graphs of each view, no answer back"


def test_a_batch_is_blended_by_as_many_operations_as_a_tile():
    counts = []
    for n in (1, 32):
        sums = DeviceSums((1, 1000, 1000), TILING, "meta")
        with Operations() as counted:
            sums.add(torch.zeros(n, 1, 224, 224, device="meta"), np.zeros((n, 2), np.int64))
        counts.append(sum(counted.seen.values()))
        assert counted.copies == 1
    assert counts[0] == counts[1] < 25


def test_weights_kept_in_bfloat16_give_the_same_bits(city):
    answers, casts = [], []
    graphs = city.batches(8)[0]
    for kept in (False, True):
        model = predictor(city)
        if kept:
            keep_weights_in(model.model, torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16), Operations() as counted:
            answers.append(model.predict(images(8), graphs))
        casts.append(counted.casts)
    np.testing.assert_array_equal(*answers)
    assert casts[1] < casts[0] / 2, "weights are not cast for every batch"


def test_batches_by_device():
    assert default_batch(torch.device("cpu")) == 8


class Crowded(SegmentationPredictor):
    """A model whose device holds three tiles, and now and then loses its breath."""

    holds = 3
    failures = 0

    def _run(self, pixels, graphs, scenes):
        if len(pixels) > self.holds:
            type(self).failures += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super()._run(pixels, graphs, scenes)


def score(city, folder, model):
    with open_imagery(city.scenes) as imagery:
        return predict_scores(
            imagery, model, city.graph, grid=city.grid, tiling=TILING, out=folder / "s.tif", work=folder / "w",
            block_px=1024,
        )  # fmt: skip


def test_a_batch_that_does_not_fit_is_halved_and_the_city_goes_on(city, tmp_path):
    tried = []

    def work(size):
        tried.append(size)
        model = predictor(city, batch_size=size)
        model.__class__ = Crowded
        return score(city, tmp_path, model)

    got = halving(work, asked=8, folder=tmp_path)
    assert tried == [8, 4, 2]
    assert json.loads((tmp_path / "batch.json").read_text()) == {"device": "cpu", "asked": 8, "fits": 2}
    plain = score(city, tmp_path / "plain", predictor(city, batch_size=2))
    assert got.digest == plain.digest, "the raster of a run that was given the smaller batch from the start"
    tried.clear()
    again = halving(work, asked=8, folder=tmp_path)
    assert tried == [2]
    assert again.blocks_done == 0, "what was done is found again"


def test_a_tile_that_does_not_fit_is_said(city, tmp_path, monkeypatch):
    monkeypatch.setattr(Crowded, "holds", 0)
    model = predictor(city, batch_size=1)
    model.__class__ = Crowded
    with pytest.raises(DeviceMemoryError, match="a batch of 1 tiles does not fit into the memory of cpu"):
        halving(lambda _: model.predict(images(1), None), asked=1, folder=tmp_path)


def test_memory_that_comes_back_is_used(city, monkeypatch):
    class Once(Crowded):
        def _run(self, pixels, graphs, scenes):
            self.holds, before = 99, self.__dict__.get("holds", 3)
            if len(pixels) > before:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super()._run(pixels, graphs, scenes)

    model = predictor(city)
    expected = model.predict(images(8), None)
    model.__class__ = Once
    np.testing.assert_array_equal(model.predict(images(8), None), expected)
