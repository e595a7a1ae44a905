"""The imagery reader against whole-array references, and every bad input it names."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.imagery import (
    ArrayImagery,
    BandCountError,
    ImageryError,
    MissingCrsError,
    NoOverlapError,
    OffGridError,
    PixelTypeError,
    UnreadableImageryError,
    UntiledRasterError,
    grid_of_imagery,
    ingest,
    open_imagery,
    prepare_imagery,
)
from pipeline.imagery.stamp import file_stamp, is_remote
from regions.raster.grid import Grid, Window
from tests.support.rasters import coordinate_pixels, grid_at, raster_writer, write_coordinates, write_raster

CRS = "EPSG:32650"
LEFT, TOP = 500_000.0, 4_400_000.0


def write_scene(
    path: Path,
    pixels: np.ndarray,
    *,
    col: int = 0,
    row: int = 0,
    mask: np.ndarray | None = None,
    crs: str | None = CRS,
    transform: Affine | None = None,
    **profile: object,
) -> Path:
    """A tiled GeoTIFF whose upper left pixel is (row, col) of the grid that starts at (LEFT, TOP), 1 m."""
    grid = grid_at(LEFT + col, TOP - row, pixels.shape[1:], crs=CRS)
    return write_raster(path, grid, pixels, mask=mask, **{"crs": crs, "transform": transform or grid.affine} | profile)


def noise(shape: tuple[int, ...], seed: int = 0, low: int = 1, high: int = 256, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory):
    """Three scenes (nodata, internal mask, alpha), overlapping, and the mosaic made on whole arrays."""
    folder = tmp_path_factory.mktemp("scenes")
    a, b, c = noise((3, 150, 200), 1), noise((3, 170, 130), 2), noise((4, 90, 300), 3)
    a[:, :40, :60] = 0
    b_mask = noise((170, 130), 4, 0, 2) > 0
    c[3] = np.where(noise((90, 300), 5, 0, 3) > 0, 255, 0)
    paths = [
        write_scene(folder / "nodata.tif", a, nodata=0),
        write_scene(folder / "mask.tif", b, row=20, col=120, mask=b_mask),
        write_scene(folder / "alpha.tif", c, row=120, col=10, photometric="RGB", alpha="YES"),
    ]
    whole, valid = np.zeros((3, 210, 310), np.uint8), np.zeros((210, 310), bool)
    layers = [(a, (a != 0).any(axis=0), 0, 0), (b, b_mask, 20, 120), (c[:3], c[3] > 0, 120, 10)]
    for pixels, there, row, col in layers:
        part = (slice(row, row + there.shape[0]), slice(col, col + there.shape[1]))
        take = there & ~valid[part]
        whole[:, *part] = np.where(take, pixels, whole[:, *part])
        valid[part] |= take
    return paths, whole, valid


@settings(max_examples=60, deadline=None)
@given(st.integers(-80, 260), st.integers(-80, 360), st.integers(0, 150), st.integers(0, 150))
def test_any_window_equals_the_whole_array_mosaic(mosaic, row, col, height, width):
    paths, whole, valid = mosaic
    window = Window(row, col, height, width)
    with open_imagery(paths) as source:
        assert source.grid == Grid(CRS, 1.0, int(LEFT), int(-TOP), 210, 310)
        pixels, there = source.read(window)
        expected = ArrayImagery(whole, source.grid, valid=valid).read(window)
        assert source.may_have_data(window) or not there.any()
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(there, expected[1])
    np.testing.assert_array_equal(pixels, expected[0])


def test_order_of_the_scenes_decides_what_lies_on_top(tmp_path):
    paths = [write_scene(tmp_path / f"{v}.tif", np.full((3, 70, 70), v, np.uint8)) for v in (10, 20)]
    for order, top in ((paths, 10), (paths[::-1], 20)):
        with open_imagery(order) as source:
            assert (source.read(source.grid.window)[0] == top).all()


def test_threads_read_through_handles_of_their_own(mosaic):
    paths, whole, _ = mosaic
    wrong: list[object] = []
    with open_imagery(paths) as source:

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(40):
                row, col = (int(v) for v in rng.integers(0, 150, 2))
                if not (source.read(Window(row, col, 50, 50))[0] == whole[:, row : row + 50, col : col + 50]).all():
                    wrong.append((row, col))

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not wrong


def test_digest_follows_content_and_stamp_follows_bytes(tmp_path):
    pixels = noise((3, 256, 256))
    first = write_scene(tmp_path / "a.tif", pixels)
    repacked = write_scene(tmp_path / "b.tif", pixels, compress="lzw")
    changed = pixels.copy()
    changed[0, 200, 200] ^= 1
    other = write_scene(tmp_path / "c.tif", changed)
    near, far = Window(0, 0, 100, 100), Window(150, 150, 100, 100)
    same_block = Window(192, 192, 5, 5)
    with open_imagery([first]) as a, open_imagery([repacked]) as b, open_imagery([other]) as c:
        assert a.digest(near) == b.digest(near) == c.digest(near)
        assert a.digest(far) == b.digest(far) != c.digest(far)
        assert a.stamp(near) == c.stamp(near) != b.stamp(near)
        assert a.stamp(far) != c.stamp(far)
        # a change in the block but outside the window: other bytes, same content
        assert a.digest(same_block) == c.digest(same_block)
        assert a.stamp(same_block) != c.stamp(same_block)


def test_16_bit_scenes_are_stretched_each_by_itself_and_recorded(tmp_path):
    dark = noise((3, 128, 128), 1, 100, 900, "uint16")
    bright = noise((3, 128, 128), 2, 5_000, 50_000, "uint16")
    paths = [write_scene(tmp_path / "dark.tif", dark), write_scene(tmp_path / "bright.tif", bright, col=128)]
    with open_imagery(paths) as source:
        pixels, valid = source.read(source.grid.window)
        record = source.record()
    assert valid.all()
    for part, raw, scene in ((pixels[:, :, :128], dark, 0), (pixels[:, :, 128:], bright, 1)):
        low, high = np.percentile(raw, [2, 98], axis=(1, 2))
        expected = np.rint(np.clip((raw - low[:, None, None]) / (high - low)[:, None, None], 0, 1) * 255)
        np.testing.assert_array_equal(part, expected)
        np.testing.assert_allclose(record["scenes"][scene]["stretch"]["low"], low)


def test_more_bands_and_chosen_bands(tmp_path):
    pixels = noise((5, 80, 80))
    path = write_scene(tmp_path / "five.tif", pixels, interleave="band")
    with open_imagery([path], bands=5) as source:
        np.testing.assert_array_equal(source.read(source.grid.window)[0], pixels)
    with open_imagery([path], band_indexes=(4, 2, 1)) as source:
        np.testing.assert_array_equal(source.read(source.grid.window)[0], pixels[[3, 1, 0]])


def test_map_tiles_with_world_files(tmp_path):
    """PNG tiles of a web map: no CRS in the file, the place in a world file beside it."""
    size, r = 128, 40075016.68557849 / 256 / 2**17
    whole = noise((3, 2 * size, 2 * size))
    paths = []
    for i in range(2):
        for j in range(2):
            path = tmp_path / f"{49554 + i}_{107968 + j}.png"
            part = whole[:, i * size : (i + 1) * size, j * size : (j + 1) * size]
            with rasterio.open(path, "w", driver="PNG", dtype="uint8", count=3, height=size, width=size) as sink:
                sink.write(part)
            x0, y0 = (10_863_400 + j * size) * r, (4_091_500 - i * size) * r
            numbers = (r, 0, 0, -r, x0 + r / 2, y0 - r / 2)
            path.with_suffix(".pgw").write_text("\n".join(f"{v!r}" for v in numbers))
            paths.append(path)
    with pytest.raises(MissingCrsError, match="has no CRS"):
        open_imagery(paths)
    with open_imagery(paths, crs="EPSG:3857") as source:
        assert (source.grid.height_px, source.grid.width_px) == (256, 256)
        pixels, valid = source.read(source.grid.window)
        before = source.stamp(Window(0, 0, 10, 10))
    assert valid.all()
    np.testing.assert_array_equal(pixels, whole)
    paths[0].with_suffix(".pgw").write_text("\n".join(f"{v!r}" for v in (r, 0, 0, -r, x0 + r / 2, y0 - r / 2)))
    with open_imagery(paths, crs="EPSG:3857", grid=source.grid) as moved:
        assert moved.stamp(Window(0, 0, 10, 10)) != before


def test_raster_without_crs(tmp_path):
    path = write_scene(tmp_path / "no_crs.tif", noise((3, 64, 64)), crs=None)
    with pytest.raises(MissingCrsError, match=r"no_crs.tif: the raster has no CRS"):
        open_imagery([path])


def test_image_without_georeference(tmp_path):
    path = tmp_path / "photo.png"
    with rasterio.open(path, "w", driver="PNG", dtype="uint8", count=3, height=8, width=8) as sink:
        sink.write(noise((3, 8, 8)))
    with pytest.raises(MissingCrsError, match="neither georeference nor world file"):
        open_imagery([path], crs="EPSG:3857")


def test_no_overlap_with_the_area_of_interest(tmp_path):
    path = write_scene(tmp_path / "here.tif", noise((3, 64, 64)))
    elsewhere = Grid(CRS, 1.0, int(LEFT) + 1000, int(-TOP), 50, 50)
    with pytest.raises(NoOverlapError, match=r"imagery covers \(500000, 4399936\).*area asked for is \(501000"):
        open_imagery([path], grid=elsewhere)
    with pytest.raises(NoOverlapError):
        ingest([path], elsewhere, tmp_path / "out.tif")


def test_strips_are_refused_and_mended_by_ingest(tmp_path):
    pixels = noise((3, 300, 2000))
    path = write_scene(tmp_path / "strips.tif", pixels, tiled=False, blockxsize=None, blockysize=1)
    with pytest.raises(UntiledRasterError, match=r"strips over 2000 columns.*ingest"):
        open_imagery([path])
    grid = grid_of_imagery([path])
    out = tmp_path / "retiled.tif"
    assert prepare_imagery([path], grid=grid, out=out) == [out]
    with open_imagery([out], grid=grid) as source:
        np.testing.assert_array_equal(source.read(grid.window)[0], pixels)
    assert prepare_imagery([out], grid=grid, out=tmp_path / "never.tif") == [out]


def test_wrong_band_count_and_dtype(tmp_path):
    one = write_scene(tmp_path / "one_band.tif", noise((1, 64, 64)))
    with pytest.raises(BandCountError, match=r"one_band.tif: has 1 bands, 3 are needed"):
        open_imagery([one])
    real = write_scene(tmp_path / "float.tif", noise((3, 64, 64)).astype("float32"))
    with pytest.raises(PixelTypeError, match=r"float.tif: pixels are float32"):
        open_imagery([real])


def test_truncated_and_missing_files(tmp_path):
    path = write_scene(tmp_path / "whole.tif", noise((3, 512, 512)))
    cut = tmp_path / "cut.tif"
    cut.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(UnreadableImageryError, match=r"cut.tif: truncated: its index points to byte \d+, the file has"):
        open_imagery([cut])
    stub = tmp_path / "stub.tif"
    stub.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UnreadableImageryError, match="not a raster that can be read"):
        open_imagery([stub])
    with pytest.raises(UnreadableImageryError, match="no such file"):
        open_imagery([tmp_path / "absent.tif"])
    with pytest.raises(ImageryError, match="no imagery given"):
        open_imagery([])


def test_damaged_block_is_named(tmp_path):
    path = write_scene(tmp_path / "damaged.tif", noise((3, 256, 256)))
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + 4000] = b"\x00" * 4000
    path.write_bytes(bytes(data))
    with open_imagery([path]) as source, pytest.raises(UnreadableImageryError, match=r"damaged.tif: rows 0..256"):
        source.read(source.grid.window)


def test_off_grid_scenes_are_refused_with_the_reason(tmp_path):
    pixels = noise((3, 64, 64))
    grid = Grid(CRS, 1.0, int(LEFT), int(-TOP), 64, 64)
    cases = {
        "shifted by": {"transform": Affine(1, 0, LEFT + 0.4, 0, -1, TOP)},
        "its pixels are 1.1": {"transform": Affine(1.1, 0, LEFT, 0, -1.1, TOP)},
        "rotated": {"transform": Affine.translation(LEFT, TOP) @ Affine.rotation(10) @ Affine.scale(1, -1)},
        "its CRS is EPSG:32649": {"crs": "EPSG:32649", "transform": Affine(1, 0, 1_013_000, 0, -1, TOP)},
    }
    for reason, how in cases.items():
        path = write_scene(tmp_path / "off.tif", pixels, **how)
        with pytest.raises(OffGridError, match=reason):
            open_imagery([path], grid=grid)


def ground_colour(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth picture of the ground, so that a resampled pixel can be checked against its own place."""
    return np.stack([120 + 80 * np.sin(x / 40), 120 + 80 * np.cos(y / 55), 120 + 60 * np.sin((x + y) / 70)])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_rotated_imagery_is_resampled_to_its_true_place(tmp_path, dtype):
    """Rotated by 33 degrees, so that nothing is symmetric."""
    n = 400
    affine = Affine.translation(LEFT + 200, TOP - 20) @ Affine.rotation(-33) @ Affine.scale(0.9, -0.9)
    cols, rows = np.meshgrid(np.arange(n) + 0.5, np.arange(n) + 0.5)
    x = affine.a * cols + affine.b * rows + affine.c
    y = affine.d * cols + affine.e * rows + affine.f
    factor = 1 if dtype == "uint8" else 100
    path = write_scene(tmp_path / "rotated.tif", np.rint(ground_colour(x, y) * factor).astype(dtype), transform=affine)
    grid = Grid(CRS, 1.0, int(LEFT), int(-TOP), 420, 460)
    calls: list[tuple[int, int]] = []
    out = ingest([path], grid, tmp_path / "on_grid.tif", progress=lambda n, m: calls.append((n, m)))
    assert calls == [(1, 1)]
    with open_imagery([out], grid=grid) as source:
        pixels, valid = source.read(grid.window)
    gx, gy = np.meshgrid(LEFT + np.arange(460) + 0.5, TOP - np.arange(420) - 0.5)
    inverse = ~affine
    c = inverse.a * gx + inverse.b * gy + inverse.c
    r = inverse.d * gx + inverse.e * gy + inverse.f
    inside = (c > 1) & (c < n - 1) & (r > 1) & (r < n - 1)
    outside = (c < -1) | (c > n + 1) | (r < -1) | (r > n + 1)
    assert valid[inside].all()
    assert not valid[outside].any()
    expected = ground_colour(gx, gy)
    if dtype == "uint16":
        low, high = np.percentile(np.rint(ground_colour(x, y) * factor), [2, 98], axis=(1, 2))
        scaled = (expected * factor - low[:, None, None]) / (high - low)[:, None, None]
        expected = np.clip(scaled, 0, 1) * 255
    assert np.abs(pixels[:, inside].astype(float) - expected[:, inside]).max() <= 3


def test_ingest_from_another_crs_and_again(tmp_path):
    path = write_scene(
        tmp_path / "degrees.tif",
        noise((3, 200, 200)),
        crs="EPSG:4326",
        transform=Affine(1e-5, 0, 117.0, 0, -1e-5, 39.75),
    )
    with pytest.raises(OffGridError, match="not in metres"):
        grid_of_imagery([path])
    with pytest.raises(OffGridError, match=r"resolution_m= \(its pixels are about 0\.99"):
        grid_of_imagery([path], crs=CRS)
    grid = grid_of_imagery([path], crs=CRS, resolution_m=1.0)
    out = ingest([path], grid, tmp_path / "out.tif")
    first = out.read_bytes()
    stamp = out.stat().st_mtime_ns
    ingest([path], grid, out)
    assert out.stat().st_mtime_ns == stamp, "same inputs: nothing to do"
    out.unlink()
    assert ingest([path], grid, out).read_bytes() == first
    with open_imagery([out], grid=grid) as source:
        assert source.read(grid.window)[1].mean() > 0.9
    write_scene(path, noise((3, 200, 200), 9), crs="EPSG:4326", transform=Affine(1e-5, 0, 117.0, 0, -1e-5, 39.75))
    assert ingest([path], grid, out).read_bytes() != first


@settings(max_examples=40)
@given(st.integers(-90, 420), st.integers(-90, 420), st.integers(1, 330), st.integers(1, 330))
def test_a_pixel_read_through_any_window_is_that_of_its_place(coordinate_scenes, row, col, height, width):
    whole, paths = coordinate_scenes
    window = Window(row, col, height, width)
    with open_imagery(paths, grid=whole) as source:
        pixels, valid = source.read(window)
    here = whole.window.intersection(window)
    expected = np.zeros_like(pixels)
    if not here.is_empty:
        expected[:, *here.slices_in(window)] = coordinate_pixels(whole[here])
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(valid, (expected > 0).all(axis=0))


@pytest.fixture(scope="module")
def coordinate_scenes(tmp_path_factory):
    """A grid, and four overlapping scenes of it whose pixels are their coordinates."""
    folder = tmp_path_factory.mktemp("coordinates")
    whole = grid_at(LEFT + 33, TOP - 71, (400, 380), crs=CRS)
    parts = [Window(0, 0, 230, 200), Window(0, 170, 210, 210), Window(200, 0, 200, 191), Window(190, 150, 210, 230)]
    return whole, [write_coordinates(folder / f"{k}.tif", whole[part]) for k, part in enumerate(parts)]


def test_sparse_blocks_are_known_without_decoding(tmp_path):
    path = tmp_path / "sparse.tif"
    grid = grid_at(LEFT, TOP, (1024, 1024), crs=CRS)
    with raster_writer(path, grid, bands=3, nodata=0, blockxsize=256, blockysize=256, sparse_ok=True) as sink:
        sink.write(noise((3, 256, 256)), window=rasterio.windows.Window(256, 256, 256, 256))
    with open_imagery([path]) as source:
        assert source.may_have_data(Window(200, 200, 100, 100))
        assert not source.may_have_data(Window(600, 0, 300, 300))
        assert not source.read(Window(600, 0, 300, 300))[1].any()


def test_stamp_of_an_address_is_what_its_server_states():
    """ETag, length and date, asked for without the body."""
    stated = {"ETag": '"one"', "Content-Length": "5", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}

    class Server(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == "/scene.tif" else 404)
            for name, value in stated.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/scene.tif"
        assert is_remote(url) and is_remote(f"/vsicurl/{url}")
        first = file_stamp(url, [])
        assert file_stamp(f"/vsicurl/{url}", []) == first
        for name, value in (("ETag", '"two"'), ("Content-Length", "6"), ("Last-Modified", "x")):
            before, stated[name] = stated[name], value
            assert file_stamp(url, []) != first
            stated[name] = before
        assert file_stamp(url, []) == first
        with pytest.raises(UnreadableImageryError, match=r"absent.tif: the server does not answer for it"):
            file_stamp(url.replace("scene", "absent"), [])
        del stated["ETag"], stated["Last-Modified"]
        with pytest.raises(UnreadableImageryError, match="neither ETag nor Last-Modified"):
            file_stamp(url, [])
        server.shutdown()


@pytest.mark.shared
def test_real_map_tiles(shared):
    paths = sorted((shared / "data/beijing-uv/val/image").glob("*.png"))[:2]
    with open_imagery(paths, crs="EPSG:3857") as source:
        pixels, valid = source.read(source.grid.window)
        assert source.grid.resolution_m == pytest.approx(1.194328566955879)
    assert valid.any()
    assert 20 < pixels[:, valid].mean() < 235


@pytest.mark.shared
def test_real_mosaic_with_an_internal_mask(shared):
    path = shared / "data/beijing-uv/train/mosaic_rgb_jpeg95.tif"
    with open_imagery([path]) as source, rasterio.open(path) as dataset:
        assert (source.grid.height_px, source.grid.width_px) == dataset.shape
        window = Window(500, 300, 700, 900)
        place = rasterio.windows.Window(300, 500, 900, 700)
        pixels, valid = source.read(window)
        np.testing.assert_array_equal(valid, dataset.dataset_mask(window=place) > 0)
        np.testing.assert_array_equal(pixels, dataset.read(window=place) * valid)
        assert source.stamp(window) != source.stamp(window.shifted(0, 700))
