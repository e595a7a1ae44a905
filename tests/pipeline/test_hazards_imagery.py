"""Scenes as the world has them: each test is named by its hazard. What is refused is named, what is mended is said."""

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, Resampling

from pipeline.imagery import open_imagery, prepare_imagery
from pipeline.imagery.bands import collar_warnings, sampled
from pipeline.imagery.errors import BandCountError, MissingCrsError, UnusableCrsError
from pipeline.imagery.place import checked_crs, transform_warning
from pipeline.imagery.scene import inspect
from regions.raster.grid import Grid

CRS = "EPSG:32649"
LEFT, TOP, SIDE = 734720.0, 2556336.0, 96
GRID = Grid(CRS, 1.0, int(LEFT), int(-TOP), SIDE, SIDE)
HERE = Affine(1, 0, LEFT, 0, -1, TOP)
LOCAL = 'LOCAL_CS["site grid",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'


def picture(bands=3, dtype="uint8", seed=1):
    return np.random.default_rng(seed).integers(1, np.iinfo(dtype).max, (bands, SIDE, SIDE), dtype)


def write(path, pixels, *, colors=None, transform=HERE, crs=CRS, **profile):
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype, crs=crs,
        transform=transform, tiled=True, blockxsize=64, blockysize=64, **profile,
    ) as sink:  # fmt: skip
        if colors is not None:
            sink.colorinterp = colors
        sink.write(pixels)
    return path


def read(path, tmp_path, crs=None):
    found = prepare_imagery([path], grid=GRID, out=tmp_path / "on_grid.tif", crs=crs)
    with open_imagery(found, grid=GRID, crs=crs) as source:
        return source.read(GRID.window)


# ---- bands


def test_bands_declared_blue_green_red_are_taken_by_colour(tmp_path):
    pixels = picture()
    path = write(tmp_path / "bgr.tif", pixels[::-1], colors=(ColorInterp.blue, ColorInterp.green, ColorInterp.red))
    got, valid = read(path, tmp_path)
    assert valid.all()
    assert np.array_equal(got, pixels)
    assert "taken by colour" in inspect(path, bands=3).warnings[0]


def test_near_infrared_first_and_colours_behind_it(tmp_path):
    pixels = picture(4)
    colors = (ColorInterp.undefined, ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    got, _ = read(write(tmp_path / "nrgb.tif", pixels, colors=colors), tmp_path)
    assert np.array_equal(got, pixels[1:])


def test_bands_without_declared_colours_are_taken_in_order(tmp_path):
    pixels = picture(5)
    path = write(tmp_path / "plain.tif", pixels, colors=(ColorInterp.undefined,) * 5)
    assert inspect(path, bands=3).picture_bands == (1, 2, 3, 4, 5)
    assert np.array_equal(read(path, tmp_path)[0], pixels[:3])


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_near_infrared_called_alpha_does_not_mask_the_image(tmp_path, shift):
    pixels = picture(4)
    pixels[3] = np.random.default_rng(2).integers(0, 120, (SIDE, SIDE))  # dark infrared: mostly below half
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    here = Affine(1, 0, LEFT + shift, 0, -1, TOP)
    path = write(tmp_path / "rgbn.tif", pixels, colors=colors, transform=here)
    got, valid = read(path, tmp_path)
    assert valid[1:-1, 1:-1].all()
    if not shift:
        assert np.array_equal(got, pixels[:3])
    assert "neither transparent nor opaque" in inspect(path, bands=3).warnings[0]


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_a_real_alpha_band_masks_on_and_off_the_grid(tmp_path, shift):
    pixels = picture(4)
    pixels[3] = 255
    pixels[3, :, : SIDE // 2] = 0
    pixels[3, :, SIDE // 2] = 128  # a soft edge
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    here = Affine(1, 0, LEFT + shift, 0, -1, TOP)
    path = write(tmp_path / "rgba.tif", pixels, colors=colors, transform=here)
    _, valid = read(path, tmp_path)
    assert not valid[:, : SIDE // 2 - 1].any()
    assert valid[2:-2, SIDE // 2 + 2 : -2].all()
    assert inspect(path, bands=3).warnings == ()


def test_colour_table_is_refused_with_the_command_that_expands_it(tmp_path):
    path = tmp_path / "palette.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=SIDE, width=SIDE, dtype="uint8", crs=CRS,
        transform=Affine(1, 0, LEFT, 0, -1, TOP), photometric="palette",
    ) as sink:  # fmt: skip
        sink.write(picture(1))
        sink.write_colormap(1, {k: (k, 255 - k, 7, 255) for k in range(256)})
    with pytest.raises(BandCountError, match="-expand rgb"):
        inspect(path, bands=3)


def test_16_bit_stretch_ignores_overviews(tmp_path):
    pixels = np.random.default_rng(4).integers(0, 4000, (3, 2048, 2048)).astype(np.uint16)
    plain, with_overviews = (write(tmp_path / f"{name}.tif", pixels) for name in ("a", "b"))
    with rasterio.open(with_overviews, "r+") as dataset:
        dataset.build_overviews([2, 4, 8], Resampling.average)
    grid = Grid(CRS, 1.0, int(LEFT), int(-TOP), 2048, 2048)
    records = []
    for path in (plain, with_overviews):
        with open_imagery([path], grid=grid) as source:
            records.append(source.record()["scenes"][0]["stretch"])
    assert records[0] == records[1]
    low, high = np.percentile(pixels[0], [2, 98])
    assert records[0]["low"][0] == pytest.approx(low, abs=40)
    assert records[0]["high"][0] == pytest.approx(high, abs=40)


def test_samples_of_a_large_raster_are_its_own_pixels_from_edge_to_edge(tmp_path):
    rows, cols = np.mgrid[0:1500, 0:1100].astype(np.uint16)
    path = write(tmp_path / "places.tif", np.stack([rows, cols]))
    got = sampled(path, (1, 2))
    assert got.shape == (2, 1024, 1024)
    assert (got[0].min(), got[0].max(), got[1].min(), got[1].max()) == (0, 1499, 0, 1099)
    assert (np.diff(got[0, :128, 0].astype(int)) == 1).all()


def test_black_collar_without_declared_nodata_is_warned_of_with_its_share(tmp_path):
    pixels = picture()
    pixels[:, :, :24] = 0
    path = write(tmp_path / "collar.tif", pixels)
    (text,) = collar_warnings(path, (1, 2, 3))
    assert "25%" in text
    assert "-a_nodata 0" in text
    assert collar_warnings(write(tmp_path / "full.tif", picture()), (1, 2, 3)) == ()


def test_a_dark_pond_inside_is_no_collar(tmp_path):
    pixels = picture()
    pixels[:, 30:60, 30:60] = 0
    assert collar_warnings(write(tmp_path / "pond.tif", pixels), (1, 2, 3)) == ()


# ---- place


def gcps_of(transform, bend=0.0):
    corners = [(0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE), (SIDE / 2, SIDE / 2)]
    points = []
    for k, (col, row) in enumerate(corners):
        x, y = transform @ (col, row)
        points.append(GroundControlPoint(row=row, col=col, x=x + (bend if k == 4 else 0), y=y))
    return points


def write_with_gcps(path, pixels, points, crs=CRS):
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=SIDE, width=SIDE, dtype="uint8", tiled=True, blockxsize=64,
        blockysize=64,
    ) as sink:  # fmt: skip
        sink.gcps = (points, rasterio.crs.CRS.from_user_input(crs))
        sink.write(pixels)
    return path


@pytest.mark.parametrize("assumed", [None, CRS])
def test_ground_control_points_place_a_scene_that_has_nothing_else(tmp_path, assumed):
    pixels = picture()
    path = write_with_gcps(tmp_path / "gcp.tif", pixels, gcps_of(Affine(1, 0, LEFT, 0, -1, TOP)))
    got, valid = read(path, tmp_path, crs=assumed)
    assert valid.all()
    assert np.array_equal(got, pixels)
    assert "ground control points" in inspect(path, bands=3).warnings[0]


def test_rotated_ground_control_points_are_resampled_to_their_place(tmp_path):
    turned = Affine.translation(LEFT + 20, TOP - 20) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
    path = write_with_gcps(tmp_path / "gcp.tif", picture(), gcps_of(turned))
    _, valid = read(path, tmp_path)
    col, row = ~GRID.affine @ (turned @ (SIDE / 2, SIDE / 2))
    assert valid[int(row), int(col)]
    assert valid.mean() == pytest.approx(0.25, abs=0.02)  # half the side: a quarter of the ground


def test_bent_ground_control_points_are_refused_with_the_warp_that_mends_them(tmp_path):
    path = write_with_gcps(tmp_path / "gcp.tif", picture(), gcps_of(Affine(1, 0, LEFT, 0, -1, TOP), bend=30))
    with pytest.raises(MissingCrsError, match="gdalwarp -tps"):
        inspect(path, bands=3)


def test_local_crs_is_named_and_can_be_told(tmp_path):
    pixels = picture()
    path = write(tmp_path / "local.tif", pixels, crs=LOCAL)
    with pytest.raises(UnusableCrsError, match=r"site grid.*--imagery-crs"):
        inspect(path, bands=3)
    got, _ = read(path, tmp_path, crs=CRS)
    assert np.array_equal(got, pixels)


@pytest.mark.parametrize("code", ["EPSG:99999", "nonsense", LOCAL])
def test_crs_that_proj_does_not_know_is_one_error(code):
    with pytest.raises(UnusableCrsError, match="--imagery-crs"):
        checked_crs(code, "--imagery-crs")


def test_datum_shift_written_into_the_file_is_kept(tmp_path):
    shifted = "+proj=tmerc +lat_0=0 +lon_0=114 +k=1 +x_0=500000 +y_0=0 +ellps=krass +towgs84=15.8,-154.4,-82.3 +units=m"
    path = write(tmp_path / "b54.tif", picture(), crs=shifted, transform=Affine(1, 0, 430_000, 0, -1, 2_556_336))
    scene = inspect(path, bands=3)
    assert pyproj.CRS.from_user_input(scene.crs).is_bound
    assert any("TOWGS84" in text for text in scene.warnings)
    expected = pyproj.Transformer.from_crs(shifted, "EPSG:32649", always_xy=True).transform(430_000, 2_556_336)
    assert scene.bounds_in("EPSG:32649")[0] == pytest.approx(expected[0], abs=2)


def test_only_unknown_datum_shifts_are_warned_of():
    assert transform_warning("EPSG:4490", "EPSG:32649") is None  # CGCS2000 is WGS 84 to a metre
    assert transform_warning("EPSG:4326", "EPSG:32649") is None
    unknown = "+proj=longlat +ellps=krass +type=crs"
    assert "ballpark" in transform_warning(unknown, "EPSG:32649")


# ---- the stored cases


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "equal"),
    [
        ("14-bands/bgr_declared.tif", True),
        ("14-bands/rgbn_4th_band_is_alpha.tif", True),
        ("14-bands/rgbn_half_pixel_off.tif", False),
        ("01-gcp-only/scene.tif", True),
    ],
)
def test_stored_scenes_show_the_ground_of_the_base_scene(shared, tmp_path, file, equal):
    with open_imagery([shared / "cases/00-base/base.tif"]) as source:
        grid, base = source.grid, source.read(source.grid.window)[0]
    path = shared / "cases" / file
    with open_imagery(prepare_imagery([path], grid=grid, out=tmp_path / "o.tif"), grid=grid) as source:
        pixels, valid = source.read(grid.window)
    assert valid.mean() > 0.98
    if equal:
        assert np.array_equal(pixels, base)
    else:  # interpolated: alike, not equal
        inner = (slice(None), slice(4, -4), slice(4, -4))
        assert np.corrcoef(pixels[inner].ravel(), base[inner].ravel())[0, 1] > 0.9


@pytest.mark.shared
def test_stored_palette_and_local_crs_are_refused_by_name(shared):
    with pytest.raises(BandCountError, match="-expand rgb"):
        inspect(shared / "cases/14-bands/palette.tif", bands=3)
    with pytest.raises(UnusableCrsError, match="Independent coordinate system"):
        inspect(shared / "cases/13-engineering-crs/local.tif", bands=3)
