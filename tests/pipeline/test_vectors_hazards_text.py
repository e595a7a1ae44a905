"""Hazard: text in another encoding than declared. It is found out and said, and never makes a file unreadable."""

import json
import struct
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from pipeline.vectors import VectorError, read_features
from pipeline.vectors.encodings import decoded, encoding_named, encoding_of, mojibake

UTM = "EPSG:32650"


def shapefile(path: Path, columns: dict[bytes, list[bytes]], *, cpg: str | None = None, driver: int = 0) -> Path:
    """A Shapefile of squares whose .dbf has exactly these bytes; names are cut at ten bytes as dBASE does."""
    count = len(next(iter(columns.values())))
    gpd.GeoDataFrame(
        {"a": range(count)}, geometry=[shapely.box(k, 0, k + 1, 1) for k in range(count)], crs=UTM
    ).to_file(path)
    width = 40
    fields = b"".join(struct.pack("<11sc4xBB14x", name[:10], b"C", width, 0) for name in columns)
    rows = b"".join(b" " + b"".join(v[k][:width].ljust(width) for v in columns.values()) for k in range(count))
    head = struct.pack("<BBBBIHH17xB2x", 3, 124, 1, 1, count, 33 + len(fields), 1 + width * len(columns), driver)
    path.with_suffix(".dbf").write_bytes(head + fields + b"\r" + rows + b"\x1a")
    path.with_suffix(".cpg").unlink(missing_ok=True)
    if cpg is not None:
        path.with_suffix(".cpg").write_text(cpg)
    return path


def read(path, **options):
    features = read_features(path, crs=UTM, bounds_m=None, **options)
    return [json.loads(t) for t in features.table["tags"]], features.warnings


WORDS = ["城中村", "住宅楼", "深圳市福田区", "厂房"]


@pytest.mark.parametrize(
    ("encoding", "cpg", "driver"),
    [
        ("gbk", None, 0),
        ("gbk", "UTF-8", 0),
        ("gbk", "ISO-8859-1", 0),
        ("gbk", "GBK", 0),
        ("gbk", "936", 0),
        ("gbk", "ANSI 936", 0),
        ("gbk", "nonsense", 0),
        ("gbk", None, 0x4D),
        ("gbk", None, 0x57),
        ("utf-8", None, 0),
        ("utf-8", "UTF-8", 0),
        ("utf-8", "GBK", 0),
        ("utf-8", "ISO-8859-1", 0x57),
        ("utf-8", None, 0x4D),
    ],
)
def test_chinese_is_read_whatever_is_declared(tmp_path, encoding, cpg, driver):
    path = shapefile(
        tmp_path / "b.shp",
        {"类型".encode(encoding): [w.encode(encoding) for w in WORDS], b"building": [b"yes"] * 4},
        cpg=cpg,
        driver=driver,
    )
    tags, warnings = read(path)
    assert tags == [{"building": "yes", "类型": w} for w in WORDS]
    declared = encoding_named(cpg) if cpg and encoding_named(cpg) else {0x4D: "gb18030"}.get(driver)
    fitting = declared == encoding_named(encoding) or (declared is None and driver == 0 and encoding == "utf-8")
    assert bool(warnings) is not fitting
    assert all("--vectors-encoding" in w for w in warnings)


def test_traditional_chinese_in_big5(tmp_path):
    words = ["香港特別行政區", "住宅大樓", "學校", "臺灣道路"]
    path = shapefile(tmp_path / "b.shp", {b"kind": [w.encode("big5") for w in words]}, cpg="950")
    tags, _ = read(path)
    assert [t["kind"] for t in tags] == words
    path.with_suffix(".cpg").unlink()
    tags, warnings = read(path)
    assert [t["kind"] for t in tags] == words
    assert "big5" in warnings[0]


@pytest.mark.parametrize("cpg", ["ISO-8859-1", "1252", None])
def test_western_text_stays_western(tmp_path, cpg):
    words = ["Zürich", "São Paulo", "Málaga", "Ærø"]
    path = shapefile(tmp_path / "b.shp", {b"name": [w.encode("latin-1") for w in words]}, cpg=cpg)
    tags, warnings = read(path)
    assert [t["name"] for t in tags] == words
    assert bool(warnings) is (cpg is None)


@pytest.mark.parametrize("encoding", ["gbk", "utf-8"])
@pytest.mark.parametrize("cpg", [None, "UTF-8"])
def test_names_and_values_cut_inside_a_character(tmp_path, encoding, cpg):
    """dBASE cuts names after 10 bytes and values at the width of the field, wherever a character ends."""
    name, value = "建筑物主要用途", "城" * 5 + "x" + "中村住宅" * 9
    path = shapefile(tmp_path / "b.shp", {name.encode(encoding): [value.encode(encoding)] * 3}, cpg=cpg)
    tags, _ = read(path)
    expected_name = decoded(name.encode(encoding)[:10], encoding)
    assert list(tags[0]) == [expected_name]
    assert name.startswith(expected_name)
    assert value.startswith(tags[0][expected_name])
    assert len(tags[0][expected_name]) >= 12


def test_two_names_that_become_one_when_cut_are_both_kept(tmp_path):
    names = [b"\xe5\xbb\xba\xe7\xad\x91abcd", b"\xe5\xbb\xba\xe7\xad\x91abc\xe5"]
    path = shapefile(tmp_path / "b.shp", {names[0]: [b"1"], names[1]: [b"2"]}, cpg="UTF-8")
    tags, _ = read(path)
    assert sorted(tags[0].values()) == ["1", "2"]


def test_encoding_given_is_used_and_one_that_does_not_fit_is_refused(tmp_path):
    path = shapefile(tmp_path / "b.shp", {b"kind": [w.encode("gbk") for w in WORDS]}, cpg="UTF-8")
    tags, warnings = read(path, encoding="GBK")
    assert [t["kind"] for t in tags] == WORDS
    assert warnings == ()
    with pytest.raises(VectorError, match=r"b\.shp: --vectors-encoding utf-8 does not fit.*gb18030"):
        read(path, encoding="utf-8")
    with pytest.raises(VectorError, match="--vectors-encoding klingon: no such encoding"):
        read(path, encoding="klingon")


def test_encoding_given_for_the_gbk_files_of_a_city_leaves_its_utf8_files_alone(tmp_path):
    path = shapefile(tmp_path / "b.shp", {b"kind": [w.encode() for w in WORDS]}, cpg="UTF-8")
    tags, warnings = read(path, encoding="gbk")
    assert [t["kind"] for t in tags] == WORDS
    assert warnings == ()


@pytest.mark.parametrize("suffix", [".geojson", ".json"])
@pytest.mark.parametrize("encoding", ["gbk", "utf-8-sig", "utf-16", "utf-8"])
def test_geojson_in_other_encodings(tmp_path, suffix, encoding):
    path = tmp_path / f"b{suffix}"
    gpd.GeoDataFrame({"类型": WORDS}, geometry=[shapely.Point(117, 30 + k / 1000) for k in range(4)], crs=4326).to_file(
        path, driver="GeoJSON"
    )
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    tags, warnings = read(path)
    assert [t["类型"] for t in tags] == WORDS
    assert bool(warnings) is (encoding == "gbk")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("类型".encode("gbk").decode("latin-1"), "类型"),
        ("城中村".encode().decode("gbk", "replace"), None),
        ("村庄".encode().decode("latin-1"), "村庄"),
    ],
)
def test_text_that_was_decoded_wrongly_before_is_warned_of(tmp_path, wrong, right):
    path = tmp_path / "b.gpkg"
    gpd.GeoDataFrame({"name": [wrong]}, geometry=[shapely.Point(0, 0)], crs=UTM).to_file(path)
    _, warnings = read(path)
    assert len(warnings) == 1
    assert warnings[0].startswith("b.gpkg: 1 texts")
    assert right is None or right in warnings[0]


@given(st.lists(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=2), min_size=1))
def test_chinese_words_are_not_taken_for_mojibake(words):
    found = mojibake(words)
    # bytes of GBK that happen to be UTF-8 are rare: one in about 500 words of two characters
    assert found is None or any(w.encode("gbk", "ignore").isascii() is False for w in words)


@pytest.mark.parametrize("words", [["Café", "Zürich"], ["北京", "上海市"], ["東京都"], ["Москва"], ["ÀÉÎ"]])
def test_right_text_is_not_warned_of(words):
    assert mojibake(words) is None


@given(st.lists(st.binary(min_size=1, max_size=12), max_size=6), st.sampled_from([None, "utf-8", "gb18030", "cp1252"]))
def test_any_bytes_get_an_encoding(texts, declared):
    encoding, _ = encoding_of(texts, declared, "x")
    assert all(isinstance(decoded(t, encoding), str) for t in texts)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("gbk_noldid", "类型", {"住宅", "城中村"}),
        ("gbk_wrongcpg", "类型", {"住宅", "城中村"}),
        ("utf8_longname", "建筑物", {"住宅"}),
    ],
)
def test_case_encodings(shared, name, key, words):
    path = shared / f"cases/07-encodings/{name}.shp"
    features = read_features(path, crs="EPSG:32649", bounds_m=None)
    tags = [json.loads(t) for t in features.table["tags"]]
    assert len(tags) == 20
    assert {t[key] for t in tags} == words
    assert all(t["building"] == "yes" for t in tags)
    assert bool(features.warnings) is name.startswith("gbk")
