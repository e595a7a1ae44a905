"""Whole chain on a demo nation with known truth: draw, label from truth, estimate, compare with the census."""

import numpy as np
import pytest

from benchmarks import coverage_study as study


def test_one_draw_through_rasters_has_the_same_law_as_its_counts(tmp_path):
    nation = study.build_nation(
        tmp_path, cities_per_region=3, seed=3, regions=("North", "South"), sides_m=(1000,), workers=1
    )
    allocation = {"mapped": 20, "candidate": 30, "rest": 30}
    table = study.sample_through_rasters(nation, allocation, per_region=2, seed=5)
    assert table.groupby("region")["city"].nunique().to_dict() == {"North": 2, "South": 2}
    by_code = {c.adcode: c for c in nation}
    for (city, stratum), rows in table.groupby(["city", "map_stratum"]):
        counts = by_code[city].counts[study.STRATA.index(stratum)]
        assert rows["M_pix"].iloc[0] == counts.sum()
        assert rows["ref"].sum() <= counts[1]
    got = study.measure(table, None).set_index("measure")
    assert (got["n_points"] == 4 * 80).all() and (got["se"] > 0).all()
    rng = np.random.default_rng(0)
    ways = [
        np.mean([draw(k).query("map_stratum == 'candidate'")["ref"].mean() for k in range(10)])
        for draw in (
            lambda k: study.sample_through_rasters(nation, allocation, per_region=3, seed=k),
            lambda k: study.sample_counts(nation, allocation, per_region=3, rng=rng),
        )
    ]
    assert ways[0] == pytest.approx(ways[1], abs=0.06)


@pytest.mark.slow
def test_intervals_cover_the_truth_and_small_samples_are_warned_of(tmp_path):
    nation = study.build_nation(tmp_path, cities_per_region=9, seed=11, sides_m=(1000, 1500), workers=1)
    repetitions = 200
    three = 3 * np.sqrt(0.95 * 0.05 / repetitions)
    table = study.study(nation, allocation=study.RECOMMENDED, repetitions=repetitions, seed=2)
    for measure in ("UA", "PA", "F1", "IoU", "area"):
        assert abs(table.loc[measure, "coverage"] - 0.95) <= three, table
        error = table.loc[measure, "mean"] - table.loc[measure, "true"]
        assert abs(error) < 0.25 * table.loc[measure, "sd"], table
    assert table.loc["F1", "warned"] < 0.1
    tiny = study.study(nation, allocation={"mapped": 5, "candidate": 5, "rest": 10}, repetitions=60, seed=2)
    assert tiny.loc["F1", "warned"] > 0.9
