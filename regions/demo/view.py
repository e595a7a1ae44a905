"""What the renderer works on: windows of a demo city, superblocks made ready, and endless textures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from regions.demo.canvas import Block
from regions.demo.frame import LOCAL_CRS
from regions.demo.shapes import Floats, smooth_noise
from regions.raster.burn import burn_values
from regions.raster.grid import Grid

TILE_PX = 512
PAD_PX = 2
F32 = NDArray[np.float32]
Shape = tuple[dict[str, object], int]


@dataclass(frozen=True)
class Drawn:
    """A superblock with what the renderer needs of it."""

    block: Block
    ground_box: Floats
    quad_box: Floats
    shadow: NDArray[np.object_]
    shadow_box: Floats


@dataclass(frozen=True)
class View:
    """The window of a tile with its margin: pixel position, upper left corner in local metres, size."""

    col: int
    row: int
    left: float
    top: float
    size: int

    def touches(self, boxes: Floats) -> NDArray[np.bool_]:
        """Which boxes (n, 4) left, bottom, right, top meet the view."""
        right, bottom = self.left + self.size, self.top - self.size
        hit = (boxes[:, 0] < right) & (boxes[:, 2] > self.left) & (boxes[:, 1] < self.top) & (boxes[:, 3] > bottom)
        return np.asarray(hit)

    @property
    def grid(self) -> Grid:
        """The pixels of the window in local metres, 1 m each."""
        return Grid(LOCAL_CRS, 1.0, int(self.left), -int(self.top), self.size, self.size)

    def burn(self, shapes: Iterable[Shape]) -> NDArray[np.int32]:
        """Rasterise in order, later shapes over earlier ones."""
        pairs = list(shapes)
        return burn_values([s for s, _ in pairs], [v for _, v in pairs], self.grid)

    def noise(self, seed: int, cell_px: int) -> F32:
        """Smooth noise 0 to 1 of this window of the city."""
        return smooth_noise(seed, col=self.col, row=self.row, width=self.size, height=self.size, cell_px=cell_px)


class Texture:
    """An endless periodic texture, kept with a margin so that every window is a plain slice."""

    def __init__(self, pool: F32) -> None:
        self.period_px = pool.shape[-1]
        margin = TILE_PX + 2 * PAD_PX
        self.pool = np.pad(pool, ((0, 0), (0, margin), (0, margin)), mode="wrap")

    def of(self, view: View) -> F32:
        """The window (bands, H, W) that belongs to a view."""
        row, col = view.row % self.period_px, view.col % self.period_px
        return self.pool[:, row : row + view.size, col : col + view.size]


def prepare(block: Block, shift_per_m: Floats) -> Drawn:
    """A superblock with its boxes and the ground that its shadows sweep."""
    moved = block.quads + block.height_m[:, None, None] * shift_per_m
    swept = shapely.convex_hull(shapely.multipoints(np.concatenate([block.quads, moved], axis=1)))
    ground_box = np.array([[*r.min(axis=0), *r.max(axis=0)] for r in block.ground]).reshape(-1, 4)
    quad_box = np.concatenate([block.quads.min(axis=1), block.quads.max(axis=1)], axis=1)
    rings = np.empty(len(swept), object)
    for k, hull in enumerate(swept):
        rings[k] = shapely.get_coordinates(hull.exterior)
    return Drawn(block, ground_box, quad_box, rings, shapely.bounds(swept).reshape(-1, 4))


def close_ring(ring: Floats) -> dict[str, object]:
    """A ring (n, 2) as a GeoJSON polygon."""
    points = ring.tolist()
    return {"type": "Polygon", "coordinates": [[*points, points[0]]]}


def smooth(noise: F32, sigma_px: float) -> F32:
    """Periodic Gaussian smoothing, scaled back to a standard deviation of one."""
    fy, fx = np.fft.fftfreq(noise.shape[-2])[:, None], np.fft.rfftfreq(noise.shape[-1])[None]
    kernel = np.exp(-2 * (np.pi * sigma_px) ** 2 * (fx**2 + fy**2))
    out = np.fft.irfft2(np.fft.rfft2(noise) * kernel, noise.shape[-2:])
    return np.asarray(out / out.std(), np.float32)
