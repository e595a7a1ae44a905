"""Self-training: what is taken for a label, and what a training makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.calibration import Calibration
from models.checkpoints import load_checkpoint
from models.encoders.pyramid import make_backbone, pyramid_config
from models.encoders.rise import SceneRise
from models.encoders.statistics import TileMoments
from models.segmentation.config import SegmentationConfig
from models.segmentation.head_data import PlaceFeatures
from models.segmentation.head_training import HeadTraining, train_head
from models.segmentation.self_training import SelfTraining, sure_answers
from models.tiles.samples import SampleSet
from tests.support.samples import rough_and_smooth

NAME = "efficientnet_lite0"
NO_RISE = SceneRise(0.0, 1.0)


def target_of(seed: int, tiles: int = 3, side: int = 4) -> PlaceFeatures:
    rng = np.random.default_rng(seed)
    known = torch.from_numpy(rng.random((tiles, side, side)) < 0.9)
    return PlaceFeatures(
        name="target",
        features=torch.zeros(tiles, 5, side, side, dtype=torch.float16),
        labels=torch.full((tiles, 2, side, side), torch.nan),  # whatever they say is not read
        known=known,
        moments=TileMoments(np.ones(tiles), np.zeros((tiles, 5)), np.ones((tiles, 5))),
        share=np.zeros(tiles),
        tiles=np.arange(tiles),
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.5, 2.0), st.floats(-1, 1), st.sampled_from([0.0, 0.5, 3.0]))
def test_sure_cells_are_those_that_a_loop_over_cells_finds(seed, temperature, bias, rise):
    target = target_of(seed)
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (3, 2, 4, 4)))
    how = SelfTraining(least_cells=1)
    fitted = Calibration(temperature=temperature, bias=(0.0, bias))
    found = sure_answers(target, logits, fitted, rise=SceneRise(rise, 0.0), source_share=0.3, how=how)
    assert -20 < found.level <= -rise  # the whole rise of so small a reach is taken back
    villages, others = set(), set()
    for cell in np.argwhere(target.known.numpy()).tolist():
        n, r, c = cell
        margin = (logits[n, 1, r, c] - logits[n, 0, r, c]).item() / temperature + bias + found.level
        probability = 1 / (1 + np.exp(-margin))
        if probability >= how.village:
            villages.add((n, r, c))
        elif probability <= how.other:
            others.add((n, r, c))
    assert (found.villages, found.others, found.cells) == (len(villages), len(others), int(target.known.sum()))
    if not villages or not others:
        assert found.place is None
        return
    place = found.place
    assert {tuple(x) for x in place.known.nonzero().tolist()} == villages | others
    assert {tuple(x) for x in (place.known & (place.labels[:, 1] == 1)).nonzero().tolist()} == villages
    assert torch.equal(place.labels.sum(1), torch.ones(3, 4, 4)) and place.weight == how.weight


def test_nothing_is_taken_from_answers_of_one_kind():
    target = target_of(0)
    logits = torch.stack([torch.full((3, 4, 4), 5.0), torch.full((3, 4, 4), -5.0)], dim=1)
    found = sure_answers(target, logits, Calibration(), rise=NO_RISE, source_share=0.3, how=SelfTraining(least_cells=1))
    assert found.place is None and found.villages == 0 and found.others == found.cells
    assert "nothing was learnt" in found.describe(SelfTraining())
    with pytest.raises(ValidationError, match="must be the lower one"):
        SelfTraining(village=0.3, other=0.4)


def test_a_training_learns_from_the_target_and_not_from_its_labels(tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "w.safetensors"
    safetensors.torch.save_file(make_backbone(NAME).state_dict(), weights)
    config = SegmentationConfig(encoder=pyramid_config(NAME), dropout=0.3, smooth_cells=1.0, feature_noise=1.0)
    both, target = SampleSet.concat([rough_and_smooth(0), rough_and_smooth(1, 60)]), rough_and_smooth(2, 30)

    def run(name: str, target: SampleSet | None, **how: float):
        training = HeadTraining(steps=30, cells=256, self_training=SelfTraining(**how))
        return train_head(both, None, config, out=tmp_path / name, weights=weights, target=target, training=training)

    blank = replace(target, labels=np.zeros_like(target.labels))
    plain, taught = run("plain", None), run("taught", blank, least_cells=5)
    assert taught.digest != plain.digest
    assert run("other labels", target, least_cells=5).digest == taught.digest
    # statistics, share and calibration stay those of the labelled places
    one, other = (load_checkpoint(r.checkpoint) for r in (plain, taught))
    assert one.config.calibration == other.config.calibration
    changed = {k for k, v in one.weights.items() if not np.array_equal(v, other.weights[k])}
    assert changed == {"classifier.weight", "classifier.bias"}
    card = (taught.checkpoint / "card.md").read_text(encoding="utf-8")
    assert "Self-training on place 2, no label of it read" in card and "6 tiles without labels" in card
    assert taught.figures["self_trained"] == 1 and 0 < taught.figures["self_village_share"] < 1
    # too few sure cells: the model without self-training
    few = run("few", blank, least_cells=10_000)
    assert few.digest == plain.digest and few.figures["self_trained"] == 0
