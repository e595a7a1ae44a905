"""The training loop: what decays, whose clock counts, averaged weights, and what a resumed run gives."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.geolink.pretraining import GeoLinkPretraining
from models.segmentation.config import SegmentationConfig
from models.segmentation.model import GeoLinkSegmenter
from models.training import BEST_NAME, RESUME_NAME, BalancedOrder, BatchData, Run, TrainingConfig, TrainingModule, fit
from models.training_callbacks import AverageWeights
from models.training_optimiser import parameter_groups

SAMPLES = 12


class Line(TrainingModule):
    """Least squares on a line: small enough to follow by hand."""

    def __init__(self, config, *, total_steps, dies_at=None):
        torch.manual_seed(0)
        super().__init__(
            nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), config, total_steps=total_steps
        )
        self.dies_at, self.seen, self.trail = dies_at, 0, []

    def training_step(self, batch, batch_idx):
        self.seen += 1
        if self.dies_at is not None and self.seen > self.dies_at:
            raise RuntimeError("killed")
        loss = (self.model(batch) - batch.sum(1, keepdim=True)).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("figure", -(self.model(batch) - batch.sum(1, keepdim=True)).square().mean(), batch_size=len(batch))

    def on_train_batch_end(self, outputs, batch, batch_idx):
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.trail.append([p.detach().clone() for p in self.model.parameters()])


def make(index, rng):
    values = np.stack([np.random.default_rng(int(k)).normal(size=3) for k in index])
    return torch.from_numpy(values + rng.normal(0, 0.1, values.shape)).float()


def run_of(out, config, *, dies_at=None):
    data = BatchData(size=SAMPLES, config=config, seed=3, make=make, validation_size=SAMPLES, make_validation=make)
    module = Line(config, total_steps=data.total_steps, dies_at=dies_at)
    fit(module, data, Run(out=out, seed=3, key="k", label="line", progress=False), figure="figure")
    return module


CONFIG = TrainingConfig(batch_size=4, epochs=6, learning_rate=0.05, accelerator="cpu", validate_every=1, ema=0.9)


def test_biases_norms_and_tokens_of_any_shape_do_not_decay():
    config = SegmentationConfig.of_size("tiny")
    for model in (GeoLinkSegmenter(config), GeoLinkPretraining(config.encoder)):
        groups = parameter_groups(model, weight_decay=0.05, encoder_rate=0.1)
        assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in model.parameters())
        decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
        slow = {id(p) for g in groups if g["rate"] == 0.1 for p in g["params"]}
        for name, parameter in model.named_parameters():
            owner, own = (["", *name.split(".")])[-2:]
            plain = "bias" in own or "token" in own or "norm" in owner
            typed_norm = ".norms." in name
            assert not ((plain or typed_norm) and id(parameter) in decayed), name
            assert (name.startswith("encoder.")) == (id(parameter) in slow), name
        names = {name for name, p in model.named_parameters() if id(p) in decayed}
        # typed weights (types, out, in) and attention vectors are weights; typed biases and norms are matrices too
        assert {"encoder.osm.layers.0.weight", "encoder.osm.geometry.weight", "encoder.fusion.nodes.weight"} <= names
        assert not {"encoder.osm.layers.0.bias", "encoder.osm.norms.0.weight", "encoder.image.cls_token"} & names
        assert any(p.ndim == 2 and id(p) not in decayed for p in model.parameters())


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_follow_the_clock_of_the_first(rank, monkeypatch):
    """Two processes of one run, the second one far ahead by its own clock: both act on the first one's."""
    limit = 100.0
    told = []

    class Strategy:
        def broadcast(self, value, src=0):
            told.append((value, src))
            return value if rank == 0 else 40.0

    trainer = SimpleNamespace(world_size=2, strategy=Strategy(), should_stop=False, global_step=0)
    module = Line(CONFIG.model_copy(update={"max_seconds": limit}), total_steps=1000)
    monkeypatch.setattr(Line, "trainer", property(lambda self: trainer))
    monkeypatch.setattr(Line, "run_seconds", property(lambda self: 40.0 if rank == 0 else 400.0))
    monkeypatch.setattr(Line, "global_step", property(lambda self: 0))
    assert module.read_clock() == 40.0
    assert module.progress == pytest.approx(0.4)
    TrainingModule.on_train_batch_end(module, None, None, 0)
    assert not trainer.should_stop
    assert told == [(40.0 if rank == 0 else 400.0, 0)] * 2
    trainer.world_size = 1  # alone, its own clock counts
    assert module.read_clock() == (40.0 if rank == 0 else 400.0)


def test_without_a_time_limit_no_clock_is_read(monkeypatch):
    module = Line(CONFIG, total_steps=10)
    monkeypatch.setattr(Line, "trainer", property(lambda self: pytest.fail("asked")))
    assert module.read_clock() == 0.0


def averaged(trail, decay):
    """The published average, step by step."""
    mean = [p.double() for p in trail[0]]
    for n, weights in enumerate(trail[1:], start=1):
        share = min(decay, (1 + n) / (10 + n))
        mean = [share * m + (1 - share) * p.double() for m, p in zip(mean, weights, strict=True)]
    return mean


def test_the_average_of_the_weights_is_kept(tmp_path):
    module = run_of(tmp_path, CONFIG)
    want = averaged(module.trail, 0.9)
    for got, mean, last in zip(module.model.parameters(), want, module.trail[-1], strict=True):
        torch.testing.assert_close(got.double(), mean, rtol=1e-5, atol=1e-6)
        assert not torch.equal(got, last)


@pytest.mark.parametrize(("dies_at", "ema", "keep"), [(2, 0.9, "last"), (10, 0.9, "best"), (15, None, "best")])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, dies_at, ema, keep):
    config = CONFIG.model_copy(update={"ema": ema, "keep": keep, "patience": 3})
    whole = run_of(tmp_path / "whole", config)
    out = tmp_path / "killed"
    with pytest.raises(RuntimeError, match="killed"):
        run_of(out, config, dies_at=dies_at)
    assert (out / RESUME_NAME).exists() == (dies_at >= 3)
    again = run_of(out, config)
    for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_rate_and_gradient_are_logged(tmp_path):
    run_of(tmp_path, CONFIG)
    header = (tmp_path / "log" / "part-0" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"learning_rate", "gradient_norm", "loss", "figure"} <= set(header)


def test_the_best_weights_are_those_of_the_best_validation(tmp_path):
    config = CONFIG.model_copy(update={"epochs": 12, "keep": "best", "learning_rate": 1.0, "clip": 100.0})
    module = run_of(tmp_path, config)
    lines = (tmp_path / "log" / "part-0" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("figure")
    best = max(float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column])
    module.eval()
    data = BatchData(size=SAMPLES, config=config, seed=3, make=make, validation_size=SAMPLES, make_validation=make)
    errors = [(module.model(b) - b.sum(1, keepdim=True)).square() for b in data.val_dataloader()]
    assert -float(torch.cat(errors).detach().mean()) == pytest.approx(best, rel=1e-5)
    assert (tmp_path / BEST_NAME).exists()


def test_whole_numbers_are_taken_over_not_averaged():
    average = AverageWeights(0.9, device=torch.device("cpu"))
    steps = [torch.tensor(3), torch.tensor(7)]
    average._mix(steps, [torch.tensor(5), torch.tensor(9)], 4)
    assert [int(s) for s in steps] == [5, 9]


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=5), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_places_have_equal_shares_of_an_epoch(counts, seed):
    place = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    drawn = BalancedOrder(place)(np.random.default_rng(seed))
    assert len(drawn) == len(place)
    shares = np.bincount(place[drawn], minlength=len(counts))
    assert shares.max() - shares.min() <= 1
    # within a place no tile comes twice before each came once
    for p, share in enumerate(shares):
        times = np.bincount(drawn[place[drawn] == p], minlength=len(place))[place == p]
        assert times.max() - times.min() <= 1 and times.sum() == share
