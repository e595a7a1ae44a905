"""What a scene file says about itself, and where it lies on a city's grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader
from rasterio.warp import transform_bounds

from pipeline.imagery.bands import band_roles
from pipeline.imagery.datum import true_bounds
from pipeline.imagery.errors import BandCountError, PixelTypeError, UnreadableImageryError
from pipeline.imagery.opening import opened
from pipeline.imagery.place import scene_place
from regions.datum import Datum, is_shifted_datum
from regions.raster.grid import Grid, Window

SUPPORTED_DTYPES = ("uint8", "uint16")
ON_GRID_TOLERANCE_PX = 0.05
"""A scene whose corners all lie this close to lattice lines is read as it is, without resampling."""


@dataclass(frozen=True)
class Scene:
    """One raster file.

    Attributes:
        path: As given: a file, or an address that GDAL reads.
        crs: CRS as an authority code or WKT.
        transform: Affine coefficients (a, b, c, d, e, f) from column, row to x, y in ``crs``.
        height_px: Rows.
        width_px: Columns.
        band_count: Bands, the alpha band not counted.
        picture_bands: 1-based bands that hold data, in the order to take them (red, green, blue where declared).
        alpha_band: 1-based index of the alpha band, or None.
        dtype: "uint8" or "uint16".
        nodata: Value that marks pixels as missing (a pixel is missing where all bands hold it), or None.
        has_mask: Whether the file holds a mask of its own (internal or a `.msk` file beside it).
        in_strips: Whether it is a TIFF stored in several strips.
        driver: GDAL driver that reads it.
        is_from_gcps: Whether ``transform`` was fitted to ground control points: GDAL itself places it otherwise.
        ignored_alpha: Whether the file declares an alpha band that is none.
        warnings: What the user must know of it, without the name of the file.
        datum: What its coordinates are in truth, whatever CRS it declares.
    """

    path: str
    crs: str
    transform: tuple[float, float, float, float, float, float]
    height_px: int
    width_px: int
    band_count: int
    picture_bands: tuple[int, ...]
    alpha_band: int | None
    dtype: str
    nodata: float | None
    has_mask: bool
    in_strips: bool
    driver: str
    is_from_gcps: bool = False
    ignored_alpha: bool = False
    warnings: tuple[str, ...] = ()
    datum: Datum = "wgs84"

    @property
    def is_north_up(self) -> bool:
        """Whether rows run along x and columns run down y."""
        _, b, _, d, e, _ = self.transform
        return b == 0.0 and d == 0.0 and e < 0.0

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in the scene's CRS: of all four corners, where it is rotated."""
        affine = Affine(*self.transform)
        corners = [affine @ (c, r) for c in (0, self.width_px) for r in (0, self.height_px)]
        xs, ys = [p[0] for p in corners], [p[1] for p in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def bounds_in(self, crs: str) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in another CRS, edges densified; where it truly lies, whatever its datum."""
        if is_shifted_datum(self.datum):
            return true_bounds(self.bounds, self.crs, self.datum, crs)
        if same_crs(self.crs, crs):
            return self.bounds
        left, bottom, right, top = transform_bounds(self.crs, crs, *self.bounds, densify_pts=21)
        return left, bottom, right, top

    def window_on(self, grid: Grid) -> Window | None:
        """The window of ``grid`` that the scene fills pixel by pixel, or None where it is off the grid."""
        if is_shifted_datum(self.datum) or not same_crs(self.crs, grid.crs) or not self.is_north_up:
            return None
        a, _, c, _, e, f = self.transform
        r = grid.resolution_m
        edges = {
            "left": c / r,
            "right": (c + a * self.width_px) / r,
            "top": -f / r,
            "bottom": -(f + e * self.height_px) / r,
        }
        at = {name: round(value) for name, value in edges.items()}
        if any(abs(edges[name] - at[name]) > ON_GRID_TOLERANCE_PX for name in edges):
            return None
        if at["right"] - at["left"] != self.width_px or at["bottom"] - at["top"] != self.height_px:
            return None
        return Window(at["top"] - grid.first_row, at["left"] - grid.first_col, self.height_px, self.width_px)

    def why_off(self, grid: Grid) -> str:
        """What keeps the scene from being read on ``grid`` as it is, in words."""
        if is_shifted_datum(self.datum):
            return f"its datum is {self.datum}"
        if not same_crs(self.crs, grid.crs):
            return f"its CRS is {short_crs(self.crs)}, the grid's is {short_crs(grid.crs)}"
        if not self.is_north_up:
            return "it is rotated or upside down"
        a, _, c, _, e, f = self.transform
        r = grid.resolution_m
        if max(abs(a - r) * self.width_px, abs(-e - r) * self.height_px) > ON_GRID_TOLERANCE_PX * r:
            return f"its pixels are {a:.9g} x {-e:.9g} m, the grid's {r:.9g} m"
        return f"it is shifted by {c / r - round(c / r):.3f}, {-f / r - round(-f / r):.3f} px against the grid"


def same_crs(one: str, other: str) -> bool:
    """Whether two CRS strings mean the same system."""
    return one == other or bool(CRS.from_user_input(one) == CRS.from_user_input(other))


def short_crs(crs: str) -> str:
    """A CRS in a few characters, for messages."""
    return crs if len(crs) < 40 else crs[:36] + "..."


def inspect(path: Path | str, *, bands: int = 1, crs: str | None = None, datum: Datum = "wgs84") -> Scene:
    """Read what a scene file says about itself, and check that it can serve.

    Args:
        path: The file.
        bands: Bands that will be read; the scene must have as many besides alpha.
        crs: CRS of files that state none (images with a world file).
        datum: What its coordinates are in truth.

    Raises:
        UnreadableImageryError: no such file, no raster, or shorter than its own index says.
        MissingCrsError: no CRS in the file and none given, or no georeference at all.
        UnusableCrsError: a local CRS, or a code that PROJ does not know.
        BandCountError: too few bands, or a colour table in their place.
        PixelTypeError: pixels are neither uint8 nor uint16.
    """
    with opened(path) as dataset:
        place = scene_place(dataset, assumed_crs=crs)
        roles = band_roles(dataset, bands=bands)
        band_count = len(roles.picture)
        if band_count < bands:
            raise BandCountError(f"{path}: has {band_count} bands, {bands} are needed: give another file")
        dtypes = set(dataset.dtypes)
        if len(dtypes) != 1 or not dtypes <= set(SUPPORTED_DTYPES):
            raise PixelTypeError(
                f"{path}: pixels are {', '.join(sorted(dtypes))}, supported are {', '.join(SUPPORTED_DTYPES)}: "
                "convert with `gdal_translate -ot UInt16 -scale`"
            )
        block_h, block_w = dataset.block_shapes[0]
        is_tiff = dataset.driver == "GTiff"
        if is_tiff:
            _check_complete(dataset, str(path))
        flags = dataset.mask_flag_enums[0]
        t = place.transform
        is_masked = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        nodata = None if dataset.nodata is None else float(dataset.nodata)
        return Scene(
            path=str(path),
            crs=place.crs,
            transform=(t.a, t.b, t.c, t.d, t.e, t.f),
            height_px=dataset.height,
            width_px=dataset.width,
            band_count=band_count,
            picture_bands=roles.picture,
            alpha_band=roles.alpha,
            dtype=str(dataset.dtypes[0]),
            nodata=nodata,
            has_mask=is_masked,
            in_strips=is_tiff and _are_strips(block_h, block_w, dataset.height, dataset.width),
            driver=str(dataset.driver),
            is_from_gcps=place.from_gcps,
            ignored_alpha=roles.alpha is None and MaskFlags.alpha in flags,
            warnings=(*place.warnings, *roles.warnings),
            datum=datum,
        )


def encoded_blocks(dataset: DatasetReader, window: Window | None = None) -> Iterator[tuple[int, int] | None]:
    """Offset and size in bytes of each encoded TIFF block of a window; None for a block that was never written.

    Args:
        dataset: An open GeoTIFF.
        window: Pixels of the dataset (inside it); all where None.
    """
    block_h, block_w = dataset.block_shapes[0]
    w = window or Window(0, 0, dataset.height, dataset.width)
    if w.is_empty:
        return
    is_pixel_interleaved = dataset.count == 1 or dataset.profile.get("interleave") == "pixel"
    for band in (1,) if is_pixel_interleaved else range(1, dataset.count + 1):
        for i in range(w.row_px // block_h, (w.stop_row_px - 1) // block_h + 1):
            for j in range(w.col_px // block_w, (w.stop_col_px - 1) // block_w + 1):
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{j}_{i}", "TIFF", bidx=band)
                size = dataset.get_tag_item(f"BLOCK_SIZE_{j}_{i}", "TIFF", bidx=band)
                yield None if not offset or not size else (int(offset), int(size))


def _are_strips(block_h: int, block_w: int, height: int, width: int) -> bool:
    # a narrow image may be one column of tiles; a TIFF's tiles are multiples of 16 px on both sides
    may_be_tiles = width <= 1024 and width % 16 == 0 and block_h % 16 == 0
    return block_w == width and block_h < height and not may_be_tiles


def _check_complete(dataset: DatasetReader, path: str) -> None:
    """Compare the end of the last block with the file's length: a cut-off copy is found before hours of work."""
    file = Path(path)
    if not file.exists():
        return
    end = max((b[0] + b[1] for b in encoded_blocks(dataset) if b is not None), default=0)
    size = file.stat().st_size
    if end > size:
        raise UnreadableImageryError(
            f"{path}: truncated: its index points to byte {end}, the file has {size}: copy or download it again"
        )
