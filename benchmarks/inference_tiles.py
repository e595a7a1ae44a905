"""What the pipeline costs per tile as a model sees it, without a model: file to score raster, in CPU milliseconds.

    python benchmarks/inference_tiles.py [--size 8192] [--runs 3]

Tiles of 224 px at a stride of 168, batches of 32: the "model" answers with a band of its input, and what that takes is
left out. The scores are compared with the picture first. Each run is a process of its own of one thread per library.
The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.inference import make_raster, now, since


class BandModel:
    """Answers with the first band of its input: no model at all, as a `TileModel`."""

    tile_px, bands, batch_size, digest, uses_graphs = 224, 3, 32, "band", False

    def __init__(self) -> None:
        self.cpu_s = 0.0

    def predict(self, images: NDArray[np.uint8], graphs: Any) -> NDArray[np.float32]:  # noqa: ARG002 -- the contract
        """The first band of one batch, 0 to 1."""
        start = time.thread_time()
        answer = np.multiply(images[:, 0], np.float32(1 / 255), dtype=np.float32)
        self.cpu_s += time.thread_time() - start
        return answer


def run_tiles(path: Path, folder: Path) -> dict[str, Any]:
    """One run of the pipeline without a model; its CPU seconds are those of all threads, less the model's."""
    from pipeline.imagery import open_imagery  # noqa: PLC0415
    from pipeline.inference import predict_scores  # noqa: PLC0415
    from regions.raster.grid import Tiling  # noqa: PLC0415
    from regions.raster.scores import SCORE_SCALE  # noqa: PLC0415

    model = BandModel()
    with open_imagery([path]) as imagery:
        start = now()
        result = predict_scores(
            imagery, model, None, grid=imagery.grid, tiling=Tiling(224, 168),
            out=folder / "scores.tif", work=folder / "work",
        )  # fmt: skip
        spent = since(start)
    with rasterio.open(path) as source, rasterio.open(folder / "scores.tif") as made:
        wanted = np.floor(source.read(1).astype(np.float64) / 255 * SCORE_SCALE + 0.5)
        differing = int((np.abs(made.read(1) - wanted) > 1).sum())  # weights are whole units: a level at the most
    if differing:
        raise SystemExit(f"{differing} px differ by more than a level: no timing")
    spent["cpu_s"] -= model.cpu_s
    return spent | {"tiles": result.tiles, "phases": result.seconds}


def in_own_process(path: Path, folder: Path) -> dict[str, Any]:
    """One run in a process of its own."""
    folder.mkdir()
    command = [sys.executable, __file__, "--child", str(path), str(folder)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192, help="side of the raster in px")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(run_tiles(*given.child)))
        return
    size = given.size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_raster(folder / "image.tif", size)
        reports = [in_own_process(folder / "image.tif", folder / f"run{k}") for k in range(given.runs)]
    each_ms = sorted(1000 * r["cpu_s"] / r["tiles"] for r in reports)
    for k, r in enumerate(reports):
        phases = ", ".join(f"{p} {1000 * s / r['tiles']:.2f}" for p, s in r["phases"].items())
        print(f"run {k}: {r['tiles']} tiles, {1000 * r['cpu_s'] / r['tiles']:.2f} CPU-ms per tile; clock ms: {phases}")
    summary = {
        "size_px": size,
        "tiles": reports[0]["tiles"],
        "cpu_ms_per_tile": {"median": statistics.median(each_ms), "range": [each_ms[0], each_ms[-1]]},
        "runs": reports,
        "load": os.getloadavg()[0],
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
