"""Published and independently computed cases; the tables lie in the shared data."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from accuracy.estimation.error_matrix import estimate_per_class
from accuracy.estimation.options import EstimateOptions
from accuracy.survey.design import SamplingDesign
from accuracy.survey.sample import ReferenceSample


@pytest.fixture(scope="module")
def cases(shared):
    """The folder of the cases."""
    return shared / "reference" / "accuracy"


@pytest.fixture(scope="module")
def survey(cases):
    """What R's survey package gives: one row per case and quantity."""
    return pd.read_csv(cases / "f_survey_reference.csv")


@pytest.fixture(scope="module")
def expected(survey):
    """Estimate and standard error of a case of the survey package, by quantity."""

    def of_case(case):
        rows = survey[survey["case"] == case]
        return {q: (e, s) for q, e, s in zip(rows["quantity"], rows["estimate"], rows["se"], strict=True)}

    return of_case


@pytest.fixture(scope="module")
def points(cases):
    """The labelled points of the 28 cities."""
    return pd.read_csv(cases / "f_uv28_points.csv")


@pytest.fixture
def estimate_counts():
    """Estimates per class from a published matrix of counts whose strata are the map's classes."""
    return _estimate_counts


def _estimate_counts(counts, sizes, *, classes, finite=False):
    table = np.asarray(counts)
    row, col = np.nonzero(table)
    repeat = table[row, col].astype(int)
    names = np.array(classes, dtype=object)
    units = pd.DataFrame({"map": np.repeat(names[row], repeat), "ref": np.repeat(names[col], repeat)})
    units["size"] = units["map"].map(dict(sizes))
    design = SamplingDesign(
        psu_selection="probability", stratum="map", psu=None, ssu=None, second_stage_strata=(),
        ssu_population="size", ssu_sampled=None,
    )  # fmt: skip
    if finite:
        return estimate_per_class(ReferenceSample(table=units, design=design), classes=classes)
    # sizes may be shares below the number of points, so they enter as weights and the frame is unbounded
    drawn = units["map"].map(units["map"].value_counts())
    units = units.assign(weight=units["size"] / drawn, size=np.iinfo(np.int64).max)
    sample = ReferenceSample(table=units, design=replace(design, weight="weight", psu_selection="pps"))
    return estimate_per_class(sample, EstimateOptions(variance="with_replacement"), classes=classes)
