"""Equal points pooled into one row give the figures of the points, whatever is asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.estimation import pooling
from accuracy.estimation.calibration import Calibration
from accuracy.estimation.estimation import estimate_arrays
from accuracy.estimation.options import EstimateOptions
from accuracy.measures import confusion_indicators
from tests.accuracy.test_estimation import make_points, sample_of

KINDS = ("two_stage", "with_replacement", "cities_fixed")


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    lonely=st.sampled_from(["adjust", "average", "certainty"]),
    interval=st.sampled_from(["logit_t", "korn_graubard", "likelihood", "wilson"]),
    calibrated=st.booleans(),
    by_city=st.booleans(),
)
def test_pooled_and_single_points_agree(*, seed, kind, lonely, interval, calibrated, by_city):
    sample = sample_of(make_points(seed, points=(5, 9), cities=4))
    arrays, cells = sample.arrays, confusion_indicators(sample.mapped, sample.reference)
    calibration = None
    if calibrated:
        totals = np.bincount(sample.mapped.astype(int), arrays.weight) * np.array([1.1, 0.9])
        calibration = Calibration(cell=sample.mapped.astype(np.int64), totals=totals, names=("0", "1"))
    values = sample.codes("city").to_numpy() if by_city else None
    options = EstimateOptions(variance=kind, lonely_psu=lonely, interval_kind=interval)
    frames = []
    for worthwhile in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pooling, "WORTHWHILE", worthwhile)
            frames.append(estimate_arrays(arrays, cells, options, values=values, calibration=calibration).frame)
    pooled, plain = frames
    assert pooled[["value", "measure", "flags", "n_points", "n_psu", "df", "one_sided"]].equals(
        plain[["value", "measure", "flags", "n_points", "n_psu", "df", "one_sided"]]
    )
    for column in ("estimate", "se", "ci_low", "ci_high", "n_eff", "deff", "cv"):
        a, b = (f[column].astype(float).to_numpy() for f in (pooled, plain))
        near_zero = (plain["se"].astype(float) < 1e-9).to_numpy()  # rounding of zeros
        np.testing.assert_allclose(a[~near_zero], b[~near_zero], rtol=1e-7, atol=1e-12)


def test_a_million_points_are_some_rows():
    table = make_points(1, points=(40, 400), cities=3)
    sample = sample_of(table)
    cells = confusion_indicators(sample.mapped, sample.reference)
    arrays, rows = pooling.pool_points(sample.arrays, cells)
    assert len(rows) == 6 * 4 and arrays.count.sum() == len(table)
    np.testing.assert_allclose(arrays.mass @ cells[rows], sample.arrays.weight @ cells, rtol=1e-12)
