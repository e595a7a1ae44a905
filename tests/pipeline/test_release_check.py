"""A good release passes every gate; broken in one place, exactly that gate fails."""

import json
import shutil
import sqlite3
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely

from pipeline.release import layout
from pipeline.release.archives import write_zip
from pipeline.release.check import GATES, check_release, waive_gates
from pipeline.release.checksums import hash_file
from pipeline.release.errors import ReleaseError
from pipeline.release.record import read_record
from pipeline.release.seal import seal_release
from tests.support.products import write_products
from tests.support.releases import build, make_campaign

SIDES = ("west", "south", "east", "north")
CODES = ("440300", "441900", "310000")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    write_products(root / "products", CODES, villages=6)
    return build(make_campaign(root, CODES), root / "good", with_accuracy=True)


@pytest.fixture
def release(good, tmp_path):
    return shutil.copytree(good, tmp_path / "release")


def reseal(folder, **facts):
    """Write the texts anew, with the digests of the data files as they are now: all else stays consistent."""
    record = read_record(folder)
    data = {}
    for name, fact in record.data.items():
        sha256, md5 = hash_file(folder / name)
        size = (folder / name).stat().st_size
        data[name] = fact.model_copy(update={"sha256": sha256, "md5": md5, "bytes": size})
    seal_release(folder, record.model_copy(update={"data": data} | facts))


def failed(folder, **how):
    return [r.gate for r in check_release(folder, **how).results if not r.passed]


def rewrite(folder, name, change):
    """Change a Parquet file's rows, metadata and packing kept."""
    table = pq.read_table(folder / name)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), folder / name, compression="zstd")
    reseal(folder)


def with_values(table, column, values):
    k = table.schema.get_field_index(column)
    return table.set_column(k, table.schema.field(column), pa.array(values, table.schema.field(column).type))


def rewrite_json(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def renew_checksums(folder):
    from pipeline.release.checksums import write_checksums

    write_checksums(folder)


def test_good_release_passes(good):
    report = check_release(good)
    assert [r.gate for r in report.results] == list(GATES)
    assert {r.gate: r.findings for r in report.results if not r.passed} == {}
    assert report.publishable
    measured = {r.gate: r.measured for r in report.results}
    assert set(measured["counts"]["counts"].values()) == {18}
    assert measured["coverage"]["not_predicted_share_max"] < 0.1
    assert measured["accuracy"]["cities_assessed"] == 3


def break_files(folder):
    with (folder / layout.TILES).open("ab") as file:
        file.write(b"\0")
    # crate and STAC say the old size too: only what lists bytes may notice


def break_geometry(folder):
    def twist(table):
        shapes = shapely.from_wkb(table["geometry"].to_numpy())
        ring = shapely.get_coordinates(shapes[0])
        ring[[1, 2]] = ring[[2, 1]]
        twisted = shapely.Polygon(ring)
        assert not twisted.is_valid
        shapes[0] = twisted
        return with_values(table, "geometry", shapely.to_wkb(shapes, flavor="iso"))

    rewrite(folder, layout.VILLAGES, twist)


def break_overlaps(folder):
    """A village of another city is laid over one of this city."""

    def move(table):
        codes = table["adcode"].to_pylist()
        shapes = shapely.from_wkb(table["geometry"].to_numpy())
        mine, other = codes.index("440300"), codes.index("441900")
        shapes[other] = shapes[mine]
        areas = table["area_m2"].to_pylist()
        areas[other] = areas[mine]
        for name, values in (("geometry", shapely.to_wkb(shapes, flavor="iso")), ("area_m2", areas)):
            table = with_values(table, name, values)
        boxes = table["bbox"].to_pylist()
        boxes[other] = boxes[mine]
        table = with_values(table, "bbox", boxes)
        keys = [k for k in range(len(codes)) if k != other]  # beside the other, or the order would be wrong
        keys.insert(keys.index(mine) + 1, other)
        return table.take(keys)

    total = sum(pq.read_table(folder / layout.VILLAGES)["area_m2"].to_pylist())
    record = read_record(folder)
    box = {k: getattr(next(c for c in record.cities if c.adcode == "440300"), k) for k in SIDES}
    wide = [c.model_copy(update=box) if c.adcode == "441900" else c for c in record.cities]
    rewrite(folder, layout.VILLAGES, move)
    reseal(folder, cities=tuple(wide))
    # the grid must hold as much as the villages, or counts would notice too
    now = sum(pq.read_table(folder / layout.VILLAGES)["area_m2"].to_pylist())
    grid = pq.read_table(folder / layout.GRID)
    areas = grid["uv_area_m2"].to_numpy() * now / total
    rewrite(folder, layout.GRID, lambda t: with_values(t, "uv_area_m2", areas))


def break_ids(folder):
    """Two villages with one id, in every format."""
    ids = pq.read_table(folder / layout.VILLAGES)["uv_id"].to_pylist()
    codes = pq.read_table(folder / layout.VILLAGES)["adcode"].to_pylist()
    first = next(k for k in range(len(ids)) for j in range(k) if codes[j] == codes[k])
    second = next(j for j in range(first) if codes[j] == codes[first])

    def change(table):
        return with_values(table, "uv_id", [ids[second] if i == ids[first] else i for i in table["uv_id"].to_pylist()])

    rewrite(folder, layout.VILLAGES, change)


def break_attributes(folder):
    rewrite(
        folder,
        layout.MAP_ATTRIBUTES,
        lambda t: with_values(t, "building_coverage", [1.7, *t["building_coverage"].to_pylist()[1:]]),
    )


def break_coverage(folder):
    record = read_record(folder)
    city = record.cities[0]
    worse = city.model_copy(update={"not_predicted_px": city.predicted_px})
    reseal(folder, cities=(worse, *record.cities[1:]))


def break_coverage_by_a_missing_city(folder):
    reseal(folder, missing={"110000": "no product"})


def break_counts(folder):
    with sqlite3.connect(folder / layout.PACKAGE) as base:
        for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            base.execute(f'DROP TRIGGER "{name}"')  # they call functions of GDAL
        base.execute("DELETE FROM urban_villages WHERE fid = 1")
    reseal(folder)


def break_counts_in_an_archive(folder):
    name = read_record(folder).cities[0].archive
    with zipfile.ZipFile(folder / name) as source:
        members = [(m, source.read(m)) for m in source.namelist()]

    def shorter(member, data):
        if not member.endswith(layout.MAP_ATTRIBUTES):
            return data
        sink = pa.BufferOutputStream()
        pq.write_table(pq.read_table(pa.BufferReader(data)).slice(1), sink)
        return sink.getvalue().to_pybytes()

    write_zip(folder / name, [(m, shorter(m, d)) for m, d in members])
    reseal(folder)


def break_cog(folder):
    with rasterio.open(folder / layout.GRID_RASTER) as source:
        profile, values = source.profile, source.read()
    profile.update(driver="GTiff", tiled=False)
    for key in ("blockxsize", "blockysize", "interleave"):
        profile.pop(key, None)
    with rasterio.open(folder / layout.GRID_RASTER, "w", **profile) as sink:
        sink.write(values)
    reseal(folder)


def break_geoparquet(folder):
    def unsorted(table):
        return table.take(list(range(len(table)))[::-1])

    rewrite(folder, layout.VILLAGES, unsorted)


def break_stac(folder):
    rewrite_json(folder / layout.COLLECTION, lambda d: d.pop("extent"))
    keep_sizes(folder)


def break_stac_link(folder):
    rewrite_json(folder / layout.item_file("44"), lambda d: d["assets"]["archive"].update({"file:size": 1}))
    keep_sizes(folder)


def keep_sizes(folder):
    """Crate and checksums follow a text that was changed."""
    from pipeline.release.crate import write_crate

    write_crate(folder, read_record(folder))
    renew_checksums(folder)


def break_stac_bands(folder):
    """The model reads a band that no asset describes: the schema of mlm refuses it."""
    rewrite_json(folder / layout.item_file("model"), lambda d: d["assets"]["model"].pop("raster:bands"))
    keep_sizes(folder)


def break_crate(folder):
    def forget(data):
        root = next(e for e in data["@graph"] if e["@id"] == "./")
        root.pop("license")

    rewrite_json(folder / layout.CRATE, forget)
    renew_checksums(folder)


def break_citation(folder):
    path = folder / layout.CITATION
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("message")))
    keep_sizes(folder)


def break_accuracy(folder):
    """The assessment judged another map."""

    def other(data):
        data["survey"]["cities"][0]["files"] = dict.fromkeys(data["survey"]["cities"][0]["files"], "0" * 64)

    rewrite_json(folder / layout.ACCURACY, other)
    reseal(folder)


def break_leakage(folder):
    record = read_record(folder)
    reseal(
        folder, accuracy=record.accuracy.model_copy(update={"leakage_clean": False, "leakage_statement": "LEAKAGE: 3"})
    )


def break_licences(folder):
    record = read_record(folder)
    reseal(folder, outlines_licence="CC-BY-4.0")
    assert any(c.outlines_follow_map for c in record.cities)


BREAKS = {
    "files": [break_files],
    "geometry": [break_geometry],
    "overlaps": [break_overlaps],
    "ids": [break_ids],
    "attributes": [break_attributes],
    "coverage": [break_coverage, break_coverage_by_a_missing_city],
    "counts": [break_counts, break_counts_in_an_archive],
    "cog": [break_cog],
    "geoparquet": [break_geoparquet],
    "stac": [break_stac, break_stac_link, break_stac_bands],
    "crate": [break_crate],
    "citation": [break_citation],
    "accuracy": [break_accuracy],
    "leakage": [break_leakage],
    "licences": [break_licences],
}
ALSO = {"files": {"stac", "crate"}}
"""Sizes and checksums stand in STAC and crate too: a changed file is seen there as well."""


def test_every_gate_has_a_break():
    assert set(BREAKS) == set(GATES)


@pytest.mark.parametrize(("gate", "spoil"), [(g, b) for g, many in BREAKS.items() for b in many])
def test_broken_in_one_place(release, gate, spoil):
    spoil(release)
    assert set(failed(release)) - ALSO.get(gate, set()) == {gate}


def test_waivers_are_named_reasoned_and_printed(release):
    break_leakage(release)
    report = check_release(release)
    assert report.blocking == ("leakage",)
    with pytest.raises(ReleaseError, match="no gate 'leek'"):
        waive_gates(release, report, {"leek": "x"})
    with pytest.raises(ReleaseError, match="gate 'ids' passes"):
        waive_gates(release, report, {"ids": "x"})
    with pytest.raises(ReleaseError, match="without a reason"):
        waive_gates(release, report, {"leakage": " "})
    waive_gates(release, report, {"leakage": "Points were re-labelled by others."})
    again = check_release(release)
    assert again.publishable and not again.results[list(GATES).index("leakage")].passed
    assert "**leakage**: Points were re-labelled by others." in (release / layout.README).read_text()
    break_files(release)
    report = check_release(release)
    with pytest.raises(ReleaseError, match="cannot be waived"):
        waive_gates(release, report, {"files": "never mind"})
    assert "files" in report.blocking


def test_ids_must_stay_where_they_are(release, good, tmp_path):
    """Against the last release: a village that stands as it stood keeps its id, and no id goes elsewhere."""
    reseal(release, previous="0.9.0", version="1.0.0")
    last = shutil.copytree(good, tmp_path / "last")
    reseal(last, version="0.9.0")
    assert failed(release, previous=last) == []
    with pytest.raises(ReleaseError, match="give that release as --previous"):
        check_release(release)
    with pytest.raises(ReleaseError, match=r"is 1\.0\.0"):
        check_release(release, previous=good)

    def swap(table):
        ids, codes = table["uv_id"].to_pylist(), table["adcode"].to_pylist()
        a, b = [k for k, code in enumerate(codes) if code == "440300"][:2]
        ids[a], ids[b] = ids[b], ids[a]
        return with_values(table, "uv_id", ids)

    rewrite(release, layout.VILLAGES, swap)
    result = next(r for r in check_release(release, previous=last).results if r.gate == "ids")
    assert result.measured == {"ids": 18, "ids_kept": 16, "ids_lost": 2} and result.count == 4
