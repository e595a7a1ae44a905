"""The stored simulation of coverage, run again: 28 of 190 cities, points per stratum, intervals three ways.

The reference holds results of 3,000 samples from each of four designs but not its population. Here the population is
built again: regions and sizes like those of the 28 cities of the reference, a rate of urban village per city and
stratum around the known means, then scaled so that true precision and recall are those of the reference. The spread
of the rates between cities (SPREAD) is the one free choice; it was set so that the empirical standard deviations fit.
So coverage and mean must agree within Monte-Carlo error, standard deviations and errors only within 7 %.
"""

import json

import numpy as np
import pandas as pd
import pytest

from accuracy.arrays import SampleArrays
from accuracy.estimation.calibration import calibrate
from accuracy.estimation.estimation import estimate_linearised
from accuracy.estimation.options import EstimateOptions
from accuracy.intervals import logit_t, wald_t

MEASURES = ("UA", "PA", "F1", "IoU")
IN_FRAME, DRAWN = np.array([42, 60, 55, 31, 2]), np.array([6, 8, 7, 5, 2])
SIZES = ((2_000, 30_000), (20_000, 90_000), (400_000, 2_500_000))  # pixels: mapped, near, other
SPREAD = (27.0, 42.0, 2000.0)  # a + b of the beta distribution of the rates
REFERENCE_REPETITIONS = REPETITIONS = 3_000
CITY_REGION = np.repeat(np.arange(5), IN_FRAME)


def build_population(other_rate, precision, recall, seed):
    """Pixels float64 (190, 3) and rates of urban village (190, 3), with the given truth."""
    rng = np.random.default_rng(seed)
    pixels = np.stack([rng.uniform(*limits, 190).round() for limits in SIZES], axis=1)
    means = (precision, 0.055, other_rate)
    rates = np.stack([rng.beta(m * s, (1 - m) * s, 190) for m, s in zip(means, SPREAD, strict=True)], axis=1)
    mapped, _, other = pixels.sum(axis=0)
    rates[:, 2] *= other_rate * other / (pixels[:, 2] @ rates[:, 2])
    wrong = (1 - precision) * mapped / (pixels[:, 0] @ (1 - rates[:, 0]))
    rates[:, 0] = 1 - wrong * (1 - rates[:, 0])
    omitted = precision * mapped * (1 / recall - 1)
    rates[:, 1] *= (omitted - other_rate * other) / (pixels[:, 1] @ rates[:, 1])
    assert rates.min() >= 0 and rates.max() <= 1
    return pixels, rates


def simulate(pixels, rates, points, seed):
    """Estimates and standard errors, each float64 (REPETITIONS, 4), without and with calibration."""
    rng = np.random.default_rng(seed)
    region = np.repeat(np.arange(5), DRAWN)
    city = np.repeat(np.arange(28), 4)  # one row per city and tp, fp, fn, tn: sums of its points
    cells = np.tile(np.eye(4), (28, 1))
    keys = pd.DataFrame({"region": region[city].astype(str), "map": np.tile(["1", "1", "0", "0"], 28)})
    known = {}
    for r in range(5):
        total = pixels[r == CITY_REGION].sum(axis=0)
        known |= {(str(r), "1"): total[0], (str(r), "0"): total[1:].sum()}
    calibration = calibrate(keys, known)
    everything = np.ones((1, 112), dtype=bool)
    out = {False: [], True: []}
    for _ in range(REPETITIONS):
        chosen = np.concatenate(
            [rng.choice(np.flatnonzero(r == CITY_REGION), n, replace=False) for r, n in enumerate(DRAWN)]
        )
        yes = rng.binomial(points, rates[chosen])
        unit = (IN_FRAME / DRAWN)[region, None] * pixels[chosen] / points
        yes, no = unit * yes, unit * (points - yes)
        weight = np.stack([yes[:, 0], no[:, 0], yes[:, 1] + yes[:, 2], no[:, 1] + no[:, 2]], axis=1).ravel()
        arrays = SampleArrays(
            weight=weight,
            psu=city,
            cell=city,
            stratum_of_psu=region,
            psu_of_cell=np.arange(28),
            psu_population=IN_FRAME.astype(float),
            ssu_population=pixels[chosen].sum(axis=1),
            stratum_names=tuple("NESCW"),
            psu_names=("",) * 28,
            cell_names=("",) * 28,
        )
        for calibrated, made in out.items():
            got = estimate_linearised(
                arrays,
                cells,
                everything,
                EstimateOptions(measures=tuple(MEASURES), variance="with_replacement"),
                calibration=calibration if calibrated else None,
            )
            made.append((got["estimate"][0], np.sqrt(got["variance"][0])))
    return {calibrated: np.moveaxis(np.array(made), 1, 0) for calibrated, made in out.items()}


def summary(simulated, true, prefix=""):
    """Rows of the reference: mean, spread, mean standard error, coverage."""
    value, se = simulated
    intervals = {
        "cover_wald_z": wald_t(value, se, np.inf),
        "cover_wald_t": wald_t(value, se, 23),
        "cover_logit_t": logit_t(value, se, 23),
    }
    rows = {"mean": value.mean(axis=0), "emp_sd": value.std(axis=0, ddof=1), "mean_se": se.mean(axis=0)}
    rows |= {name: ((low <= true) & (true <= high)).mean(axis=0) for name, (low, high) in intervals.items()}
    return pd.DataFrame(rows, index=MEASURES).add_prefix(prefix)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("design", range(4))
def test_coverage_is_that_of_the_reference(shared, design):
    stored = json.loads((shared / "reference" / "accuracy" / "k_coverage_simulation.json").read_text())
    assert len(stored) == 4
    name, want = list(stored.items())[design]
    want = pd.DataFrame(want).T.loc[list(MEASURES)]
    other_rate = float(name.split("other=")[1].split("%")[0]) / 100
    points = np.array(json.loads(name.split("m=")[1]))
    pixels, rates = build_population(other_rate, want.loc["UA", "true"], want.loc["PA", "true"], seed=0)
    simulated = simulate(pixels, rates, points, seed=design + 1)
    true = want["true"].to_numpy()
    got = pd.concat([summary(simulated[False], true), summary(simulated[True], true, "cal_")], axis=1)
    inverse = 1 / REPETITIONS + 1 / REFERENCE_REPETITIONS
    compared = 0
    for column in want.columns.drop("true"):
        mine, theirs = got[column].to_numpy(), want[column].to_numpy()
        if "cover" in column:
            within = 3 * np.sqrt(theirs * (1 - theirs) * inverse)
        elif column.endswith("mean"):
            within = 3 * want[column.replace("mean", "emp_sd")].to_numpy() * np.sqrt(inverse)
        else:
            within = 0.07 * theirs
        assert (np.abs(mine - theirs) <= within).all(), (column, mine, theirs)
        compared += 4
    assert compared == 40
