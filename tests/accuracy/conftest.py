"""Published and independently computed cases; the tables lie in the shared data."""

import pandas as pd
import pytest


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
