"""The built-in refiner: it finds a border that shows, leaves one that does not, and knows which is which."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipeline.polygons import PolygonConfig, find_villages
from pipeline.refinement import RefinementConfig, boundary_f1, refine_villages
from pipeline.refinement.appearance import CELL_PX, Ring, judge_appearance, measure_appearance
from pipeline.refinement.built_in import AppearanceRefiner
from pipeline.refinement.prompts import make_prompt
from regions.raster.burn import burn
from regions.raster.grid import Grid

GRID = Grid("EPSG:32650", 1.0, 1_000, -5_000, 320, 360)
SHAPE = (GRID.height_px, GRID.width_px)
SETTINGS = PolygonConfig(grow=0.5, seed=0.6, barriers=None)


class Pictures:
    """Imagery from an array on the grid, invalid outside."""

    def __init__(self, pixels):
        self.pixels = pixels

    def read(self, window):
        inside = window.intersection(GRID.window)
        image = np.zeros((3, window.height_px, window.width_px), dtype=np.uint8)
        valid = np.zeros((window.height_px, window.width_px), dtype=bool)
        image[(slice(None), *inside.slices_in(window))] = self.pixels[(slice(None), *inside.slices_in(GRID.window))]
        valid[inside.slices_in(window)] = True
        return image, valid


def village():
    """A round village with a ragged border, and scores whose border strays from it by some metres."""
    rng = np.random.default_rng(3)
    row, col = np.indices(SHAPE)
    far = np.hypot(row - 160, col - 180)
    ragged = gaussian_filter(rng.normal(size=SHAPE), 5)
    truth = far + 4 * ragged / ragged.std() < 95
    stray = gaussian_filter(rng.normal(size=SHAPE), 25)
    scores = 250 / (1 + np.exp((far + 7 * stray / stray.std() - 95) / 2))
    return truth, np.round(scores).astype(np.uint8)


def roofs(seed=0):
    """Small roofs of many colours with dark alleys, uint8 (3, H, W)."""
    rng = np.random.default_rng(seed)
    rows, cols = SHAPE[0] // 10, SHAPE[1] // 10
    colours = np.repeat(np.repeat(rng.integers(90, 220, (3, rows, cols)), 10, axis=1), 10, axis=2).astype(float)
    row, col = np.indices(SHAPE)
    colours[:, (row % 10 < 2) | (col % 10 < 2)] = 50
    return np.clip(colours + rng.normal(0, 5, colours.shape), 0, 255).astype(np.uint8)


def pavement():
    rng = np.random.default_rng(9)
    return np.clip(140 + rng.normal(0, 5, (3, *SHAPE)), 0, 255).astype(np.uint8)


def refine(scores, image):
    villages = find_villages(scores, grid=GRID, config=SETTINGS).villages
    assert len(villages) == 1
    table = refine_villages(
        villages, scores=scores, imagery=Pictures(image), grid=GRID, refiner=AppearanceRefiner(), polygons=SETTINGS,
        config=RefinementConfig(),
    )  # fmt: skip
    return villages, table


def test_a_border_that_shows_is_found():
    truth, scores = village()
    villages, table = refine(scores, np.where(truth, roofs(), pavement()))
    assert table["boundary"].tolist() == ["built-in"]
    assert table["boundary_quality"][0] > 0.9
    before, after = burn(villages.geometry, GRID), burn(table.geometry, GRID)
    assert boundary_f1(before, truth, tolerance_px=3) < 0.55
    assert boundary_f1(after, truth, tolerance_px=3) > 0.75
    assert np.mean(before == truth) < np.mean(after == truth)
    assert table.geometry.is_valid.all()


def test_a_border_that_does_not_show_is_left():
    truth, scores = village()
    villages, table = refine(scores, roofs())  # the same roofs on either side
    assert truth.any()
    assert table["boundary"].tolist() == ["model"]
    assert table["boundary_reason"][0].startswith("rejected: quality")
    assert table["boundary_quality"][0] < 0.3
    assert table.geometry[0].equals(villages.geometry[0])


def test_odds_of_ground_that_says_nothing_are_even():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4 * CELL_PX, 8 * CELL_PX, 5)).astype(np.float32)
    half = np.zeros(noise.shape[:2], dtype=bool)
    half[:, : 4 * CELL_PX] = True
    odds = judge_appearance(noise, Ring(half, ~half, np.ones_like(half)), blur_px=2)
    assert abs(odds.informedness) < 0.1
    assert np.abs(odds.logits).mean() < 0.1
    told = noise + 3 * half[..., None]
    odds = judge_appearance(told.astype(np.float32), Ring(half, ~half, np.ones_like(half)), blur_px=2)
    assert odds.informedness > 0.98 and odds.logits[half].mean() > 1 > -1 > odds.logits[~half].mean()
    few = np.zeros_like(half)
    few[:5, :5] = True
    assert judge_appearance(noise, Ring(few, ~half, np.ones_like(half)), blur_px=2) is None


def test_the_window_does_not_matter():
    truth, scores = village()
    image = np.where(truth, roofs(), pavement())
    answers = []
    for shift in (0, 512):  # windows lie every 512 px
        outer = (1024, 1024)
        picture, seen, inside = np.zeros((3, *outer), np.uint8), np.full(outer, 255, np.uint8), np.zeros(outer, bool)
        place = (slice(shift, shift + SHAPE[0]), slice(64, 64 + SHAPE[1]))
        picture[(slice(None), *place)], seen[place], inside[place] = image, scores, scores >= 125
        prompt = make_prompt(inside, seen, seen != 255, positive_points=0, negative_points=0)
        ((answer,),) = AppearanceRefiner().refine(picture[None], [[prompt]])
        answers.append((answer.inside[place], answer.quality))
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    assert answers[0][1] == pytest.approx(answers[1][1])


def test_scales_are_metres():
    fine = np.repeat(np.repeat(roofs()[:, :200, :200], 2, axis=1), 2, axis=2)  # the same ground at half a metre
    one, half = (
        measure_appearance(roofs()[:, :200, :200], resolution_m=1.0),
        measure_appearance(fine, resolution_m=0.5),
    )
    blurred = one[20:-20, 20:-20, 3:6], half[40:-40:2, 40:-40:2, 3:6]
    assert np.corrcoef(blurred[0].ravel(), blurred[1].ravel())[0, 1] > 0.98


def test_a_window_full_of_village_is_left():
    inside = np.ones((256, 256), dtype=bool)
    prompt = make_prompt(inside, np.full((256, 256), 240, np.uint8), inside, positive_points=0, negative_points=0)
    ((answer,),) = AppearanceRefiner().refine(np.zeros((1, 3, 256, 256), np.uint8), [[prompt]])
    assert answer.inside.all() and answer.quality is None
