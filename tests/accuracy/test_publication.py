"""What is published beside the figures, recomputed from the files alone."""

import hashlib
import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from accuracy.estimation.estimation import estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.table_estimates import estimate_replicated
from accuracy.reporting.assessment import Context, assess
from accuracy.reporting.reference_set import write_reference_set
from accuracy.reporting.report import write_report
from accuracy.survey.design import SamplingDesign
from accuracy.survey.sample import ReferenceSample
from tests.accuracy.test_report import table

approx = pytest.approx


def labelled(seed=0, *, silent=0):
    """Eight cities of two regions with places, pixel sizes, readings and village sizes."""
    frame = table(seed)
    rng = np.random.default_rng(seed)
    city = pd.factorize(frame["city"])[0]
    frame["pixel_m2"] = np.where(city % 2 == 0, 100.0, 25.0)
    frame["readings"] = [f"Ann={r}; Bo={r if k % 40 else 1 - r}" for k, r in enumerate(frame["ref"])]
    frame["n_answers"], frame["disagreed"], frame["adjudicated"] = 2, frame.index % 40 == 0, False
    frame["village_m2"] = np.where(frame["map"] == 1, rng.choice([4e3, 3e4, 9e4, 9e5], len(frame)), np.nan)
    frame["ref"] = frame["ref"].astype(object)
    frame.loc[frame.index[:silent], "ref"] = None
    places = shapely.points(100 + 3 * city + rng.random(len(frame)), 25 + 2 * city + rng.random(len(frame)))
    return gpd.GeoDataFrame(frame, geometry=places, crs=4326)


def sample_of(frame, selection="probability"):
    return ReferenceSample(table=frame, design=SamplingDesign(psu_selection=selection))


def test_strata_hold_areas_and_probabilities():
    frame = labelled(silent=5)
    got = assess(sample_of(frame), replicates=0).publication.strata.set_index(["city", "second"])
    for (city, second), rows in frame.groupby(["city", "map_stratum"]):
        one, row = rows.iloc[0], got.loc[(city, second)]
        assert row["pi"] == approx(one["n_city"] / one["N_city"] * one["m_pts"] / one["M_pix"])
        assert row["area_km2"] == approx(one["M_pix"] * one["pixel_m2"] / 1e6)
        assert row["answered"] == rows["ref"].notna().sum() and row["drawn"] == len(rows) == one["m_pts"]
        assert row["weight"] * row["answered"] == approx(one["M_pix"] * one["N_city"] / one["n_city"])
    assert len(got) == 24


def test_areas_in_km2_by_region():
    frame = labelled()
    weight = frame["N_city"] / frame["n_city"] * frame["M_pix"] / frame["m_pts"] * frame["pixel_m2"] / 1e6
    got = assess(sample_of(frame), replicates=0).publication.areas.set_index("value")
    for value, here in (("all", frame.index >= 0), ("North", frame["region"] == "North")):
        row = got.loc[value]
        assert row["estimated_km2"] == approx((weight * frame["ref"])[here].sum())
        assert row["mapped_km2"] == approx((weight * frame["map"])[here].sum())
        assert row["basis"] == "expanded from the sample"
        assert 0 <= row["low_km2"] < row["estimated_km2"] < row["high_km2"]
    size = {(r, m): (weight * (frame["map"] == int(m)) * (frame["region"] == r)).sum() * 1e6 * 1.05
            for r in frame["region"].unique() for m in "01"}  # fmt: skip
    result = assess(sample_of(frame), calibrate_to=size, replicates=0)
    known = result.publication.areas.set_index("value")
    area = result.calibrated.query("measure == 'area' and variance == 'two_stage'").set_index("value")
    for value in ("all", "North"):
        km2 = sum(v for k, v in size.items() if value in ("all", k[0])) / 1e6
        assert known.loc[value, "estimated_km2"] == approx(area.loc[value, "estimate"] * km2)
        assert known.loc[value, "se_km2"] == approx(area.loc[value, "se"] * km2)
        assert known.loc[value, "mapped_km2"] == approx(
            sum(v for k, v in size.items() if k[1] == "1" and value in ("all", k[0])) / 1e6
        )
    assert assess(sample_of(frame.drop(columns="pixel_m2")), replicates=0).publication.areas is None


def test_accuracy_by_size_of_city_and_village():
    frame = labelled()
    got = assess(sample_of(frame), replicates=0).publication.sizes
    w = frame["N_city"] / frame["n_city"] * frame["M_pix"] / frame["m_pts"] * frame["pixel_m2"]
    ref = frame["ref"].astype(int)
    villages = got[got["kind"] == "village"].set_index("size")["estimate"]
    assert list(villages.index) == [
        "village of less than 1 ha", "village of 1 to 5 ha", "village of 5 to 20 ha", "village of 20 ha or more",
    ]  # fmt: skip
    mine = frame["village_m2"] == 3e4
    assert villages["village of 1 to 5 ha"] == approx((w * ref)[mine].sum() / w[mine].sum())
    mapped = frame[frame["map_stratum"] == "mapped"].groupby("city").first()
    km2 = frame["city"].map(mapped["M_pix"] * mapped["pixel_m2"]) / 1e6
    cities = got[(got["kind"] == "city") & (got["measure"] == "UA")].set_index("size")["estimate"]
    small = (km2 < 1) & (frame["map"] == 1)
    assert cities["less than 1 km² mapped"] == approx((w * ref)[small].sum() / w[small].sum())


def test_the_reference_set_gives_estimates_and_errors_without_our_programs(tmp_path):
    frame = labelled(silent=7)
    sample = sample_of(frame)
    files = write_reference_set(
        sample, tmp_path / "a", title="Set", response="As told.", replicates=300, seed=4, map_sha256="ab"
    )
    points = pd.read_csv(files["points.csv"])
    weights = pd.read_parquet(files["replicate_weights.parquet"]).set_index("point_id").loc[points["point_id"]]
    m, r = points["map"] == 1, points["ref"] == 1

    def f1(w):
        return 2 * w[(m & r).to_numpy()].sum(axis=0) / (w[m.to_numpy()].sum(axis=0) + w[r.to_numpy()].sum(axis=0))

    value, replicated = f1(points["weight"].to_numpy()), f1(weights.to_numpy())
    assert value == approx(estimate(sample, EstimateOptions(measures=("F1",))).get("F1")["estimate"], rel=1e-9)
    ours = estimate_replicated(sample, EstimateOptions(measures=("F1",)), replicates=300, seed=4)
    boot = ours[(ours["variance"] == "bootstrap") & (ours["value"] == "all")].iloc[0]
    assert np.sqrt(((replicated - value) ** 2).mean()) == approx(boot["se"], rel=1e-6)
    assert points["ref"].isna().sum() == 7 == (points["weight"] == 0).sum() and len(points) == len(frame)
    text = files["points.csv"].read_text(encoding="utf-8")
    assert "Ann" not in text and "interpreter 1=" in text
    assert points["lon"].to_numpy() == approx(frame.geometry.x.to_numpy(), abs=1e-6)
    package = json.loads(files["datapackage.json"].read_text(encoding="utf-8"))
    for resource in package["resources"]:
        data = (tmp_path / "a" / resource["path"]).read_bytes()
        assert resource["hash"] == f"sha256:{hashlib.sha256(data).hexdigest()}" and resource["bytes"] == len(data)
    assert [f["name"] for f in package["resources"][0]["schema"]["fields"]] == list(points.columns)
    assert package["map_sha256"] == "ab" and package["response_design"] == "As told."
    again = write_reference_set(
        sample, tmp_path / "b", title="Set", response="As told.", replicates=300, seed=4, map_sha256="ab"
    )
    assert {k: p.read_bytes() for k, p in files.items()} == {k: p.read_bytes() for k, p in again.items()}


def test_cities_on_purpose_have_no_replicates_and_say_why(tmp_path):
    files = write_reference_set(sample_of(labelled(), "purposive"), tmp_path, title="Set", response="")
    assert set(files) == {"points.csv", "datapackage.json"}
    assert "No replicate weights" in json.loads(files["datapackage.json"].read_text(encoding="utf-8"))["note"]


def test_the_report_shows_them(tmp_path):
    frame = labelled()
    context = Context(response="Village: told by the city.\n\nMixed pixels: the majority.")
    text = write_report(assess(sample_of(frame), context=context, replicates=0), tmp_path)["report.html"].read_text(
        "utf-8"
    )
    for part in (
        ">Response design<", "Mixed pixels: the majority.", "a square of 5 to 10 m on the ground",
        ">Cities and points<", ">Areas<", ">By size<", "village of 20 ha or more", "2 interpreters: 0 units",
        "latitude", "omissions in the rest stratum",
    ):  # fmt: skip
        assert part in text, part
    assert {"strata.csv", "areas.csv", "sizes.csv"} <= {p.name for p in tmp_path.iterdir()}
    bare = table()
    plain = write_report(assess(sample_of(bare), replicates=0), tmp_path / "b")["report.html"].read_text("utf-8")
    assert ">Areas<" not in plain and ">Cities and points<" not in plain and "interpreters:" not in plain
