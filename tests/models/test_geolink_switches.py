"""Each switch: the defect of the released code shows in its mode, and is absent in ours."""

import zlib
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.geolink.config import GeoLinkConfig
from models.geolink.encoder import EncoderInputError, GeoLinkEncoder
from models.geolink.graph import EDGE_TYPES, TileGraphs
from models.geolink.losses import contrastive_loss
from models.geolink.masking import draw_masks
from models.geolink.packing import pack
from models.geolink.pretraining import GeoLinkPretraining
from models.geolink.region import MapReadout
from models.geolink.synthetic import DENSE_TILE, random_tile_graphs

SIZES: dict[str, Any] = {
    "image_px": 64,
    "width": 32,
    "depth": 2,
    "heads": 2,
    "output_layers": (0, 1),
    "osm_width": 16,
    "semantic_width": 24,
    "fusion_width": 32,
    "fusion_heads": 4,
    "decoder_width": 16,
    "decoder_heads": 2,
    "decoder_depth": 1,
    "contrastive_width": 8,
}
TABLE = torch.randn(30, 24, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
MODES = {
    "own": GeoLinkConfig(**SIZES),
    "official": GeoLinkConfig.official(**SIZES),
    "released": GeoLinkConfig.official(as_released=True, **SIZES),
}


def encoder_of(mode: str, **changes: Any) -> GeoLinkEncoder:
    torch.manual_seed(0)
    return GeoLinkEncoder(MODES[mode].with_(**changes)).eval()


def graphs_of(*counts: tuple[int, int, int], seed: int = 5) -> TileGraphs:
    return random_tile_graphs(counts, n_tag_sets=len(TABLE), seed=seed)


@torch.inference_mode()
def fused(encoder: GeoLinkEncoder, graphs: TileGraphs | None, images: torch.Tensor = IMAGES) -> torch.Tensor:
    packed = None if graphs is None else encoder.pack(graphs)
    return encoder(images, packed, TABLE)[-1]


@torch.inference_mode()
def nodes(encoder: GeoLinkEncoder, graphs: TileGraphs) -> torch.Tensor:
    packed = encoder.pack(graphs)
    return encoder.encode_nodes(packed, TABLE, n_tiles=graphs.n_tiles)[: packed.n_nodes]


@pytest.mark.parametrize(("mode", "defect"), [("released", True), ("official", False), ("own", False)])
def test_osm_norm_a_tile_depends_on_its_batch_mates(mode, defect):
    encoder = encoder_of(mode)
    both = graphs_of((3, 4, 5), (6, 2, 9))
    alone = fused(encoder, both.select([0]), IMAGES[:1])
    together = fused(encoder, both)[:1]
    assert torch.equal(alone, together) is not defect
    if defect:
        assert (alone - together).abs().max() > 1e-3


@pytest.mark.parametrize(("mode", "defect"), [("released", True), ("official", False), ("own", False)])
def test_node_limit_a_dense_tile_gives_another_answer_each_time(mode, defect):
    encoder = encoder_of(mode)
    dense = graphs_of(DENSE_TILE)
    first, second = (fused(encoder, dense, IMAGES[:1]) for _ in range(2))
    assert torch.equal(first, second) is not defect


def test_node_limit_of_ours_keeps_the_largest():
    dense = graphs_of(DENSE_TILE, (1, 2, 0))
    packed = pack(dense, node_limit=50)
    again = pack(dense.select([1, 0]), node_limit=50)
    kept = packed.chunk_node[packed.chunk_valid]
    tile = packed.node_tile[kept]
    assert torch.bincount(tile).tolist() == [50, 3]
    area = packed.geometry[:, 0]
    inside = torch.zeros(len(area), dtype=torch.bool).index_fill(0, kept, True)
    first = packed.node_tile == 0
    assert area[inside & first].min() >= area[~inside & first].max()
    other = again.geometry[again.chunk_node[again.chunk_valid]][:, 0].sort().values
    assert torch.equal(area[kept].sort().values, other)
    seeded = [pack(dense, node_limit=50, node_choice="random", seed=3).chunk_node for _ in range(2)]
    assert torch.equal(*seeded)


@pytest.mark.parametrize(("mode", "defect"), [("official", True), ("own", False)])
def test_edge_attributes_how_objects_relate_is_not_seen(mode, defect):
    encoder = encoder_of(mode)
    graphs = graphs_of((3, 4, 5), (6, 2, 9))
    rng = np.random.default_rng(0)
    other = {p: rng.random(a.shape).astype(np.float32) for p, a in graphs.edge_attr.items()}
    assert torch.equal(fused(encoder, graphs), fused(encoder, replace(graphs, edge_attr=other))) is defect


@pytest.mark.parametrize(("mode", "defect"), [("official", True), ("own", False)])
def test_geometry_columns_size_and_shape_are_not_seen(mode, defect):
    encoder = encoder_of(mode)
    graphs = graphs_of((3, 4, 5), (6, 2, 9))
    larger = replace(graphs, geometry={t: g + 0.5 for t, g in graphs.geometry.items()})
    assert torch.equal(fused(encoder, graphs), fused(encoder, larger)) is defect


@pytest.mark.parametrize(("mode", "defect"), [("official", True), ("own", False)])
def test_osm_residual_a_node_without_edges_has_no_meaning(mode, defect):
    encoder = encoder_of(mode, geometry_columns=False)
    graphs = graphs_of((4, 0, 0))
    graphs = replace(
        graphs,
        semantic_id={**graphs.semantic_id, "point": np.arange(4)},
        edge_index={p: np.zeros((2, 0), np.int64) for p in EDGE_TYPES},
        edge_attr={p: graphs.edge_attr[p][:0] for p in EDGE_TYPES},
    )
    x = nodes(encoder, graphs)
    assert bool((x == x[0]).all()) is defect


@pytest.mark.parametrize(("mode", "defect"), [("official", True), ("own", False)])
def test_patch_centre_patches_and_objects_are_half_a_patch_apart(mode, defect):
    encoder = encoder_of(mode)
    side = encoder.config.grid
    graphs = graphs_of((1, 0, 0))
    centre = np.array([[2.5 / side, 1.5 / side]], np.float32)  # of the patch in row 1, column 2
    graphs = replace(graphs, position={**graphs.position, "point": centre})
    place = encoder.fusion.node_places(encoder.pack(graphs), (side, side))[0]
    patches = encoder.fusion_places(IMAGES)[0]
    nearest = (patches - place).abs().amax(1)
    assert (nearest[side + 2] > 1e-5).item() is defect


def test_blank_tiles_fail_as_released_and_give_the_image_alone_otherwise():
    graphs = graphs_of((0, 0, 0), (6, 2, 9))
    with pytest.raises(EncoderInputError, match="blank_tiles='image_only'"):
        fused(encoder_of("released"), graphs)
    for mode in ("official", "own"):
        encoder = encoder_of(mode)
        with_map, without = fused(encoder, graphs), fused(encoder, None)
        assert torch.equal(with_map[0], without[0])
        assert not torch.equal(with_map[1], without[1])
        alone = fused(encoder, TileGraphs.empty(1), IMAGES[:1])
        assert torch.equal(alone, fused(encoder, None, IMAGES[:1]))


@pytest.mark.parametrize(("mode", "defect"), [("official", True), ("own", False)])
def test_type_weights_the_attention_over_types_does_nothing(mode, defect):
    torch.manual_seed(0)
    readout = MapReadout(MODES[mode])
    packed = pack(graphs_of((3, 4, 5), (6, 0, 9), (0, 0, 0)))
    x = torch.randn(len(packed.node_tile), SIZES["osm_width"])
    before = readout(x, packed)
    readout.type_attention.weight.data.mul_(-3)
    after = readout(x, packed)
    assert torch.equal(before, after) is defect
    assert torch.isfinite(after).all()
    assert torch.equal(after[2], readout.project(torch.zeros(SIZES["osm_width"])))


@pytest.mark.parametrize(("mode", "defect"), [("official", True), ("own", False)])
def test_pretraining_fusion_never_sees_the_nodes_it_sees_in_use(mode, defect):
    torch.manual_seed(0)
    model = GeoLinkPretraining(MODES[mode]).eval()
    graphs = graphs_of((10, 10, 10), (5, 5, 0))
    packed = model.encoder.pack(graphs)
    masks = draw_masks(2, 16, packed, generator=torch.Generator().manual_seed(0))
    shift = torch.where(masks.nodes, 0.0, 0.25)[:, None, None]  # move the nodes that are not masked
    moved = replace(packed, points=packed.points + shift)
    losses = [model(IMAGES, p, TABLE, masks).consistency for p in (packed, moved)]
    assert torch.equal(*losses) is defect


def test_the_image_is_seen_alike_in_all_modes_that_share_widths():
    """The switches touch what they say and nothing else: image maps of own and official weights are one network."""
    own, official = encoder_of("own", patch_centre=False, last_norm_eps=1e-5), encoder_of("official")
    own.image.load_state_dict(official.image.state_dict())
    with torch.inference_mode():
        maps = [e(IMAGES, None, None)[0] for e in (own, official)]
    assert torch.equal(*maps)


def test_contrastive_loss_leaves_out_blank_tiles():
    """The released code cannot form a batch with a blank tile; ours leaves it out of pairs and negatives."""
    generator = torch.Generator().manual_seed(0)
    image, graph = torch.randn(5, 8, generator=generator), torch.randn(5, 8, generator=generator)
    paired = torch.tensor([True, False, True, True, False])
    got = contrastive_loss(image, graph, paired=paired)
    torch.testing.assert_close(got, contrastive_loss(image[paired], graph[paired]))
    assert contrastive_loss(image, graph, paired=torch.zeros(5, dtype=torch.bool)) == 0


SIZES_NOT_DEFECTS = {"last_norm_eps", "fusion_dropout"}
SWITCHES = sorted(
    name
    for name, value in MODES["own"].model_dump().items()
    if value != MODES["released"].model_dump()[name] and name not in SIZES_NOT_DEFECTS
)


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_alone_changes_what_a_model_does(switch):
    own = MODES["own"].with_(node_limit=50) if switch == "node_choice" else MODES["own"]
    flipped = own.with_(**{switch: getattr(MODES["released"], switch)})
    before, again, after = behaviour(own), behaviour(own), behaviour(flipped)
    assert all(torch.equal(before[k], again[k]) for k in before)
    assert any(not torch.equal(before[k], after.get(k, torch.empty(0))) for k in before)


@torch.inference_mode()
def behaviour(config: GeoLinkConfig) -> dict[str, torch.Tensor]:
    """What a model with weights that depend on their names alone gives on a plain and a dense tile and a blank one."""
    model = GeoLinkPretraining(config).eval()
    for name, weight in model.named_parameters():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    graphs = graphs_of((3, 4, 5), DENSE_TILE)
    packed = model.encoder.pack(graphs)
    masks = draw_masks(2, 16, packed, generator=torch.Generator().manual_seed(0))
    losses = model(IMAGES, packed, TABLE, masks)
    found = {"fused": fused(model.encoder, graphs)}
    found |= {name: getattr(losses, name) for name in ("reconstruction", "contrastive", "consistency")}
    with suppress(EncoderInputError):
        found["blank"] = fused(model.encoder, graphs_of((0, 0, 0), (6, 2, 9)))
    return found
