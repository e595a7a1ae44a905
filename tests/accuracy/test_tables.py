"""Tables of points as programs write them: encodings, separators, and numbers that lost their meaning on the way."""

import pandas as pd
import pytest

from accuracy.errors import DesignError, SampleTableError
from accuracy.estimation.estimation import estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.table_estimates import estimate_table
from accuracy.survey.design import SamplingDesign
from accuracy.survey.design_checks import find_problems
from accuracy.survey.sample import ReferenceSample
from accuracy.tables import read_table

TEXT = "point_id;city;M_pix\n007;深圳;850\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        ("sep=;\r\n" + TEXT).encode("utf-8-sig"),
        ('"sep=;"\n' + TEXT).encode(),
        TEXT.replace(";", "\t").encode("utf-16"),
        ("sep=|\n" + TEXT.replace(";", "|")).encode(),
    ],
    ids=["utf8", "utf8-mark", "utf16", "utf16-be", "sep-line", "sep-line-quoted", "utf16-tabs", "sep-line-bar"],
)
def test_encodings_with_a_mark_and_separator_lines_are_read(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    assert read_table(tmp_path / "t.csv").to_dict("records") == [{"point_id": "007", "city": "深圳", "M_pix": "850"}]


@pytest.mark.parametrize(
    ("encoding", "message"),
    [("gbk", "not in UTF-8.*GBK.*save it as CSV UTF-8"), ("utf-16-le", "zero bytes.*CSV UTF-8")],
)
def test_an_encoding_without_a_mark_is_named_not_guessed(tmp_path, encoding, message):
    (tmp_path / "t.csv").write_bytes(TEXT.encode(encoding))
    with pytest.raises(SampleTableError, match=message):
        read_table(tmp_path / "t.csv")


def sizes(values):
    return pd.DataFrame(
        {
            "region": "A", "city": ["a", "a", "b", "b"], "map_stratum": ["uv", "rest"] * 2, "map": [1, 0] * 2,
            "ref": [1, 0, 0, 0], "N_city": 9, "n_city": 2, "M_pix": values, "m_pts": 1, "point_id": list("wxyz"),
        }
    )  # fmt: skip


@pytest.mark.parametrize("dotted", ["68.693", "1.000", "1.234.567", "68.5"])
def test_sizes_with_dots_between_thousands_are_refused(dotted):
    problems = find_problems(SamplingDesign(psu_selection="probability"), sizes(["850", dotted, "850", "850"]))
    assert [p.code for p in problems] in (["not_whole"], ["bad_size"])
    assert problems[0].where == "M_pix" and dotted in problems[0].message


@pytest.mark.parametrize("whole", [850, 850.0, "850", "850.0"])
def test_whole_sizes_are_taken_however_they_are_stored(whole):
    problems = find_problems(SamplingDesign(psu_selection="probability"), sizes([whole] * 4))
    assert not [p for p in problems if p.fatal]


def test_sizes_that_do_not_give_the_inclusion_probabilities_of_the_draw_are_reported():
    table = sizes([850] * 4).assign(pi=2 / 9 * 1 / 850)
    options = EstimateOptions(lonely_psu="certainty")
    right, changed = (
        estimate_table(ReferenceSample(table=t, design=SamplingDesign(psu_selection="probability")), options).notes
        for t in (table, table.assign(M_pix=[8500, 850, 850, 850]))
    )
    assert not [n for n in right if "inclusion probability" in n]
    (note,) = [n for n in changed if "inclusion probability" in n]
    assert "1 such rows" in note and "the sizes are used" in note


@pytest.mark.shared
def test_case_tables_of_numbers_and_encodings(shared):
    folder = shared / "cases" / "18-csv-numbers"
    design = SamplingDesign(psu_selection="purposive")
    right = estimate_f1(read_table(folder / "small_ok.csv"), design)
    assert right == pytest.approx(0.4034, abs=5e-5)
    with pytest.raises(DesignError, match=r"'M_pix' holds '68\.693'.*whole numbers"):
        estimate_f1(read_table(folder / "small_dot.csv"), design)
    with pytest.raises(SampleTableError, match="save it as CSV UTF-8"):
        read_table(folder / "zh_gbk.csv")
    assert "point_id" in read_table(folder / "sepline.csv").columns


def estimate_f1(table, design):
    sample = ReferenceSample(table=table, design=design)
    return estimate(sample, EstimateOptions(variance="cities_fixed")).get("F1")["estimate"]
