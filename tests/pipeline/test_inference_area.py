"""The area of interest, asked by many readers at once.

Run as a script, this file is the driver of the thread test: what it guards against ends a process without a word.
"""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import shapely

from pipeline.inference.area import AreaOfInterest
from regions.raster.grid import Grid, Window

GRID = Grid("EPSG:32650", 1.0, 500_000, -4_400_000, 2048, 2048)
WHOLE = Window(0, 0, 2048, 2048)


def ragged_area(rng: np.random.Generator, corners: int) -> shapely.Polygon:
    left, bottom, right, top = GRID.bounds_m
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(400, 1000, corners)
    return shapely.Polygon(
        np.column_stack(((left + right) / 2 + radius * np.cos(angle), (bottom + top) / 2 + radius * np.sin(angle)))
    )


def test_many_threads_may_ask_at_once():
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
    assert done.stdout == "equal\n"


def test_the_callers_polygon_is_left_alone_and_pixels_are_those_whose_centre_is_inside():
    shape = ragged_area(np.random.default_rng(3), 40)
    area = AreaOfInterest(shape, GRID)
    assert not shapely.is_prepared(shape)
    left, _, _, top = GRID.bounds_m
    rows, cols = np.mgrid[0:2048:7, 0:2048:5]
    expected = shapely.contains_xy(shape, left + cols + 0.5, top - rows - 0.5)
    np.testing.assert_array_equal(area.mask(WHOLE)[rows, cols], expected)


def hammer(rounds: int, threads: int) -> bool:
    rng = np.random.default_rng(0)
    left, bottom, _, _ = GRID.bounds_m
    equal = True
    for _ in range(rounds):
        shape = ragged_area(rng, 400)
        corner = np.array([left, bottom]) + rng.uniform(0, 1900, (200, 2))
        boxes = np.hstack((corner, corner + 100))
        area = AreaOfInterest(shape, GRID)
        together = threading.Barrier(threads)

        def ask(_, area=area, boxes=boxes, together=together):
            together.wait()
            return area.touches(boxes)

        with ThreadPoolExecutor(threads) as pool:
            answers = list(pool.map(ask, range(threads)))
        expected = shapely.intersects(shape, shapely.box(*boxes.T))
        equal &= all(np.array_equal(a, expected) for a in answers)
    return equal


if __name__ == "__main__":
    sys.stdout.write("equal\n" if hammer(rounds=400, threads=4) else "different\n")
