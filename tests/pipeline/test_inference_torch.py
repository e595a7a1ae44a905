"""Cut-invariance with a small real torch model, the blend on a device, and disagreement."""

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geolink.graph import TileGraphs
from models.tiles.symmetries import symmetric_array
from pipeline.imagery import ArrayImagery
from pipeline.inference import (
    ModelMismatchError,
    ModelOutputError,
    SymmetryEnsemble,
    engine,
    predict_scores,
)
from pipeline.inference.sums import DeviceSums, HostSums
from pipeline.inference.uncertainty import invert_symmetry
from regions.raster.grid import Grid, Tiling

TILE = 32
TILING = Tiling(TILE, 20)


class Network(torch.nn.Module):
    """A convolution, a transformer layer over patches, an upsampling head: what real segmenters are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.patches = torch.nn.Conv2d(16, 32, 8, stride=8)
        self.layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.head = torch.nn.Conv2d(48, 1, 3, padding=1)

    def forward(self, x):
        x = torch.nn.functional.gelu(self.stem(x))
        tokens = self.patches(x)
        n, c, h, w = tokens.shape
        tokens = self.layer(tokens.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(n, c, h, w)
        up = torch.nn.functional.interpolate(tokens, scale_factor=8, mode="bilinear")
        return torch.sigmoid(3 * self.head(torch.cat([x, up], 1))[:, 0])


@dataclass
class TorchModel:
    """The network as a `TensorTileModel`."""

    network: torch.nn.Module
    batch_size: int = 4
    tile_px: int = TILE
    bands: int = 3
    digest: str = "torch"
    uses_graphs: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def predict_tensor(self, images, graphs):
        with torch.inference_mode():
            return self.network(images.to(self.device).float() / 255)

    def predict(self, images, graphs):
        return self.predict_tensor(torch.from_numpy(images), graphs).numpy()


@pytest.fixture(scope="module")
def network():
    torch.set_num_threads(1)
    torch.manual_seed(3)
    return Network().eval()


@pytest.fixture(scope="module")
def imagery():
    rng = np.random.default_rng(0)
    grid = Grid("EPSG:32650", 1.0, 1234, -5678, 151, 173)
    smooth = rng.integers(0, 200, (3, 19, 22)).repeat(8, axis=1).repeat(8, axis=2)[:, :151, :173]
    valid = np.ones((151, 173), bool)
    valid[:50, :40] = False
    return ArrayImagery((smooth + rng.integers(0, 55, smooth.shape)).astype(np.uint8), grid, valid=valid)


def scores(folder, imagery, model, **how):
    result = predict_scores(
        imagery, model, None, grid=imagery.grid, tiling=TILING, out=folder / "s.tif", work=folder / "w", **how
    )
    with rasterio.open(result.path) as dataset:
        return dataset.read(), result.digest


@pytest.fixture(scope="module")
def whole(tmp_path_factory, imagery, network):
    return scores(tmp_path_factory.mktemp("whole"), imagery, TorchModel(network), block_px=4000, readers=1)


def test_the_model_says_something(whole):
    values = whole[0][whole[0] != 255]
    assert values.std() > 10


@settings(max_examples=12, deadline=None)
@given(block=st.integers(20, 220), readers=st.integers(1, 4))
def test_bit_equal_for_any_cut(  # noqa: PLR0917 -- fixtures
    tmp_path_factory, imagery, network, whole, block, readers
):
    """Other blocks are other batch-mates and other places in the batch."""
    got = scores(tmp_path_factory.mktemp("cut"), imagery, TorchModel(network), block_px=block, readers=readers)
    assert got[1] == whole[1]


def test_a_tile_does_not_depend_on_its_batch(network):
    rng = np.random.default_rng(1)
    tiles = rng.integers(0, 256, (24, 3, TILE, TILE)).astype(np.uint8)
    model = TorchModel(network, batch_size=8)
    first = np.concatenate([model.predict(tiles[k : k + 8], None) for k in range(0, 24, 8)])
    for _ in range(5):
        order = rng.permutation(24)
        again = np.concatenate([model.predict(tiles[order[k : k + 8]], None) for k in range(0, 24, 8)])
        np.testing.assert_array_equal(again, first[order])


def test_other_batch_shapes_differ_by_a_level_on_hardly_a_pixel(tmp_path, imagery, network, whole):
    for batch in (1, 3, 16):
        got, _ = scores(tmp_path / str(batch), imagery, TorchModel(network, batch_size=batch))
        assert ((got == 255) == (whole[0] == 255)).all()
        difference = np.abs(got.astype(int) - whole[0])
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-4


def test_blend_on_a_device_gives_the_same_file(tmp_path, imagery, network, whole, monkeypatch):
    monkeypatch.setattr(engine, "blends_on_device", lambda model: True)
    for block in (70, 400):
        assert scores(tmp_path / str(block), imagery, TorchModel(network), block_px=block)[1] == whole[1]

    def broken(self, images, graphs):
        return torch.full((4, TILE, TILE), float("nan"))

    monkeypatch.setattr(TorchModel, "predict_tensor", broken)
    with pytest.raises(ModelOutputError, match="NaN or values outside"):
        scores(tmp_path / "nan", imagery, TorchModel(network))


@given(st.integers(0, 2**32 - 1))
def test_device_sums_equal_host_sums(seed):
    rng = np.random.default_rng(seed)
    shape = (2, 60, 70)
    host, device = HostSums(shape, TILING), DeviceSums(shape, TILING, "cpu")
    for count in (1, 5, 3):
        tiles = rng.random((count, 2, TILE, TILE), np.float32)
        tiles[:, :, 0, :4] = [0.0, 1.0, 1.0000005, -1e-7]
        corners = rng.integers(0, 28, (count, 2))
        host.add(tiles, corners)
        device.add(torch.from_numpy(tiles), corners)
    np.testing.assert_array_equal(host.total(), device.total())


def test_inverse_symmetry_undoes():
    tile = np.arange(16).reshape(4, 4).astype(np.uint8)
    for s in range(8):
        np.testing.assert_array_equal(symmetric_array(symmetric_array(tile, s), invert_symmetry(s)), tile)


@dataclass
class Even:
    """Symmetric itself: its eight views agree. Answers with the mean of the bands and the number of nodes above."""

    tile_px: int = TILE
    bands: int = 3
    batch_size: int = 2
    digest: str = "even"
    uses_graphs: bool = True
    lift: float = 0.0

    def predict(self, images, graphs):
        p = images.mean(axis=1, dtype=np.float64).astype(np.float32) / np.float32(300) + np.float32(self.lift)
        if graphs is not None:
            for k, (x, y) in zip(graphs.node_tile["point"], graphs.position["point"], strict=True):
                p[k, min(TILE - 1, int(y * TILE)), min(TILE - 1, int(x * TILE))] = 1.0
        return p


def graphs_of_points(xy: np.ndarray) -> TileGraphs:
    empty = TileGraphs.empty(2)
    n = len(xy)
    return replace(
        empty,
        node_tile=empty.node_tile | {"point": np.sort(np.arange(n) % 2)},
        semantic_id=empty.semantic_id | {"point": np.zeros(n, np.int64)},
        position=empty.position | {"point": xy.astype(np.float32)},
        geometry=empty.geometry | {"point": np.zeros((n, 8), np.float32)},
    )


def test_views_of_a_symmetric_model_agree_with_image_and_graph_in_step():
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (2, 3, TILE, TILE)).astype(np.uint8)
    # points at pixel centres, so that mirrored points fall in mirrored pixels
    graphs = graphs_of_points((rng.integers(0, TILE, (9, 2)) + 0.5) / TILE)
    model = Even()
    mean, doubt = SymmetryEnsemble(model).predict(images, graphs).transpose(1, 0, 2, 3)
    np.testing.assert_allclose(mean, model.predict(images, graphs), atol=1e-7)
    assert doubt.max() < 1e-6


def test_views_of_a_lopsided_model_disagree(network):
    images = np.random.default_rng(4).integers(0, 256, (4, 3, TILE, TILE)).astype(np.uint8)
    model = TorchModel(network)
    got = SymmetryEnsemble(model, symmetries=(0, 1, 6)).predict(images, None)
    views = []
    for s in (0, 1, 6):
        answer = model.predict(np.ascontiguousarray(symmetric_array(images, s)), None)
        views.append(symmetric_array(answer, invert_symmetry(s)))
    np.testing.assert_allclose(got[:, 0], np.mean(views, axis=0), atol=1e-6)
    np.testing.assert_allclose(got[:, 1], np.std(np.array(views, np.float64), axis=0), atol=1e-6)
    assert got[:, 1].max() > 0.005


def test_impossible_ensembles_are_refused_and_each_has_its_digest():
    with pytest.raises(ModelMismatchError, match="disagreement already"):
        SymmetryEnsemble(SymmetryEnsemble(Even()))
    with pytest.raises(ModelMismatchError, match=r"some of 0\.\.7"):
        SymmetryEnsemble(Even(), symmetries=(8,))
    digests = {SymmetryEnsemble(Even(), symmetries=s).digest for s in itertools.combinations(range(8), 3)}
    assert len(digests) == 56
