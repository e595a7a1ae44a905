"""Hazard: reference labels are read, lose their meaning, and nobody is told: masks, layers, and labels elsewhere."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.control import GroundControlPoint

from pipeline.learning.samples import cut_samples
from pipeline.reference.areas import AreaError, read_area
from pipeline.reference.reader import Frame, ReferenceHints, read_reference
from regions.raster.burn import burn
from regions.raster.grid import Grid, Tiling

CRS = "EPSG:32649"
SIDE = 64
GRID = Grid.covering((734720, 2556000, 734720 + SIDE, 2556000 + SIDE), crs=CRS, resolution_m=1.0)
VILLAGE = (slice(16, 48), slice(8, 56))
FRAME = Frame("scene.tif", CRS, (1.0, 0.0, 734720.0, 0.0, -1.0, 2556000.0 + SIDE), SIDE, SIDE)


def mask_file(path, values, *, placed=True, **profile):
    profile = {"driver": "PNG" if path.suffix == ".png" else "GTiff", "dtype": values.dtype, "nodata": None, **profile}
    if placed:
        profile = {"crs": CRS, "transform": GRID.affine, **profile}
    bands = values[None] if values.ndim == 2 else values
    with rasterio.open(path, "w", height=SIDE, width=SIDE, count=len(bands), **profile) as sink:
        sink.write(bands)
    return path


def binary(background=0, village=1, dtype=np.uint8):
    values = np.full((SIDE, SIDE), background, dtype)
    values[VILLAGE] = village
    return values


def read(*paths, bounds=GRID.bounds_m, **hints):
    return read_reference(list(paths), crs=CRS, bounds_m=bounds, hints=ReferenceHints(**hints))


def truth(reference):
    return burn(reference.polygons.geometry, GRID).astype(bool)


def silent(reference):
    if reference.unlabelled is None:
        return np.zeros((SIDE, SIDE), bool)
    return burn(reference.unlabelled.geometry, GRID).astype(bool)


def refusal(*paths, **hints):
    with pytest.raises(AreaError) as caught:
        read(*paths, **hints)
    text = str(caught.value)
    assert "\n" not in text
    assert paths[0].name in text
    return text


EXPECTED = binary().astype(bool)


@pytest.mark.parametrize(
    ("values", "nodata"),
    [
        (binary(), None),
        (binary(), 0),  # 0 as nodata is the background
        (binary(dtype=np.float32), None),
        (binary(dtype=np.uint16), 65535),
        (np.stack([binary(0, 255)] * 3), None),  # a picture of a mask
        (binary(0, 255), None),
        (binary(0, 255), 0),
    ],
)
def test_binary_masks_of_all_kinds_mean_the_same(tmp_path, values, nodata):
    reference = read(mask_file(tmp_path / "m.tif", values, nodata=nodata))
    np.testing.assert_array_equal(truth(reference), EXPECTED)
    assert reference.unlabelled is None
    has_255 = bool((values == 255).any())
    assert any("255 is read as village" in w for w in reference.warnings) == has_255


@pytest.mark.parametrize("nodata", [255, None, 7])
def test_ground_without_labels_is_neither_village_nor_background(tmp_path, nodata):
    values = binary()
    values[:20] = 255 if nodata is None else nodata
    reference = read(mask_file(tmp_path / "m.tif", values, nodata=nodata))
    expected = EXPECTED.copy()
    expected[:20] = False
    np.testing.assert_array_equal(truth(reference), expected)
    np.testing.assert_array_equal(silent(reference), np.arange(SIDE)[:, None].repeat(SIDE, 1) < 20)
    assert any("31% of the map's extent has no labels" in w for w in reference.warnings)


def test_not_a_number_and_the_files_own_mask_are_ground_without_labels(tmp_path):
    values = binary(dtype=np.float32)
    values[:20] = np.nan
    reference = read(mask_file(tmp_path / "nan.tif", values))
    path = tmp_path / "masked.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=1, height=SIDE, width=SIDE, crs=CRS,
                      transform=GRID.affine) as sink,
    ):  # fmt: skip
        sink.write(binary(), 1)
        sink.write_mask(np.arange(SIDE)[:, None].repeat(SIDE, 1) >= 20)
    masked = read(path)
    for one in (reference, masked):
        assert silent(one)[:20].all()
        assert not silent(one)[20:].any()
        assert truth(one)[20:].sum() == EXPECTED[20:].sum()


@pytest.mark.parametrize("values", [binary(1, 2), binary(0, 3), binary(0.0, 0.4, np.float32), binary(-1, 1, np.int16)])
def test_other_values_are_refused_and_listed(tmp_path, values):
    text = refusal(mask_file(tmp_path / "m.tif", values))
    assert "--positive" in text
    assert f"{values.max():g}" in text


def test_named_values_are_villages_and_a_value_that_is_not_there_is_refused(tmp_path):
    values = binary(1, 3)
    values[50:, :30] = 2
    path = mask_file(tmp_path / "land.tif", values)
    np.testing.assert_array_equal(truth(read(path, positive=(3,))), EXPECTED)
    np.testing.assert_array_equal(truth(read(path, positive=(3, 2))), EXPECTED | (values == 2))
    assert "there are 1, 2, 3" in refusal(path, positive=(7,))


def test_zero_beside_another_background_is_ground_without_labels(tmp_path):
    values = binary(1, 2)
    values[:20] = 0
    reference = read(mask_file(tmp_path / "m.tif", values, nodata=0), positive=(2,))
    assert silent(reference)[:20].all()
    assert not silent(reference)[20:].any()


def test_the_value_of_villages_declared_as_nodata_is_refused(tmp_path):
    assert "unsetnodata" in refusal(mask_file(tmp_path / "m.tif", binary(), nodata=1), mask_file(
        tmp_path / "n.tif", binary()))  # fmt: skip


def test_a_tile_inside_one_village_is_judged_with_the_other_tiles(tmp_path):
    all_village = np.full((SIDE, SIDE), 255, np.uint8)
    alone = mask_file(tmp_path / "b.tif", all_village)
    assert "--positive 255" in refusal(alone)
    assert truth(read(mask_file(tmp_path / "a.tif", binary(0, 255)), alone)).all()
    assert any("every labelled pixel is a village" in w for w in read(alone, positive=(255,)).warnings)


def test_bands_that_differ_and_images_are_no_masks(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (3, SIDE, SIDE)).astype(np.uint8)
    assert "bands that differ" in refusal(mask_file(tmp_path / "m.tif", image))


@pytest.mark.parametrize("name", ["m.png", "m.tif"])
def test_no_georeference_only_on_exactly_the_grid_of_the_imagery(tmp_path, name):
    path = mask_file(tmp_path / name, binary(), placed=False)
    assert "neither georeference nor world file" in refusal(path)
    other = Frame("other.tif", CRS, FRAME.transform, SIDE + 1, SIDE)
    assert "64 x 64" in refusal(path, frames=(other,))
    assert "not exactly" in refusal(path, frames=(FRAME, Frame("twin.tif", CRS, (1, 0, 0, 0, -1, 0), SIDE, SIDE)))
    reference = read(path, frames=(FRAME, other))
    np.testing.assert_array_equal(truth(reference), EXPECTED)
    assert any("no georeference" in w and "scene.tif" in w for w in reference.warnings)


def test_ground_control_points_place_a_mask(tmp_path):
    t = Affine(*FRAME.transform)
    points = [GroundControlPoint(r, c, *(t @ (c, r))) for r in (0, SIDE) for c in (0, SIDE)]
    path = tmp_path / "gcp.tif"
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=1, height=SIDE, width=SIDE) as sink:
        sink.write(binary(), 1)
        sink.gcps = (points, rasterio.crs.CRS.from_string(CRS))
    np.testing.assert_array_equal(truth(read(path)), EXPECTED)


def test_a_mask_of_a_part_of_the_map_says_nothing_of_the_rest(tmp_path):
    wide = (GRID.bounds_m[0], GRID.bounds_m[1], GRID.bounds_m[2] + SIDE, GRID.bounds_m[3])
    path = mask_file(tmp_path / "m.tif", binary())
    reference = read(path, bounds=wide)
    assert reference.unlabelled.area.sum() == pytest.approx(SIDE * SIDE)
    assert any("50%" in w for w in reference.warnings)
    polygons = gpd.GeoDataFrame(geometry=[shapely.box(*GRID.bounds_m).buffer(-5)], crs=CRS)
    polygons.to_file(tmp_path / "p.gpkg")
    assert read(path, tmp_path / "p.gpkg", bounds=wide).unlabelled is None


def test_a_mask_in_another_crs_keeps_its_place(tmp_path):
    with (
        rasterio.open(mask_file(tmp_path / "m.tif", binary())) as source,
        rasterio.vrt.WarpedVRT(source, crs="EPSG:3857", dst_nodata=255) as warped,
    ):
        data, transform = warped.read(1), warped.transform
    path = tmp_path / "mercator.tif"
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=1, height=data.shape[0], width=data.shape[1],
                       crs="EPSG:3857", transform=transform, nodata=255) as sink:  # fmt: skip
        sink.write(data, 1)
    differing = truth(read(path)) != EXPECTED
    assert differing.mean() < 0.03  # the warp itself moves edges by half a pixel


@pytest.mark.parametrize("what", ["polygons", "mask"])
def test_a_reference_elsewhere_is_refused_with_the_distance(tmp_path, what):
    path = tmp_path / ("p.gpkg" if what == "polygons" else "m.tif")
    if what == "polygons":
        gpd.GeoDataFrame(geometry=[shapely.box(784720, 2556000, 784820, 2556100)], crs=CRS).to_file(path)
    else:
        mask_file(path, binary(), transform=GRID.affine @ Affine.translation(50_000, 0))
    text = refusal(path)
    assert "does not meet the map" in text
    assert "50 km apart" in text


def test_one_of_several_files_elsewhere_is_a_warning(tmp_path):
    here = mask_file(tmp_path / "here.tif", binary())
    there = mask_file(tmp_path / "there.tif", binary(), transform=GRID.affine @ Affine.translation(50_000, 0))
    reference = read(here, there)
    np.testing.assert_array_equal(truth(reference), EXPECTED)
    assert any("there.tif: does not meet the map" in w for w in reference.warnings)


def test_swapped_axes_are_said(tmp_path):
    table = gpd.GeoDataFrame(geometry=[shapely.box(*GRID.bounds_m)], crs=CRS).to_crs(4326)
    swapped = table.set_geometry(shapely.transform(table.geometry.to_numpy(), lambda xy: xy[:, ::-1]), crs=4326)
    swapped.to_file(tmp_path / "s.geojson")
    assert "axes are swapped" in refusal(tmp_path / "s.geojson")


def test_several_layers_and_none_named_is_refused_with_their_names(tmp_path):
    path = tmp_path / "l.gpkg"
    village = shapely.box(*GRID.bounds_m).buffer(-10)
    gpd.GeoDataFrame(geometry=[village], crs=CRS).to_file(path, layer="villages")
    assert read(path).polygons.area.sum() == pytest.approx(village.area)
    gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=CRS).to_file(path, layer="points")
    assert read(path).polygons.area.sum() == pytest.approx(village.area)  # points cannot be meant
    gpd.GeoDataFrame(geometry=[shapely.box(*GRID.bounds_m)], crs=CRS).to_file(path, layer="districts")
    text = refusal(path)
    assert "villages, districts" in text
    assert "--layer" in text
    assert read(path, layer="villages").polygons.area.sum() == pytest.approx(village.area)
    assert "its layers are" in refusal(path, layer="nope")
    with pytest.raises(AreaError, match="layers with areas"):
        read_area(path, CRS)


def test_lines_and_points_are_left_out_by_name_and_refused_alone(tmp_path):
    outline = shapely.box(*GRID.bounds_m).buffer(-10)
    gpd.GeoDataFrame(geometry=[outline, shapely.LineString(outline.exterior.coords)], crs=CRS).to_file(
        tmp_path / "mixed.geojson"
    )
    assert any("1 of 2 features are no areas" in w for w in read(tmp_path / "mixed.geojson").warnings)
    gpd.GeoDataFrame(geometry=[shapely.LineString(outline.exterior.coords)], crs=CRS).to_file(tmp_path / "lines.gpkg")
    assert "holds no polygon" in refusal(tmp_path / "lines.gpkg")


def test_an_empty_reference_and_one_without_villages_are_said(tmp_path):
    gpd.GeoDataFrame(geometry=[], crs=CRS).to_file(tmp_path / "none.gpkg")
    no_village = mask_file(tmp_path / "zero.tif", np.zeros((SIDE, SIDE), np.uint8))
    for path in (tmp_path / "none.gpkg", no_village):
        assert any("no village" in w for w in read(path).warnings)


def test_local_and_missing_crs_are_refused(tmp_path):
    local = 'LOCAL_CS["site",LOCAL_DATUM["x",0],UNIT["metre",1],AXIS["E",EAST],AXIS["N",NORTH]]'
    assert "local" in refusal(mask_file(tmp_path / "local.tif", binary(), crs=rasterio.crs.CRS.from_wkt(local)))
    assert "--imagery-crs" in refusal(mask_file(tmp_path / "no.tif", binary(), crs=None))
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]).to_file(tmp_path / "no.gpkg")
    assert "has no CRS" in refusal(tmp_path / "no.gpkg")
    with_crs = read(tmp_path / "no.tif", raster_crs=CRS)
    np.testing.assert_array_equal(truth(with_crs), EXPECTED)


class _Picture:
    def read(self, window):
        valid = np.zeros((window.height_px, window.width_px), bool)
        valid[window.intersection(GRID.window).slices_in(window)] = True
        return np.zeros((3, *valid.shape), np.uint8), valid


def test_training_ignores_ground_without_labels(tmp_path):
    values = binary()
    values[:20] = 255
    reference = read(mask_file(tmp_path / "m.tif", values, nodata=255))
    samples = cut_samples(
        _Picture(),
        reference.polygons,
        grid=GRID,
        tiling=Tiling(8, 8),
        unlabelled=reference.unlabelled,
        min_labelled=0.01,
    )
    counts = {value: int((samples.labels == value).sum()) for value in (0, 1)}
    assert counts == {1: int(EXPECTED[20:].sum()), 0: int((~EXPECTED[20:]).sum())}


def bounds_of(path):
    with rasterio.open(path) as scene:
        return tuple(scene.bounds), Frame(path.name, CRS, tuple(scene.transform)[:6], scene.height, scene.width)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "hints", "villages_px", "silent_px"),
    [
        ("ok01.tif", {}, 25_200, 0),
        ("background_nodata0.tif", {}, 25_200, 0),
        ("gcp_only.tif", {}, 25_200, 0),
        ("no_worldfile.png", {}, 25_200, 0),
        ("unlabelled255_nodata.tif", {}, 21_600, 20_480),
        ("unlabelled255_undeclared.tif", {}, 21_600, 20_480),
        ("classes12.tif", {"positive": (2,)}, 25_200, 0),
        ("landcover.tif", {"positive": (3,)}, 25_200, 0),
        ("classes12.tif", {}, None, None),
        ("landcover.tif", {}, None, None),
    ],
)
def test_case_reference_mask(shared, name, hints, villages_px, silent_px):
    bounds, frame = bounds_of(shared / "cases/00-base/base.tif")
    path = shared / "cases/02-reference-mask" / name
    if villages_px is None:
        assert "--positive" in refusal(path, bounds=bounds, frames=(frame,))
        return
    reference = read(path, bounds=bounds, frames=(frame,), raster_crs=CRS, **hints)
    assert reference.polygons.area.sum() == pytest.approx(villages_px)
    assert (0 if reference.unlabelled is None else reference.unlabelled.area.sum()) == pytest.approx(silent_px)


@pytest.mark.shared
def test_case_vectors_that_miss(shared):
    bounds, _ = bounds_of(shared / "cases/00-base/base640.tif")
    assert "50 km apart" in refusal(shared / "cases/04-vectors-that-miss/reference_far.gpkg", bounds=bounds)
