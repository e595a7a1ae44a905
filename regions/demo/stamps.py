"""Trees and vehicles of a demo city, stamped onto the picture disc by disc and box by box."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from regions.demo.shapes import Floats
from regions.demo.view import F32, Drawn, View, close_ring


def darken(image: F32, shadow: NDArray[np.bool_]) -> None:
    """Darken what lies in the shadow, blue least: it is lit by the sky."""
    factor = np.array([0.42, 0.46, 0.56], np.float32)[:, None]
    image[:, shadow] *= factor


def _near_trees(drawn: list[Drawn], view: View, reach_m: float) -> Floats:
    trees = np.concatenate([d.block.trees for d in drawn])
    box = np.concatenate([trees[:, :2] - reach_m, trees[:, :2] + reach_m], axis=1)
    return trees[view.touches(box)]


def _discs(trees: Floats, view: View, shift: Floats) -> Iterable[tuple[NDArray[np.bool_], Floats, Floats, F32]]:
    """For each whole radius: which trees, their pixel columns and rows, and the offsets of a disc."""
    for radius in (2, 3, 4):
        of = np.clip(np.rint(trees[:, 2]), 2, 4) == radius
        if of.any():
            dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
            disc = np.stack([dx, dy], -1)[np.hypot(dx, dy) <= radius + 0.3].astype(np.float32)
            yield of, trees[of, 0] + shift[0] - view.left, view.top - trees[of, 1] - shift[1], disc


def _pixels(
    x: Floats, y: Floats, disc: F32, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    cols = np.floor(x).astype(int)[:, None] + disc[:, 0].astype(int)
    rows = np.floor(y).astype(int)[:, None] + disc[:, 1].astype(int)
    return rows, cols, (rows >= 0) & (rows < size) & (cols >= 0) & (cols < size)


def stamp_tree_shadows(shadow: NDArray[np.bool_], drawn: list[Drawn], view: View, shift_per_m: Floats) -> None:
    """Add the shadows of crowns to the mask of shadows (H, W)."""
    trees = _near_trees(drawn, view, 14.0)
    for _, x, y, disc in _discs(trees, view, shift_per_m * 4.5):
        rows, cols, ok = _pixels(x, y, disc, view.size)
        shadow[rows[ok], cols[ok]] = True


def stamp_trees(image: F32, drawn: list[Drawn], view: View, shift_per_m: Floats, soft: F32) -> None:
    """Crowns: lit on the sun's side, dark on the other."""
    trees = _near_trees(drawn, view, 6.0)
    sun = -shift_per_m / np.linalg.norm(shift_per_m)
    for of, x, y, disc in _discs(trees, view, np.zeros(2)):
        rows, cols, ok = _pixels(x, y, disc, view.size)
        light = 1 + 0.3 * (disc[:, 0] * sun[0] - disc[:, 1] * sun[1]) / np.hypot(*disc.max(axis=0))
        tone = trees[of, 3][:, None]
        brightness = (light[None] * (1 + 0.2 * tone)).astype(np.float32)
        for band, base in enumerate((62.0, 84.0, 52.0)):
            values = base * brightness + (6 * tone if band == 0 else 0)
            image[band, rows[ok], cols[ok]] = values[ok] + 5 * soft[rows[ok], cols[ok]]


def stamp_cars(image: F32, drawn: list[Drawn], view: View, roofs: NDArray[np.int32]) -> None:
    """Paint vehicles into the picture (3, H, W) where no roof hides them."""
    cars = np.concatenate([d.block.cars for d in drawn])
    colours = np.concatenate([d.block.car_rgb for d in drawn]).astype(np.float32)
    near = np.flatnonzero(view.touches(np.concatenate([cars.min(axis=1), cars.max(axis=1)], axis=1)))
    ids = view.burn((close_ring(cars[k]), int(k) + 1) for k in near)
    on = (ids > 0) & (roofs == 0)
    image[:, on] = colours[ids[on] - 1].T
