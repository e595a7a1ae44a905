"""Hazard: a source is read but does not lie where the city is. It is refused with the reason, never an empty map."""

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from pyproj import CRS

from pipeline.vectors import VectorError, read_features

UTM = "EPSG:32649"
AREA = (734660.0, 2555970.0, 734820.0, 2556130.0)
HOUSES = gpd.GeoDataFrame(
    {"building": ["yes"] * 12},
    geometry=[
        shapely.box(734700 + 15 * i, 2556000 + 15 * j, 734710 + 15 * i, 2556010 + 15 * j)
        for i in range(4)
        for j in range(3)
    ],
    crs=UTM,
)
LOCAL = 'LOCAL_CS["city grid",LOCAL_DATUM["x",0],UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'


def swapped(table):
    return table.set_geometry(shapely.transform(table.geometry.to_numpy(), lambda xy: xy[:, ::-1]), crs=table.crs)


def written(table, path):
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_file(path)
    return path


def refusal(path, area=AREA, **options):
    with pytest.raises(VectorError) as caught:
        read_features(path, crs=UTM, bounds_m=area, **options)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".fgb", ".parquet"])
def test_far_away_is_refused_with_counts_and_both_places(tmp_path, suffix):
    table = HOUSES.set_geometry(HOUSES.translate(100_000, 0))
    table = table.to_crs(4326) if suffix == ".geojson" else table
    text = refusal(written(table, tmp_path / f"far{suffix}"))
    assert "12 features read and none left (outside 12)" in text
    assert "114.26" in text
    assert "113.29" in text
    assert "100 km apart" in text


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet"])
@pytest.mark.parametrize("area", [AREA, None], ids=["area", "everywhere"])
def test_swapped_latitude_and_longitude_is_said(tmp_path, suffix, area):
    text = refusal(written(swapped(HOUSES.to_crs(4326)), tmp_path / f"swapped{suffix}"), area=area)
    assert "axes are swapped" in text


def test_swapped_easting_and_northing_is_said(tmp_path):
    table = swapped(HOUSES.to_crs("EPSG:4547"))
    assert "axes are swapped" in refusal(written(table, tmp_path / "northing_first.gpkg"))


def test_metres_in_a_file_taken_for_degrees_are_said(tmp_path):
    path = tmp_path / "metres.geojson"
    HOUSES.set_crs(4326, allow_override=True).to_file(path)
    for area in (AREA, None):
        assert "no degrees" in refusal(path, area=area)
    text = refusal(written(HOUSES.set_crs("OGC:CRS84", allow_override=True), tmp_path / "metres.parquet"))
    assert "no degrees" in text


def test_degrees_under_a_projected_crs_are_said(tmp_path):
    table = HOUSES.to_crs(4326).set_crs(UTM, allow_override=True)
    assert "seem to be degrees" in refusal(written(table, tmp_path / "degrees.gpkg"))


def test_zone_number_before_the_easting_is_said(tmp_path):
    table = HOUSES.to_crs("EPSG:4526").set_crs("EPSG:4547", allow_override=True)
    assert "zone number (38)" in refusal(written(table, tmp_path / "zone.gpkg"))


def plain_parquet(path, geometry, column="geometry", as_wkt=False):
    values = shapely.to_wkt(geometry) if as_wkt else shapely.to_wkb(geometry)
    pq.write_table(pa.table({column: list(values), "building": ["yes"] * len(geometry)}), path)
    return path


def test_plain_parquet_in_metres_without_crs_is_refused_unless_one_is_given(tmp_path):
    path = plain_parquet(tmp_path / "metres.parquet", HOUSES.geometry.to_numpy())
    for area in (AREA, None):
        assert "plain Parquet without a CRS" in refusal(path, area=area)
    assert len(read_features(path, crs=UTM, bounds_m=AREA, assumed_crs=UTM).table) == 12


@pytest.mark.parametrize("column", ["geometry", "geom", "wkb_geometry", "WKT"])
def test_plain_parquet_in_degrees_is_read(tmp_path, column):
    geometry = HOUSES.to_crs(4326).geometry.to_numpy()
    path = plain_parquet(tmp_path / "degrees.parquet", geometry, column, as_wkt=column == "WKT")
    assert len(read_features(path, crs=UTM, bounds_m=AREA).table) == 12


def test_parquet_without_geometry_names_its_columns(tmp_path):
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"name": ["x"]}), path)
    assert "its columns are name" in refusal(path)


def test_geoparquet_that_declares_its_crs_unknown_is_refused(tmp_path):
    path = tmp_path / "unknown.parquet"
    HOUSES.set_crs(None, allow_override=True).to_parquet(path)
    assert "has no CRS" in refusal(path)
    assert len(read_features(path, crs=UTM, bounds_m=AREA, assumed_crs=UTM).table) == 12


@pytest.mark.parametrize("geometry", [None, shapely.Polygon(), shapely.Point(float("nan"), 1.0)])
def test_a_file_of_nothing_drawable_is_refused(tmp_path, geometry):
    path = tmp_path / "nothing.parquet"
    gpd.GeoDataFrame({"building": ["yes"]}, geometry=[geometry], crs=UTM).to_parquet(path)
    assert "1 features read and none left" in refusal(path, area=None)


def test_a_large_share_lost_is_warned_of_by_name(tmp_path):
    geometry = HOUSES.geometry.to_numpy().copy()
    geometry[:4] = None
    path = tmp_path / "holes.parquet"
    HOUSES.set_geometry(gpd.GeoSeries(geometry, crs=UTM)).to_parquet(path)
    features = read_features(path, crs=UTM, bounds_m=AREA)
    assert len(features.table) == 8
    assert features.warnings == ("holes.parquet: 4 of 12 features in the area are lost (null_geometry 4)",)


def test_a_small_share_lost_and_what_lies_elsewhere_are_counted_without_a_warning(tmp_path):
    far = HOUSES.set_geometry(HOUSES.translate(100_000, 0))
    path = tmp_path / "province.parquet"
    gpd.GeoDataFrame(np.concatenate([HOUSES, far]), columns=HOUSES.columns, geometry="geometry", crs=UTM).to_parquet(
        path
    )
    features = read_features(path, crs=UTM, bounds_m=AREA)
    assert features.counts["outside"] == 12
    assert features.warnings == ()


def test_one_layer_that_misses_the_area_is_warned_of(tmp_path):
    path = tmp_path / "layers.gpkg"
    HOUSES.to_file(path, layer="here")
    HOUSES.set_geometry(HOUSES.translate(100_000, 0)).to_file(path, layer="there")
    features = read_features(path, crs=UTM, bounds_m=AREA)
    assert len(features.table) == 12
    assert features.warnings == ("layers.gpkg: nothing is left of 1 of its layers (there)",)


def test_a_file_without_a_feature_is_warned_of(tmp_path):
    path = written(HOUSES.iloc[:0], tmp_path / "empty.gpkg")
    features = read_features(path, crs=UTM, bounds_m=AREA)
    assert features.counts["kept"] == 0
    assert "empty.gpkg: no feature" in features.warnings[0]


def test_a_table_without_geometry_is_refused(tmp_path):
    path = tmp_path / "table.gpkg"
    import pandas as pd
    import pyogrio

    pyogrio.write_dataframe(pd.DataFrame({"x": [1]}), path, layer="plain")
    assert "none of its layers (plain) has geometry" in refusal(path)


class TestCrs:
    def prj(self, tmp_path, text):
        path = written(HOUSES, tmp_path / "b.shp")
        path.with_suffix(".prj").write_text(text)
        return path

    def test_local_crs_is_named_and_can_be_overruled(self, tmp_path):
        path = self.prj(tmp_path, LOCAL)
        text = refusal(path)
        assert "local CRS 'city grid'" in text
        assert "--vectors-crs" in text
        assert "truncated" not in text
        assert len(read_features(path, crs=UTM, bounds_m=AREA, assumed_crs=UTM).table) == 12

    def test_undefined_cartesian_crs_of_a_geopackage(self, tmp_path):
        path = tmp_path / "undefined.gpkg"
        HOUSES.set_crs(None, allow_override=True).to_file(path)
        assert "has no CRS" in refusal(path) or "local CRS" in refusal(path)

    @pytest.mark.parametrize("text", ["", "not a CRS", 'PROJCS["half', "EPSG:99999"])
    def test_unusable_prj(self, tmp_path, text):
        assert "--vectors-crs" in refusal(self.prj(tmp_path, text))

    def test_prj_in_another_encoding(self, tmp_path):
        path = self.prj(tmp_path, "")
        path.with_suffix(".prj").write_bytes(
            CRS(UTM).to_wkt("WKT1_ESRI").encode().replace(b"WGS_1984", "深圳".encode("gbk"))
        )
        assert "b.prj is no text in UTF-8" in refusal(path)

    @pytest.mark.parametrize("code", ["EPSG:4978", "EPSG:5773"])
    def test_crs_without_map_coordinates(self, tmp_path, code):
        path = tmp_path / "b.parquet"
        HOUSES.set_crs(CRS(code), allow_override=True).to_parquet(path)
        assert "no coordinates on a map" in refusal(path)

    @pytest.mark.parametrize("text", ["EPSG:99999", "nonsense", LOCAL, "EPSG:4978"])
    def test_unusable_crs_given(self, tmp_path, text):
        path = self.prj(tmp_path, LOCAL)
        assert "--vectors-crs" in refusal(path, assumed_crs=text)

    def test_datum_shift_of_the_prj_is_used(self, tmp_path):
        lonlat = HOUSES.to_crs(4326)
        shift = (
            CRS.from_epsg(4214)
            .to_wkt("WKT1_GDAL")
            .replace('AUTHORITY["EPSG","6214"]', 'TOWGS84[15.8,-154.4,-82.3,0,0,0,0],AUTHORITY["EPSG","6214"]')
        )
        lonlat.to_file(tmp_path / "b.shp")
        (tmp_path / "b.prj").write_text(shift)
        features = read_features(tmp_path / "b.shp", crs=UTM, bounds_m=None)
        expected = lonlat.set_crs(CRS.from_wkt(shift), allow_override=True).to_crs(UTM).geometry.to_numpy()
        got = features.table.geometry.to_numpy()
        assert shapely.hausdorff_distance(got, expected).max() < 0.01
        assert shapely.distance(got, HOUSES.geometry.to_numpy()).min() > 20
        assert features.warnings == ()

    def test_a_datum_without_a_known_shift_is_warned_of(self, tmp_path):
        path = written(HOUSES.set_crs("EPSG:2381", allow_override=True), tmp_path / "xian80.gpkg")
        features = read_features(path, crs=UTM, bounds_m=None)
        assert "Xian 1980" in features.warnings[0]

    @pytest.mark.parametrize("code", ["EPSG:4490", "EPSG:4547", "EPSG:3857", "EPSG:4979"])
    def test_datums_that_agree_are_not_warned_of(self, tmp_path, code):
        path = written(HOUSES.to_crs(code), tmp_path / "b.gpkg")
        features = read_features(path, crs=UTM, bounds_m=AREA)
        assert len(features.table) == 12
        assert features.warnings == ()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("04-vectors-that-miss/far.gpkg", "100 km apart"),
        ("04-vectors-that-miss/swapped.geojson", "axes are swapped"),
        ("04-vectors-that-miss/plain_geometry_metre.parquet", "no degrees"),
        ("04-vectors-that-miss/reference_far.gpkg", "50 km apart"),
        ("13-engineering-crs/local.shp", "local CRS 'Shenzhen independent'"),
    ],
)
def test_case(shared, name, reason):
    text = refusal(shared / "cases" / name)
    assert reason in text
    assert "truncated" not in text
