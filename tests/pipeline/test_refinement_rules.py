"""Windows, prompts, the acceptance rule and outlines without overlaps."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pipeline.polygons import PolygonConfig, find_villages, polygonize_mask
from pipeline.polygons.vectorize import to_metres
from pipeline.refinement import (
    AcceptanceRule,
    RefinedMask,
    RefinementConfig,
    RefinementError,
    boundary_f1,
    boundary_iou,
    choose_refiner,
    compare_outlines,
    mark_unrefined,
    refine_villages,
    summarise_refinement,
)
from pipeline.refinement.outlines import part_neighbours
from pipeline.refinement.prompts import make_logits, make_prompt
from pipeline.refinement.windows import place_views
from regions.raster.grid import Grid, Window

GRID = Grid("EPSG:32650", 1.0, 1_000, -5_000, 300, 400)


class Pictures:
    """Imagery from an array on the grid, invalid outside."""

    def __init__(self, pixels):
        self.pixels = pixels
        self.windows = []

    def read(self, window):
        self.windows.append(window)
        inside = window.intersection(GRID.window)
        image = np.zeros((3, window.height_px, window.width_px), dtype=np.uint8)
        valid = np.zeros((window.height_px, window.width_px), dtype=bool)
        image[(slice(None), *inside.slices_in(window))] = self.pixels[(slice(None), *inside.slices_in(GRID.window))]
        valid[inside.slices_in(window)] = True
        return image, valid


class Fixed:
    """A refiner that answers with a mask given on the grid, whatever it is asked."""

    name = "sam"

    def __init__(self, mask, side_px=64, quality=0.9):
        self.mask, self.side_px, self.quality, self.asked = mask, side_px, quality, []

    def watch(self, pictures):
        self.pictures = pictures
        return self

    def refine(self, images, prompts):
        # the windows that were read last are those of the images
        windows = self.pictures.windows[-len(images) :]
        answers = []
        for window, of_window in zip(windows, prompts, strict=True):
            inside = window.intersection(GRID.window)
            mask = np.zeros((window.height_px, window.width_px), dtype=bool)
            mask[inside.slices_in(window)] = self.mask[inside.slices_in(GRID.window)]
            answers.append([RefinedMask(mask, self.quality) for _ in of_window])
            self.asked.append((window, of_window))
        return answers


def rectangle(top, left, bottom, right):
    mask = np.zeros((GRID.height_px, GRID.width_px), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def setting(before, refined, **refiner):
    scores = np.where(before, 220, 20).astype(np.uint8)
    config = PolygonConfig(min_area_m2=100, min_hole_m2=50, simplify_m=0, close_gap_m=0)
    villages = find_villages(scores, grid=GRID, config=config).villages
    pictures = Pictures(np.zeros((3, GRID.height_px, GRID.width_px), dtype=np.uint8))
    return villages, scores, pictures, Fixed(refined, **refiner).watch(pictures)


CONFIG = RefinementConfig(margin_px=6, batch_windows=1)
SIZES = PolygonConfig(simplify_m=0, min_area_m2=100, min_hole_m2=50)
AS_SET = {"config": CONFIG, "polygons": SIZES}


@given(
    start=st.integers(-50, 900), length=st.integers(1, 700), first=st.integers(-10_000, 10_000),
    half=st.sampled_from([16, 32, 64]),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_cores_cover_a_village_once(start, length, first, half):
    grid = Grid("EPSG:32650", 1.0, first, first * 2, 1000, 1000)
    views = place_views(0, Window(start, start, length, length), grid=grid, side_px=2 * half, margin_px=4)
    seen = np.zeros((length + 8, length + 8), dtype=int)
    for view in views:
        assert (view.window.row_px + grid.first_row) % half == 0 and (view.window.col_px + grid.first_col) % half == 0
        assert view.core.intersection(view.window) == view.core
        part = view.core.intersection(Window(start - 4, start - 4, length + 8, length + 8))
        if not part.is_empty:
            seen[part.slices_in(Window(start - 4, start - 4, length + 8, length + 8))] += 1
    assert (seen == 1).all()
    if length + 8 <= half:
        assert len(views) == 1  # it fits into one window whatever its place


def test_a_large_village_is_refined_across_windows_without_seams():
    before = rectangle(40, 40, 240, 330)
    refined = rectangle(44, 37, 243, 333)
    villages, scores, pictures, refiner = setting(before, refined)
    table = refine_villages(villages, scores=scores, imagery=pictures, grid=GRID, refiner=refiner, **AS_SET)
    assert len(pictures.windows) > 20
    assert table["boundary"].tolist() == ["sam"]
    assert table["boundary_reason"][0].startswith("accepted: agreement 0.9")
    assert table["boundary_quality"][0] == pytest.approx(0.9)
    left, _, _, top = GRID.bounds_m
    expected = shapely.box(left + 37, top - 243, left + 333, top - 44)
    # pixel for pixel but for its corners, which a mask halves: a seam would add more
    assert shapely.area(shapely.symmetric_difference(table.geometry[0], expected)) == pytest.approx(4 / 8)
    assert table.geometry[0].within(expected)


def test_windows_lie_round_villages_only_and_are_read_once():
    before = rectangle(10, 10, 30, 30) | rectangle(10, 36, 30, 56) | rectangle(250, 350, 280, 390)
    villages, scores, pictures, refiner = setting(before, before, side_px=128)
    refine_villages(villages, scores=scores, imagery=pictures, grid=GRID, refiner=refiner, **AS_SET)
    assert len(pictures.windows) == len(set(pictures.windows)) == 2  # two villages share a window
    assert [len(prompts) for _, prompts in refiner.asked] == [2, 1]


@pytest.mark.parametrize(
    ("refined", "quality", "fault"),
    [
        (rectangle(40, 40, 60, 60), 0.9, "agreement 0.16 < 0.7; area ratio 0.16 < 0.75"),
        (rectangle(40, 40, 90, 90), 0.2, "quality 0.2 < 0.8"),
        (rectangle(30, 30, 110, 110), 0.9, "area ratio 1.80 > 1.33"),
        (rectangle(200, 200, 201, 201), 0.9, "nothing found"),
        (rectangle(40, 40, 90, 97), 0.9, "spill 0.11 > 0.05"),
    ],
)
def test_the_rule_rejects_with_its_reason(refined, quality, fault):
    villages, scores, pictures, refiner = setting(rectangle(40, 40, 90, 90), refined, quality=quality)
    left, _, _, top = GRID.bounds_m
    park = gpd.GeoSeries([shapely.box(left + 91, top - 300, left + 97, top)], crs=GRID.crs)
    table = refine_villages(
        villages, scores=scores, imagery=pictures, grid=GRID, refiner=refiner, **AS_SET, forbidden=park
    )
    assert table["boundary"].tolist() == ["model"]
    assert fault in table["boundary_reason"][0]
    assert table.geometry[0].equals(villages.geometry[0])


def test_refined_outlines_do_not_reach_into_neighbours_or_unpredicted_ground():
    before = rectangle(40, 40, 90, 90) | rectangle(40, 93, 90, 140)
    refined = rectangle(38, 38, 92, 142)  # one mask over both
    villages, scores, pictures, refiner = setting(before, refined, side_px=256)
    scores[91:] = 255
    rule = AcceptanceRule(max_spill=0.6)
    config = RefinementConfig(margin_px=6, rule=rule)
    table = refine_villages(
        villages, scores=scores, imagery=pictures, grid=GRID, refiner=refiner, config=config, polygons=SIZES
    )
    one, two = table.geometry
    assert shapely.area(shapely.intersection(one, two)) == pytest.approx(0)
    assert table.total_bounds[1] >= GRID.bounds_m[3] - 91
    assert (table["boundary"] == "sam").any()


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 8))
@settings(max_examples=60, deadline=None)
def test_no_overlap_whatever_the_refiner_says(seed, count):
    rng = np.random.default_rng(seed)
    before = np.array([shapely.box(30 * k, 0, 30 * k + 26, 26) for k in range(count)], dtype=object)
    accepted = rng.random(count) < 0.7
    refined = before.copy()
    for k in np.flatnonzero(accepted):
        refined[k] = shapely.box(30 * k - rng.integers(0, 12), -3, 30 * k + 26 + rng.integers(0, 12), 30)
    back = part_neighbours(before, refined, accepted)
    for i in range(count):
        assert shapely.is_valid(refined[i]) and refined[i].geom_type == "Polygon"
        for j in range(i):
            assert shapely.area(shapely.intersection(refined[i], refined[j])) < 1e-6
    for k in [*back, *np.flatnonzero(~accepted)]:
        assert refined[k].equals(before[k])


def test_prompt_points_lie_where_they_say():
    inside = rectangle(40, 40, 100, 100)[:256, :256]
    scores = np.where(inside, 230, 10).astype(np.uint8)
    prompt = make_prompt(inside, scores, np.ones_like(inside), positive_points=5, negative_points=4)
    assert prompt.box == (40, 40, 100, 100)
    assert len(prompt.positive) == 5 and len(prompt.negative) == 4
    assert inside[prompt.positive[:, 1].astype(int), prompt.positive[:, 0].astype(int)].all()
    assert not inside[prompt.negative[:, 1].astype(int), prompt.negative[:, 0].astype(int)].any()
    assert np.abs(prompt.positive[0] - 69.5).max() <= 1  # the deepest point first
    logits = make_logits(prompt, side_px=64)
    assert logits.shape == (64, 64) and logits[17, 17] > 2 and logits[5, 5] < -2
    empty = np.zeros_like(inside)
    assert make_prompt(empty, scores, inside, positive_points=5, negative_points=4) is None


def test_boundary_measures_by_hand():
    one, two = rectangle(10, 10, 50, 50), rectangle(10, 12, 50, 52)
    assert boundary_f1(one, one, tolerance_px=0) == boundary_iou(one, one, distance_px=3) == 1
    assert boundary_f1(one, two, tolerance_px=2) == 1
    assert boundary_f1(one, two, tolerance_px=0) == pytest.approx((2 * 38) / (4 * 39))
    assert boundary_f1(one, np.zeros_like(one), tolerance_px=3) == 0
    # bands of 1 px: frames of 40 x 40 shifted by two columns share 2 rows of 38 px
    assert boundary_iou(one, two, distance_px=1) == pytest.approx(2 * 38 / (2 * 156 - 2 * 38))


@given(seed=st.integers(0, 2**32 - 1), block=st.integers(60, 400))
@settings(max_examples=8, deadline=None)
def test_blockwise_comparison_equals_the_whole(seed, block):
    rng = np.random.default_rng(seed)
    masks = [gaussian_filter(rng.random((300, 400)), 9) for _ in range(2)]
    masks = [field > np.quantile(field, 0.8) for field in masks]
    shapes = [gpd.GeoSeries(to_metres(polygonize_mask(mask), GRID), crs=GRID.crs) for mask in masks]
    figures = compare_outlines(*shapes, grid=GRID, block_px=block)
    one, two = masks
    assert figures["iou"] == pytest.approx((one & two).sum() / (one | two).sum())
    for metres in (3, 10):
        assert figures[f"boundary_f1_{metres}m"] == pytest.approx(boundary_f1(one, two, tolerance_px=metres))
        assert figures[f"boundary_iou_{metres}m"] == pytest.approx(boundary_iou(one, two, distance_px=metres))


def test_imagery_of_one_band_is_refused():
    villages, scores, _, refiner = setting(rectangle(40, 40, 90, 90), rectangle(40, 40, 90, 90))

    class Grey:
        def read(self, window):
            return np.zeros((1, 64, 64), dtype=np.uint8), np.ones((64, 64), dtype=bool)

    with pytest.raises(RefinementError, match=r"1 band\(s\)"):
        refine_villages(villages, scores=scores, imagery=Grey(), grid=GRID, refiner=refiner, **AS_SET)


def test_choice_and_notes(tmp_path):
    refiner, note = choose_refiner("sam")
    assert refiner is None and "no weights were given" in note
    assert choose_refiner("built-in")[0].name == "built-in"
    with pytest.raises(RefinementError, match="nothing"):
        choose_refiner("sam", sam_weights=tmp_path / "nothing")
    villages = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)] * 3, crs=GRID.crs)
    assert summarise_refinement(mark_unrefined(villages, note)) == {"boundaries": {"model": 3}, "rejected": {}}
    table = villages.assign(
        boundary=["sam", "model", "model"],
        boundary_reason=["accepted: x", "rejected: spill 0.5 > 0.05; quality 0.1 < 0.7", "rejected: nothing found"],
    )
    assert summarise_refinement(table)["rejected"] == {"spill": 1, "quality": 1, "nothing found": 1}
