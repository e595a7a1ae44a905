"""Draws: reproducible, growing, blind, unbiased; points lie where their stratum is."""

import subprocess
import sys

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

import accuracy.survey.map_strata
from accuracy.errors import DrawError
from accuracy.survey.block_draw import BLOCK_STRATA, draw_blocks, list_blocks
from accuracy.survey.drawing import draw_cities, draw_growing, make_generator
from accuracy.survey.map_strata import MapRasters, MapStrata
from accuracy.survey.point_draw import BLIND_COLUMNS, blind, draw_points
from accuracy.tables import read_table, write_table
from tests.support.rasters import grid_at, mark_product, raster_writer, write_raster

ALLOCATION = {"mapped": 20, "candidate": 15, "rest": 30}


def make_scores(path, seed=0, shape=(130, 170)):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 20, shape).astype(np.uint8)
    for _ in range(6):
        r, c = rng.integers(0, shape[0] - 20), rng.integers(0, shape[1] - 20)
        scores[r : r + 18, c : c + 14] = rng.integers(60, 250)
    mask = np.zeros(shape, np.uint8)  # published villages: neither all high scores nor only high scores
    for _ in range(4):
        r, c = rng.integers(0, shape[0] - 25), rng.integers(0, shape[1] - 25)
        mask[r : r + 12, c : c + 20] = 1
    mask[scores > 200] = 1
    scores[:, -9:], mask[:, -9:] = 255, 255
    return write_rasters(path, scores, mask)


def write_rasters(path, scores, mask, *, side_m=10):
    rasters = MapRasters(mask=path.with_name(f"{path.stem}_mask.tif"), scores=path)
    for file, values in ((rasters.scores, scores), (rasters.mask, mask)):
        grid = grid_at(500_000, 2_500_000, values.shape, resolution_m=side_m)
        write_raster(file, grid, values, nodata=255)
    mark_product(rasters.scores, rasters.mask)
    return rasters


@settings(max_examples=100, deadline=None)
@given(population=st.integers(1, 400), seed=st.integers(0, 99), data=st.data())
def test_growing_draw_is_a_prefix_without_repeats(population, seed, data):
    n = data.draw(st.integers(0, population))
    small, full = (draw_growing(population, k, make_generator(seed, "a", "b")) for k in (n, population))
    assert np.array_equal(small, full[:n])
    assert sorted(full) == list(range(population))


def test_growing_draw_takes_every_unit_equally_often():
    for n in (3, 7):
        hits = np.zeros(10)
        for seed in range(4000):
            hits[draw_growing(10, n, make_generator(seed, "x"))] += 1
        expected = 4000 * n / 10
        assert np.abs(hits - expected).max() < 5 * np.sqrt(expected * (1 - n / 10))


def frame_of(counts):
    return pd.DataFrame([{"adcode": f"{r[0]}{k:03d}", "region": r} for r, n in counts.items() for k in range(n)])


def test_cities_four_per_region_grow_and_do_not_depend_on_other_regions():
    frame = frame_of({"North": 40, "South": 50, "Tiny": 3})
    drawn = draw_cities(frame, seed=5)
    assert drawn.groupby("region").size().to_dict() == {"North": 4, "South": 4, "Tiny": 3}
    assert drawn.groupby("region")["N_city"].first().to_dict() == {"North": 40, "South": 50, "Tiny": 3}
    more = draw_cities(frame.sample(frac=1, random_state=1), per_region={"North": 6, "South": 4, "Tiny": 1}, seed=5)
    assert set(drawn.query("region == 'North'")["adcode"]) < set(more.query("region == 'North'")["adcode"])
    alone = draw_cities(frame.query("region == 'South'"), seed=5)
    assert list(alone["adcode"]) == list(drawn.query("region == 'South'")["adcode"])
    with pytest.raises(DrawError, match="'North' gets no city"):
        draw_cities(frame, per_region={"South": 4, "Tiny": 1}, seed=5)
    with pytest.raises(DrawError, match="is in the frame twice"):
        draw_cities(pd.concat([frame, frame.iloc[:1]]), seed=5)


@pytest.mark.parametrize("strip_px", [170, 170 * 7, 10**9])
def test_points_lie_in_their_stratum_whatever_the_strips(tmp_path, monkeypatch, strip_px):
    path = make_scores(tmp_path / "s.tif")
    whole = draw_points(path, city="440300", region="South", allocation=ALLOCATION, seed=3)
    monkeypatch.setattr(accuracy.survey.map_strata, "STRIP_PX", strip_px)
    got = draw_points(path, city="440300", region="South", allocation=ALLOCATION, seed=3)
    assert got.design.equals(whole.design)
    assert got.stratum_px == whole.stratum_px
    with MapStrata().open(path) as reader:
        code = np.concatenate([c for _, c in reader.strips()])
    design = got.design
    at = code[design["row_px"], design["col_px"]]
    assert list(at) == [("mapped", "candidate", "rest").index(s) for s in design["map_stratum"]]
    assert {k: int((code == i).sum()) for i, k in enumerate(("mapped", "candidate", "rest"))} == got.stratum_px
    assert got.not_predicted_px == 130 * 9
    with rasterio.open(path.mask) as raster:
        rows, cols = rasterio.transform.rowcol(raster.transform, design.geometry.x, design.geometry.y)
    assert list(rows) == list(design["row_px"]) and list(cols) == list(design["col_px"])
    assert not design["point_id"].duplicated().any()
    padded = np.pad(code, 1, constant_values=3)
    for r, c, edge in zip(design["row_px"], design["col_px"], design["edge"], strict=True):
        near = padded[r : r + 3, c : c + 3]
        assert edge == ((near == 0).any() and np.isin(near, (1, 2)).any())
    assert 0 < design["edge"].sum() < len(design)


def test_candidates_are_middling_scores_and_the_ring_about_mapped(tmp_path):
    path = make_scores(tmp_path / "s.tif")
    with rasterio.open(path.scores) as raster, rasterio.open(path.mask) as published:
        values, mapped = raster.read(1), published.read(1) == 1
    high = (values >= 125) & (values != 255)
    assert (mapped & ~high).any() and (high & ~mapped).any()  # the published map is not the scores cut at 0.5
    ring = np.zeros_like(mapped)
    for dr in range(-2, 3):
        for dc in range(-2, 3):
            ring |= np.pad(mapped, 2)[2 + dr : 2 + dr + mapped.shape[0], 2 + dc : 2 + dc + mapped.shape[1]]
    with MapStrata(candidate_threshold=0.3, buffer_m=20).open(path) as reader:
        code = reader.read(0, values.shape[0])
    expected = np.where(values == 255, 3, np.where(mapped, 0, np.where(ring | (values >= 75), 1, 2)))
    assert np.array_equal(code, expected)


def test_a_pilot_grows_per_stratum(tmp_path):
    path = make_scores(tmp_path / "s.tif")
    pilot = draw_points(path, city="c", region="r", allocation=ALLOCATION, seed=3).design
    more = draw_points(path, city="c", region="r", allocation={**ALLOCATION, "rest": 90}, seed=3).design
    assert set(pilot["point_id"]) < set(more["point_id"])
    other = draw_points(path, city="c", region="r", allocation=ALLOCATION, seed=4).design
    assert len(set(pilot["point_id"]) & set(other["point_id"])) < 20


def test_interpreters_get_no_answer_and_no_hint(tmp_path):
    path = make_scores(tmp_path / "s.tif")
    design = draw_points(path, city="c", region="r", allocation=ALLOCATION, seed=3).design
    given = blind(design, seed=3)
    assert tuple(given.columns) == BLIND_COLUMNS
    assert sorted(given["point_id"]) == sorted(design["point_id"])
    stratum = given.merge(design[["point_id", "map"]], on="point_id")["map"]
    assert stratum.iloc[:20].nunique() == 2  # mixed, not stratum by stratum
    file = write_table(given, tmp_path / "a.gpkg")
    again = read_table(file)
    assert list(again["point_id"]) == list(given["point_id"])
    assert again["label"].isna().all()
    assert write_table(given, tmp_path / "b.gpkg").read_bytes() == file.read_bytes()
    assert gpd.read_parquet(write_table(design, tmp_path / "d.parquet")).crs == design.crs


def test_point_estimates_from_drawn_points_are_unbiased(tmp_path):
    path = make_scores(tmp_path / "s.tif", seed=2)
    with MapStrata().open(path) as reader:
        code = reader.read(0, 130)
    truth = np.random.default_rng(1).random(code.shape) < np.array([0.8, 0.3, 0.02, 0])[code]
    totals = []
    for seed in range(150):
        points = draw_points(path, city="c", region="r", allocation=ALLOCATION, seed=seed).design
        totals.append((points["M_pix"] / points["m_pts"] * truth[points["row_px"], points["col_px"]]).sum())
    error = np.mean(totals) - truth[code < 3].sum()
    assert abs(error) < 4 * np.std(totals) / np.sqrt(len(totals))


def test_blocks_are_stratified_grow_and_cover(tmp_path):
    path = make_scores(tmp_path / "s.tif")
    frame = list_blocks(path, block_px=32)
    assert frame["predicted_px"].sum() == 130 * (170 - 9)
    want = {"with_village": 3, "with_candidate": 2, "without": 2}
    blocks = draw_blocks(path, city="c", region="r", allocation=want, seed=1, block_px=32)
    assert set(blocks["block_stratum"]) <= set(BLOCK_STRATA)
    more = draw_blocks(path, city="c", region="r", allocation=dict.fromkeys(want, 9), seed=1, block_px=32)
    assert set(blocks["block_id"]) <= set(more["block_id"])
    assert blocks.geometry.area.to_numpy() == pytest.approx(blocks["height_px"] * blocks["width_px"] * 100)
    with pytest.raises(DrawError, match="gets none"):
        draw_blocks(path, city="c", region="r", allocation={"with_village": 1}, seed=1, block_px=32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: draw_points(p, city="c", region="r", allocation={"mapped": 5, "rest": 5}, seed=1),
            "'candidate' of c",
        ),
        (lambda p: draw_points(p, city="c", region="r", allocation={"uv": 5}, seed=1), "'uv' is none of"),
        (lambda p: MapStrata(candidate_threshold=1.2), "candidate-threshold 1.2 is outside"),
        (lambda p: list_blocks(p, block_px=4), "hold no village"),
    ],
)
def test_bad_requests(tmp_path, call, message):
    with pytest.raises(DrawError, match=message):
        call(make_scores(tmp_path / "s.tif"))


def test_geographic_raster_is_refused(tmp_path):
    path = tmp_path / "g.tif"
    rasters = MapRasters(mask=path, scores=path)
    degrees = grid_at(113, 23, (4, 4), resolution_m=0.125, crs="EPSG:4326")
    write_raster(path, degrees, np.zeros((4, 4), np.uint8))
    with pytest.raises(DrawError, match="projected grid"):
        draw_points(rasters, city="c", region="r", allocation=ALLOCATION, seed=1)


def test_mask_and_scores_of_different_products_are_refused(tmp_path):
    rasters = make_scores(tmp_path / "a.tif")
    other = make_scores(tmp_path / "b.tif", shape=(130, 171))
    draw = {"city": "c", "region": "r", "allocation": ALLOCATION, "seed": 1}
    with pytest.raises(DrawError, match="is not on the grid of"):
        draw_points(MapRasters(mask=rasters.mask, scores=other.scores), **draw)
    with pytest.raises(DrawError, match="is no mask of published polygons"):
        draw_points(MapRasters(mask=rasters.scores, scores=rasters.scores), **draw)
    scores = np.zeros((130, 170), np.uint8)
    later = write_rasters(tmp_path / "c.tif", scores, scores)
    with pytest.raises(DrawError, match="differ on what was predicted"):
        draw_points(MapRasters(mask=rasters.mask, scores=later.scores), **draw)


def test_rasters_that_no_product_wrote_give_no_points(tmp_path):
    """Any uint8 raster on the grid looks like scores: an orthophoto's first band, a land cover map, a mask."""
    rasters = make_scores(tmp_path / "a.tif")
    draw = {"city": "c", "region": "r", "allocation": ALLOCATION, "seed": 1}
    with pytest.raises(DrawError, match=r"a_mask\.tif is no score raster of a product"):
        draw_points(MapRasters(mask=rasters.mask, scores=rasters.mask), **draw)
    with rasterio.open(rasters.scores) as scores:
        plain = write_raster(tmp_path / "plain.tif", grid_at(500_000, 2_500_000, scores.shape, resolution_m=10),
                             scores.read(1), nodata=255)  # fmt: skip
    with pytest.raises(DrawError, match=r"plain\.tif is no score raster of a product \(its tag 'UVMAP_SCORE' is None"):
        draw_points(MapRasters(mask=rasters.mask, scores=plain), **draw)
    with pytest.raises(DrawError, match=r"plain\.tif is no mask of published polygons"):
        draw_blocks(MapRasters(mask=plain, scores=rasters.scores), city="c", region="r", allocation={}, seed=1)


def write_tall(folder, height, width=8_000):
    """Mask and scores of a tall city, written strip by strip."""
    rng = np.random.default_rng(0)
    rasters = MapRasters(mask=folder / f"mask_{height}.tif", scores=folder / f"scores_{height}.tif")
    grid = grid_at(500_000, 2_500_000, (height, width))
    how = {"nodata": 255, "blockxsize": 512, "blockysize": 512, "zlevel": 1}
    with raster_writer(rasters.mask, grid, **how) as mask, raster_writer(rasters.scores, grid, **how) as scores:
        for row in range(0, height, 512):
            strip = np.zeros((min(512, height - row), width), np.uint8)
            for c in rng.integers(0, width - 400, 2):
                strip[50:300, c : c + 300] = 1
            window = rasterio.windows.Window(0, row, width, len(strip))
            mask.write(strip, 1, window=window)
            scores.write(strip * 200, 1, window=window)
    mark_product(rasters.scores, rasters.mask)
    return rasters


def peak_mib_of_a_draw(rasters):
    code = (
        "import sys; from accuracy.survey.map_strata import MapRasters\n"
        "from accuracy.survey.point_draw import draw_points\n"
        "d = draw_points(MapRasters(mask=sys.argv[1], scores=sys.argv[2]), city='c', region='r', seed=1,"
        " allocation={'mapped': 1500, 'candidate': 1000, 'rest': 2500})\n"
        "assert len(d.design) == 5000, len(d.design)\n"
        # the peak of this program alone: ru_maxrss begins with that of the process that started it
        "print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024)"
    )
    arguments = [sys.executable, "-c", code, str(rasters.mask), str(rasters.scores)]
    return int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
def test_the_memory_of_a_draw_does_not_grow_with_the_city(tmp_path):
    small, large = (write_tall(tmp_path, height) for height in (4_000, 20_000))
    growth = peak_mib_of_a_draw(large) - peak_mib_of_a_draw(small)
    assert growth < 40  # MiB; reading the two rasters whole would take 244 more
