"""What interpreters add to the error: closed forms, a known truth in many repetitions, the protocol of re-reading."""

from dataclasses import replace
from functools import partial

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from scipy.special import ndtr

from accuracy.errors import SampleTableError
from accuracy.estimation.error_matrix import estimate_matrix_se, estimate_per_class
from accuracy.estimation.estimation import estimate, estimate_linearised
from accuracy.estimation.ground import estimate_ground
from accuracy.estimation.interpreters import InterpreterPanel, join_df
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.sensitivity import estimate_sensitivity
from accuracy.estimation.table_estimates import estimate_replicated
from accuracy.estimation.variance import design_variance
from accuracy.intervals import logit_t
from accuracy.measures import confusion_indicators
from accuracy.survey.design import SamplingDesign
from accuracy.survey.labels import LabelTable
from accuracy.survey.merging import MergeRules, merge_labels
from accuracy.survey.rereading import order_rereading
from accuracy.survey.sample import ReferenceSample

approx = pytest.approx
STRATA = ("mapped", "candidate", "rest")
AREA = np.array([0.015, 0.05, 0.935]) * 1e7
POINTS = np.array([300, 400, 800])
MEASURES = ("UA", "PA", "F1", "area")
DESIGN = SamplingDesign(
    psu_selection="probability", stratum="map_stratum", psu=None, ssu="point_id", second_stage_strata=(), unit_area=None
)


def drawn(points=POINTS, area=AREA):
    k = np.repeat(np.arange(3), points)
    return pd.DataFrame(
        {"point_id": [f"p{i:05d}" for i in range(len(k))], "map_stratum": np.array(STRATA)[k],
         "map": (k == 0).astype(int), "M_pix": area[k].astype(int), "m_pts": points[k]}
    )  # fmt: skip


def table_of(name, ids, labels):
    frame = pd.DataFrame({"point_id": ids, "label": np.asarray(labels, float), "interpreter": name, "date_ref": pd.NaT})
    return LabelTable(frame=frame, source=name)


def estimate_merged(merged, *, with_panel=True, measures=MEASURES):
    sample = ReferenceSample(table=merged, design=DESIGN)
    panel = InterpreterPanel.of(sample) if with_panel else None
    return estimate(sample, EstimateOptions(measures=measures, interpreters=panel)).frame.set_index("measure")


def test_one_interpreter_and_a_second_who_reads_everything_too():
    """Where the first decides, V = (D^2 - v(D)) / 2 with D the difference of the two estimates, by plain numpy."""
    rng = np.random.default_rng(0)
    design = drawn()
    ids, k = design["point_id"], np.repeat(np.arange(3), POINTS)
    truth = rng.random(len(k)) < np.array([0.8, 0.1, 0.02])[k]
    ann, bo = (np.where(rng.random(len(k)) < flip, ~truth, truth) for flip in (0.05, 0.15))
    tables = [table_of("Ann", ids, ann), table_of("Bo", ids, bo)]
    merged = merge_labels(design, tables, MergeRules(disagreement="first"))
    assert merged["ref"].astype(bool).tolist() == ann.tolist()
    got = estimate_merged(merged)
    plain = estimate_merged(merged, with_panel=False)
    W = AREA / AREA.sum()
    apart = ann.astype(float) - bo.astype(float)
    by = [apart[k == h] for h in range(3)]
    D = sum(w * d.mean() for w, d in zip(W, by, strict=True))
    v = sum(w**2 * d.var(ddof=1) / len(d) * (1 - len(d) / n) for w, d, n in zip(W, by, AREA, strict=True))
    assert got.loc["area", "se_interpreters"] ** 2 == approx(max(0, D**2 - v) / 2, rel=1e-9) and v < D**2
    for m in MEASURES:
        row = got.loc[m]
        assert row["estimate"] == plain.loc[m, "estimate"] and np.isnan(plain.loc[m, "se_interpreters"])
        assert row["se"] ** 2 == approx(plain.loc[m, "se"] ** 2 + row["se_interpreters"] ** 2)
        assert row["deff"] == approx(plain.loc[m, "deff"])
        assert row["ci_high"] - row["ci_low"] > plain.loc[m, "ci_high"] - plain.loc[m, "ci_low"]
        assert row["df"] == approx(join_df(plain.loc[m, "se"] ** 2, plain.loc[m, "df"], row["se_interpreters"] ** 2, 1))


def test_a_second_reading_of_some_points_stands_for_all_of_their_kind():
    """Every point twice, one copy read by both: the same differences with half the points behind them."""
    rng = np.random.default_rng(1)
    labels = rng.random((400, 2)) < 0.3
    once = np.stack([labels[:, 0], np.full(400, np.nan)], axis=1)
    panel = InterpreterPanel(
        names=("Ann", "Bo"), labels=np.vstack([labels, once]).astype(float),
        final=np.tile(labels[:, 0], 2), mapped=np.zeros(800, bool), stratum=np.zeros(800, int),
        adjudicated=np.zeros(800, bool),
    )  # fmt: skip
    steps = panel._steps(np.ones(800))
    assert steps.sum(axis=0) == approx([np.sqrt(2) * (labels[:, 0].mean() - labels[:, 1].mean()) / 2 * 800, 0], abs=0.2)
    assert panel.unseen(np.ones(800)) == 0 and panel.df == 1
    assert (steps[400:] == 0).all()


def test_who_agrees_adds_nothing_and_the_panel_must_fit():
    design = drawn()
    truth = np.arange(len(design)) % 3 == 0
    merged = merge_labels(design, [table_of(n, design["point_id"], truth) for n in ("Ann", "Bo")])
    got = estimate_merged(merged)
    assert (got["se_interpreters"] == 0).all()
    assert got["se"].to_numpy() == approx(estimate_merged(merged, with_panel=False)["se"].to_numpy())
    alone = merge_labels(design, [table_of("Ann", design["point_id"], truth)])
    assert InterpreterPanel.of(ReferenceSample(table=alone, design=DESIGN)) is None
    assert InterpreterPanel.of(ReferenceSample(table=alone.drop(columns="readings"), design=DESIGN)) is None
    panel = InterpreterPanel.of(ReferenceSample(table=merged, design=DESIGN))
    with pytest.raises(SampleTableError, match="readings are of 1500 points, the estimate of 300"):
        estimate(
            ReferenceSample(table=merged.query("map == 1"), design=DESIGN), EstimateOptions(interpreters=panel)
        )  # fmt: skip


def read(rng, truth, rest, shift):
    """Answers of an interpreter whose readiness to say "village" is shifted (probit) at all points alike."""
    sure = np.where(truth, 1.2, np.where(rest, -2.6, -1.2))
    return rng.random(len(truth)) < ndtr(sure + shift)


def repeat(mode, repetitions, spread=0.3):
    """float (repetitions, 4, K) estimates, variances of sampling, of interpreters, and degrees of freedom.

    Points and interpreters are drawn anew in every repetition.
    """
    rng = np.random.default_rng(7)
    k = np.repeat(np.arange(3), POINTS)
    arrays = ReferenceSample(table=drawn().assign(ref=0), design=DESIGN).arrays
    everywhere, mapped = np.ones((1, len(k)), dtype=bool), k == 0
    options = EstimateOptions(measures=MEASURES)
    out = []
    for _ in range(repetitions):
        truth = rng.random(len(k)) < np.array([0.8, 0.08, 0.0008])[k]
        answers = np.stack([read(rng, truth, k == 2, s) for s in rng.normal(0, spread, 3)], axis=1).astype(float)
        final = answers.sum(axis=1) >= 2
        if mode == "ties":
            answers[answers[:, 0] == answers[:, 1], 2] = np.nan
        panel = InterpreterPanel(
            names=tuple("ABC"), labels=answers, final=final, mapped=mapped, stratum=k,
            adjudicated=np.zeros(len(k), dtype=bool),
        )  # fmt: skip
        got = estimate_linearised(arrays, confusion_indicators(mapped, final), everywhere, options)
        noise = partial(design_variance, arrays=arrays, kind="two_stage")
        added = panel.variance(arrays.weight, everywhere, MEASURES, sampling_variance=noise)[0]
        sampling = got["variance"][0]
        df = [join_df(v, len(k) - 3, a, panel.df) for v, a in zip(sampling, added, strict=True)]
        out.append([got["estimate"][0], sampling, added, df])
    return np.array(out)


@pytest.mark.parametrize("mode", ["all", "ties"])
def test_many_interpreters_and_a_known_truth(mode):
    """Three who read all, or a third where two differ: the total error is that of repeated surveys."""
    got = repeat(mode, 300)
    value, sampling, added, df = (got[:, k] for k in range(4))
    seen = value.std(axis=0, ddof=1)
    total = np.sqrt((sampling + added).mean(axis=0))
    area = MEASURES.index("area")
    assert np.sqrt(sampling.mean(axis=0))[area] < 0.75 * seen[area]  # what is usually printed
    assert (total > 0.85 * seen).all() and (total < 1.45 * seen).all()  # ties alone: rather too large

    def cover(variance, df):
        low, high = logit_t(value, np.sqrt(variance), df)
        return ((low <= value.mean(axis=0)) & (value.mean(axis=0) <= high)).mean(axis=0)

    assert cover(sampling, np.full_like(df, 1e6))[area] < 0.8
    assert (cover(sampling + added, df) > 0.86).all()


@pytest.mark.parametrize(("near", "strata"), [(0.0, ("rest",)), (0.03, ("rest", "candidate"))])
def test_false_omissions_halve_recall_until_they_are_read_again(near, strata):
    """0.5 % of false answers far from the map, and some near it; the protocol through the commands' own functions."""
    rng = np.random.default_rng(3)
    design = drawn(np.array([300, 600, 3000]))
    places = gpd.GeoDataFrame(design, geometry=shapely.points(np.arange(len(design)), 0), crs=4326)
    k = places["map_stratum"].map(STRATA.index).to_numpy()
    truth = rng.random(len(k)) < np.array([0.85, 0.06, 0.0008])[k]

    def answer(name, ids):
        at = design["point_id"].isin(set(ids)).to_numpy()
        flip = rng.random(at.sum()) < np.array([0, near, 0.005])[k[at]]
        return table_of(name, design["point_id"][at], np.where(flip, ~truth[at], truth[at]))

    def recall(merged):
        return estimate_merged(merged, with_panel=False, measures=("PA",)).loc["PA", "estimate"]

    true = recall(design.assign(ref=truth.astype(int)))
    once, after = [], []
    for seed in range(3):
        tables = [answer("A", design["point_id"])]
        once.append(recall(merge_labels(design, tables)))
        for name in "BCDE":
            order = order_rereading(places, tables, seed=seed, omissions_of=strata)
            if order.empty:
                break
            tables.append(answer(name, order["point_id"]))
        after.append(recall(merge_labels(design, tables)))
    assert max(once) < 0.85 * true
    assert after == approx([true] * 3, abs=0.02)


def test_sensitivity_speaks_of_the_answers_before_the_merge():
    design = drawn(np.array([40, 40, 40]), np.array([4000, 40000, 400000]))
    ids = design["point_id"]
    ann = np.array([k % 4 != 0 for k in range(40)] + [k % 8 == 0 for k in range(40)] + [k == 0 for k in range(40)])
    bo = ann.copy()
    bo[[1, 2, 3, 40, 41, 81]] ^= True
    merged = merge_labels(
        design, [table_of("Ann", ids, ann), table_of("Bo", ids, bo)], MergeRules(disagreement="unanswered")
    )
    got = estimate_sensitivity(ReferenceSample(table=merged, design=DESIGN)).set_index(["choice", "measure"])[
        "estimate"
    ]

    def alone(answers):
        return estimate_merged(design.assign(ref=answers.astype(int)), with_panel=False)["estimate"]

    for who, answers in (("Ann", ann), ("Bo", bo)):
        assert got[f"the answers of {who} alone"]["F1"] == approx(alone(answers)["F1"])
    assert got["the 6 points on which interpreters differed are urban village"]["area"] == approx(
        alone(ann | bo)["area"]
    )
    assert got["the 6 points on which interpreters differed are not"]["area"] == approx(alone(ann & bo)["area"])
    once = merge_labels(design, [table_of("Ann", ids, ann)])
    rows = estimate_sensitivity(ReferenceSample(table=once, design=DESIGN)).set_index(["choice", "measure"])["estimate"]
    cleared = ann.copy()
    cleared[80] = False
    assert rows["the 1 omissions of the rest that were read once are none"]["PA"] == approx(alone(cleared)["PA"])


def two_readers(rng, classes=("0", "1")):
    """Points that Ann and Bo read; Ann decides. The table, her and his answers as 1 and 0."""
    design = drawn()
    truth = rng.random(len(design)) < np.repeat([0.8, 0.1, 0.02], POINTS)
    ann, bo = (np.where(rng.random(len(design)) < flip, ~truth, truth) for flip in (0.05, 0.15))
    no, yes = classes
    told = [f"Ann={yes if a else no}; Bo={yes if b else no}" for a, b in zip(ann, bo, strict=True)]
    table = design.assign(
        ref=np.where(ann, yes, no), map=np.where(design["map"] == 1, yes, no), readings=told, adjudicated=False
    )
    return table, ann, bo


def halved_gap(apart, weight):
    """(D^2 - v(D)) / 2 of a weighted total of differences, by plain numpy."""
    by = [(weight * apart)[k == h] for k in [np.repeat(np.arange(3), POINTS)] for h in range(3)]
    v = sum(len(z) * z.var(ddof=1) * (1 - len(z) / n) for z, n in zip(by, AREA, strict=True))
    return max(0, sum(z.sum() for z in by) ** 2 - v) / 2


def test_every_class_and_being_right_have_the_interpreters_variance():
    table, ann, bo = two_readers(np.random.default_rng(2), ("field", "village"))
    sample = ReferenceSample(table=table, design=DESIGN)
    got = estimate_per_class(sample).set_index(["class", "measure"])
    binary = table.assign(
        **{c: (table[c] == "village").astype(int) for c in ("map", "ref")},
        readings=table["readings"].str.replace("village", "1").str.replace("field", "0"),
    )
    alone = estimate_merged(binary)
    for m in ("UA", "PA", "F1", "area"):
        for column in ("se", "se_interpreters"):
            assert got.loc[("village", m), column] == approx(alone.loc[m, column])
    named = ReferenceSample(table=table, design=DESIGN, positive="village")
    assert InterpreterPanel.of(named)._steps(np.ones(len(table))) == approx(
        InterpreterPanel.of(ReferenceSample(table=binary, design=DESIGN))._steps(np.ones(len(table)))
    )
    weight = sample.arrays.weight / sample.arrays.weight.sum()
    mapped = (table["map"] == "village").to_numpy()
    right = (ann == mapped).astype(float) - (bo == mapped)
    assert got.loc[("", "OA"), "se_interpreters"] ** 2 == approx(halved_gap(right, weight))
    bare = ReferenceSample(table=table.drop(columns="readings"), design=DESIGN)
    gain = estimate_matrix_se(sample) ** 2 - estimate_matrix_se(bare) ** 2
    for name, here in (("village", mapped), ("field", ~mapped)):
        expected = halved_gap(here * (ann.astype(float) - bo), weight)
        assert gain.loc[name].to_numpy() == approx([expected, expected], rel=1e-6, abs=1e-15)
    assert estimate_per_class(ReferenceSample(table=table.drop(columns="readings"), design=DESIGN))[
        "se_interpreters"
    ].isna().all()  # fmt: skip


def test_ground_has_the_interpreters_variance():
    table, ann, bo = two_readers(np.random.default_rng(4))
    sample = ReferenceSample(table=table.assign(pixel_m2=2.0), design=replace(DESIGN, unit_area="pixel_m2"))
    mapped = dict(zip(STRATA, 2 * AREA * [1, 0, 0], strict=True))
    with_panel = EstimateOptions(interpreters=InterpreterPanel.of(sample))
    got, plain = (estimate_ground(sample, mapped, o).set_index(["value", "method"]) for o in (with_panel, None))
    apart = (ann.astype(float) - bo) / 1e6
    for method in ("expansion", "difference", "ratio"):  # mapped ground is known exactly: all three are the same
        row = got.loc[("all", method)]
        assert row["se_interpreters"] ** 2 == approx(halved_gap(apart, sample.arrays.weight))
        assert row["se"] ** 2 == approx(plain.loc[("all", method), "se"] ** 2 + row["se_interpreters"] ** 2)
        assert row["df"] < plain.loc[("all", method), "df"]


def test_single_cities_and_the_bootstrap_against_repeated_surveys():
    """Four cities, other interpreters and other points each time: errors printed are those of the repetitions."""
    rng = np.random.default_rng(11)
    points = np.array([60, 80, 160])
    frame = pd.concat([drawn(points, AREA / 4).assign(city=f"c{c}", region="all") for c in range(4)], ignore_index=True)
    design = replace(DESIGN, psu_selection="census", stratum="region", psu="city", second_stage_strata=("map_stratum",),
                     ssu=None)  # fmt: skip
    k = frame["map_stratum"].map(STRATA.index).to_numpy()
    options = EstimateOptions(measures=("area",), variance="cities_fixed", fpc_in_cells=True)
    values, city, boot, sampling = [], [], [], []
    for _ in range(40):
        truth = rng.random(len(k)) < np.array([0.8, 0.1, 0.002])[k]
        answers = np.stack([read(rng, truth, k == 2, s) for s in rng.normal(0, 0.4, 3)], axis=1).astype(int)
        told = [f"A={a}; B={b}; C={c}" for a, b, c in answers.tolist()]
        sample = ReferenceSample(
            table=frame.assign(ref=(answers.sum(axis=1) >= 2).astype(int), readings=told), design=design
        )
        panel = InterpreterPanel.of(sample)
        one = estimate(sample, replace(options, interpreters=panel), domain="city").get("area", "c0")
        values.append((one["estimate"], estimate(sample, options).get("area")["estimate"]))
        city.append((one["se"], one["se_interpreters"]))
        if len(boot) < 20:
            checks = estimate_replicated(
                sample, EstimateOptions(measures=("area",), interpreters=panel), replicates=200
            )
            plain = estimate_replicated(sample, EstimateOptions(measures=("area",)), replicates=200)
            row, bare = (t[(t["variance"] == "bootstrap") & (t["value"] == "all")].iloc[0] for t in (checks, plain))
            linear = estimate(sample, replace(options, variance="two_stage", interpreters=panel)).get("area")
            assert row["se"] ** 2 == approx(bare["se"] ** 2 + linear["se_interpreters"] ** 2)
            boot.append((row["se"], row["ci_high"] - row["ci_low"]))
            sampling.append((bare["se"], bare["ci_high"] - bare["ci_low"]))
    seen_city, seen = np.std(values, axis=0, ddof=1)
    total, own = np.sqrt(np.square(city).mean(axis=0))
    assert 0.85 * seen_city < total < 1.45 * seen_city
    se, width = np.sqrt(np.square(boot).mean(axis=0))
    bare_se, bare_width = np.sqrt(np.square(sampling).mean(axis=0))
    assert bare_se < 0.75 * seen and 0.85 * seen < se < 1.45 * seen
    assert own == approx(np.sqrt(se**2 - bare_se**2), rel=0.25)  # the same interpreters on the same kinds of ground
    assert width / bare_width == approx(se / bare_se, rel=0.05)
