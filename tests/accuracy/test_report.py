"""The report: complete, self-contained, careful where the sample is too small, the same bytes for the same input."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from accuracy.estimation.estimation import estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.sensitivity import estimate_sensitivity
from accuracy.reporting.assessment import Context, assess
from accuracy.reporting.report import write_report
from accuracy.survey.agreement import Agreement
from accuracy.survey.design import SamplingDesign
from accuracy.survey.leakage import check_leakage
from accuracy.survey.sample import ReferenceSample

approx = pytest.approx


def table(seed=0, cities=4, points=(30, 40, 60)):
    rng = np.random.default_rng(seed)
    rows = []
    for region in ("North", "South <b>"):
        for c in range(cities):
            for (stratum, mapped, rate), m in zip(
                (("mapped", 1, 0.85), ("candidate", 0, 0.25), ("rest", 0, 0.01)), points, strict=True
            ):
                size = int(rng.integers(2000, 4000)) * {"mapped": 1, "candidate": 4, "rest": 60}[stratum]
                rows += [
                    {
                        "region": region, "city": f"{region[:1]}{c}", "map_stratum": stratum, "map": mapped,
                        "ref": int(rng.random() < rate), "N_city": 30, "n_city": cities, "M_pix": size, "m_pts": m,
                    }
                    for _ in range(m)
                ]  # fmt: skip
    return pd.DataFrame(rows).assign(point_id=[f"p{k}" for k in range(len(rows))])


def sample_of(frame, selection="probability"):
    return ReferenceSample(table=frame, design=SamplingDesign(psu_selection=selection))


def test_all_parts_are_there_and_nothing_is_loaded_from_elsewhere(tmp_path):
    frame = table()
    frame["ref"] = frame["ref"].astype(object)
    frame.loc[5, "ref"] = "?"
    frame["disagreed"] = [k % 50 == 0 for k in range(len(frame))]
    leak = check_leakage(frame, pd.DataFrame({"id": ["x"], "city": ["N0"]}), min_distance_m=500)
    pair = Agreement(
        first="Ann", second="Bo", both_uv=9, only_first=1, only_second=1, neither=89, unanswered=0, overall=0.98,
        overall_low=0.93, overall_high=0.99, on_uv=0.9, on_rest=0.98, ac1=0.97,
    )  # fmt: skip
    context = Context(product="UV 1.0", map_date="2024-06-30", unit_area_m2=100.0, agreements=(pair,), leakage=leak)
    known = {("North", "1"): 9e4, ("North", "0"): 5e6, ("South <b>", "1"): 9e4, ("South <b>", "0"): 5e6}
    result = assess(sample_of(frame), context=context, calibrate_to=known, replicates=200)
    files = write_report(result, tmp_path / "a", title="Test & report")
    text = files["report.html"].read_text(encoding="utf-8")
    for heading in (
        "Design", "Error matrix", "Estimates", "Three ways of counting the error", "Cities", "Sensitivity",
        "Independence from training", "What the figures do not cover", "Without calibration",
    ):  # fmt: skip
        assert f">{heading}<" in text, heading
    assert text.count(get_plotlyjs()) == 1 and text.count('class="plotly-graph-div"') == 2
    own = text.replace(get_plotlyjs(), "")
    assert "South &lt;b&gt;" in own and "South <b>" not in own
    assert not re.search(r"(?:src|href)=|@import|https?://(?!plot\.ly)", own)
    data = json.loads(files["report.json"].read_text(encoding="utf-8"))
    assert data["schema_version"] and data["leakage"]["counts"]["city_seen"] == 130
    assert {"seen=seen", "seen=unseen"} < {r["value"] for r in data["estimates"]}
    assert "best case" in text and "interpreters differed" in text and "km²" in text
    estimates = pd.read_csv(files["estimates.csv"])
    assert set(estimates["variance"]) == {"two_stage", "with_replacement", "cities_fixed"}
    whole = estimates.query("variance == 'two_stage' and value == 'all'").set_index("measure")["estimate"]
    assert whole["F1"] == approx(2 * whole["IoU"] / (1 + whole["IoU"]))
    again = write_report(result, tmp_path / "b", title="Test & report")
    assert {k: p.read_bytes() for k, p in files.items()} == {k: p.read_bytes() for k, p in again.items()}


def test_a_sample_below_the_recommended_size_is_warned_of(tmp_path):
    small = assess(sample_of(table(points=(4, 4, 6), cities=2)), replicates=0)
    assert any("below the recommended size" in w for w in small.warnings)
    large = assess(sample_of(table(points=(60, 300, 300), cities=4)), replicates=0)
    assert not any("the whole" in w and "below the recommended size" in w for w in large.warnings)
    text = write_report(small, tmp_path)["report.html"].read_text(encoding="utf-8")
    assert "below the recommended size" in text
    assert "1.000 [1.000" not in text and "± 0.000 " not in text


def test_purposive_cities_are_said_to_be(tmp_path):
    result = assess(sample_of(table(), "purposive"))
    assert result.checks is None and result.primary == "cities_fixed"
    assert any("chosen on purpose" in x for x in result.limits)
    assert "assessed cities only" in write_report(result, tmp_path)["report.html"].read_text(encoding="utf-8")


def test_sensitivity_brackets_and_alternatives():
    frame = table(3)
    frame["ref"] = frame["ref"].astype(object)
    frame.loc[frame.index % 20 == 0, "ref"] = None
    frame["ref_alt"] = frame["map"]
    frame["edge"] = frame.index % 11 == 0
    got = estimate_sensitivity(sample_of(frame)).set_index(["choice", "measure"])["estimate"]
    best, worst = (
        got[f"unanswered points {text}"]
        for text in ("agree with the map (best case)", "contradict the map (worst case)")
    )
    middle = got["as estimated"]
    for measure in ("UA", "PA", "F1", "IoU"):
        assert worst[measure] < middle[measure] < best[measure]
    assert got["a second label accepted"]["F1"] == 1
    assert np.isfinite(got["points near an outline left out"]["F1"])
    assert middle["F1"] < got["errors at the map's outline (1 px) forgiven"]["F1"] < 1


def test_km2_of_an_estimated_whole_have_the_error_of_a_total(tmp_path):
    """Cities of unequal size: the share is known much better than the ground."""
    frame = table(2)
    frame["M_pix"] *= np.where(frame["city"].str.endswith("0"), 20, 1)
    context = Context(unit_area_m2=1e6)
    result = assess(sample_of(frame), context=context, replicates=0)
    options = EstimateOptions(measures=("area", "area_total"))
    got = estimate(sample_of(frame), options)
    total, share = got.get("area_total"), got.get("area")
    assert result.true_total == approx((max(total["ci_low"], 0), total["ci_high"]))
    assert total["se"] / total["estimate"] > 1.5 * share["se"] / share["estimate"]
    page = write_report(result, tmp_path)["report.html"].read_text(encoding="utf-8")
    assert f"{total['estimate']:.2f} km² [{result.true_total[0]:.2f}, {total['ci_high']:.2f}]" in page
    known = {("North", "1"): 2e5, ("North", "0"): 2e7, ("South <b>", "1"): 2e5, ("South <b>", "0"): 2e7}
    assert assess(sample_of(frame), context=context, replicates=0, calibrate_to=known).true_total is None
