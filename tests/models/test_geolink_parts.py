"""The flat parts against independent, padded or per-tile ones: PyG's layers, torch's attention, brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn import GATConv, HeteroConv, LayerNorm, Set2Set

from models.geolink.config import GeoLinkConfig
from models.geolink.fusion import TwoWayBlock
from models.geolink.graph import EDGE_TYPES, NODE_TYPES, GraphError, TileGraphs
from models.geolink.osm_encoder import GraphAttention, NodeNorm
from models.geolink.packing import CHUNK_NODES, EDGE_COLUMNS, Buckets, pack
from models.geolink.positions import encode_points, grid_encoding
from models.geolink.region import MapReadout
from models.geolink.synthetic import DENSE_TILE, random_tile_graphs

COUNTS = [(3, 0, 5), (0, 0, 0), DENSE_TILE, (1, 40, 2)]
N_TAG_SETS = 25


@pytest.fixture(scope="module")
def graphs() -> TileGraphs:
    return random_tile_graphs(COUNTS, n_tag_sets=N_TAG_SETS, seed=11)


def assert_close(got: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-6) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def test_graph_attention_is_pygs_hetero_gat(graphs):
    torch.manual_seed(0)
    flat = GraphAttention(24, 16)
    nn.init.normal_(flat.bias)
    table = torch.randn(N_TAG_SETS, 24)
    hetero = HeteroConv({(s, "to", d): GATConv(24, 16, add_self_loops=False) for s, d in EDGE_TYPES}, "mean")
    for k, (src, dst) in enumerate(EDGE_TYPES):
        conv = hetero.convs[src, "to", dst]
        conv.lin.weight.data = flat.weight.data[k]
        conv.att_src.data, conv.att_dst.data = flat.att_src.data[k][None, None], flat.att_dst.data[k][None, None]
        conv.bias.data = flat.bias.data[k]
    packed = pack(graphs)
    with torch.inference_mode():
        expected = hetero(
            {t: table[torch.from_numpy(graphs.semantic_id[t])] for t in NODE_TYPES},
            {(s, "to", d): torch.from_numpy(graphs.edge_index[s, d]) for s, d in EDGE_TYPES},
        )
        got = flat(table[packed.semantic_rows], packed.node_row, None, packed)
    for t, x in packed.split_by_type(got).items():
        assert_close(x, expected[t])


@pytest.mark.parametrize("over", ["node", "tile", "batch"])
def test_norms_are_pygs(graphs, over):
    torch.manual_seed(0)
    norm = NodeNorm(8, over)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    packed = pack(graphs)
    x = torch.randn(len(packed.node_tile), 8) + 1
    parts = packed.split_by_type(norm(x, packed))
    for k, t in enumerate(NODE_TYPES):
        peer = LayerNorm(8, mode="node" if over == "node" else "graph")
        peer.weight.data, peer.bias.data = norm.weight.data[k], norm.bias.data[k]
        given_x, tile = packed.split_by_type(x)[t], torch.from_numpy(graphs.node_tile[t])
        groups = [tile == n for n in range(len(COUNTS))] if over == "tile" else [tile >= 0]
        for rows in groups:
            if rows.any():
                assert_close(parts[t][rows], peer(given_x[rows]), 5e-6)


def test_readout_is_pygs_set2set(graphs):
    torch.manual_seed(0)
    config = GeoLinkConfig.tiny(osm_width=16)
    readout = MapReadout(config)
    packed = pack(graphs)
    x = torch.randn(len(packed.node_tile), 16)
    with torch.inference_mode():
        got = readout.by_type(x, packed)
        for k, t in enumerate(NODE_TYPES):
            peer = Set2Set(16, processing_steps=5)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(peer.lstm, f"{name}_l0").data = getattr(readout, name).data[k]
            tile = torch.from_numpy(graphs.node_tile[t])
            star = peer(packed.split_by_type(x)[t], tile, dim_size=len(COUNTS))
            expected = nn.functional.linear(star, readout.aggregate.weight[k], readout.aggregate.bias[k])
            there = torch.bincount(tile, minlength=len(COUNTS)) > 0
            assert_close(got[there, k], expected[there], 1e-5)


def padded_two_way(
    block: TwoWayBlock, patches: torch.Tensor, patch_places: torch.Tensor, x: torch.Tensor, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One tile through torch's own multi-head attention, the nodes (n, width) not blocked."""

    def attend(ours: nn.Module, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        peer = nn.MultiheadAttention(q.shape[1], ours.heads, batch_first=True).eval()
        peer.load_state_dict(ours.state_dict())
        return peer(q[None], k[None], v[None])[0][0]

    x = block.norm1(x + attend(block.self_attn, x + places, x + places, x))
    seen = attend(block.cross_attn_token_to_image, patches + patch_places, x + places, x)
    patches = block.norm2(patches + seen)
    looked = attend(block.cross_attn_image_to_token, x + places, patches + patch_places, patches)
    return patches, block.norm4(block.mlp(block.norm3(x + looked)))


def test_blocked_attention_is_torchs_attention_per_tile(graphs):
    torch.manual_seed(0)
    block = TwoWayBlock(32, 4, 0.0).eval()
    packed = pack(graphs)
    patches, patch_places = torch.randn(len(COUNTS), 16, 32), torch.randn(1, 16, 32)
    x, places = torch.randn(len(packed.node_tile), 32), torch.randn(len(packed.node_tile), 32)
    with torch.inference_mode():
        fused, blocks = block(patches, patch_places, x[packed.chunk_node], places[packed.chunk_node], packed)
        for tile, count in enumerate(COUNTS):
            if not sum(count):
                assert torch.equal(fused[tile], block.without_nodes(patches[tile]))
                continue
            mine = packed.chunk_valid & (packed.chunk_tile == tile)[:, None]
            rows = packed.chunk_node[mine]
            expected = padded_two_way(block, patches[tile], patch_places[0], x[rows], places[rows])
            assert_close(fused[tile], expected[0], 5e-6)
            assert_close(blocks[mine], expected[1], 5e-6)


counts = st.lists(st.tuples(*[st.integers(0, 45)] * 3), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(counts, st.integers(0, 2**16), st.sampled_from([None, 1, 7, 40]))
def test_packing_keeps_every_node_once_and_blocks_stay_within_tiles(some, seed, limit):
    graphs = random_tile_graphs(some, n_tag_sets=9, seed=seed)
    packed = pack(graphs, node_limit=limit)
    inside = packed.chunk_node[packed.chunk_valid]
    assert len(inside.unique()) == len(inside)
    expected = [min(sum(c), limit or 999) for c in some]
    assert torch.bincount(packed.node_tile[inside], minlength=len(some)).tolist() == expected
    block_tile = packed.chunk_tile[:, None].expand(-1, CHUNK_NODES)[packed.chunk_valid]
    assert torch.equal(block_tile, packed.node_tile[inside])
    assert packed.tile_has_nodes.tolist() == [n > 0 for n in expected]
    used = packed.chunk_valid.any(1).nonzero().flatten().tolist()
    pairs = {(q, k) for q in used for k in used if packed.chunk_tile[q] == packed.chunk_tile[k]}
    got = list(zip(packed.pair_query.tolist(), packed.pair_key.tolist(), strict=True))
    last = len(packed.chunk_tile) - 1
    assert [p for p in got if p != (last, last)] == sorted(pairs)
    assert not packed.chunk_valid[-1].any()
    assert not packed.node_valid[-1]
    for t, ids in packed.split_by_type(packed.semantic_rows[packed.node_row]).items():
        assert np.array_equal(ids.numpy(), graphs.semantic_id[t])
    assert [f"{f} {getattr(packed, f)}" for f in ("n_nodes", "has_nodes")] == [
        f"n_nodes {sum(map(sum, some))}",
        f"has_nodes {any(map(sum, some))}",
    ]


@settings(max_examples=30, deadline=None)
@given(counts, st.integers(0, 2**16))
def test_selecting_each_tile_and_joining_gives_the_batch_back(some, seed):
    graphs = random_tile_graphs(some, n_tag_sets=9, seed=seed)
    again = TileGraphs.concat([graphs.select([k]) for k in range(len(some))])
    for name in ("node_tile", "semantic_id", "position", "geometry", "edge_index", "edge_attr"):
        for key, value in getattr(graphs, name).items():
            assert np.array_equal(value, getattr(again, name)[key]), (name, key)


def test_edges_carry_their_type_and_columns(graphs):
    packed = pack(graphs)
    n_edges = sum(e.shape[1] for e in graphs.edge_index.values())
    assert packed.edge_attr.shape[1] == EDGE_COLUMNS == 32
    relations = packed.edge_attr[:n_edges, :28]
    assert torch.equal(relations.sum(1), torch.ones(n_edges))
    kinds = [tuple(sorted({int(k) for k in packed.edge_type[:n_edges][relations[:, c] > 0]})) for c in range(28)]
    assert [k for (k,) in kinds] == sorted(k for (k,) in kinds)  # each column belongs to one edge type
    plain = random_tile_graphs(COUNTS, n_tag_sets=9, seed=1, rich=False)
    assert not pack(plain).edge_attr[:, 28:].any()


def test_misfits_are_named(graphs):
    with pytest.raises(GraphError, match="4 tiles needs 213 nodes, its bucket holds 64"):
        pack(graphs, buckets=Buckets(64, 10_000, 64, 64, 64))
    narrow = {p: a[:, :1] for p, a in graphs.edge_attr.items()}
    with pytest.raises(GraphError, match="edge_attr"):
        pack(TileGraphs(**{**vars(graphs), "edge_attr": narrow}))


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from([4, 16, 64]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_grid_encoding_is_the_formula(rows, columns, width, centre):
    table = grid_encoding(rows, columns, width, centre=centre)[0].numpy()
    assert table.shape == (1 + rows * columns, width)
    assert not table[0].any()
    r, c = rows - 1, columns // 2
    quarter = width // 4
    expected = []
    for place in (c + 0.5, r + 0.5) if centre else (c, r):
        angles = [place / 10000 ** (k / quarter) for k in range(quarter)]
        expected += [np.sin(angles), np.cos(angles)]
    np.testing.assert_allclose(table[1 + r * columns + c], np.concatenate(expected), atol=1e-6)
    np.testing.assert_allclose(
        encode_points(torch.tensor([[2.0, 3.0]]), 8)[0].numpy(),
        [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02), np.sin(3), np.sin(0.03), np.cos(3), np.cos(0.03)],
        atol=1e-6,
    )
