"""What adaptation adds to a scene's scores, and what of it is taken back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoders.rise import LEAST_SPREAD, MOST_RISE, RATE, TOLERATED, SceneRise, scene_rise, spread_of


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40))
def test_the_rise_is_the_change_of_the_mean_score(seed, width):
    # independent: all cells are scored both ways and averaged; deviations alone do not move the mean
    rng = np.random.default_rng(seed)
    cells = rng.normal(rng.normal(size=width), rng.uniform(0.5, 2, width), (500, width))
    source_mean, source_std, w = rng.normal(size=width), rng.uniform(0.5, 2, width), rng.normal(size=width)
    mean, std = cells.mean(0), cells.std(0)
    adapted, plain = ((cells - mean) / std) @ w, ((cells - source_mean) / source_std) @ w
    found = scene_rise(mean, source_mean, source_std, w)
    assert found.log_odds == pytest.approx(adapted.mean() - plain.mean(), abs=1e-9)
    assert abs(found.alignment) <= 1 + 1e-12
    # the weights' scale does not decide which share of a small rise is taken back
    tiny, twice = (scene_rise(mean, source_mean, source_std, k * w * 1e-3) for k in (1, 2))
    assert twice.alignment == pytest.approx(found.alignment)
    assert twice.level == pytest.approx(2 * tiny.level, abs=1e-12)


@given(st.floats(-20, 20), st.floats(0, 50), st.floats(0, 1))
def test_scores_are_lowered_at_most_to_where_they_were_without_adaptation(rise, reach, more):
    level = SceneRise(rise, reach).level
    assert -max(rise, 0) <= level <= 0
    assert rise > min(TOLERATED * reach, MOST_RISE) or level == 0
    assert SceneRise(rise + more, reach).level <= level  # never less for more


def test_worked_examples():
    assert SceneRise(1.1, 5).level == pytest.approx(-RATE * (1.1 - 0.7))
    assert SceneRise(3.0, 5).level == -3.0  # the whole rise: beyond it is 2.3, twice that is more than there is
    assert SceneRise(3.0, 1000).level == pytest.approx(-RATE * (3.0 - MOST_RISE))
    assert SceneRise(0.6, 5).level == 0 and SceneRise(-2.0, 5).level == 0
    still = scene_rise(np.ones(3), np.ones(3), np.ones(3), np.ones(3))
    assert (still.log_odds, still.reach, still.alignment, still.level) == (0, 0, 0, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_fewer_villages_are_taken_back_and_another_look_is_not(seed):
    # features of two classes; the classifier is the direction between them, as a linear one is about
    rng = np.random.default_rng(seed)
    width, n = 496, 4000
    between = rng.normal(size=width) * 0.4
    is_village = rng.random(n) < 0.3
    cells = rng.normal(size=(n, width)) + np.outer(is_village, between)
    mean, std = cells.mean(0), cells.std(0)
    none = scene_rise(cells[~is_village].mean(0), mean, std, between / width**0.5)
    assert none.alignment > 0.8 and none.level == -none.log_odds
    look = scene_rise(mean + 0.5 * rng.normal(size=width), mean, std, between / width**0.5)
    assert abs(look.alignment) < 5 / width**0.5  # five deviations of a random direction
    assert look.level > -0.2 * look.reach


def test_spread_has_a_floor_that_grounds_of_the_training_do_not_reach():
    source = np.array([1.0, 2.0, 4.0], np.float32)
    scenes = np.array([[1.1, 1.5, 3.0], [0.01, 1.0, 0.0]], np.float32)
    found = spread_of(scenes, source)
    assert np.array_equal(found[0], scenes[0])
    assert np.array_equal(found[1], LEAST_SPREAD * source) and found.dtype == np.float32
