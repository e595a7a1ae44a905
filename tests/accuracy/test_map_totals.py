"""Known totals of the map: checked, in one unit, for areas; never behind cities chosen on purpose."""

import html

import numpy as np
import pandas as pd
import pytest

from accuracy.errors import DesignError, DrawError, SampleTableError
from accuracy.estimation.estimation import estimate
from accuracy.estimation.table_estimates import estimate_replicated, estimate_table, read_map_totals
from accuracy.reporting.assessment import Context, assess
from accuracy.reporting.report import write_report
from accuracy.survey.design import SamplingDesign
from accuracy.survey.map_totals import measure_city, sum_map_totals
from accuracy.survey.sample import ReferenceSample
from tests.accuracy.test_drawing import write_rasters
from tests.accuracy.test_report import table

approx = pytest.approx
KEYS = ["region", "map"]
KNOWN = {("North", "1"): 9e4, ("North", "0"): 5e6, ("South <b>", "1"): 9e4, ("South <b>", "0"): 5e6}
RATES = ("UA", "PA", "F1", "IoU", "OA", "specificity")


def sample_of(frame, selection="probability"):
    return ReferenceSample(table=frame, design=SamplingDesign(psu_selection=selection))


def totals(**change):
    frame = pd.DataFrame([(*k, v) for k, v in KNOWN.items()], columns=[*KEYS, "size"])
    return frame.assign(**change)


def test_areas_follow_known_totals_and_rates_keep_the_design_weights():
    sample = sample_of(table())
    plain, all_known = estimate(sample), estimate(sample, calibrate_to=KNOWN)
    got = estimate_table(sample, calibrate_to=KNOWN).tables
    whole = got.frame.query("variance == 'two_stage' and value == 'all'").set_index("measure")
    for measure in RATES:
        assert whole.loc[measure, "estimate"] == plain.get(measure)["estimate"] != all_known.get(measure)["estimate"]
        assert whole.loc[measure, "weights"] == "design"
    for measure in ("area", "area_map", "area_difference"):
        assert whole.loc[measure, "estimate"] == all_known.get(measure)["estimate"]
        assert whole.loc[measure, "weights"] == "calibrated"
    asked = estimate_table(sample, calibrate_to=KNOWN, calibrated="all").nested()["two_stage"]["all"]["F1"]
    assert asked["estimate"] == all_known.get("F1")["estimate"] and asked["weights"] == "calibrated"


def test_bootstrap_and_report_speak_of_the_same_figures(tmp_path):
    sample = sample_of(table())
    for which, frames in (("areas", (None, KNOWN)), ("all", (KNOWN, KNOWN))):
        checks = estimate_replicated(sample, replicates=20, calibrate_to=KNOWN, calibrated=which)
        boot = checks.query("variance == 'bootstrap' and value == 'all'").set_index("measure")["estimate"]
        for measure, known in (("F1", frames[0]), ("area", frames[1])):
            assert boot[measure] == approx(estimate(sample, calibrate_to=known).get(measure)["estimate"], rel=1e-12)
        result = assess(sample, calibrate_to=KNOWN, replicates=0, context=Context(calibrated=which))
        head = result.headline.query("value == 'all'").set_index("measure")["estimate"]
        assert head["F1"] == approx(boot["F1"], rel=1e-12) and head["area"] == approx(boot["area"], rel=1e-12)
        page = write_report(result, tmp_path)["report.html"].read_text(encoding="utf-8")
        assert result.calibration_note in html.unescape(page)


def test_cities_chosen_on_purpose_get_no_totals_of_a_nation(tmp_path):
    sample = sample_of(table(), "purposive")
    for run in (estimate, estimate_table):
        with pytest.raises(DesignError, match=r"chosen on purpose.*--map-totals"):
            run(sample, calibrate_to=KNOWN)
    result = assess(sample)
    assert result.warnings[0].startswith("The cities were chosen on purpose")
    assert estimate_table(sample).notes[0].startswith("the cities were chosen on purpose")
    page = write_report(result, tmp_path)["report.html"].read_text(encoding="utf-8")
    assert "the cities chosen" in page and "the whole" not in page


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.concat([totals(), totals().iloc[[1]].assign(size=7)]), r"North x 0 2 times \(5e\+06, 7\)"),
        (totals(size=[9e4, -1, 9e4, 5e6]), r"'size' holds -1.* in row 2"),
        (totals(size=[9e4, np.inf, 9e4, 5e6]), r"'size' holds inf in row 2"),
        (totals().rename(columns={"size": "area_km2"}), r"'area_km2' holds areas, but .* numbers of pixels"),
    ],
)
def test_totals_that_cannot_be_meant_are_refused(frame, message):
    with pytest.raises(SampleTableError, match=message):
        read_map_totals(frame, KEYS)


def test_units_of_totals_are_those_of_the_sample():
    with pytest.raises(SampleTableError, match=r"t\.csv: column 'size' does not say its unit"):
        read_map_totals(totals(), KEYS, in_m2=True, source="t.csv")
    metres = totals().rename(columns={"size": "area_m2"}).assign(cities=[4, 4, 4, 4])
    kilometres = metres.assign(area_km2=metres["area_m2"] / 1e6).drop(columns="area_m2")
    assert read_map_totals(metres, KEYS, in_m2=True) == KNOWN
    assert read_map_totals(kilometres, KEYS, in_m2=True) == approx(KNOWN)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({k: v / 1e6 for k, v in KNOWN.items()}, r"1.* times as much"),  # km² for m²
        ({k: v * 4 for k, v in KNOWN.items()}, r"3\.\d+ times as much|4\.\d+ times as much"),  # m² for pixels of 2 m
        (KNOWN | {("North", "1"): 90.0}, r"map total of North x 1 is 90.*calibration factor of 0\.00"),
    ],
)
def test_totals_far_from_the_sample_are_refused(known, message):
    with pytest.raises(DesignError, match=message):
        estimate(sample_of(table()), calibrate_to=known)


def test_totals_of_a_product_are_its_pixels_by_hand(tmp_path):
    mask = np.zeros((40, 50), np.uint8)
    mask[3:9, 2:12] = 1
    mask[:, -5:] = 255
    rows = []
    for city, side in (("1", 10), ("2", 2)):
        folder = tmp_path / city
        folder.mkdir()
        rasters = write_rasters(folder / "s.tif", np.where(mask == 255, 255, 0).astype(np.uint8), mask, side_m=side)
        got = measure_city(rasters.mask)
        assert got["mapped_m2"] == approx(60 * side**2, rel=2e-3)
        assert got["unmapped_m2"] == approx((40 * 45 - 60) * side**2, rel=2e-3)
        assert got["not_predicted_m2"] == approx(200 * side**2, rel=2e-3)
        rows.append({"adcode": city, "region": "r", **got})
    known = sum_map_totals(pd.DataFrame(rows)).set_index("map")["area_m2"]
    assert known[1] == approx(60 * 104, rel=2e-3) and known[0] == approx(1740 * 104, rel=2e-3)
    with pytest.raises(DrawError, match="holds the value 7"):
        measure_city(write_rasters(tmp_path / "x.tif", np.zeros_like(mask), np.full_like(mask, 7)).mask)
