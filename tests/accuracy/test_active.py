"""Tiles worth labelling: uncertain, spread, partly by chance, and never where they may not lie."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from scipy.spatial.distance import pdist

from accuracy.errors import DrawError, LabelError, SampleTableError
from accuracy.survey.active import ActiveSelection, burn_answers, measure_tiles, points_of_tiles, select_tiles
from accuracy.survey.labels import LabelTable
from accuracy.survey.map_strata import MapRasters
from tests.support.rasters import grid_at, write_raster

TILE_M = 40.0  # 20 px of 2 m


def product(path, scores, spread=None):
    grid = grid_at(500_000, 2_500_000, scores.shape, resolution_m=2.0)
    bands = scores if spread is None else np.stack([scores, spread])
    file = write_raster(path, grid, bands, nodata=255)
    return MapRasters(mask=file, scores=file)


@pytest.fixture
def rasters(tmp_path):
    """A sure map with two uncertain neighbourhoods of 4 x 4 tiles, one more uncertain, and a strip without scores."""
    scores = np.full((500, 610), 5, np.uint8)
    scores[40:120, 40:120] = 125
    scores[300:380, 400:480] = 110
    scores[:, 580:] = 255
    return product(tmp_path / "s.tif", scores)


def frame(*bounds):
    return gpd.GeoDataFrame(geometry=[shapely.box(*b) for b in bounds], crs="EPSG:32649")


def test_uncertainty_is_the_entropy_and_what_is_not_predicted_is_no_tile(rasters):
    found = measure_tiles(rasters, ActiveSelection(tile_m=TILE_M))
    assert len(found) == 25 * 29  # the strip holds no tile; the last column of tiles is cut by the raster's edge
    by_place = found.set_index(["row", "col"])["uncertainty"]
    for value, place in ((125, (2, 2)), (110, (15, 20)), (5, (0, 0))):
        p = value / 250
        assert by_place[place] == pytest.approx(-p * np.log2(p) - (1 - p) * np.log2(1 - p), abs=1e-12)
    box = found.set_index(["row", "col"]).geometry[(2, 3)]
    assert box.equals(shapely.box(500_120, 2_499_880, 500_160, 2_499_920))


def test_the_most_uncertain_are_thinned_by_distance(rasters):
    chosen = select_tiles(rasters, ActiveSelection(tiles=8, tile_m=TILE_M, random_share=0.0))
    assert (chosen["chosen_by"] == "uncertain").all()
    xy = np.column_stack([chosen.centroid.x, chosen.centroid.y])
    west = xy[:, 0] < 500_300
    assert chosen["score_mean"].round(2).isin([0.5, 0.44]).all()  # distance is not bought with tiles that are sure
    assert west.sum() == 4  # of the sixteen most uncertain alone, all would lie in the west
    assert pdist(xy).min() > 1.4 * TILE_M  # and side by side


def test_a_share_is_drawn_by_chance_and_the_seed_decides(rasters):
    wanted = ActiveSelection(tiles=40, tile_m=TILE_M, random_share=0.5, seed=3)
    chosen = select_tiles(rasters, wanted)
    assert chosen["tile_id"].is_unique
    assert chosen["chosen_by"].value_counts().to_dict() == {"uncertain": 20, "random": 20}
    assert chosen.equals(select_tiles(rasters, wanted))
    other = select_tiles(rasters, ActiveSelection(tiles=40, tile_m=TILE_M, random_share=0.5, seed=4))
    same = set(chosen["tile_id"]) & set(other["tile_id"])
    assert 20 <= len(same) < 30  # the uncertain ones stay, those by chance are others
    assert not (chosen["chosen_by"].head(20) == "uncertain").all()  # the order tells nothing


def test_chance_reaches_every_tile_alike(rasters):
    times = np.zeros(25 * 29)
    for seed in range(60):
        chosen = select_tiles(rasters, ActiveSelection(tiles=145, tile_m=TILE_M, random_share=1.0, seed=seed))
        rows = chosen["tile_id"].str.extract(r"t(\d+)_(\d+)").astype(int)
        times[rows[0] * 29 + rows[1]] += 1
    assert times.sum() == 60 * 145
    statistic = ((times - 12) ** 2 / (12 * 0.8)).sum()  # each tile is drawn with probability 1/5
    assert abs(statistic - 724) < 5 * np.sqrt(2 * 724)


def test_areas_and_ground_left_out_are_kept(rasters):
    areas, kept_out = frame((500_000, 2_499_000, 500_600, 2_500_000)), frame((500_000, 2_499_500, 500_300, 2_500_000))
    chosen = select_tiles(
        rasters,
        ActiveSelection(tiles=30, tile_m=TILE_M),
        areas=areas.to_crs("EPSG:4326"),
        leave_out=kept_out.to_crs("EPSG:4326"),
    )
    area = chosen.geometry.area.iloc[0]
    assert (chosen.intersection(areas.geometry.iloc[0]).area >= area / 2 - 100).all()
    assert (chosen.intersection(kept_out.geometry.iloc[0]).area <= area / 2 + 100).all()


def test_disagreement_is_read_from_the_second_band(tmp_path):
    scores, spread = np.full((200, 200), 250, np.uint8), np.zeros((200, 200), np.uint8)
    spread[100:120, 60:80] = 100
    rasters = product(tmp_path / "s.tif", scores, spread)
    (tile,) = select_tiles(
        rasters, ActiveSelection(tiles=1, tile_m=TILE_M, random_share=0, by="disagreement")
    ).itertuples()
    assert (tile.tile_id, tile.uncertainty) == ("t00005_00003", pytest.approx(0.4))


def test_interpreters_see_places_alone(rasters):
    chosen = select_tiles(rasters, ActiveSelection(tiles=5, tile_m=TILE_M))
    points = points_of_tiles(chosen, "990001")
    assert list(points.columns) == ["point_id", "city", "geometry"]
    assert all(s.contains(p) for s, p in zip(chosen.geometry, points.geometry, strict=True))


def table(name, **answers):
    frame = pd.DataFrame({"point_id": list(answers), "label": list(answers.values())}).assign(interpreter=name)
    return LabelTable(frame=frame, source=name)


def test_answers_become_a_mask_to_learn_from(tmp_path, rasters):
    tiles = measure_tiles(rasters, ActiveSelection(tile_m=TILE_M))
    names = tiles["tile_id"].to_numpy()
    a, b, c, d, e = names[[0, 31, 40, 41, 700]]  # side by side, apart, and at the southern edge
    ann = table("ann", **{a: 1.0, b: 0.0, c: 1.0, d: np.nan})
    bo = table("bo", **{a: 1.0, c: 0.0, e: 1.0})
    counts = burn_answers(tiles, [ann, bo], like=rasters.scores, out=tmp_path / "l" / "labels.tif")
    assert counts == {"village": 2, "other": 1, "differing": 1, "unanswered": len(tiles) - 4}
    with rasterio.open(tmp_path / "l" / "labels.tif") as mask, rasterio.open(rasters.scores) as scores:
        assert (mask.crs, mask.transform, mask.shape, mask.nodata) == (scores.crs, scores.transform, scores.shape, 255)
        found = mask.read(1)
    expected = np.full(found.shape, 255, np.uint8)
    for name, value in ((a, 1), (b, 0), (e, 1)):
        row, col = int(name[1:6]) * 20, int(name[7:]) * 20
        expected[row : row + 20, col : col + 20] = value
    assert np.array_equal(found, expected)


def test_answers_about_something_else_are_refused(tmp_path, rasters):
    tiles = select_tiles(rasters, ActiveSelection(tiles=3, tile_m=TILE_M))
    with pytest.raises(LabelError, match="ann answers 'p-1', which is no tile"):
        burn_answers(tiles, [table("ann", **{"p-1": 1.0})], like=rasters.scores, out=tmp_path / "x.tif")
    nothing = table("ann", **{tiles["tile_id"][0]: np.nan})
    with pytest.raises(LabelError, match="no square has an answer"):
        burn_answers(tiles, [nothing], like=rasters.scores, out=tmp_path / "x.tif")
    with pytest.raises(SampleTableError, match="tile_id"):
        burn_answers(tiles.drop(columns="tile_id"), [nothing], like=rasters.scores, out=tmp_path / "x.tif")


def test_what_cannot_be_chosen_is_said(rasters):
    with pytest.raises(DrawError, match="has 725 tiles of 40 m"):
        select_tiles(rasters, ActiveSelection(tiles=2000, tile_m=TILE_M))
    with pytest.raises(DrawError, match="has one band"):
        select_tiles(rasters, ActiveSelection(tiles=2, tile_m=TILE_M, by="disagreement"))
    with pytest.raises(DrawError, match="outside"):
        ActiveSelection(random_share=1.2)
