"""Two maps on the same points."""

import numpy as np
import pandas as pd
import pytest

from accuracy.errors import SampleTableError
from accuracy.estimation.difference import compare_maps
from accuracy.estimation.estimation import estimate
from accuracy.survey.design import SamplingDesign
from accuracy.survey.sample import ReferenceSample


def sample(seed=0, cities=5, m=40):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        [
            {
                "region": r, "city": f"{r}{c}", "map_stratum": s, "N_city": 20, "n_city": cities, "M_pix": 9000,
                "m_pts": m,
            }
            for r in "AB" for c in range(cities) for s in ("uv", "rest") for _ in range(m)
        ]
    )  # fmt: skip
    uv = table["map_stratum"].eq("uv")
    table["ref"] = (rng.random(len(table)) < np.where(uv, 0.8, 0.1)).astype(int)
    table["map"] = uv.astype(int)
    table["other"] = np.where(rng.random(len(table)) < 0.9, table["map"], 1 - table["map"])
    table["point_id"] = range(len(table))
    return ReferenceSample(table=table, design=SamplingDesign(psu_selection="probability"))


def test_difference_equals_the_estimates_and_mirrors():
    s = sample()
    got = compare_maps(s, map_a="map", map_b="other").set_index("measure")
    own = estimate(s)
    for measure in ("UA", "PA", "F1", "IoU"):
        assert got.loc[measure, "a"] == pytest.approx(own.get(measure)["estimate"])
    back = compare_maps(s, map_a="other", map_b="map").set_index("measure")
    assert np.allclose(got["difference"], -back["difference"])
    assert np.allclose(got["se"], back["se"])
    share = got.loc["area"]
    assert share["difference"] == pytest.approx(0, abs=1e-15) and share["se"] == pytest.approx(0, abs=1e-12)


def test_the_pairing_counts():
    s = sample(2)
    same = s.table.assign(other=s.table["map"])
    same.loc[same.index[:3], "other"] = 1 - same.loc[same.index[:3], "map"]
    near = ReferenceSample(table=same, design=s.design)
    got = compare_maps(near, map_a="map", map_b="other").set_index("measure")
    alone = estimate(near).get("F1")["se"]
    assert 0 < got.loc["F1", "se"] < 0.5 * alone
    with pytest.raises(SampleTableError, match="both 'map'"):
        compare_maps(s, map_a="map", map_b="map")
    with pytest.raises(SampleTableError, match="'third' is not in the table"):
        compare_maps(s, map_a="map", map_b="third")
