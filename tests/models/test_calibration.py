"""Calibration against logits that were spoilt in a known way, and reliability against torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torch.nn import functional
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from models.calibration import Calibration, CalibrationError
from models.segmentation.calibration import (
    CalibrationSample,
    CalibrationSampler,
    calibrate,
    fit_calibration,
)
from models.segmentation.reliability import expected_calibration_error, reliability_bins
from models.tiles.samples import IGNORE


def _sample(logits, labels, place=None):
    return CalibrationSample(
        logits=np.asarray(logits, np.float32),
        labels=np.asarray(labels, np.int64),
        place=np.zeros(len(labels), np.int64) if place is None else np.asarray(place, np.int64),
    )


def _drawn(true_logits, rng):
    """Labels of a world in which the softmax of these logits is the truth."""
    p = softmax(true_logits, axis=1)
    return (p.cumsum(1) < rng.uniform(size=(len(p), 1))).sum(1)


def _spoilt(true_logits, temperature, bias):
    """Logits that ``logits / temperature + bias`` makes true again."""
    return (true_logits - bias) * temperature


@given(temperature=st.floats(0.2, 5), bias=st.floats(-3, 3), seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_the_slope_and_bias_of_two_classes_are_found_again(temperature, bias, seed):
    rng = np.random.default_rng(seed)
    true = np.stack([rng.normal(0, 1, 60_000), rng.normal(-0.5, 2, 60_000)], 1)
    labels = _drawn(true, rng)
    found = fit_calibration(_sample(_spoilt(true, temperature, np.array([0.0, bias])), labels))
    assert found.temperature == pytest.approx(temperature, rel=0.08)
    assert found.bias[0] == 0
    assert found.bias[1] == pytest.approx(bias, abs=0.1)


def test_the_slope_and_biases_of_five_classes_are_found_again():
    rng = np.random.default_rng(3)
    true = rng.normal(0, 2, (80_000, 5))
    bias = np.array([0.0, 1.0, -1.5, 0.4, 2.0])
    found = fit_calibration(_sample(_spoilt(true, 2.5, bias), _drawn(true, rng)))
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    np.testing.assert_allclose(found.bias, bias, atol=0.1)


def test_the_fit_is_the_least_cross_entropy_of_torch():
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 3, (4_000, 3)).astype(np.float32)
    labels = _drawn(logits / 2 + [0, 1, 0], rng)
    found = fit_calibration(_sample(logits, labels))
    x, y = torch.from_numpy(logits), torch.from_numpy(labels)

    def loss(temperature, bias):
        return float(functional.cross_entropy(Calibration(temperature=temperature, bias=bias).calibrated(x), y))

    best = loss(found.temperature, found.bias)
    for step in (-0.05, 0.05):
        assert loss(found.temperature * (1 + step), found.bias) >= best - 1e-6
        for k in (1, 2):
            moved = tuple(b + step * (k == j) for j, b in enumerate(found.bias))
            assert loss(found.temperature, moved) > best


def test_calibrated_scores_have_a_small_error_where_the_raw_ones_do_not():
    rng = np.random.default_rng(7)
    true = np.stack([np.zeros(50_000), rng.normal(-1, 2, 50_000)], 1)
    outcome = calibrate(_sample(_spoilt(true, 3.0, np.array([0.0, 2.0])), _drawn(true, rng)))
    assert outcome.figures["ece_before"] > 0.2
    assert outcome.figures["ece"] < 0.01
    assert outcome.figures["bias"] == pytest.approx(2.0, abs=0.1)
    assert sum(b.pixels for b in outcome.before) == sum(b.pixels for b in outcome.after) == 50_000
    assert outcome.to_markdown().count("\n") == 13


def test_places_weigh_the_same_whatever_their_size():
    rng = np.random.default_rng(8)
    parts, labels, place = [], [], []
    for k, (n, bias) in enumerate([(60_000, 1.0), (6_000, -1.0)]):
        true = np.stack([np.zeros(n), rng.normal(0, 2, n)], 1)
        parts.append(_spoilt(true, 1.0, np.array([0.0, bias])))
        labels.append(_drawn(true, rng))
        place.append(np.full(n, k))
    both = _sample(np.concatenate(parts), np.concatenate(labels), np.concatenate(place))
    assert abs(fit_calibration(both).bias[1]) < 0.1
    weight = both.weights
    assert weight.sum() == pytest.approx(66_000)
    assert weight[both.place == 0].sum() == pytest.approx(weight[both.place == 1].sum())
    elsewhere = calibrate(both, trained_on=[0])
    assert elsewhere.calibration.bias[1] == pytest.approx(-1.0, abs=0.15)
    assert sum(b.pixels for b in elsewhere.before) == 6_000


def test_few_places_that_were_learnt_from_give_a_slope_alone():
    rng = np.random.default_rng(9)
    true = np.stack([np.zeros(30_000), rng.normal(0, 2, 30_000)], 1)
    sample = _sample(_spoilt(true, 2.0, np.array([0.0, 1.0])), _drawn(true, rng), np.arange(30_000) % 3)
    assert calibrate(sample, trained_on=[0, 1, 2]).calibration == fit_calibration(sample)
    two = sample.at([0, 1])
    slope = calibrate(two, trained_on=[0, 1, 2]).calibration
    assert slope.bias == () and slope.temperature > 1
    x, y = torch.from_numpy(two.logits), torch.from_numpy(two.labels)
    losses = [float(functional.cross_entropy(x / (slope.temperature + step), y)) for step in (-0.05, 0, 0.05)]
    assert losses[1] == min(losses)
    assert calibrate(two, trained_on=[0]).calibration == fit_calibration(two.at([1]))


def test_one_class_or_none_calibrates_nothing():
    logits = np.random.default_rng(0).normal(0, 1, (100, 2))
    assert fit_calibration(_sample(logits, np.ones(100))) == Calibration()
    outcome = calibrate(_sample(np.zeros((0, 2)), np.zeros(0)))
    assert outcome.calibration == Calibration() and "ece" not in outcome.figures
    three = np.random.default_rng(1).normal(0, 1, (400, 3))
    assert fit_calibration(_sample(three, np.arange(400) % 2)).bias[2] == 0.0


def test_classes_that_separate_have_a_finite_fit():
    labels = np.arange(1_000) % 2
    found = fit_calibration(_sample(np.stack([np.zeros(1_000), labels * 8.0 - 4], 1), labels))
    p = Calibration.calibrated(found, torch.tensor([[0.0, 4.0]])).softmax(1)[0, 1]
    assert float(p) == pytest.approx(501 / 502, abs=1e-4)  # Platt's target


@given(seed=st.integers(0, 1000), count=st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_the_error_is_that_of_torchmetrics(seed, count):
    rng = np.random.default_rng(seed)
    scores, hits = rng.uniform(size=500), rng.uniform(size=500) < 0.4
    ours = expected_calibration_error(reliability_bins(scores, hits, count=count))
    theirs = binary_calibration_error(torch.from_numpy(scores), torch.from_numpy(hits).long(), n_bins=count, norm="l1")
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_of_more_classes_the_error_is_that_of_the_most_likely():
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(0, 2, (800, 4)).astype(np.float32), rng.integers(0, 4, 800)
    theirs = multiclass_calibration_error(torch.from_numpy(logits), torch.from_numpy(labels), num_classes=4, n_bins=10)
    assert calibrate(_sample(logits, labels)).figures["ece_before"] == pytest.approx(float(theirs), abs=1e-5)


def test_bins_say_which_way_scores_err():
    bins = reliability_bins(np.array([0.05, 0.95, 0.95, 1.0]), np.array([True, False, True, False]))
    assert [b.pixels for b in bins] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert bins[0].gap == pytest.approx(-0.95)
    assert bins[9].gap == pytest.approx(2.9 / 3 - 1 / 3)
    assert bins[5].gap is None
    assert expected_calibration_error(()) is None


def test_the_sampler_takes_known_pixels_of_one_grid_with_their_place():
    labels = torch.full((2, 12, 12), IGNORE, dtype=torch.uint8)
    labels[0, 2::4, 2::4] = 1
    labels[1, 2, 2] = 0
    logits = torch.arange(2 * 2 * 144, dtype=torch.float32).view(2, 2, 12, 12)
    sampler = CalibrationSampler(2, 12)
    sampler.add(logits, labels, torch.tensor([4, 9]))
    found = sampler.sample()
    assert found.labels.tolist() == [1] * 9 + [0]
    assert found.place.tolist() == [4] * 9 + [9]
    np.testing.assert_array_equal(found.logits[-1], logits[1, :, 2, 2].numpy())
    assert CalibrationSampler(1_000_000, 224).stride_px == 219


@given(temperature=st.floats(0.2, 5), bias=st.floats(-3, 3), margin=st.floats(-4, 4))
@settings(max_examples=30, deadline=None)
def test_a_calibration_is_undone(temperature, bias, margin):
    fitted = Calibration(temperature=temperature, bias=(0.0, bias))
    p = fitted.calibrated(torch.tensor([[0.0, margin]], dtype=torch.float64)).softmax(1)[0, 1]
    raw = fitted.undone(np.array([float(p), 0.0, 1.0]))
    np.testing.assert_allclose(raw, [1 / (1 + np.exp(-margin)), 0, 1], rtol=1e-4, atol=1e-6)


def test_biases_fall_on_their_class_in_any_shape():
    fitted = Calibration(temperature=2.0, bias=(0.0, 1.0, -1.0))
    logits = torch.randn(2, 3, 4, 5)
    want = torch.stack([logits[:, k] / 2 + (0.0, 1.0, -1.0)[k] for k in range(3)], 1)
    torch.testing.assert_close(fitted.calibrated(logits), want)
    assert fitted.describe(("a", "b", "c")) == "temperature 2, bias of b +1, bias of c -1"


def test_what_a_fit_cannot_give_is_refused():
    for values in ({"temperature": 0.0}, {"temperature": float("nan")}, {"bias": (0.0, float("inf"))}):
        with pytest.raises(CalibrationError):
            Calibration(**values)
    assert not Calibration(bias=(0.0, 0.0)).is_fitted
    assert Calibration(bias=(0.0, 0.1)).is_fitted
