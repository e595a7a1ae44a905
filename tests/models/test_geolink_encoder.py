"""The encoder in our own mode: each tile's answer is its own, blank tiles give the image-only answer."""

import pytest
import timm
import torch

from models.geolink.config import GeoLinkConfig, GeoLinkConfigError
from models.geolink.encoder import EncoderInputError, GeoLinkEncoder
from models.geolink.graph import TileGraphs
from models.geolink.packing import Buckets
from models.geolink.synthetic import random_tile_graphs
from models.geolink.timm_export import timm_arguments, to_timm_vit

N_TAG_SETS = 40
COUNTS = ((5, 10, 20), (0, 0, 0), (47, 67, 47), (0, 1, 0), (1, 3, 90), (0, 0, 0), (2, 2, 2), (16, 43, 11))


@pytest.fixture(scope="module")
def tiles() -> list[TileGraphs]:
    graphs = random_tile_graphs(COUNTS, n_tag_sets=N_TAG_SETS, seed=7)
    return [graphs.select([k]) for k in range(len(COUNTS))]


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
        assert GeoLinkConfig.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(GeoLinkConfigError, match="no multiple of its"):
        GeoLinkConfig.tiny(heads=3)
    with pytest.raises(GeoLinkConfigError, match="wdith"):
        GeoLinkConfig(wdith=3)


def test_a_batch_without_any_node_is_the_image_alone(encoder, inputs):
    images, semantics = inputs
    with torch.inference_mode():
        image_only = encoder(images[:2], None, None)
        for table in (semantics, semantics[:0], None):
            blank = encoder(images[:2], encoder.pack(TileGraphs.empty(2)), table)
            assert all(torch.equal(a, b) for a, b in zip(image_only, blank, strict=True))


def test_padding_changes_nothing(encoder, tiles, inputs, features):
    images, semantics = inputs
    graphs = TileGraphs.concat(tiles)
    fitting = Buckets.fitting(graphs)
    wide = Buckets(*(2 * getattr(fitting, f) for f in ("nodes", "edges", "rows", "chunks", "pairs")))
    with torch.inference_mode():
        padded = encoder(images, encoder.pack(graphs, buckets=wide), semantics)
    assert all(torch.equal(a, b) for a, b in zip(features, padded, strict=True))


def test_a_forward_pass_leaves_its_inputs_alone(encoder, tiles, inputs, features):
    images, semantics = inputs
    packed = encoder.pack(TileGraphs.concat(tiles))
    before = {k: v.clone() for k, v in vars(packed).items() if isinstance(v, torch.Tensor)}
    with torch.inference_mode():
        for _ in range(2):
            again = encoder(images, packed, semantics)
    assert all(torch.equal(a, b) for a, b in zip(features, again, strict=True))
    assert all(torch.equal(before[k], getattr(packed, k)) for k in before)


def test_bf16_autocast_is_close(encoder, tiles, inputs, features):
    images, semantics = inputs
    packed = encoder.pack(TileGraphs.concat(tiles))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        half = encoder(images, packed, semantics)
    for a, b in zip(features, half, strict=True):
        assert b.dtype == torch.bfloat16
        assert (a - b.float()).abs().max() < 0.03 * a.abs().max()


def test_one_compiled_graph_serves_all_batches_of_a_bucket(inputs):
    """fullgraph: no graph break, so no Python loop over data and no wait for the device in the forward pass."""
    images, semantics = inputs
    torch.manual_seed(0)
    encoder = GeoLinkEncoder(GeoLinkConfig.tiny(depth=1, output_layers=(0,))).eval()
    batches = [
        random_tile_graphs(c, n_tag_sets=N_TAG_SETS, seed=k)
        for k, c in enumerate(([(3, 4, 5), (0, 0, 0)], [(0, 0, 9), (1, 2, 3)]))
    ]
    buckets = Buckets.fitting(batches[0]).union(Buckets.fitting(batches[1]))
    made = []

    def backend(module, example_inputs):
        made.append(module)
        return module.forward

    compiled = torch.compile(encoder, fullgraph=True, dynamic=False, backend=backend)
    with torch.inference_mode():
        for graphs in batches:
            packed = encoder.pack(graphs, buckets=buckets)
            fast, plain = (m(images[:2], packed, semantics) for m in (compiled, encoder))
            assert all(torch.equal(a, b) for a, b in zip(fast, plain, strict=True))
    assert len(made) == 1


def test_every_parameter_learns(tiles, inputs):
    images, semantics = inputs
    torch.manual_seed(0)
    encoder = GeoLinkEncoder(GeoLinkConfig.tiny(fusion_blocks=2, osm_layers=2))
    maps = encoder(images, encoder.pack(TileGraphs.concat(tiles)), semantics)
    sum(m.pow(3).mean() for m in maps).backward()
    idle = {n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()}
    # the last block's update of the nodes has no reader but pretraining
    assert {n.split("fusion.blocks.1.")[-1].split(".")[0] for n in idle} <= {
        "cross_attn_image_to_token",
        "norm3",
        "mlp",
        "norm4",
    }


def test_other_image_sizes_are_taken(encoder):
    with torch.inference_mode():
        maps = encoder(torch.randn(1, 3, 96, 160), None, None)
    assert [tuple(m.shape[2:]) for m in maps] == [(24, 40), (12, 20), (6, 10), (6, 10)]


def test_sparse_and_dense_stems_give_the_same_tokens(encoder, inputs):
    images = inputs[0][:2]
    keep = torch.tensor([[0, 5, 195], [13, 14, 100]])
    with torch.inference_mode():
        dense, _ = encoder.image.stem(images)
        sparse, _ = encoder.image.stem(images, keep)
    torch.testing.assert_close(sparse, torch.stack([d[k] for d, k in zip(dense, keep, strict=True)]))


def test_export_is_a_plain_timm_model_to_the_last_bit(inputs):
    torch.manual_seed(0)
    config = GeoLinkConfig.small(width=48, heads=4, depth=3, output_layers=(0, 1, 2))
    encoder = GeoLinkEncoder(config).eval()
    model = timm.create_model("vit_base_patch16_224", **timm_arguments(config)).eval()
    model.load_state_dict(to_timm_vit(encoder))
    with torch.inference_mode():
        assert torch.equal(model.forward_features(inputs[0][:2]), encoder.image(inputs[0][:2])[2])
    with pytest.raises(GeoLinkConfigError, match="no counterpart"):
        to_timm_vit(GeoLinkEncoder(GeoLinkConfig.tiny()))


def test_the_large_export_has_the_names_and_shapes_of_timms_vit_large():
    with torch.device("meta"):
        exported = to_timm_vit(GeoLinkEncoder(GeoLinkConfig.large()))
        expected = timm.create_model("vit_large_patch16_224", num_classes=0).state_dict()
    assert {k: v.shape for k, v in exported.items()} == {k: v.shape for k, v in expected.items()}
