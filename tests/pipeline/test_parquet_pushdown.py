"""GeoParquet by its boxes: equal to reading everything and filtering, and reading only what is needed."""

import json
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.vectors import VectorError, read_features
from pipeline.vectors.fetch import ParquetSource, fetch_parquet
from pipeline.vectors.overture import overture_tags
from pipeline.vectors.pushdown import Storage, rows_in_box
from regions.datum import from_wgs84
from tests.support.servers import range_server, s3_server

BOX = (113.90, 22.50, 113.95, 22.54)


def boxes_table(count: int, seed: int = 1) -> gpd.GeoDataFrame:
    random = np.random.default_rng(seed)
    x, y = random.uniform(113.5, 114.5, count), random.uniform(22.3, 22.9, count)
    shapes = shapely.box(x, y, x + random.uniform(1e-4, 2e-3, count), y + random.uniform(1e-4, 2e-3, count))
    table = gpd.GeoDataFrame({"id": [f"b{k}" for k in range(count)]}, geometry=shapes, crs="EPSG:4326")
    order = np.argsort(
        table.geometry.hilbert_distance(total_bounds=(113.5, 22.3, 114.5, 22.9)).to_numpy(), kind="stable"
    )
    return table.iloc[order].reset_index(drop=True)


def overture_file(path: Path, count: int = 20_000, rows: int = 500) -> gpd.GeoDataFrame:
    """A file as Overture's: sorted by place, with boxes of its rows, small row groups."""
    table = boxes_table(count)
    table["subtype"] = np.where(np.arange(count) % 3 == 0, "residential", None)
    table["class"] = np.where(np.arange(count) % 5 == 0, "apartments", None)
    table["height"] = np.where(np.arange(count) % 2 == 0, 3.0 + np.arange(count) % 30, np.nan)
    table["num_floors"] = pd_int(np.arange(count) % 7)
    table["names"] = [{"primary": f"楼{k}"} if k % 4 == 0 else None for k in range(count)]
    table["sources"] = [[{"dataset": "OpenStreetMap", "record_id": f"w{k}"}] for k in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path, write_covering_bbox=True, row_group_size=rows, compression="zstd", index=False)
    return table


def pd_int(values: np.ndarray) -> list[int | None]:
    return [int(v) or None for v in values]


def by_full_read(table: gpd.GeoDataFrame, box: tuple[float, float, float, float]) -> set[str]:
    b = table.geometry.bounds
    west, south, east, north = box
    return set(table["id"][(b.minx <= east) & (b.maxx >= west) & (b.miny <= north) & (b.maxy >= south)])


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, gpd.GeoDataFrame]:
    root = tmp_path_factory.mktemp("overture")
    return root, overture_file(root / "theme=buildings/type=building/part-0.parquet")


@settings(max_examples=40)
@given(
    at=st.tuples(st.floats(113.4, 114.6), st.floats(22.2, 23.0)), size=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5))
)
def test_equals_a_full_read_and_filter(big, at, size):
    root, table = big
    box = (at[0], at[1], at[0] + size[0], at[1] + size[1])
    tables, reading = rows_in_box(str(root), box)
    found = {i for t in tables for i in t.column("id").to_pylist()}
    assert found == by_full_read(table, box)
    assert reading.groups_read <= reading.groups == 40


def test_reads_the_groups_needed_and_no_more(big):
    root, table = big
    tables, reading = rows_in_box(str(root), BOX)
    assert {i for t in tables for i in t.column("id").to_pylist()} == by_full_read(table, BOX)
    assert tables[0].column("type").to_pylist()[0] == "building", "keys of folders are columns"
    metadata = pq.read_metadata(next(root.rglob("*.parquet")))
    needed = 0
    for g in range(metadata.num_row_groups):
        group = metadata.row_group(g)
        stats = {group.column(c).path_in_schema: group.column(c).statistics for c in range(group.num_columns)}
        if (
            stats["bbox.xmin"].min <= BOX[2] and stats["bbox.xmax"].max >= BOX[0]
            and stats["bbox.ymin"].min <= BOX[3] and stats["bbox.ymax"].max >= BOX[1]
        ):  # fmt: skip
            needed += sum(group.column(c).total_compressed_size for c in range(group.num_columns))
    footer = metadata.serialized_size
    assert reading.bytes_read < needed + footer + 200_000
    assert reading.bytes_read < 0.25 * reading.size_bytes
    assert reading.groups_read < 0.1 * reading.groups


@pytest.fixture(scope="module")
def served(big, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    log = tmp_path_factory.mktemp("log") / "requests.txt"
    log.touch()
    with range_server(big[0], log) as url:
        yield url, log


def test_over_http(big, served):
    url, log = served
    place = f"{url}/theme=buildings/type=building/part-0.parquet"
    tables, reading = rows_in_box(place, BOX)
    assert {i for t in tables for i in t.column("id").to_pylist()} == by_full_read(big[1], BOX)
    sent = sum(int(line.split()[2]) for line in log.read_text().splitlines() if line.startswith("GET"))
    assert sent <= reading.bytes_read + 100_000, "what the server sent is what was asked for"
    assert sent < 0.3 * reading.size_bytes
    with pytest.raises(VectorError, match="cannot be read"):
        rows_in_box(f"{url}/none.parquet", BOX)


def test_over_s3(big, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root, table = big
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with s3_server() as endpoint:
        storage = Storage(endpoint=endpoint, region="us-east-1", tls=False)
        store = pafs.S3FileSystem(
            endpoint_override=endpoint, scheme="http", region="us-east-1", allow_bucket_creation=True
        )
        store.create_dir("release")
        name = "theme=buildings/type=building/part-0.parquet"
        with store.open_output_stream(f"release/{name}") as file:
            file.write((root / name).read_bytes())
        source = ParquetSource("s3://release/theme=buildings/type=building/", storage=storage)
        record = fetch_parquet(source, BOX, tmp_path / "s3.parquet")
        local = fetch_parquet(ParquetSource(str(root)), BOX, tmp_path / "local.parquet")
        assert record == local
        assert (tmp_path / "s3.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()
        assert record["features"] == len(by_full_read(table, BOX))
        with pytest.raises(VectorError, match="no Parquet file"):
            rows_in_box("s3://release/none/", BOX, storage=storage)


def test_what_is_fetched_is_what_the_pipeline_reads(big, tmp_path: Path):
    root, table = big
    fetch_parquet(ParquetSource(str(root)), BOX, tmp_path / "city.parquet")
    read = read_features(tmp_path / "city.parquet", crs="EPSG:32650", bounds_m=None).table
    assert set(read["source_id"]) == by_full_read(table, BOX)
    tags = [json.loads(t) for t in read["tags"]]
    assert {t["building"] for t in tags} == {"yes", "residential", "apartments"}
    assert any("height" in t for t in tags)
    assert any("building:levels" in t for t in tags)
    assert any(t.get("name", "").startswith("楼") for t in tags)
    distance = gpd.read_parquet(tmp_path / "city.parquet").geometry.hilbert_distance(total_bounds=BOX)
    assert distance.is_monotonic_increasing


def test_footprints_with_heights_in_a_shifted_datum(tmp_path: Path):
    true = boxes_table(300)
    moved = true.copy()
    moved["geometry"] = shapely.transform(
        true.geometry.to_numpy(), lambda xy: np.stack(from_wgs84(xy[:, 0], xy[:, 1], "gcj02"), axis=1)
    )
    moved["Height"], moved["junk"] = np.arange(300) % 40 + 3.0, "x"
    moved.to_parquet(tmp_path / "cmab.parquet", write_covering_bbox=True)
    source = ParquetSource(
        str(tmp_path / "cmab.parquet"), tags={"building": "yes"}, rename={"Height": "height"}, datum="gcj02"
    )
    box = (113.6, 22.4, 114.2, 22.8)
    record = fetch_parquet(source, box, tmp_path / "out.parquet")
    found = gpd.read_parquet(tmp_path / "out.parquet").set_index("id")
    assert set(found.index) == by_full_read(true, box)
    assert record["features"] == len(found)
    shapes = true.set_index("id").geometry[found.index]
    assert max(a.hausdorff_distance(b) for a, b in zip(found.geometry, shapes, strict=True)) < 1e-7
    assert json.loads(found["tags"].iloc[0]).keys() == {"building", "height"}


def test_files_without_boxes_are_read_as_a_whole_and_said(tmp_path: Path):
    table = boxes_table(50)
    table.to_parquet(tmp_path / "plain.parquet")
    record = fetch_parquet(ParquetSource(str(tmp_path / "plain.parquet")), BOX, tmp_path / "out.parquet")
    assert len(record["uncovered"]) == 1
    assert record["features"] == len(by_full_read(table, BOX))
    table.to_crs("EPSG:32650").to_parquet(tmp_path / "utm.parquet", write_covering_bbox=True)
    box = (113.6, 22.4, 114.2, 22.8)
    fetch_parquet(ParquetSource(str(tmp_path / "utm.parquet")), box, tmp_path / "utm_out.parquet")
    assert set(gpd.read_parquet(tmp_path / "utm_out.parquet")["id"]) == by_full_read(table, box)


def test_refusals(tmp_path: Path):
    with pytest.raises(VectorError, match="no Parquet file"):
        rows_in_box(str(tmp_path), BOX)
    with pytest.raises(VectorError, match="ftp"):
        rows_in_box("ftp://x/y.parquet", BOX)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(VectorError, match="cannot be read as Parquet"):
        rows_in_box(str(tmp_path / "torn.parquet"), BOX)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "plain.parquet")
    with pytest.raises(VectorError, match="no column of geometry"):
        rows_in_box(str(tmp_path / "plain.parquet"), BOX)


@pytest.mark.parametrize(
    ("kind", "row", "tags"),
    [
        (
            "building",
            {"class": "apartments", "height": 12.5, "num_floors": 4},
            {"building": "apartments", "height": "12.5", "building:levels": "4"},
        ),
        ("building", {}, {"building": "yes"}),
        ("building_part", {"roof_shape": "flat"}, {"building:part": "yes", "roof:shape": "flat"}),
        ("segment", {"subtype": "road", "class": "residential"}, {"highway": "residential"}),
        ("segment", {"subtype": "road", "class": "unknown"}, {"highway": "road"}),
        ("segment", {"subtype": "rail", "class": "subway"}, {"railway": "subway"}),
        ("segment", {"subtype": "water"}, {"route": "ferry"}),
        (
            "place",
            {"categories": {"primary": "supermarket"}, "names": {"primary": "超市"}},
            {"shop": "supermarket", "name": "超市"},
        ),
        ("place", {"categories": {"primary": "restaurant"}}, {"amenity": "restaurant"}),
        ("land_use", {"subtype": "education", "class": "school"}, {"amenity": "school"}),
        ("land_use", {"subtype": "residential", "class": "residential"}, {"landuse": "residential"}),
        (
            "land_use",
            {"class": "park", "source_tags": {"leisure": "park", "name:zh": "公园"}},
            {"leisure": "park", "name:zh": "公园"},
        ),
        ("water", {"subtype": "river", "class": "river"}, {"waterway": "river"}),
        ("water", {"subtype": "lake", "class": "lake"}, {"natural": "water", "water": "lake"}),
        ("land", {"subtype": "forest", "class": "forest"}, {"natural": "wood"}),
        ("infrastructure", {"subtype": "power", "class": "power_tower"}, {"power": "power_tower"}),
        ("connector", {}, None),
    ],
)  # fmt: skip
def test_overture_in_the_words_of_openstreetmap(kind, row, tags):
    assert overture_tags(kind, row) == tags
