"""km² of the nation by design, of every city by a labelled model."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from accuracy.arrays import SampleArrays
from accuracy.errors import DesignError
from accuracy.estimation.city_ground import estimate_city_ground, fit_fay_herriot
from accuracy.estimation.ground import estimate_ground, satterthwaite_df
from accuracy.estimation.options import EstimateOptions
from accuracy.reporting.assessment import Context, assess
from accuracy.reporting.report import write_report
from accuracy.survey.design import SamplingDesign
from accuracy.survey.sample import ReferenceSample

approx = pytest.approx


def complete_city(k, tp, fp, fn, tn, **columns):
    """Every pixel of a city as a point: no error within."""
    ref = [1] * tp + [0] * fp + [1] * fn + [0] * tn
    mapped = [1] * (tp + fp) + [0] * (fn + tn)
    rows = pd.DataFrame({"ref": ref, "map": mapped, "city": f"c{k}", "region": "R", **columns})
    return rows.assign(
        map_stratum=rows["map"].map({1: "mapped", 0: "rest"}),
        M_pix=lambda t: t.groupby("map")["map"].transform("size"),
        m_pts=lambda t: t["M_pix"], pixel_m2=1e6, point_id=[f"{k}-{i}" for i in range(len(rows))],
    )  # fmt: skip


NATION = [(4, 1, 1, 10), (9, 2, 3, 30), (2, 2, 0, 8), (20, 3, 6, 60), (6, 1, 2, 16)]


def sample_of(table, **design):
    return ReferenceSample(table=table, design=SamplingDesign(**{"psu_selection": "probability", **design}))


def test_difference_and_expansion_are_unbiased_over_every_sample_and_so_is_their_variance():
    true, mapped = sum(c[0] + c[2] for c in NATION), sum(c[0] + c[1] for c in NATION)
    got = {m: [] for m in ("expansion", "difference", "ratio")}
    for s in itertools.combinations(range(5), 3):
        table = pd.concat([complete_city(k, *NATION[k], N_city=5, n_city=3) for k in s], ignore_index=True)
        frame = estimate_ground(sample_of(table), {"R": mapped * 1e6}).set_index("method")
        for method, values in got.items():
            values.append((frame.loc[method, "km2"], frame.loc[method, "se"] ** 2))
    for method in ("expansion", "difference"):
        values = np.array(got[method])
        assert values[:, 0].mean() == approx(true, rel=1e-12)
        assert values[:, 1].mean() == approx(values[:, 0].var(), rel=1e-9)
    spread = {m: np.array(v)[:, 0].std() for m, v in got.items()}
    assert spread["ratio"] < spread["difference"] < spread["expansion"]


def test_ratio_by_hand_and_a_map_without_errors():
    table = pd.concat([complete_city(k, *NATION[k], N_city=5, n_city=2) for k in (0, 1)], ignore_index=True)
    row = estimate_ground(sample_of(table), {"R": 50e6}).set_index("method").loc["ratio"]
    R = 17 / 16
    assert row["km2"] == approx(50 * R)
    e = np.array([5 - R * 5, 12 - R * 11]) * 5 / 2
    assert row["se"] == approx(50 / (16 * 2.5) * np.sqrt((1 - 2 / 5) * 2 * e.var(ddof=1)), rel=1e-9)
    perfect = pd.concat([complete_city(k, 5 + k, 0, 0, 20, N_city=4, n_city=2) for k in range(2)], ignore_index=True)
    frame = estimate_ground(sample_of(perfect), {"R": 33e6}).set_index("method")
    assert frame.loc["difference", ["km2", "se"]].tolist() == approx([33, 0])
    assert frame.loc["ratio", ["km2", "se"]].tolist() == approx([33, 0], abs=1e-9)


def test_what_no_design_supports_is_refused():
    table = pd.concat([complete_city(k, *NATION[k], N_city=5, n_city=2) for k in (0, 1)], ignore_index=True)
    with pytest.raises(DesignError, match="chosen on purpose"):
        estimate_ground(sample_of(table, psu_selection="purposive"), {"R": 5e7})
    with pytest.raises(DesignError, match="numbers of pixels, not areas"):
        estimate_ground(sample_of(table.drop(columns="pixel_m2")), {"R": 5e7})
    with pytest.raises(DesignError, match="no mapped ground is known of 'R'"):
        estimate_ground(sample_of(table), {"S": 5e7})
    with pytest.raises(DesignError, match="'S' has mapped ground but no sampled city"):
        estimate_ground(sample_of(table), {"R": 5e7, "S": 5e7})


def test_model_variance_is_found_and_coefficients_are_weighted_least_squares():
    rng = np.random.default_rng(0)
    n = 400
    x = np.stack([rng.lognormal(0, 1, n), rng.lognormal(0, 0.5, n)], axis=1)
    k, psi = x.sum(axis=1), rng.uniform(0.05, 0.5, n) ** 2
    y = x @ [1.1, 0.3] + 0.4 * k * rng.normal(size=n) + np.sqrt(psi) * rng.normal(size=n)
    s2, b, cov = fit_fay_herriot(y, psi, x, k)
    w = 1 / (k**2 * s2 + psi)
    assert b == approx(np.linalg.lstsq(x * np.sqrt(w)[:, None], y * np.sqrt(w), rcond=None)[0], rel=1e-9)
    assert np.sum(w * (y - x @ b) ** 2) == approx(n - 2, rel=0.05)
    assert s2 == approx(0.16, rel=0.2) and cov[0, 0] > 0
    alike, *_ = fit_fay_herriot(x @ [1.0, 0.2], psi, x, k)
    assert 0 < alike < 0.02 * s2
    with pytest.raises(DesignError, match="5 sampled cities are too few"):
        fit_fay_herriot(y[:5], psi[:5], x[:5], k[:5])


def nation(seed, cities=60, drawn=20, points=((40, "mapped"), (200, "rest"))):
    """Cities whose omission and commission differ; the sample of some of them, and the truth of all."""
    rng = np.random.default_rng(seed)
    ground, share = rng.lognormal(5, 0.5, cities), 0.05 * rng.lognormal(0, 0.7, cities)
    mapped = ground * np.minimum(share, 0.3)
    ua, missed = rng.beta(30, 6, cities), 0.02 * rng.gamma(4, 0.25, cities) * mapped / ground / 0.05
    true = mapped * ua + (ground - mapped) * missed
    rows = []
    for c in rng.choice(cities, drawn, replace=False):
        for m, name in points:
            rate = ua[c] if name == "mapped" else missed[c]
            size = int(1e4 * (mapped[c] if name == "mapped" else ground[c] - mapped[c]))
            rows.append(
                pd.DataFrame(
                    {"ref": (rng.random(m) < rate).astype(int), "map": int(name == "mapped"), "city": f"c{c}",
                     "region": "R", "map_stratum": name, "M_pix": size, "m_pts": m, "pixel_m2": 100.0,
                     "N_city": cities, "n_city": drawn}
                )
            )  # fmt: skip
    table = pd.concat(rows, ignore_index=True).assign(point_id=lambda t: range(len(t)))
    frame = pd.DataFrame({"adcode": [f"c{c}" for c in range(cities)], "mapped_m2": mapped * 1e6,
                          "unmapped_m2": (ground - mapped) * 1e6})  # fmt: skip
    return sample_of(table), frame, true


def test_model_of_cities_covers_and_beats_their_own_points():
    inside, errors, own = [], [], []
    for seed in range(25):
        sample, frame, true = nation(seed)
        got = estimate_city_ground(sample, frame)
        assert (got["basis"] == "model").all() and got["sampled"].sum() == 20
        inside.append((got["ci_low"].to_numpy() <= true) & (true <= got["ci_high"].to_numpy()))
        errors.append(((got["km2"] - true) ** 2)[got["sampled"]].mean())
        own.append(((got["direct_km2"] - true) ** 2)[got["sampled"]].mean())
    assert 0.9 < np.mean(inside) < 0.99
    assert np.mean(errors) < 0.9 * np.mean(own)


def test_many_points_leave_nothing_to_the_model():
    sample, frame, _ = nation(1, points=((6000, "mapped"), (20000, "rest")))
    got = estimate_city_ground(sample, frame).query("sampled")
    assert (got["weight_of_direct"] > 0.8).all()
    assert np.corrcoef(got["km2"], got["direct_km2"])[0, 1] > 0.999
    with pytest.raises(DesignError, match="is not in the table of cities"):
        estimate_city_ground(sample, frame[frame["adcode"] != got["city"].iloc[0]])
    assert np.isfinite(estimate_ground(sample, {"R": frame["mapped_m2"].sum()}, EstimateOptions())["se"]).all()


def test_the_report_shows_every_city_and_calls_it_a_model(tmp_path):
    sample, frame, _ = nation(2)
    result = assess(sample, context=Context(city_totals=frame.assign(region="R"), names={"c3": "Here"}), replicates=0)
    files = write_report(result, tmp_path)
    text, data = (files[n].read_text(encoding="utf-8") for n in ("report.html", "report.json"))
    own = estimate_city_ground(sample, frame)
    assert pd.DataFrame(json.loads(data)["city_ground"])["km2"].to_numpy() == approx(own["km2"].to_numpy())
    part = text[text.index("Ground of every city (a model)") :]
    part = part[: part.index("</table>")]
    assert part.count("<tr>") == len(frame) + 1 and "not design-based" in part and "Here (c3)" in part
    assert len(pd.read_csv(files["city_ground.csv"])) == len(frame)
    few = pd.concat([complete_city(k, *NATION[k], N_city=5, n_city=3) for k in range(3)], ignore_index=True)
    cities = pd.DataFrame({"adcode": [f"c{k}" for k in range(5)], "region": "R", "mapped_m2": 9e6, "unmapped_m2": 9e7})
    result = assess(sample_of(few), context=Context(city_totals=cities), replicates=0)
    text = write_report(result, tmp_path)["report.html"].read_text(encoding="utf-8")
    assert "No model of single cities: 3 sampled cities are too few" in text


def test_degrees_of_freedom_are_satterthwaites_over_regions():
    """Cochran 1977, eq. 5.16, by plain numpy: cities of one pixel each in three regions of unequal spread."""
    rng = np.random.default_rng(1)
    counts, spread = np.array([4, 6, 9]), np.array([9.0, 1.0, 3.0])
    region = np.repeat(np.arange(3), counts)
    arrays = SampleArrays(
        weight=np.full(19, 5.0), psu=np.arange(19), cell=np.arange(19), stratum_of_psu=region,
        psu_of_cell=np.arange(19), psu_population=counts * 5.0, ssu_population=np.ones(19), stratum_names=tuple("abc"),
        psu_names=tuple(map(str, range(19))), cell_names=tuple(map(str, range(19))),
    )  # fmt: skip
    z = rng.normal(0, spread[region])
    everywhere = np.ones(19, dtype=bool)
    V = np.array([n * z[region == h].var(ddof=1) * 0.8 for h, n in enumerate(counts)])
    got = satterthwaite_df(z, arrays, everywhere, EstimateOptions())
    assert got == approx(V.sum() ** 2 / (V**2 / (counts - 1)).sum()) and got < 16
    assert satterthwaite_df(z, arrays, region == 2, EstimateOptions()) == 8
    even = z.copy()
    for h in range(3):  # V_h in proportion to df_h: nothing is lost
        here = region == h
        even[here] = (even[here] - even[here].mean()) / even[here].std(ddof=1) * np.sqrt((counts[h] - 1) / counts[h])
    assert satterthwaite_df(even, arrays, everywhere, EstimateOptions()) == approx(16)
