"""The encoder in our own mode: each tile's answer is its own, blank tiles give the image-only answer."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.geolink.config import GeoLinkConfig, GeoLinkConfigError
from models.geolink.encoder import EncoderInputError, GeoLinkEncoder
from models.geolink.graph import EDGE_TYPES, GEOMETRY_COLUMNS, NODE_TYPES, POSITION_POINTS, RELATIONS, TileGraphs

N_TAG_SETS = 40


def random_tile(rng: np.random.Generator, counts: tuple[int, int, int]) -> TileGraphs:
    """One tile with ``counts`` points, lines and polygons and three incoming edges per node and type."""
    n = dict(zip(NODE_TYPES, counts, strict=True))

    def edges(src: str, dst: str) -> NDArray[np.int64]:
        if not n[src]:
            return np.zeros((2, 0), np.int64)
        target = np.repeat(np.arange(n[dst]), 3)
        return np.stack([rng.integers(0, n[src], len(target)), target])

    index = {pair: edges(*pair) for pair in EDGE_TYPES}
    return TileGraphs(
        1,
        {t: np.zeros(n[t], np.int64) for t in NODE_TYPES},
        {t: rng.integers(0, N_TAG_SETS, n[t]) for t in NODE_TYPES},
        {t: rng.random((n[t], 2 * POSITION_POINTS[t])).astype(np.float32) for t in NODE_TYPES},
        {t: rng.random((n[t], len(GEOMETRY_COLUMNS))).astype(np.float32) for t in NODE_TYPES},
        index,
        {p: rng.random((index[p].shape[1], len(RELATIONS[p]) + 4)).astype(np.float32) for p in EDGE_TYPES},
    )


COUNTS = ((5, 10, 20), (0, 0, 0), (47, 67, 47), (0, 1, 0), (1, 3, 90), (0, 0, 0), (2, 2, 2), (16, 43, 11))


@pytest.fixture(scope="module")
def tiles() -> list[TileGraphs]:
    rng = np.random.default_rng(7)
    return [random_tile(rng, c) for c in COUNTS]


@pytest.fixture(scope="module")
def encoder() -> GeoLinkEncoder:
    torch.manual_seed(0)
    return GeoLinkEncoder(GeoLinkConfig.tiny(fusion_blocks=2, osm_layers=2)).eval()


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(len(COUNTS), 3, 224, 224, generator=generator)
    return images, torch.randn(N_TAG_SETS, 512, generator=generator)


@pytest.fixture(scope="module")
def features(encoder, tiles, inputs) -> list[torch.Tensor]:
    images, semantics = inputs
    with torch.inference_mode():
        return encoder(images, encoder.pack(TileGraphs.concat(tiles)), semantics)


def test_maps_have_the_declared_shapes(encoder, features):
    for x, channels, stride in zip(features, encoder.feature_channels, encoder.feature_strides_px, strict=True):
        assert x.shape == (len(COUNTS), channels, 224 // stride, 224 // stride)


@pytest.mark.parametrize("order", [[3, 1, 0, 2, 7, 6, 5, 4], [1] * 7 + [2], [0] * 8, [2] * 8, [7, 6, 5, 4, 3, 2, 1, 0]])
def test_batch_mates_change_no_bit(encoder, tiles, inputs, features, order):
    images, semantics = inputs
    with torch.inference_mode():
        packed = encoder.pack(TileGraphs.concat([tiles[k] for k in order]))
        again = encoder(images[order], packed, semantics)
    for before, after in zip(features, again, strict=True):
        assert torch.equal(before[order], after)


def test_blank_tiles_give_exactly_the_image_only_answer(encoder, inputs, features):
    images, _ = inputs
    with torch.inference_mode():
        image_only = encoder(images, None, None)
    blank = [k for k, c in enumerate(COUNTS) if not sum(c)]
    for with_map, without in zip(features, image_only, strict=True):
        assert torch.equal(with_map[blank], without[blank])
    assert not torch.allclose(features[-1][0], image_only[-1][0])


def test_misfits_are_named(encoder, tiles, inputs):
    images, semantics = inputs
    packed = encoder.pack(TileGraphs.concat(tiles))
    with pytest.raises(EncoderInputError, match="graphs of 8 tiles"):
        encoder(images[:2], packed, semantics)
    with pytest.raises(EncoderInputError, match="has 3 rows"):
        encoder(images, packed, semantics[:3])
    with pytest.raises(EncoderInputError, match="multiples of 16 px"):
        encoder(images[..., :-1], packed, semantics)


def test_config_round_trip_and_refusals():
    for config in (GeoLinkConfig.tiny(), GeoLinkConfig.large(), GeoLinkConfig.official(as_released=True)):
        assert GeoLinkConfig.from_json(config.model_dump_json()) == config
    with pytest.raises(GeoLinkConfigError, match="no multiple of its"):
        GeoLinkConfig.tiny(heads=3)
    with pytest.raises(GeoLinkConfigError, match="wdith"):
        GeoLinkConfig.from_json('{"wdith": 3}')
