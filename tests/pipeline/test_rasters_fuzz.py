"""Any raster, mask, world file or `sources.yaml`: a result, a typed error that names the file, or a named warning.

Small files are changed in their bytes, their headers and their meaning. 100 inputs of each test in the ordinary run,
2,000 with ``HYPOTHESIS_PROFILE=long``.
"""

import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from hypothesis import example, given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from flows.commands import options as opt
from pipeline.city.check import check_city
from pipeline.city.sources import SourceNotesError, find_sources
from pipeline.errors import PipelineError
from pipeline.reference.masks import Frame
from pipeline.reference.reader import ReferenceHints, read_reference
from regions.raster.burn import burn
from regions.raster.grid import Grid
from regions.settings import GridConfig

CRS = "EPSG:32649"
SIDE = 24
HERE = Affine(1, 0, 734720, 0, -1, 2556336)
GRID = Grid(CRS, 1.0, 734720, -2556336, SIDE, SIDE)
PIXELS = np.random.default_rng(5).integers(1, 255, (3, SIDE, SIDE)).astype(np.uint8)
MASK = np.zeros((SIDE, SIDE), np.uint8)
MASK[6:18, 4:20] = 1


def write(path, pixels, *, colors=None, **profile):
    profile = {"driver": "GTiff", "crs": CRS, "transform": HERE, **profile}
    with rasterio.open(path, "w", count=len(pixels), height=SIDE, width=SIDE, dtype=pixels.dtype, **profile) as sink:
        if colors is not None:
            sink.colorinterp = colors
        sink.write(pixels)
    return path


@cache
def originals():
    """A folder with a scene, a mask, a picture with its world file, and notes."""
    folder = Path(tempfile.mkdtemp(prefix="uvmap-fuzz-"))
    write(folder / "s.tif", PIXELS)
    write(folder / "m.tif", MASK[None])
    write(folder / "p.png", PIXELS, driver="PNG")
    (folder / "p.png.aux.xml").unlink(missing_ok=True)
    (folder / "p.pgw").write_text("1\n0\n0\n-1\n734720.5\n2556335.5\n", encoding="utf-8")
    return folder


def read_scene(folder, path, crs=None):
    """Check and read a scene; the pixels on the grid, and the warnings; None where it was refused."""
    sources = opt.sources_from(None, data_root=folder, imagery=[path], vectors=None, imagery_crs=crs)
    try:
        ground = opt.ground_from(sources, work=folder / "work", grid=GridConfig(resolution_m=1.0))
        check = check_city(ground)
        if check.extent.grid.height_px * check.extent.grid.width_px > 1_000_000:
            return None  # a changed transform makes it huge: it was placed, and would be read in blocks
        with ground.open() as city:
            pixels, valid = city.imagery.read(check.extent.grid.window)
    except PipelineError as error:
        assert_is_one_line(error, path)
        return None
    return check, pixels, valid


def assert_is_one_line(error, path):
    text = " ".join(str(error).split())
    assert path.stem in text
    assert len(text) < 1500


def changed_bytes(path, changes):
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    path.write_bytes(bytes(data))


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6)


@given(name=st.sampled_from(["s.tif", "p.png"]), changes=CHANGES, cut=st.none() | st.floats(0, 1))
def test_scenes_with_changed_bytes_and_cut_ones(name, changes, cut):
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path = Path(shutil.copy(originals() / name, folder))
        shutil.copy(originals() / "p.pgw", folder)
        changed_bytes(path, changes)
        if cut is not None:
            path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
        read_scene(folder, path, crs=CRS)


@given(
    lines=st.lists(
        st.sampled_from(["1", "0", "-1", "0.5", "734720.5", "2556335.5", "nan", "inf", "1e308", "", "x", "1,5", "-0.0"])
        | st.floats().map(str),
        min_size=0,
        max_size=8,
    ),
    crs=st.sampled_from([CRS, "EPSG:4326", "EPSG:99999", "", "x", "EPSG:3857", None]),
)
@example(lines=["1", "0", "0", "-1", "734720.5", "2556335.5"], crs=CRS)
def test_any_world_file_and_any_named_crs(lines, crs):
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path = Path(shutil.copy(originals() / "p.png", folder))
        (folder / "p.pgw").write_text("\n".join(lines), encoding="utf-8")
        read_scene(folder, path, crs=crs)


@given(
    colors=st.permutations([ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]),
    nodata=st.sampled_from([None, 0, 7]),
    shift=st.sampled_from([0.0, 0.4]),
    turned=st.booleans(),
    placed=st.booleans(),
    has_crs=st.booleans(),
    collar_px=st.integers(0, 6),
)
def test_no_meaning_is_lost_without_a_word(*, colors, nodata, shift, turned, placed, has_crs, collar_px):
    pixels = np.concatenate([PIXELS, PIXELS[:1] // 2])
    pixels[:, :, :collar_px] = 0
    own = pixels[:, ::-1] if turned else pixels
    step = Affine(1, 0, HERE.c, 0, 1, HERE.f - SIDE) if turned else HERE
    profile = {"nodata": nodata, "crs": CRS if has_crs else None}
    profile["transform"] = Affine.translation(shift, 0) @ step if placed else None
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path = write(folder / "s.tif", own, colors=colors, **profile)
        found = read_scene(folder, path)
    if not (placed and has_crs):
        assert found is None
        return
    check, got, valid = found
    order = [colors.index(c) for c in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)]
    assert any("taken by colour" in w for w in check.warnings) == (order != sorted(order))
    assert any("pixels are 0" in w for w in check.warnings) == (collar_px > 0 and nodata is None)
    if shift == 0.0:
        expected = ~(pixels[order] == nodata).all(axis=0)
        assert np.array_equal(valid, expected)
        assert np.array_equal(got[:, valid], pixels[order][:, valid])


@given(changes=CHANGES, positive=st.lists(st.integers(-1, 300), max_size=2))
def test_masks_with_changed_bytes(changes, positive):
    with tempfile.TemporaryDirectory() as made:
        path = Path(shutil.copy(originals() / "m.tif", made))
        changed_bytes(path, changes)
        read_mask(path, positive=tuple(positive))


@given(
    values=st.lists(st.sampled_from([0, 1, 2, 255]), min_size=2, max_size=4, unique=True),
    nodata=st.sampled_from([None, 0, 1, 255, 9]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]),
    positive=st.sampled_from([(), (1,), (2,), (255,), (2, 1)]),
    placed=st.booleans(),
)
def test_masks_mean_one_thing_or_are_refused(values, nodata, dtype, positive, placed):
    bands = np.array_split(np.arange(SIDE), len(values))
    pixels = np.zeros((SIDE, SIDE), dtype)
    for value, rows in zip(values, bands, strict=True):
        pixels[rows] = value
    with tempfile.TemporaryDirectory() as made:
        path = write(Path(made) / "m.tif", pixels[None], nodata=nodata, transform=HERE if placed else None)
        reference = read_mask(path, positive=positive)
    if reference is None:
        return
    village = burn(reference.polygons.geometry, GRID).astype(bool)
    silent = np.zeros_like(village)
    if reference.unlabelled is not None:
        silent = burn(reference.unlabelled.geometry, GRID).astype(bool)
    assert not (village & silent).any()
    wanted = set(positive) or ({1} if 1 in values or 255 not in values or nodata == 255 else {255})
    np.testing.assert_array_equal(village, np.isin(pixels, list(wanted)))
    if nodata not in (None, 0) and nodata in values:
        assert silent[pixels == nodata].all()
    if 255 in values and 255 not in wanted:
        assert silent[pixels == 255].all()
    assert not silent[(pixels == 0) & (nodata != 0)].any()


def read_mask(path, positive):
    frame = Frame("scene.tif", CRS, tuple(HERE)[:6], SIDE, SIDE)
    hints = ReferenceHints(positive=positive, raster_crs=CRS, frames=(frame,))
    try:
        return read_reference([path], crs=CRS, bounds_m=GRID.bounds_m, hints=hints)
    except PipelineError as error:
        assert_is_one_line(error, path)
        return None


KEYS = ("image_date", "imagery_crs", "default_tags", "reference_positive", "vectors_date", "colour", "")
TEXTS = st.sampled_from(["2023", "2023-05-01/2023-04-01", "03/04/2023", "[1, 2]", "{a: b}", "~", "!!x", "*a", ""])


@given(
    lines=st.lists(st.tuples(st.sampled_from(KEYS), TEXTS | st.text(max_size=12)), max_size=5),
    encoding=st.sampled_from(["utf-8", "gb18030", "utf-16", "utf-8-sig"]),
    tail=st.binary(max_size=6),
)
def test_any_notes(lines, encoding, tail):
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "990001"
        (folder / "imagery").mkdir(parents=True)
        (folder / "imagery" / "a.tif").touch()
        text = "\n".join(f"{key}: {value}" for key, value in lines) + "\n# 城中村\n"
        (folder / "sources.yaml").write_bytes(text.encode(encoding, "replace") + tail)
        try:
            notes = find_sources(folder, "990001").notes
        except SourceNotesError as error:
            assert_is_one_line(error, folder / "sources.yaml")
            return
    assert notes.image_date is None or notes.image_date[:2].isdigit()
