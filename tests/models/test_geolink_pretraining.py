"""Pretraining: what is hidden stays hidden, losses follow their formulas, blank tiles count for pixels alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geolink.config import GeoLinkConfig
from models.geolink.graph import NODE_TYPES, TileGraphs
from models.geolink.losses import contrastive_loss, normalised_patches, reconstruction_loss
from models.geolink.masking import draw_masks
from models.geolink.packing import pack
from models.geolink.pretraining import GeoLinkPretraining, LossWeights
from models.geolink.synthetic import random_tile_graphs

CONFIG = GeoLinkConfig.tiny(image_px=64, width=32, decoder_width=16, semantic_width=24, osm_width=16)
TABLE = torch.randn(30, 24, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))
GRAPHS = random_tile_graphs([(30, 20, 60), (0, 0, 0), (1, 4, 0)], n_tag_sets=30, seed=3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> GeoLinkPretraining:
    torch.manual_seed(0)
    return GeoLinkPretraining(CONFIG)


counts = st.lists(st.tuples(*[st.integers(0, 30)] * 3), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(counts, st.integers(0, 2**16))
def test_a_fifth_of_each_type_of_each_tile_is_hidden_at_least_one(some, seed):
    packed = pack(random_tile_graphs(some, n_tag_sets=9, seed=seed))
    masks = draw_masks(len(some), 196, packed, generator=seeded(seed))
    for tile, count in enumerate(some):
        predicted = 0
        for k, n in enumerate(count):
            mine = (packed.node_tile == tile) & (packed.node_type == k)
            hidden = int(masks.nodes[mine].sum())
            assert hidden == (max(1, int(0.2 * n)) if n else 0), (NODE_TYPES[k], n)
            predicted += hidden
        assert int(masks.predicted[packed.node_tile == tile].sum()) == min(10, predicted)
    assert not (masks.predicted & ~masks.nodes).any()
    assert not masks.nodes[~packed.node_valid].any()
    assert masks.keep.shape == (len(some), 49)
    for keep, hidden, restore in zip(masks.keep, masks.hidden, masks.restore, strict=True):
        assert sorted(restore.tolist()) == list(range(196))
        assert set(keep.tolist()) == set((hidden == 0).nonzero().flatten().tolist())
        assert restore[keep].tolist() == list(range(49))


def test_masks_come_from_the_seed_alone():
    packed = pack(GRAPHS)
    first, same, other = (draw_masks(3, 16, packed, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first.keep, same.keep)
    assert torch.equal(first.nodes, same.nodes)
    assert not torch.equal(first.keep, other.keep)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    draw_masks(3, 16, packed, generator=seeded(1))
    assert torch.equal(before, torch.get_rng_state())


def test_hidden_patches_and_meanings_do_not_enter(model):
    model.eval()
    packed = pack(GRAPHS)
    masks = draw_masks(3, 16, packed, generator=seeded())
    noise = torch.randn(3, 16, 3, 16, 16) * masks.hidden[:, :, None, None, None]
    noise = noise.view(3, 4, 4, 3, 16, 16).permute(0, 3, 1, 4, 2, 5).reshape(3, 3, 64, 64)
    with torch.inference_mode():
        tokens, pixels = model.reconstruct(IMAGES, masks.keep, masks.restore)
        again = model.reconstruct(IMAGES + noise, masks.keep, masks.restore)
        assert torch.equal(tokens, again[0])
        assert torch.equal(pixels, again[1])
        assert tokens.shape == (3, 1 + 4, 32)
        assert pixels.shape == (3, 16, 768)
        base = model(IMAGES, packed, TABLE, masks)
        blind = model(IMAGES, pack(scrambled(GRAPHS, masks.nodes)), TABLE, masks)
    assert torch.equal(base.contrastive, blind.contrastive)
    assert not torch.equal(base.consistency, blind.consistency)


def scrambled(graphs: TileGraphs, hidden: torch.Tensor) -> TileGraphs:
    """The same graphs with other tag sets on hidden nodes."""
    parts = dict(
        zip(NODE_TYPES, np.split(hidden.numpy(), np.cumsum([graphs.n_nodes(t) for t in NODE_TYPES]))[:3], strict=True)
    )
    ids = {t: np.where(parts[t], (i + 7) % 30, i) for t, i in graphs.semantic_id.items()}
    return TileGraphs(**{**vars(graphs), "semantic_id": ids})


def test_losses_add_up_with_their_weights(model):
    model.eval()
    packed = pack(GRAPHS)
    masks = draw_masks(3, 16, packed, generator=seeded())
    with torch.inference_mode():
        found = model(IMAGES, packed, TABLE, masks)
        total = found.reconstruction + 0.01 * found.contrastive + 0.01 * found.consistency
        torch.testing.assert_close(found.total, total)
        only = model(IMAGES, packed, TABLE, masks, weights=LossWeights(2.0, 0.0, 0.0))
        torch.testing.assert_close(only.total, 2 * found.reconstruction)
        # one tile's pair has no negatives; three tiles, one of them blank: at most chance level plus a bit
        assert 0 < found.contrastive < 4
        without = model(IMAGES, None, None, masks)
        assert torch.equal(without.reconstruction, found.reconstruction)
        assert without.contrastive == without.consistency == 0
        blank = model(IMAGES, pack(TileGraphs.empty(3)), TABLE, masks)
        assert torch.equal(blank.total, without.total)


def test_losses_are_their_formulas():
    prediction = torch.randn(2, 16, 768, generator=seeded(4))
    hidden = (torch.rand(2, 16, generator=seeded(5)) > 0.5).float()
    got = reconstruction_loss(prediction, IMAGES[:2], hidden, patch_px=16)
    errors = []
    for b, p in hidden.nonzero().tolist():
        row, column = divmod(p, 4)
        patch = IMAGES[b, :, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16].permute(1, 2, 0).flatten()
        wanted = (patch - patch.mean()) / (patch.var(unbiased=True) + 1e-6) ** 0.5
        errors.append(((prediction[b, p] - wanted) ** 2).mean())
    torch.testing.assert_close(got, torch.stack(errors).mean())
    assert normalised_patches(IMAGES, 16).var(-1).sub(1).abs().max() < 1e-4

    image, graph = torch.randn(4, 8, generator=seeded(6)), torch.randn(4, 8, generator=seeded(7))
    cosine = torch.cosine_similarity(image[:, None], graph[None], dim=-1) / 0.2
    both = [-torch.log_softmax(c, 1).diagonal().mean() for c in (cosine, cosine.T)]
    torch.testing.assert_close(contrastive_loss(image, graph), sum(both) / 2)


def test_a_few_steps_lower_every_loss_and_every_parameter_learns(model):
    torch.manual_seed(0)
    model = GeoLinkPretraining(CONFIG)
    graphs = random_tile_graphs([(10, 10, 10), (5, 0, 20), (1, 4, 0)], n_tag_sets=30, seed=3)
    packed = pack(graphs)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    weights = LossWeights(1.0, 0.3, 1.0)
    history = []
    for step in range(30):
        found = model(IMAGES, packed, TABLE, draw_masks(3, 16, packed, generator=seeded(step)), weights=weights)
        optimiser.zero_grad()
        found.total.backward()
        optimiser.step()
        history.append([float(x.detach()) for x in (found.reconstruction, found.contrastive, found.consistency)])
    first, last = np.mean(history[:3], 0), np.mean(history[-3:], 0)
    assert (last < first).all(), (first, last)
    idle = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # a softmax does not see what all its logits share: the gradient of this bias is zero, or rounding noise around it
    assert idle - {"readout.type_attention.bias"} == set()


def test_bf16_autocast_runs(model):
    packed = pack(GRAPHS)
    masks = draw_masks(3, 16, packed, generator=seeded())
    plain = model.eval()(IMAGES, packed, TABLE, masks)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(IMAGES, packed, TABLE, masks)
    assert half.total.dtype == torch.float32
    torch.testing.assert_close(half.total, plain.total, rtol=0.02, atol=0)
    half.total.backward()
    model.zero_grad()


SCRIPT = """
import os, sys, torch, torch.distributed as dist
from models.geolink.losses import contrastive_loss
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
data = torch.load(sys.argv[3], weights_only=True)
layer = torch.nn.Linear(6, 4, bias=False)
layer.load_state_dict({"weight": data["weight"]})
model = torch.nn.parallel.DistributedDataParallel(layer)
rows = slice(0, 3) if rank == 0 else slice(3, 6)
loss = contrastive_loss(model(data["image"][rows]), data["graph"][rows], paired=data["paired"][rows])
loss.backward()
torch.save({"loss": loss.detach(), "grad": layer.weight.grad}, f"{store}.{rank}.pt")
dist.barrier()
os._exit(0)  # gloo's threads may abort an orderly end; all that is asked for is in the file
"""


@pytest.mark.slow
def test_negatives_gathered_over_ranks_give_the_loss_and_gradient_of_the_whole_batch(tmp_path: Path):
    data = {k: torch.randn(6, n, generator=seeded(n)) for k, n in (("image", 6), ("graph", 4))}
    data |= {"weight": torch.randn(4, 6, generator=seeded(9)), "paired": torch.tensor([1, 1, 0, 1, 0, 1]) > 0}
    torch.save(data, tmp_path / "data.pt")
    arguments = [str(tmp_path / "store"), str(tmp_path / "data.pt")]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(r), *arguments], env=environment, cwd=root) for r in (0, 1)
    ]
    assert [p.wait(timeout=300) for p in ranks] == [0, 0]
    weight = data["weight"].requires_grad_()
    whole = contrastive_loss(data["image"] @ weight.T, data["graph"], paired=data["paired"])
    whole.backward()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"store.{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["loss"], whole.detach())
        torch.testing.assert_close(found["grad"], weight.grad)
