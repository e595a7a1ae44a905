"""Labels in: plain, from the page, from Collect Earth; disagreement, non-response, late imagery, agreement."""

import numpy as np
import pandas as pd
import pytest

from accuracy.errors import LabelError
from accuracy.survey.agreement import measure_agreements
from accuracy.survey.labels import read_labels
from accuracy.survey.merging import MergeRules, merge_labels, read_readings
from accuracy.survey.rereading import find_single_omissions, order_rereading
from accuracy.tables import write_table


def design(n=6):
    return pd.DataFrame({"point_id": [f"p{k}" for k in range(n)], "map": [1, 1, 0, 0, 0, 0][:n], "M_pix": 10})


def csv(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_two_interpreters_adjudication_and_cannot_say(tmp_path):
    a = read_labels(
        csv(tmp_path / "a.csv", "point_id,label,interpreter\np0,1,Ann\np1,1,Ann\np2,?,Ann\np3,0,Ann\np4,0,Ann\n")
    )
    b = read_labels(
        csv(tmp_path / "b.csv", "point_id,label,interpreter\np0,yes,Bo\np1,no,Bo\np2,0,Bo\np3,cannot say,Bo\n")
    )
    merged = merge_labels(design(), [b, a], MergeRules(disagreement="unanswered")).set_index("point_id")
    assert merged["ref"].fillna(-1).tolist() == [1, -1, 0, 0, 0, -1]
    assert merged["disagreed"].tolist() == [False, True, False, False, False, False]
    assert merged["n_answers"].tolist() == [2, 2, 1, 1, 1, 0]
    final = read_labels(csv(tmp_path / "c.csv", "point_id,label\np1,0\n"))
    assert merge_labels(design(), [a, b], adjudicated=final).set_index("point_id")["ref"]["p1"] == 0
    assert merge_labels(design(), [b, a], MergeRules(disagreement="first")).set_index("point_id")["ref"]["p1"] == 1
    with pytest.raises(LabelError, match=r"1 points have different answers \(first: 'p1': Ann=1; Bo=0\)"):
        merge_labels(design(), [a, b], MergeRules(disagreement="fail"))
    (pair,) = measure_agreements([a, b])
    assert (pair.both_uv, pair.only_first, pair.only_second, pair.neither, pair.unanswered) == (1, 1, 0, 0, 2)
    assert (pair.overall, pair.on_uv, pair.on_rest) == (0.5, 2 / 3, 0.0)


def test_agreement_figures_by_hand():
    rng = np.random.default_rng(0)
    first = rng.random(400) < 0.1
    second = np.where(rng.random(400) < 0.95, first, ~first)
    from accuracy.survey.labels import LabelTable

    tables = [
        LabelTable(
            frame=pd.DataFrame(
                {"point_id": range(400), "label": v.astype(float), "interpreter": n, "date_ref": pd.NaT}
            ),
            source=n,
        )
        for n, v in (("a", first), ("b", second))
    ]
    (pair,) = measure_agreements(tables)
    p = (first == second).mean()
    share = (first.mean() + second.mean()) / 2
    assert pair.overall == pytest.approx(p)
    assert pair.ac1 == pytest.approx((p - 2 * share * (1 - share)) / (1 - 2 * share * (1 - share)))
    assert pair.overall_low < p < pair.overall_high


def test_collect_earth_online_plots_are_read(tmp_path):
    text = (
        "plotid,sampleid,lon,lat,email,flagged,collection_time,imagery_date,Urban village?\n"
        "p0,1,113,23,a@x.org,false,2025-03-01 10:00,2024-01-02,Yes\n"
        "p0,2,113,23,a@x.org,false,2025-03-01 10:00,2024-01-02,Yes\n"
        "p0,3,113,23,a@x.org,false,2025-03-01 10:00,2024-01-02,No\n"
        "p1,1,113,23,a@x.org,false,2025-03-01 10:01,2024-01-02,Yes\n"
        "p1,2,113,23,a@x.org,false,2025-03-01 10:01,2024-01-02,No\n"
        "p2,1,113,23,a@x.org,true,2025-03-01 10:02,2024-01-02,Yes\n"
    )
    got = read_labels(csv(tmp_path / "ceo.csv", text)).frame.set_index("point_id")
    assert got["label"].tolist()[0] == 1
    assert got["label"].isna().tolist() == [False, True, True]  # a tie and a flagged plot are no answer
    assert got["interpreter"].unique().tolist() == ["a@x.org"]
    assert str(got["date_ref"].iloc[0].date()) == "2024-01-02"


def test_collect_earth_class_names_and_geojson(tmp_path):
    import geopandas as gpd
    import shapely

    frame = gpd.GeoDataFrame(
        {"id": ["p0", "p1"], "land_use": ["settlement_informal", "cropland"], "operator": ["o", "o"]},
        geometry=shapely.points([113, 113.1], [23, 23]),
        crs=4326,
    )
    path = write_table(frame, tmp_path / "ce.geojson")
    got = read_labels(path, label_column="land_use", positive=["settlement_informal"], negative=["cropland"])
    assert got.frame["label"].tolist() == [1, 0]
    with pytest.raises(LabelError, match="'cropland'"):
        read_labels(path, label_column="land_use", positive=["settlement_informal"])


def test_labels_after_the_maps_date(tmp_path):
    table = read_labels(
        csv(tmp_path / "a.csv", "point_id,label,interpreter,date_ref\np0,1,A,2024-05-01\np1,0,A,2025-02-01\n")
    )
    with pytest.raises(LabelError, match=r"1 labels are of imagery after the map's date 2024-06-30 \(point 'p1'"):
        merge_labels(design(), [table], MergeRules(map_date="2024-06-30"))
    kept = merge_labels(design(), [table], MergeRules(map_date="2024-06-30", dates="unanswered")).set_index("point_id")
    assert kept["ref"].isna()["p1"] and kept["ref"]["p0"] == 1
    assert merge_labels(design(), [table], MergeRules(map_date="2024-06-30", dates="keep"))["ref"].notna().sum() == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("point_id,label\nzz,1\n", "labels point 'zz'"),
        ("point_id,label\np0,maybe\n", "answers 'maybe'"),
        ("a,b\n1,2\n", "no column of point ids"),
        ("point_id,colour\np0,red\n", "no column of labels"),
        ("point_id,label,date_ref\np0,1,yesterday\n", "no date"),
        ("point_id,label\n,1\n", "is empty in 1 rows"),
    ],
)
def test_bad_labels(tmp_path, text, message):
    with pytest.raises(LabelError, match=message):
        merge_labels(design(), [read_labels(csv(tmp_path / "l.csv", text))])


def test_one_interpreter_twice_and_no_labels(tmp_path):
    one = read_labels(csv(tmp_path / "l.csv", "point_id,label,interpreter\np0,1,A\n"))
    two = read_labels(csv(tmp_path / "m.csv", "point_id,label,interpreter\np0,0,A\n"))
    with pytest.raises(LabelError, match="'A' labelled point 'p0' in two tables"):
        merge_labels(design(), [one, two])
    with pytest.raises(LabelError, match="no table of labels"):
        merge_labels(design(), [])


def test_labels_long_before_the_maps_date_are_refused_as_later_ones_are(tmp_path):
    text = "point_id,label,interpreter,date_ref\np0,1,A,2024-05-01\np1,0,A,2019-02-01\np2,0,A,2023-06-29\np3,0,A,\n"
    table = read_labels(csv(tmp_path / "a.csv", text))
    said = r"2 labels are of imagery more than 365 days before the map's date 2024-06-30 \(point 'p1': 2019-02-01"
    with pytest.raises(LabelError, match=said):
        merge_labels(design(), [table], MergeRules(map_date="2024-06-30"))
    silent = merge_labels(design(), [table], MergeRules(map_date="2024-06-30", dates="unanswered")).set_index(
        "point_id"
    )
    assert silent["ref"].isna().loc[["p0", "p1", "p2", "p3"]].tolist() == [False, True, True, False]
    kept = merge_labels(design(), [table], MergeRules(map_date="2024-06-30", dates="keep")).set_index("point_id")
    assert kept["ref"].notna().sum() == 4
    assert kept["date_flag"].loc[["p0", "p1", "p2", "p3"]].tolist() == ["", "long before", "long before", ""]
    days = [(pd.Timestamp(d) - pd.Timestamp("2024-06-30")).days for d in ("2024-05-01", "2019-02-01", "2023-06-29")]
    assert kept["date_gap_days"].loc[["p0", "p1", "p2"]].tolist() == days and np.isnan(kept["date_gap_days"]["p3"])
    wide = MergeRules(map_date="2024-06-30", max_age_days=5 * 366)
    with pytest.raises(LabelError, match="1 labels are of imagery more than 1830 days before"):
        merge_labels(design(), [table], wide)


def test_every_city_has_the_date_of_its_own_map(tmp_path):
    drawn = design().assign(map_date=["2024-06-30"] * 2 + ["2021-01-01/2021-12-31"] * 3 + [None])
    text = (
        "point_id,label,date_ref\np0,1,2024-06-01\np2,0,2021-07-01\np3,0,2022-01-02\np4,1,2020-12-31\np5,0,2030-01-01\n"
    )
    table = read_labels(csv(tmp_path / "a.csv", text))
    with pytest.raises(LabelError, match=r"1 labels are of imagery after the map's date 2021-12-31 \(point 'p3'"):
        merge_labels(drawn, [table])
    kept = merge_labels(drawn, [table], MergeRules(dates="keep")).set_index("point_id")["date_gap_days"]
    assert kept[["p0", "p2", "p3", "p4"]].tolist() == [-29, 0, 2, -1] and np.isnan(kept["p5"])


def test_an_interpreter_who_contradicts_themself_is_named(tmp_path):
    rows = "point_id,label,interpreter\np0,1,Ann\np0,0,Ann\np1,1,Ann\np1,1,Ann\np2,?,Ann\np2,1,Ann\np0,0,Bo\n"
    with pytest.raises(LabelError, match=r"'Ann' answers 1 and 0 for point 'p0'; 2 points have.*\(p0, p2\)"):
        read_labels(csv(tmp_path / "a.csv", rows))
    same = read_labels(csv(tmp_path / "b.csv", "point_id,label,interpreter\np1,1,Ann\np1,1,Ann\np0,0,Bo\n"))
    assert same.frame["label"].tolist() == [0, 1]
    again = read_labels(csv(tmp_path / "c.csv", "point_id,label,interpreter\np1,1,Ann\np2,0,Ann\n"))
    merged = merge_labels(design(), [same, again]).set_index("point_id")  # a page saved twice counts once
    assert merged["n_answers"].loc[["p0", "p1", "p2"]].tolist() == [1, 1, 1]
    other = read_labels(csv(tmp_path / "d.csv", "point_id,label,interpreter\np1,0,Ann\n"))
    with pytest.raises(LabelError, match=r"in two tables: 1 in .*b\.csv and 0 in .*d\.csv; 1 such points \(p1\)"):
        merge_labels(design(), [same, other])


def test_an_empty_table_of_labels_is_named(tmp_path):
    with pytest.raises(LabelError, match=r"a\.csv holds no rows"):
        read_labels(csv(tmp_path / "a.csv", "point_id,label,interpreter,date_ref,comment\n"))


def test_the_majority_counts_and_readings_stay(tmp_path):
    tables = [
        read_labels(csv(tmp_path / f"{who}.csv", f"point_id,label,interpreter\np0,{a},{who}\np1,{b},{who}\n"))
        for who, a, b in (("Ann", 1, 1), ("Bo; x=y", 0, 0), ("Cy", 1, "?"), ("Di", "?", 0))
    ]
    merged = merge_labels(design(), tables).set_index("point_id")
    assert merged["ref"].loc[["p0", "p1"]].tolist() == [1, 0]
    assert merged["disagreed"].loc[["p0", "p1"]].all()
    assert merged["readings"]["p0"] == "Ann=1; Bo  x y=0; Cy=1; Di=?"
    read = read_readings(merged["readings"]["p0"])
    assert list(read) == ["Ann", "Bo  x y", "Cy", "Di"] and [read[k] for k in list(read)[:3]] == [1, 0, 1]
    assert np.isnan(read["Di"]) and read_readings(None) == {} and read_readings(np.nan) == {}


def test_what_is_read_again_and_that_the_list_tells_nothing(tmp_path):
    import geopandas as gpd
    import shapely

    n = 60
    strata = ["mapped"] * 10 + ["candidate"] * 20 + ["rest"] * 30
    drawn = gpd.GeoDataFrame(
        {"point_id": [f"p{k:02d}" for k in range(n)], "city": "c", "map_stratum": strata,
         "map": [int(s == "mapped") for s in strata]},
        geometry=shapely.points(np.arange(n) / 100, 23), crs=4326,
    )  # fmt: skip
    first = drawn.assign(label=[1] * 10 + [k % 2 for k in range(20)] + [int(k < 3) for k in range(30)])
    ann = read_labels(csv(tmp_path / "ann.csv", first[["point_id", "label"]].to_csv(index=False)))
    order = order_rereading(drawn, [ann], seed=1)
    got = order.groupby("reason")["point_id"].agg(set)
    assert got["omission read once"] == {"p30", "p31", "p32"}
    assert len(got["mixed in"]) == 3 and all(p > "p32" for p in got["mixed in"])
    assert order.equals(order_rereading(drawn, [ann], seed=1))
    # the second reader confirms one, contradicts one and cannot say: the second is read a third time, and only it
    text = "point_id,label\np30,1\np31,0\np32,?\n" + "".join(f"{p},0\n" for p in got["mixed in"])
    bo = read_labels(csv(tmp_path / "bo.csv", text))
    again = order_rereading(drawn, [ann, bo], seed=1, mixed_in=0)
    assert dict(zip(again["point_id"], again["reason"], strict=True)) == {
        "p31": "answers differ", "p32": "omission read once",
    }  # fmt: skip
    merged = merge_labels(drawn, [ann, bo], MergeRules(disagreement="unanswered"))
    assert merged["point_id"][find_single_omissions(merged)].tolist() == ["p32"]
    settled = merge_labels(
        drawn, [ann, bo], adjudicated=read_labels(csv(tmp_path / "c.csv", "point_id,label\np31,0\np32,1\n"))
    )
    assert not find_single_omissions(settled).any() and settled.set_index("point_id")["ref"]["p32"] == 1
    cy = read_labels(csv(tmp_path / "cy.csv", "point_id,label\np31,0\np32,1\n"))
    assert order_rereading(drawn, [ann, bo, cy], seed=1).empty


@pytest.mark.parametrize(
    "written", ["2024-07-05", "2024/7/5", "2024.07.05", "2024年7月5日", "2024-07-05T10:30:00+08:00", "2024-07-05 02:30"]
)
def test_dates_with_the_year_first_are_read(tmp_path, written):
    table = read_labels(csv(tmp_path / "l.csv", f"point_id,label,date_ref\np0,1,{written}\n"))
    assert str(table.frame["date_ref"].iloc[0].date()) == "2024-07-05"


@pytest.mark.parametrize("written", ["05/07/2024", "5-7-2024", "05.07.24", "25/06/2024"])
def test_an_order_of_day_and_month_is_never_guessed(tmp_path, written):
    path = csv(tmp_path / "l.csv", f"point_id,label,date_ref\np0,1,{written}\n")
    with pytest.raises(LabelError, match=r"whose order of day and month is not known.*--date-format"):
        read_labels(path)
    with pytest.raises(LabelError, match=r"--map-date '05/07/2024'.*order of day and month"):
        merge_labels(
            design(),
            [read_labels(csv(tmp_path / "m.csv", "point_id,label\np0,1\n"))],
            MergeRules(map_date="05/07/2024"),
        )


def test_a_named_format_holds_for_the_whole_column(tmp_path):
    path = csv(tmp_path / "l.csv", "point_id,label,date_ref\np0,1,05/07/2024\np1,1,25/06/2024\np2,0,\n")
    got = read_labels(path, date_format="%d/%m/%Y").frame.set_index("point_id")["date_ref"]
    assert [str(got[p].date()) for p in ("p0", "p1")] == ["2024-07-05", "2024-06-25"] and pd.isna(got["p2"])
    with pytest.raises(LabelError, match=r"'25/06/2024', which is no date written as --date-format '%m/%d/%Y'"):
        read_labels(path, date_format="%m/%d/%Y")


@pytest.mark.parametrize(("written", "message"), [("2024-02-30", "does not exist"), ("2024-07", "is no date")])
def test_a_date_that_is_none_or_no_day_is_refused(tmp_path, written, message):
    with pytest.raises(LabelError, match=message):
        read_labels(csv(tmp_path / "l.csv", f"point_id,label,date_ref\np0,1,{written}\n"))


@pytest.mark.shared
def test_case_labels_with_dates_day_first(shared):
    folder = shared / "cases" / "17-labels-dates"
    drawn = pd.read_parquet(folder / "points_design.parquet")
    for name in ("lab_dmy_late.csv", "lab_dmy_mixed.csv"):
        with pytest.raises(LabelError, match="order of day and month is not known"):
            read_labels(folder / name)
        named = read_labels(folder / name, date_format="%d/%m/%Y")
        with pytest.raises(LabelError, match="after the map's date 2024-06-30"):
            merge_labels(drawn, [named], MergeRules(map_date="2024-06-30"))
    with pytest.raises(LabelError, match="210 labels are of imagery after"):
        merge_labels(drawn, [read_labels(folder / "lab_iso_late.csv")], MergeRules(map_date="2024-06-30"))
