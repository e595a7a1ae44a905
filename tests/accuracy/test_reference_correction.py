"""Estimates corrected for interpreters' errors: a published table, a truth in repeated surveys, what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from accuracy.errors import DesignError
from accuracy.estimation.estimation import estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.reference_correction import correct_reference, fit_latent_classes
from accuracy.reporting.assessment import Context, assess
from accuracy.reporting.report import write_report
from accuracy.survey.design import SamplingDesign
from accuracy.survey.sample import ReferenceSample

approx = pytest.approx
STRATA = np.array(["mapped", "candidate", "rest"])
AREA = np.array([0.015, 0.05, 0.935]) * 1e7
DESIGN = SamplingDesign(
    psu_selection="probability", stratum="map_stratum", psu=None, ssu=None, second_stage_strata=("map_stratum",),
    unit_area=None,
)  # fmt: skip
MEASURES = ("UA", "PA", "F1", "area")


def test_two_tuberculin_tests_in_two_populations():
    """Hui & Walter 1980, table 1 (Greenberg & Jekel's data) and the maximum likelihood estimates printed there."""
    counts = {(0, 1, 1): 14, (0, 1, 0): 4, (0, 0, 1): 9, (0, 0, 0): 528,
              (1, 1, 1): 887, (1, 1, 0): 31, (1, 0, 1): 37, (1, 0, 0): 367}  # fmt: skip
    rows = np.repeat(np.array(list(counts)), list(counts.values()), axis=0)
    got = fit_latent_classes(
        rows[:, 1:].astype(float), rows[:, 0], np.ones(len(rows)), group=np.arange(2), zone=np.zeros(len(rows), int)
    )
    assert got.share == approx([0.0268, 0.7168], abs=2e-3)
    assert got.sensitivity == approx([0.9661, 0.9688], abs=2e-3)
    assert got.false_positive[:, 0] == approx([0.0067, 0.0159], abs=2e-3)


def survey(rng, *, points=(300, 400, 2400), twice=0.5, hit=(0.93, 0.88), false=((0.04, 0.004), (0.08, 0.006))):
    """One survey: the table of Ann's answers, a share of them read by Bo, too; and the truth at the points."""
    k = np.repeat(np.arange(3), points)
    truth = rng.random(len(k)) < np.array([0.82, 0.10, 0.006])[k]
    said = [
        rng.random(len(k)) < np.where(truth, h, np.array([f[0], f[0], f[1]])[k])
        for h, f in zip(hit, false, strict=True)
    ]
    both = rng.random(len(k)) < twice
    told = [f"Ann={a:d}; Bo={b:d}" if t else f"Ann={a:d}" for a, b, t in zip(*said, both, strict=True)]
    size = np.asarray(points)[k]
    table = pd.DataFrame(
        {"map_stratum": STRATA[k], "map": (k == 0).astype(int), "M_pix": AREA[k].astype(int), "m_pts": size,
         "ref": said[0].astype(int), "readings": told}
    )  # fmt: skip
    return table, truth


def true_measures():
    tp, fp = 0.82 * AREA[0], 0.18 * AREA[0]
    fn = 0.10 * AREA[1] + 0.006 * AREA[2]
    return np.array([tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn), (tp + fn) / AREA.sum()])


def test_the_truth_lies_in_the_corrected_interval():
    """70 surveys of a known truth: intervals of the answers miss it, the corrected ones cover."""
    rng = np.random.default_rng(5)
    options = EstimateOptions(measures=MEASURES)
    true, plain, got = true_measures(), [], []
    first = ReferenceSample(table=survey(rng)[0], design=DESIGN)
    assert first.layout  # read once: the draw is the same in all surveys
    for _ in range(70):
        sample = first.with_answers(survey(rng)[0][["ref", "readings"]])
        plain.append(estimate(sample, options).frame[["estimate", "ci_low", "ci_high"]].to_numpy())
        got.append(correct_reference(sample, options).frame[["estimate", "ci_low", "ci_high", "se"]].to_numpy())
    plain, got = np.array(plain), np.array(got)
    covered = [((t[..., 1] <= true) & (true <= t[..., 2])).mean(axis=0) for t in (plain, got)]
    assert (covered[0][1:] < 0.6).all()
    assert (covered[1] > 0.88).all(), covered
    bias = np.abs(np.median(got[..., 0], axis=0) - true)
    assert (bias[1:] < 0.3 * np.abs(plain[..., 0].mean(axis=0) - true)[1:]).all()
    assert np.median(got[..., 3], axis=0) == approx(got[..., 0].std(axis=0), rel=0.3)


def test_interpreters_without_error_change_nothing_and_rows_may_come_in_any_order():
    rng = np.random.default_rng(1)
    table, truth = survey(rng, twice=1.0, hit=(1, 1), false=((0, 0), (0, 0)))
    sample = ReferenceSample(table=table, design=DESIGN)
    got = correct_reference(sample, EstimateOptions(measures=MEASURES)).frame
    own = estimate(sample, EstimateOptions(measures=MEASURES)).frame
    assert table["ref"].astype(bool).tolist() == truth.tolist()
    assert got["estimate"].to_numpy() == approx(own["estimate"].to_numpy(), rel=0.03)
    assert got["se"].to_numpy() == approx(own["se"].to_numpy(), rel=0.1)
    assert (got["basis"] == "model").all() and got["uncorrected"].tolist() == own["estimate"].tolist()
    noisy = survey(rng)[0]
    one, two = (
        correct_reference(ReferenceSample(table=t, design=DESIGN)).frame
        for t in (noisy, noisy.sample(frac=1, random_state=3))
    )
    assert one["se"].to_numpy() == approx(two["se"].to_numpy(), rel=1e-4)


def test_what_an_expert_settled_is_the_truth():
    """Adjudicated splits tell who errs: sensitivities as counted against the expert, whose answers are all right."""
    table, truth = survey(np.random.default_rng(2), twice=1.0)
    split = table["readings"].isin(["Ann=1; Bo=0", "Ann=0; Bo=1"]).to_numpy()
    settled = table.assign(adjudicated=split, ref=np.where(split, truth, table["ref"]).astype(int))
    got = correct_reference(ReferenceSample(table=settled, design=DESIGN)).interpreters
    for name in ("Ann", "Bo"):
        said = table["readings"].str.contains(f"{name}=1").to_numpy()
        mine = got[got["interpreter"] == name].set_index("zone")
        assert mine["sensitivity"].to_numpy() == approx([said[truth].mean()] * 2, abs=0.02)
        near = table["map_stratum"].ne("rest").to_numpy() & ~truth
        assert mine.loc["near the map", "false_positive"] == approx(said[near].mean(), abs=0.015)


def test_readings_that_tell_nothing_are_refused():
    table, _ = survey(np.random.default_rng(3))
    once = table.assign(readings=table["readings"].str.partition(";")[0])
    with pytest.raises(DesignError, match="no point was read twice"):
        correct_reference(ReferenceSample(table=once, design=DESIGN))
    flat = survey(np.random.default_rng(3), points=(800, 2, 2))[0]  # one stratum alone: two readings tell too little
    flat = flat.assign(map_stratum="all", map=1, M_pix=10**6, m_pts=len(flat))
    with pytest.raises(DesignError, match="do not tell the interpreters' errors"):
        correct_reference(ReferenceSample(table=flat, design=replace(DESIGN, stratum=None)))


def test_the_report_shows_it_beside_the_answers_as_a_model(tmp_path):
    table, _ = survey(np.random.default_rng(4))
    sample = ReferenceSample(table=table, design=DESIGN)
    result = assess(sample, context=Context(corrects=True), replicates=0)
    files = write_report(result, tmp_path)
    assert "Corrected for interpreters' errors (a model)" in files["report.html"].read_text(encoding="utf-8")
    data = json.loads(files["report.json"].read_text(encoding="utf-8"))["corrected"]
    got = correct_reference(sample).frame.set_index("measure")["estimate"]
    assert {r["measure"]: r["estimate"] for r in data["measures"]}["F1"] == approx(got["F1"])
    assert {r["interpreter"] for r in data["interpreters"]} == {"Ann", "Bo"} and "not design-based" in data["note"]
    assert assess(sample, replicates=0).corrected is None
