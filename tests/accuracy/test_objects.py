"""Objects and boundaries against hand-derivable cases; weighted sums over blocks against the whole map."""

import json

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.comparison.block_objects import BlockRules, BlockSurvey, compare_blocks, estimate_from_blocks
from accuracy.comparison.objects import find_overlaps, find_splits_and_merges, match_objects
from accuracy.errors import ComparisonError
from accuracy.survey.design import SamplingDesign
from regions.raster.boundaries import count_boundaries

approx = pytest.approx


@pytest.fixture(scope="module")
def case(shared):
    return json.loads((shared / "reference" / "accuracy" / "h_object_boundary.json").read_text())


@pytest.mark.shared
def test_matching_segmentation_and_splits_by_hand(case):
    polygons = case["polygons"]
    names_r, reference = zip(*((k, shapely.from_wkt(v)) for k, v in polygons["ref_wkt"].items()), strict=True)
    names_p, predicted = zip(*((k, shapely.from_wkt(v)) for k, v in polygons["pred_wkt"].items()), strict=True)
    pairs = find_overlaps(reference, predicted)
    got = {f"{names_r[r.reference]}|{names_p[r.predicted]}": r for r in pairs.itertuples()}
    assert set(got) == set(polygons["pairs"])
    for key, want in polygons["pairs"].items():
        row = got[key]
        values = (row.intersection, row.iou, row.over_segmentation, row.under_segmentation, row.distance)
        assert values == approx((want["inter"], want["iou"], want["over_seg"], want["under_seg"], want["D"]))
    for key, options in {
        "match_iou_ge_0_5": {"iou": 0.5, "strict": False},
        "match_iou_gt_0_5": {"iou": 0.5},
        "match_iou_ge_0_75": {"iou": 0.75, "strict": False},
    }.items():
        match, want = match_objects(reference, predicted, **options), polygons[key]
        assert (match.tp, match.fp, match.fn) == (want["tp"], want["fp"], want["fn"])
        assert match.f1 == approx(want["f1"])
        if "PQ" in want:
            assert match.panoptic_quality == approx(want["PQ"])
            assert (match.precision, match.recall) == approx((want["precision"], want["recall"]))
            assert match.mean_iou == approx(want["mean_iou_matched"])
    split, merged = find_splits_and_merges(reference, predicted)
    assert [names_r[k] for k in split] == polygons["over_segmented_refs"] and merged == []
    merger = [shapely.from_wkt(polygons["merge_case"]["pred_wkt"])]
    assert find_splits_and_merges(reference, merger)[1] == [0]
    row = find_overlaps(reference[:1], merger).iloc[0]
    want = polygons["merge_case"]["vs_R1"]
    assert (row.iou, row.over_segmentation, row.under_segmentation) == approx(tuple(want.values()))


def square(dx=0, dy=0, grow=0, shape=(40, 40)):
    mask = np.zeros(shape, dtype=bool)
    mask[10 + dy - grow : 30 + dy + grow, 10 + dx - grow : 30 + dx + grow] = True
    return mask


@pytest.mark.shared
def test_boundary_measures_by_hand(case):
    masks = {
        "identical": square(),
        "shift_x2": square(dx=2),
        "shift_x2_y2": square(dx=2, dy=2),
        "eroded1": square(grow=-1),
        "dilated2": square(grow=2),
    }
    for name, want in case["boundary"]["cases"].items():
        for d, iou in want["boundary_iou"].items():
            got = count_boundaries(square(), masks[name], tolerance_px=int(d))
            assert got.boundary_iou == approx(iou), (name, d)
        for entry in want["boundary_f1"]:
            got = count_boundaries(square(), masks[name], tolerance_px=entry["tolerance"])
            assert (got.precision, got.recall, got.f1) == approx((entry["precision"], entry["recall"], entry["f1"]))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999))
def test_matching_is_optimal_and_symmetric(seed):
    from itertools import permutations

    rng = np.random.default_rng(seed)

    def boxes(n):
        corner = rng.uniform(0, 6, (n, 2))
        return [shapely.box(x, y, x + rng.uniform(1, 4), y + rng.uniform(1, 4)) for x, y in corner]

    a, b = boxes(4), boxes(3)
    match = match_objects(a, b, iou=0.1)
    table = np.array([[p.intersection(q).area / p.union(q).area for q in b] for p in a])
    gains = np.where(table > 0.1, table, 0)
    best = max(sum(gains[i, j] for j, i in enumerate(order)) for order in permutations(range(4), 3))
    assert match.iou.sum() == approx(best)
    back = match_objects(b, a, iou=0.1)
    assert (back.tp, back.fp, back.fn) == (match.tp, match.fn, match.fp)


def scene(seed=0, n=40, side=4000):
    rng = np.random.default_rng(seed)
    truth, mapped = [], []
    for x in np.linspace(100, side - 300, 8):
        for y in np.linspace(100, side - 300, 8):
            kind = rng.random()
            w, h = rng.uniform(60, 200, 2)
            shape = shapely.box(x, y, x + w, y + h)
            if kind < 0.8:
                truth.append(shape)
            if 0.15 < kind < 0.9:
                mapped.append(shapely.affinity.translate(shape, *rng.uniform(-30, 30, 2)))
    frames = [gpd.GeoDataFrame(geometry=g, crs="EPSG:32649") for g in (truth, mapped)]
    grid = [
        {
            "block_id": f"{i}-{j}",
            "region": "A",
            "city": "c",
            "geometry": shapely.box(i * 500, j * 500, i * 500 + 500, j * 500 + 500),
        }
        for i in range(side // 500)
        for j in range(side // 500)
    ]
    blocks = gpd.GeoDataFrame(grid, crs="EPSG:32649").assign(M_block=len(grid), m_block=len(grid))
    return blocks, *frames


DESIGN = SamplingDesign(
    psu_selection="census", psu="city", ssu="block_id", second_stage_strata=(), ssu_population="M_block",
    ssu_sampled="m_block",
)  # fmt: skip


def estimated(counts, rules):
    return estimate_from_blocks(BlockSurvey(counts=counts, design=DESIGN, rules=rules))


def test_all_blocks_together_are_the_whole_map():
    blocks, truth, mapped = scene()
    rules = BlockRules(resolution_m=5)
    counts = compare_blocks(blocks, truth, mapped, rules)
    for iou in (0.3, 0.5, 0.75):
        match = match_objects(list(truth.geometry), list(mapped.geometry), iou=iou)
        tag = round(100 * iou)
        got = tuple(int(counts[f"{c}_{tag}"].sum()) for c in ("tp", "fp", "fn"))
        assert got == (match.tp, match.fp, match.fn)
    whole = gpd.GeoDataFrame(
        {"block_id": ["w"], "region": ["A"], "city": ["c"], "M_block": [1], "m_block": [1]},
        geometry=[shapely.box(0, 0, 4000, 4000)], crs="EPSG:32649",
    )  # fmt: skip
    once = compare_blocks(whole, truth, mapped, rules)
    same = ["tp", "fp", "fn", "tn", *[c for c in counts if c.startswith(("ring_", "map_", "reference_"))]]
    assert counts[same].sum().to_dict() == once[same].iloc[0].to_dict()
    table = estimated(counts, rules).set_index(["kind", "at", "measure"])["estimate"]
    c = once.iloc[0]
    p, r = c["map_near_15m"] / c["map_15m"], c["reference_near_15m"] / c["reference_15m"]
    assert table["boundary", 15, "boundary F1"] == approx(2 * p * r / (p + r))
    assert table["boundary", 5, "boundary IoU"] == approx(c["ring_both_5m"] / c["ring_either_5m"])
    match = match_objects(list(truth.geometry), list(mapped.geometry), iou=0.5)
    assert table["objects", 0.5, "F1"] == approx(match.f1)
    assert table["objects", 0.5, "PQ"] == approx(match.panoptic_quality)


def test_a_sample_of_blocks_is_unbiased_and_its_standard_errors_fit_the_spread():
    blocks, truth, mapped = scene(3)
    rules = BlockRules(resolution_m=10, iou_levels=(0.5,), tolerances_m=(10.0,))
    counts = compare_blocks(blocks, truth, mapped, rules)
    full = estimated(counts, rules).set_index(["kind", "measure"])["estimate"]
    rng = np.random.default_rng(0)
    got, errors = [], []
    for _ in range(80):
        pick = counts.iloc[rng.choice(len(counts), 24, replace=False)].assign(m_block=24)
        table = estimated(pick, rules).set_index(["kind", "measure"])
        got.append(table["estimate"])
        errors.append(table["se"])
    for key in (("pixels", "IoU"), ("objects", "F1"), ("boundary", "boundary F1"), ("boundary", "boundary IoU")):
        values = np.array([g[key] for g in got])
        assert abs(values.mean() - full[key]) < 5 * values.std() / np.sqrt(80) + 0.01
        assert np.mean([e[key] for e in errors]) == approx(values.std(), rel=0.35)


def test_bad_input_is_named():
    with pytest.raises(ComparisonError, match="object 0 is a Point"):
        match_objects([shapely.Point(0, 0)], [])
    with pytest.raises(ComparisonError, match="threshold 2"):
        match_objects([], [], iou=2)
    blocks, truth, mapped = scene()
    with pytest.raises(ComparisonError, match="need a CRS"):
        compare_blocks(blocks.set_crs(None, allow_override=True), truth, mapped, BlockRules(resolution_m=5))
    empty = match_objects([], [])
    assert (empty.f1, empty.precision, empty.panoptic_quality) == (None, None, None)
