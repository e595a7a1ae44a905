"""Renders a demo city from above at 1 m: ground, shadows, trees, roofs, vehicles, haze and noise.

The unit of rendering is a tile of 512 x 512 pixels. A tile is a pure function of the layout, the scene and its
position, so an image has the same bytes whatever order or number of tiles it is made in.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regions.demo.block import make_block
from regions.demo.canvas import Roof, Surface
from regions.demo.layout import Layout
from regions.demo.shapes import Floats
from regions.demo.stamps import darken, stamp_cars, stamp_tree_shadows, stamp_trees
from regions.demo.view import F32, PAD_PX, TILE_PX, Drawn, Shape, Texture, View, close_ring, prepare, smooth

_SHADOW_REACH_M = 110.0

# Texture of each surface: strength of fine noise, of grassy patches, of broad patches.
_TEXTURE: dict[Surface, tuple[float, float, float]] = {
    Surface.ASPHALT: (3.0, 2.0, 4.0),
    Surface.CONCRETE: (5.0, 5.0, 8.0),
    Surface.GRASS: (5.0, 13.0, 12.0),
    Surface.SOIL: (6.0, 9.0, 16.0),
    Surface.CROPS: (4.0, 5.0, 6.0),
    Surface.WATER: (1.2, 1.5, 5.0),
    Surface.PAVING: (6.0, 6.0, 6.0),
    Surface.TRACK: (2.0, 1.0, 2.0),
}


@dataclass(frozen=True)
class SceneLook:
    """How one acquisition differs from another.

    Attributes:
        number: Which scene; part of the seed of its noise.
        date: Acquisition date, ISO.
        sun_azimuth_deg: Direction to the sun, clockwise from north.
        sun_elevation_deg: Height of the sun over the horizon.
        haze: Share of the signal that comes from the air, 0 to 1.
        haze_rgb: Colour of the haze.
        gain: Factors on red, green and blue.
    """

    number: int
    date: str
    sun_azimuth_deg: float
    sun_elevation_deg: float
    haze: float
    haze_rgb: tuple[float, float, float]
    gain: tuple[float, float, float]

    @property
    def shift_per_m(self) -> Floats:
        """Where the shadow of a point of 1 m height falls, east and north in metres."""
        azimuth = np.deg2rad(self.sun_azimuth_deg)
        return np.asarray(-np.array([np.sin(azimuth), np.cos(azimuth)]) / np.tan(np.deg2rad(self.sun_elevation_deg)))


class Renderer:
    """Renders tiles of one scene; keeps the superblocks it drew last."""

    def __init__(self, layout: Layout, look: SceneLook) -> None:
        self.layout = layout
        self.look = look
        self._blocks: OrderedDict[tuple[int, int], Drawn] = OrderedDict()
        rng = np.random.default_rng([layout.seed, 5, look.number])
        self._white = Texture(rng.standard_normal((3, 911, 911), np.float32))
        self._soft = Texture(smooth(rng.standard_normal((1, 1024, 1024), np.float32), 1.6))
        self._dots = Texture(smooth(rng.standard_normal((1, 797, 797), np.float32), 1.0))

    def tile(self, left_px: int, top_px: int) -> NDArray[np.uint8]:
        """One tile (3, 512, 512) from ``left_px`` east and ``top_px`` south of the city's corner."""
        size = TILE_PX + 2 * PAD_PX
        col, row = left_px - PAD_PX, top_px - PAD_PX
        left, top = float(col), float(self.layout.side_m - row)
        drawn = self._around(left, top - size, left + size, top)
        view = View(col, row, left, top, size)
        ground, surface, angle = self._ground(drawn, view)
        roofs = self._roof_ids(drawn, view)
        shadow, caster = self._shadows(drawn, view)
        image = self._paint_ground(ground, surface, angle, view)
        stamp_tree_shadows(shadow, drawn, view, self.look.shift_per_m)
        darken(image, shadow)
        stamp_trees(image, drawn, view, self.look.shift_per_m, self._soft.of(view)[0])
        self._paint_roofs(image, roofs, caster, drawn, view)
        stamp_cars(image, drawn, view, roofs)
        return self._through_air(image, view)

    def _around(self, left: float, bottom: float, right: float, top: float) -> list[Drawn]:
        """The superblocks whose ground or shadow can lie in a rectangle."""
        m = _SHADOW_REACH_M
        wanted = self.layout.touching(left - m, bottom - m, right + m, top + m)
        out = []
        for key in wanted:
            if key not in self._blocks:
                self._blocks[key] = prepare(make_block(self.layout, *key), self.look.shift_per_m)
            self._blocks.move_to_end(key)
            out.append(self._blocks[key])
        keep = max(40, 4 * self.layout.n)
        while len(self._blocks) > keep:
            self._blocks.popitem(last=False)
        return out

    def _ground(self, drawn: list[Drawn], view: View) -> tuple[F32, NDArray[np.uint8], F32]:
        """Colour (3, H, W), surface (H, W) and furrow direction (H, W) of the ground."""
        shapes: list[Shape] = []
        rgb, surface = [np.zeros((1, 3), np.float32)], [np.zeros(1, np.uint8)]
        count = 1
        for item in drawn:
            near = np.flatnonzero(view.touches(item.ground_box))
            shapes.extend((close_ring(item.block.ground[k]), count + int(k)) for k in near)
            rgb.append(item.block.ground_rgb.astype(np.float32))
            surface.append(item.block.ground_surface)
            count += len(item.block.ground)
        ids = view.burn(shapes)
        colours, surfaces = np.concatenate(rgb), np.concatenate(surface)
        furrow = (colours @ np.array([0.37, 0.11, 0.23], np.float32)) % np.float32(np.pi)
        return colours.T[:, ids], surfaces[ids], furrow[ids]

    def _roof_ids(self, drawn: list[Drawn], view: View) -> NDArray[np.int32]:
        shapes: list[Shape] = []
        count = 1
        for item in drawn:
            near = np.flatnonzero(view.touches(item.quad_box))
            shapes.extend((close_ring(item.block.quads[k]), count + int(k)) for k in near)
            count += len(item.block.quads)
        return view.burn(shapes)

    def _shadows(self, drawn: list[Drawn], view: View) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        """Where the ground is in a building's shadow, and the height of the caster in decimetres."""
        shapes: list[Shape] = []
        for item in drawn:
            near = np.flatnonzero(view.touches(item.shadow_box))
            shapes.extend((close_ring(item.shadow[k]), round(float(item.block.height_m[k]) * 10)) for k in near)
        shapes.sort(key=lambda pair: pair[1])
        caster = view.burn(shapes)
        return caster > 0, caster

    def _paint_ground(self, rgb: F32, surface: NDArray[np.uint8], furrow: F32, view: View) -> F32:
        strength = np.array([_TEXTURE[s] for s in Surface], np.float32)[surface]
        broad = view.noise(self.layout.seed + 11, 90) - 0.5 + 0.6 * (view.noise(self.layout.seed + 12, 23) - 0.5)
        soft, white = self._soft.of(view)[0], self._white.of(view)
        texture = strength[..., 0] * white[0] + strength[..., 1] * soft + strength[..., 2] * 2 * broad
        crops = surface == int(Surface.CROPS)
        if crops.any():
            rows, cols = np.mgrid[0 : view.size, 0 : view.size].astype(np.float32)
            wave = np.sin(((cols + view.col) * np.cos(furrow) + (rows + view.row) * np.sin(furrow)) * np.float32(2.1))
            texture += np.where(crops, 7 * wave, 0)
        green = np.isin(surface, (int(Surface.GRASS), int(Surface.CROPS)))
        dry = np.where(green, 26 * np.maximum(broad, 0), 0).astype(np.float32)
        out = rgb + texture
        out[0] += dry
        out[2] -= 0.4 * dry
        return np.asarray(out, np.float32)

    def _paint_roofs(
        self, image: F32, ids: NDArray[np.int32], caster: NDArray[np.int32], drawn: list[Drawn], view: View
    ) -> None:
        """Colour, shading by form, edges, clutter, and the shadow that higher houses throw on lower ones."""
        on = ids > 0
        if not on.any():
            return
        at = ids[on] - 1
        quads = np.concatenate([d.block.quads for d in drawn])
        used, at = (a.astype(np.int32) for a in np.unique(at, return_inverse=True))
        parts = quads[used]
        height = np.concatenate([d.block.height_m for d in drawn])[used]
        form = np.concatenate([d.block.roof for d in drawn])[used]
        colour = np.concatenate([d.block.roof_rgb for d in drawn])[used].astype(np.float32)
        side_u, side_v = parts[:, 1] - parts[:, 0], parts[:, 3] - parts[:, 0]
        wide = np.linalg.norm(side_u, axis=1) >= np.linalg.norm(side_v, axis=1)
        ridge = np.where(wide[:, None], side_u, side_v)
        ridge /= np.linalg.norm(ridge, axis=1, keepdims=True) + 1e-9
        across = np.stack([-ridge[:, 1], ridge[:, 0]], axis=1)
        sun = -self.look.shift_per_m / np.linalg.norm(self.look.shift_per_m)
        rows, cols = np.nonzero(on)
        xy = np.stack([view.left + cols + 0.5, view.top - rows - 0.5], axis=1)
        offset = xy - parts.mean(axis=1)[at]
        v = np.einsum("nk,nk->n", offset, across[at])
        u = np.einsum("nk,nk->n", offset, ridge[at])
        slope = np.sign(v) * (across @ sun)[at]
        light = 1 + np.where(form[at] == int(Roof.GABLE), 0.2 * slope, 0).astype(np.float32)
        white, dots = self._white.of(view)[1][on], self._dots.of(view)[0][on]
        value = colour[at].T * light + 3.0 * white
        clutter = form[at] == int(Roof.CLUTTER)
        value += np.where(clutter, 30 * np.clip(dots - 1.1, 0, 1.2) - 38 * np.clip(-dots - 1.1, 0, 1.2) + 5 * dots, 0)
        value += np.where(form[at] == int(Roof.RIBBED), 6 * np.sin(u * 2.2), 0)
        step = np.round(sun * 1.2).astype(int)
        lit = ids != np.roll(ids, (step[1], -step[0]), (0, 1))
        dim = ids != np.roll(ids, (-step[1], step[0]), (0, 1))
        value += (9.0 * lit[on] - 14.0 * dim[on]).astype(np.float32)
        shaded = caster[on] > 10 * height[at] + 45
        value = np.where(shaded, value * 0.55, value)
        image[:, on] = value

    def _through_air(self, image: F32, view: View) -> NDArray[np.uint8]:
        """Blur of the optics, haze and gain of the scene, noise of the sensor; cuts the margin off."""
        look = self.look
        blurred = 0.6 * image + 0.2 * (np.roll(image, 1, 1) + np.roll(image, -1, 1))
        blurred = 0.6 * blurred + 0.2 * (np.roll(blurred, 1, 2) + np.roll(blurred, -1, 2))
        haze = look.haze * (0.6 + 0.8 * view.noise(self.layout.seed + 31 + look.number, 640))
        gain = np.array(look.gain, np.float32)[:, None, None]
        air = np.array(look.haze_rgb, np.float32)[:, None, None]
        out = blurred * gain * (1 - haze) + air * haze + 2.0 * self._white.of(view)[::-1]
        inner = out[:, PAD_PX:-PAD_PX, PAD_PX:-PAD_PX]
        return np.asarray(np.clip(np.rint(inner), 1, 255), np.uint8)
