"""Peak memory grows with the block, not with the city: the slope of the peak over two sizes, under a hard limit.

Run as a script, this file is the limited process.
"""

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window as RasterioWindow
from rio_cogeo.cogeo import cog_validate

from pipeline.imagery import open_imagery
from pipeline.inference import predict_scores
from regions.raster.grid import Grid, Tiling, Window
from tests.support.rasters import raster_writer

LIMIT_BYTES = 3_000_000_000
CELL_PX = 1000
SMALL_PX, LARGE_PX = 6000, 18_000


@dataclass(frozen=True)
class Red:
    """The red band as a probability."""

    tile_px: int = 512
    bands: int = 3
    batch_size: int = 4
    digest: str = "red"
    uses_graphs: bool = False

    def predict(self, images, graphs):
        return images[:, 0].astype(np.float32) / np.float32(255)


def colour(row: int, col: int) -> int:
    return 1 + (7 * row + 13 * col) % 250


def sparse_raster(path: Path, size: int) -> list[tuple[int, int]]:
    """One cell of 1,000 px in nine holds data, and every fifth along the last row."""
    cells = range(0, size, CELL_PX)
    filled = [
        (r, c)
        for r in cells
        for c in cells
        if (r // CELL_PX % 3 == 0 and c // CELL_PX % 3 == 0) or (r == cells[-1] and c % 5000 == 0)
    ]
    grid = Grid("EPSG:32650", 1.0, 500_000, -4_400_000, size, size)
    with raster_writer(path, grid, bands=3, nodata=0, sparse_ok=True, zlevel=1, blockxsize=256, blockysize=256) as sink:
        for row, col in filled:
            values = np.full((3, CELL_PX, CELL_PX), colour(row, col), np.uint8)
            sink.write(values, window=RasterioWindow(col, row, CELL_PX, CELL_PX))
    return filled


def peak_bytes() -> int:
    """Peak resident memory since the last call."""
    status = Path("/proc/self/status").read_text()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def limited_run(folder: Path, size: int) -> None:
    """Score a raster of ``size`` x ``size`` px, check the scores, and print the peak of the scoring alone."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    filled = sparse_raster(folder / f"{size}.tif", size)
    peak_bytes()
    with open_imagery([folder / f"{size}.tif"]) as imagery:
        imagery.read(Window(0, 0, CELL_PX, CELL_PX))
        result = predict_scores(
            imagery, Red(), None, grid=imagery.grid, tiling=Tiling(512, 448),
            out=folder / f"scores{size}.tif", work=folder / f"work{size}",
        )  # fmt: skip
    peak = peak_bytes()
    assert result.predicted_px == len(filled) * CELL_PX**2
    assert result.predicted_px + result.not_predicted_px == size**2
    with rasterio.open(folder / f"scores{size}.tif") as dataset:
        for row, col in filled[:: max(1, len(filled) // 40)]:
            part = dataset.read(1, window=RasterioWindow(col, row, CELL_PX, CELL_PX))
            assert (np.abs(part.astype(int) - round(250 * colour(row, col) / 255)) <= 1).all()
            assert (part == part[0, 0]).all()
    sys.stdout.write(json.dumps({"peak": peak}) + "\n")


def peak_of(folder: Path, size: int) -> int:
    done = subprocess.run(
        [sys.executable, __file__, str(folder), str(size)],
        capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


@pytest.mark.slow(cpu_s=20)
def test_the_peak_does_not_grow_with_the_city(tmp_path):
    growth = peak_of(tmp_path, LARGE_PX) - peak_of(tmp_path, SMALL_PX)
    # bytes per pixel of city; one whole band of imagery or of scores would be 1
    assert growth / (LARGE_PX**2 - SMALL_PX**2) < 0.4
    assert cog_validate(str(tmp_path / f"scores{LARGE_PX}.tif"), strict=True, quiet=True)[0]


if __name__ == "__main__":
    limited_run(Path(sys.argv[1]), int(sys.argv[2]))
