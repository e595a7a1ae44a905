"""What the report says of the labels, and the record of a draw."""

import dataclasses
import hashlib
import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from accuracy.errors import SampleTableError
from accuracy.reporting.assessment import Context, assess
from accuracy.reporting.reference_quality import GAP_CLASSES, describe_reference
from accuracy.reporting.report import write_report
from accuracy.survey.design import SamplingDesign
from accuracy.survey.record import CityRecord, SurveyRecord, read_survey
from accuracy.survey.sample import ReferenceSample
from tests.accuracy.test_report import table


def record(**changes):
    city = CityRecord(
        city="N0", name="Northville 北城", region="North", map_date="2024-06-30", release="1.0", pi_city=0.1,
        pixel_m2=100.0,
        stratum_px={"mapped": 10, "candidate": 40, "rest": 900}, points={"mapped": 3, "candidate": 4, "rest": 5},
        not_predicted_px=2, files={"a_uv_mask.tif": "11", "a_scores.tif": "22"},
    )  # fmt: skip
    values = {"seed": 7, "frame": "60 cities in 2 regions", "candidate_threshold": 0.1, "buffer_m": 30.0}
    return SurveyRecord(**(values | {"software": "1.0", "cities": (city,)} | changes))


def labelled(seed=0):
    """A sample that two interpreters read whole, with dates and a few single omissions of the rest stratum."""
    frame = table(seed)
    rng = np.random.default_rng(seed)
    ann = frame["ref"].to_numpy()
    bo = np.where(rng.random(len(frame)) < 0.02, 1 - ann, ann)
    frame["readings"] = [f"Ann={a}; Bo={b}" for a, b in zip(ann, bo, strict=True)]
    frame["n_answers"], frame["disagreed"] = 2, ann != bo
    frame["date_gap_days"] = rng.integers(-800, 40, len(frame)).astype(float)
    frame["date_flag"] = np.where(
        frame["date_gap_days"] > 0, "later", np.where(frame["date_gap_days"] < -365, "long before", "")
    )
    return frame


def sample_of(frame):
    return ReferenceSample(table=frame, design=SamplingDesign(psu_selection="probability"))


def test_gap_classes_leave_no_day_out_and_count_every_point_once():
    for (_, _, upper), (_, lower, _) in pairwise(GAP_CLASSES):
        assert upper == lower
    frame = labelled()
    frame.loc[:9, "date_gap_days"] = np.nan
    got = describe_reference(sample_of(frame))
    counts = got.dates.set_index("gap")["points"]
    gaps = frame["date_gap_days"]
    assert counts.sum() == len(frame) and counts["not known"] == 10
    assert counts["within 30 days before, or the same time"] == ((gaps >= -30) & (gaps <= 0)).sum()
    assert counts["91 to 365 days before"] == ((gaps >= -365) & (gaps <= -91)).sum()
    assert counts["more than 2 years before"] == (gaps < -730).sum()
    low, high = gaps.min(), gaps.max()
    assert f"{low:g} to {high:g}" in got.dates_text and "Of 10 labels the gap is not known" in got.dates_text


def test_who_read_what_and_what_must_be_warned_of():
    frame = labelled()
    got = describe_reference(sample_of(frame))
    people = got.interpreters.set_index("interpreter")
    assert people["answers"].tolist() == [len(frame)] * 2 == people["read_by_others_too"].tolist()
    (pair,) = got.agreements
    apart = frame["disagreed"].sum()
    assert pair.only_first + pair.only_second == apart
    assert got.limit.startswith("Errors that all interpreters share")
    later, old = (frame["date_flag"] == "later").sum(), (frame["date_flag"] == "long before").sum()
    assert any(f"{later} labels are of imagery younger" in w for w in got.warnings)
    assert any(f"{old} labels are of imagery much older" in w for w in got.warnings)
    single = frame.assign(n_answers=1, readings=[f"Ann={r}" for r in frame["ref"]])
    n = ((frame["map_stratum"] == "rest") & (frame["ref"] == 1)).sum()
    once = describe_reference(sample_of(single))
    assert n and any(w.startswith(f"{n} omissions of the rest stratum rest on one reading") for w in once.warnings)
    assert once.panel is None and "No point is known to be read twice" in once.limit
    dropped = frame.assign(ref=frame["ref"].where(~frame["disagreed"]))
    assert any(w.startswith(f"{apart} points on which") for w in describe_reference(sample_of(dropped)).warnings)
    plain = describe_reference(sample_of(table()))
    assert plain.interpreters is None and plain.dates is None and plain.warnings == ()


def test_the_report_shows_interpreters_dates_names_and_the_draw(tmp_path):
    frame = labelled()
    context = Context(survey=record(), names=record().names)
    result = assess(sample_of(frame), context=context, replicates=0)
    files = write_report(result, tmp_path)
    text = files["report.html"].read_text(encoding="utf-8")
    for part in (
        ">Interpreters<", ">Dates of the labels<", "of the interpreters alone", "Northville 北城 (N0)",
        "60 cities in 2 regions", record().map_sha256, "interpreters differed are urban village",
        "labels of another time than the map", "the answers of Ann alone", "agreement of Ann and Bo",
    ):  # fmt: skip
        assert part in text, part
    assert "bounds the doubt" not in text and "none is marked as doubtful" not in text
    data = json.loads(files["report.json"].read_text(encoding="utf-8"))
    assert data["survey"]["seed"] == 7 and data["design"]["seed of the draw"] == "7"
    assert data["reference"]["interpreters_in_errors"] and data["city_names"] == {"N0": "Northville 北城"}
    whole = result.headline[result.headline["value"] == "all"].set_index("measure")
    bare = assess(sample_of(frame.drop(columns="readings")), context=context, replicates=0).headline
    bare = bare[bare["value"] == "all"].set_index("measure")
    assert (whole["se"] >= bare["se"]).all() and (whole["se"] > bare["se"]).any()
    assert whole["estimate"].to_numpy() == pytest.approx(bare["estimate"].to_numpy())
    few = whole["df"] < 4  # two interpreters, whose part of the error is large: no fault of the cities
    assert few.any() and bare["df"].min() >= 4
    assert any("few_interpreters" in f and "few_psu" not in f for f in whole.loc[few, "flags"])
    assert not any("few_interpreters" in f for f in bare["flags"])
    undoubted = table().drop(columns="disagreed", errors="ignore")
    page = write_report(assess(sample_of(undoubted), replicates=0), tmp_path)["report.html"].read_text(encoding="utf-8")
    assert "All drawn units were answered, and no column of the table marks one" in page


def test_the_record_of_a_draw_comes_back_and_changes_are_seen(tmp_path):
    one = record()
    path = one.write(tmp_path)
    assert read_survey(path) == one and one.names == {"N0": "Northville 北城"}
    lines = "N0 a_scores.tif 22\nN0 a_uv_mask.tif 11"
    assert one.map_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    other = dataclasses.replace(one.cities[0], files={"a_uv_mask.tif": "12", "a_scores.tif": "22"})
    assert record(cities=(other,)).map_sha256 != one.map_sha256
    path.write_text(path.read_text(encoding="utf-8").replace('"22"', '"23"'), encoding="utf-8")
    with pytest.raises(SampleTableError, match="the record was changed"):
        read_survey(path)
    for text in ("{}", "[]", "no json", '{"cities": [{"city": 1}]}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SampleTableError, match="is no record of a draw"):
            read_survey(path)
    with pytest.raises(SampleTableError, match="does not exist"):
        read_survey(tmp_path / "none.json")


def test_the_map_dates_of_cities_are_named(tmp_path):
    frame = table()
    by_city = frame.assign(map_date=np.where(frame["city"] == "N0", "2023-01-01/2023-12-31", "2024-06-30"))
    box = assess(sample_of(by_city), replicates=0).design
    assert box["date of the map's imagery"] == "2023-01-01/2023-12-31 to 2024-06-30, by city"
    assert assess(sample_of(frame.assign(map_date=pd.NA)), replicates=0).design.get("date of the map's imagery") is None
