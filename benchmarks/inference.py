"""What the engine costs with a model that costs next to nothing: file to score raster, in Mpx/s.

    python benchmarks/inference.py [--size 8192] [--runs 3] [--peers]
    python benchmarks/inference.py --city [--side-m 2000] [--runs 3]

A 1 x 1 convolution with a sigmoid scores tiles of 512 px at a stride of 384 (overlap 128), batch 8, on a tiled
uint8 RGB GeoTIFF; reading and writing are included, imports are not. First the raster is compared, pixel by pixel,
with a plain whole-array computation. Each timed run is a process of its own, so that its peak memory is its own.
``--peers`` runs the same job with those of OmniCloudMask, terratorch and geoai that are installed.

``--city`` measures the engine's own share with a real model instead: a demo city, its graph, the `tiny` segmentation
model with random weights; time spent outside the model's call, as a share of the whole.

The last line is one JSON object.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TILE_PX, STRIDE_PX, BATCH = 512, 384, 8
CRS, LEFT, TOP = "EPSG:32650", 500_000.0, 4_400_000.0
SEED = 11


def now() -> tuple[float, float]:
    """Clock and CPU seconds of this process."""
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> dict[str, Any]:
    """Clock and CPU seconds since ``start``."""
    clock, cpu = now()
    return {"seconds": clock - start[0], "cpu_s": cpu - start[1]}


def make_raster(path: Path, size: int) -> None:
    """A picture that compresses like a photograph: smooth shapes, edges and noise."""
    rng = np.random.default_rng(SEED)
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 3, "height": size, "width": size, "crs": CRS,
        "transform": Affine(1, 0, LEFT, 0, -1, TOP), "tiled": True, "blockxsize": 512, "blockysize": 512,
        "interleave": "pixel", "compress": "DEFLATE", "predictor": 2, "photometric": "RGB",
    }  # fmt: skip
    y, x = np.mgrid[0:512, 0:size].astype(np.float32)
    with rasterio.open(path, "w", **profile) as sink:
        for row in range(0, size, 512):
            base = 120 + 60 * np.sin(x / 37) * np.cos((y + row) / 53) + 25 * ((x // 64 + (y + row) // 64) % 2)
            bands = [base + 10 * k + rng.normal(0, 4, base.shape) for k in range(3)]
            part = np.clip(np.stack(bands), 0, 255).astype(np.uint8)[:, : min(512, size - row)]
            sink.write(part, window=rasterio.windows.Window(0, row, size, part.shape[1]))


class NullModel:
    """A 1 x 1 convolution and a sigmoid, as a `TileModel`."""

    tile_px, bands, batch_size, digest, uses_graphs = TILE_PX, 3, BATCH, "null", False

    def __init__(self) -> None:
        import torch  # noqa: PLC0415 -- only the processes that score need it

        self.torch = torch
        torch.manual_seed(SEED)
        convolution = torch.nn.Conv2d(3, 1, 1)
        torch.nn.init.normal_(convolution.weight, std=3.0)
        self.module = torch.nn.Sequential(convolution, torch.nn.Sigmoid()).eval()

    def predict(self, images: NDArray[np.uint8], graphs: Any) -> NDArray[np.float32]:  # noqa: ARG002 -- the contract
        """Probabilities of one batch."""
        with self.torch.inference_mode():
            x = self.torch.from_numpy(images).float().mul_(1 / 255)
            answer: NDArray[np.float32] = self.module(x)[:, 0].numpy()
        return answer


def whole_array_reference(path: Path) -> NDArray[np.uint8]:
    """Every tile scored by itself, summed in float64 on the whole array, divided by the sum of the weights."""
    from pipeline.imagery import grid_of_imagery  # noqa: PLC0415
    from pipeline.inference.weights import UNITS, make_window_weights  # noqa: PLC0415
    from regions.raster.grid import Tiling  # noqa: PLC0415
    from regions.raster.scores import SCORE_SCALE  # noqa: PLC0415

    with rasterio.open(path) as dataset:
        image = dataset.read()
    grid, tiling, model = grid_of_imagery([path]), Tiling(TILE_PX, STRIDE_PX), NullModel()
    t, (_, height, width) = TILE_PX, image.shape
    padded = np.pad(image, ((0, 0), (t, t), (t, t)))
    total = np.zeros(padded.shape[1:], np.float64)
    weight = np.zeros(padded.shape[1:], np.float64)
    one = make_window_weights(tiling).astype(np.float64)
    for tile in tiling.tiles_touching(grid, grid.window):
        w = tiling.window(grid, tile).shifted(t, t)
        rows, cols = slice(w.row_px, w.stop_row_px), slice(w.col_px, w.stop_col_px)
        batch = np.zeros((BATCH, 3, t, t), np.uint8)
        batch[0] = padded[:, rows, cols]
        units = np.rint(model.predict(batch, None)[0] * np.float32(UNITS)).astype(np.float64)
        total[rows, cols] += units * (one[:, None] * one[None, :])
        weight[rows, cols] += one[:, None] * one[None, :]
    inside = (slice(t, t + height), slice(t, t + width))
    return np.floor(total[inside] / weight[inside] * SCORE_SCALE / UNITS + 0.5).astype(np.uint8)


def run_ours(path: Path, folder: Path) -> dict[str, Any]:
    """One run of the engine."""
    import torch  # noqa: PLC0415

    from pipeline.imagery import open_imagery  # noqa: PLC0415
    from pipeline.inference import predict_scores  # noqa: PLC0415
    from regions.raster.grid import Tiling  # noqa: PLC0415

    torch.set_num_threads(1)  # the other core reads, blends and writes
    model = NullModel()
    model.predict(np.zeros((BATCH, 3, TILE_PX, TILE_PX), np.uint8), None)
    start = now()
    with open_imagery([path]) as imagery:
        result = predict_scores(
            imagery, model, None, grid=imagery.grid, tiling=Tiling(TILE_PX, STRIDE_PX),
            out=folder / "scores.tif", work=folder / "work",
        )  # fmt: skip
    return since(start) | {"phases": result.seconds, "tiles": result.tiles}


def run_read(path: Path, folder: Path) -> dict[str, Any]:  # noqa: ARG001 -- one signature for all
    """The bare read: two threads, own handles, every block once."""
    start = now()

    def work(rows: range) -> None:
        with rasterio.open(path) as dataset:
            for row in rows:
                height = min(512, dataset.height - row)
                dataset.read(window=rasterio.windows.Window(0, row, dataset.width, height))

    with rasterio.open(path) as dataset:
        size = dataset.height
    threads = [threading.Thread(target=work, args=(range(512 * k, size, 1024),)) for k in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return since(start)


def run_omnicloudmask(path: Path, folder: Path) -> dict[str, Any]:
    """OmniCloudMask: the whole scene in memory, linear ramp."""
    import torch  # noqa: PLC0415
    from omnicloudmask import predict_from_array  # type: ignore[import-not-found]  # noqa: PLC0415

    torch.set_num_threads(2)
    module = torch.nn.Conv2d(3, 2, 1).eval()
    start = now()
    with rasterio.open(path) as dataset:
        image, profile = dataset.read(), dataset.profile
    mask = predict_from_array(
        image.astype(np.float32), patch_size=TILE_PX, patch_overlap=TILE_PX - STRIDE_PX, batch_size=BATCH,
        custom_models=[module], pred_classes=2, inference_device="cpu", inference_dtype="fp32",
    )  # fmt: skip
    profile.update(count=1, photometric=None)
    with rasterio.open(folder / "peer.tif", "w", **profile) as sink:
        sink.write(np.squeeze(mask).astype(np.uint8), 1)
    return since(start)


def run_terratorch(path: Path, folder: Path) -> dict[str, Any]:
    """terratorch: the whole image as one tensor, cosine weights."""
    import torch  # noqa: PLC0415
    from terratorch.tasks.tiled_inference import tiled_inference  # type: ignore[import-not-found]  # noqa: PLC0415

    torch.set_num_threads(2)
    module = torch.nn.Conv2d(3, 2, 1).eval()
    start = now()
    with rasterio.open(path) as dataset:
        image, profile = dataset.read(), dataset.profile
    with torch.inference_mode():
        x = torch.from_numpy(image)[None].float().mul_(1 / 255)
        scores = tiled_inference(module, x, crop=TILE_PX, stride=STRIDE_PX, delta=8, batch_size=BATCH)
    profile.update(count=1, photometric=None)
    with rasterio.open(folder / "peer.tif", "w", **profile) as sink:
        sink.write(scores.argmax(1)[0].numpy().astype(np.uint8), 1)
    return since(start)


def run_geoai(path: Path, folder: Path) -> dict[str, Any]:
    """geoai: cosine blending in float64 on the whole raster."""
    import torch  # noqa: PLC0415
    from geoai.inference import predict_geotiff  # type: ignore[import-not-found]  # noqa: PLC0415

    torch.set_num_threads(2)
    module = torch.nn.Conv2d(3, 2, 1).eval()
    start = now()
    predict_geotiff(
        model=module, input_raster=str(path), output_raster=str(folder / "peer.tif"), tile_size=TILE_PX,
        overlap=TILE_PX - STRIDE_PX, batch_size=BATCH, blend_mode="cosine", num_classes=2, device="cpu",
    )  # fmt: skip
    return since(start)


def make_city(folder: Path, side_m: int) -> None:
    """A demo city, its features and its graph."""
    from pipeline.graph import CityGraph  # noqa: PLC0415
    from pipeline.imagery import grid_of_imagery  # noqa: PLC0415
    from pipeline.vectors import read_features  # noqa: PLC0415
    from regions.demo import generate_demo_city  # noqa: PLC0415

    city = generate_demo_city(folder / "city", side_m=side_m)
    grid = grid_of_imagery(city.imagery)
    features = read_features([city.osm_pbf], crs=grid.crs, bounds_m=grid.bounds_m)
    CityGraph.build(features).save(folder / "graph")


def run_city(path: Path, folder: Path) -> dict[str, Any]:
    """One run over the demo city with the `tiny` model; ``path`` is the folder that `make_city` filled."""
    import torch  # noqa: PLC0415

    from models.checkpoints import CheckpointConfig, TagEncoderId  # noqa: PLC0415
    from models.geolink.text import HashedTagEncoder, tag_set_embeddings  # noqa: PLC0415
    from models.segmentation.config import SegmentationConfig  # noqa: PLC0415
    from models.segmentation.model import GeoLinkSegmenter  # noqa: PLC0415
    from models.segmentation.predictor import SegmentationPredictor  # noqa: PLC0415
    from pipeline.graph import CityGraph  # noqa: PLC0415
    from pipeline.imagery import open_imagery  # noqa: PLC0415
    from pipeline.inference import predict_scores  # noqa: PLC0415
    from regions.raster.grid import Tiling  # noqa: PLC0415

    torch.manual_seed(SEED)
    graph = CityGraph.load(path / "graph")
    config = SegmentationConfig.of_size("tiny")
    encoder = HashedTagEncoder(width=config.encoder.semantic_width)
    model = SegmentationPredictor(
        GeoLinkSegmenter(config),
        CheckpointConfig(
            kind="segmentation",
            model=config.model_dump(mode="json"),
            tag_encoder=TagEncoderId(name=encoder.name, digest=encoder.digest, width=encoder.width),
        ),
        semantics=tag_set_embeddings(graph.tag_sets, encoder),
        device=torch.device("cpu"),
        batch_size=8,
    )
    scenes = sorted((path / "city/imagery").glob("*.tif"))
    start = now()
    with open_imagery(scenes) as imagery:
        result = predict_scores(
            imagery, model, graph, grid=imagery.grid, tiling=Tiling(model.tile_px, model.tile_px * 3 // 4),
            out=folder / "scores.tif", work=folder / "work",
        )  # fmt: skip
    spent = since(start)
    return spent | {
        "tiles": result.tiles,
        "digest": result.digest,
        "outside_model": 1 - result.seconds["model"] / spent["seconds"],
        "phases": result.seconds,
    }


def city_benchmark(side_m: int, runs: int) -> None:
    """Share of the time that is not the model's, over a demo city; equal files first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_city(folder, side_m)
        reports = [in_own_process("city", folder, folder / f"run{k}") for k in range(runs)]
        if len({r["digest"] for r in reports}) != 1:
            raise SystemExit("runs differ: no figures")
        shares = sorted(r["outside_model"] for r in reports)
        print(f"{'run':>3} {'s':>7} {'tiles':>6} {'outside the model':>18}")
        for k, r in enumerate(reports):
            print(f"{k:3} {r['seconds']:7.1f} {r['tiles']:6} {r['outside_model']:18.1%}")
        print(f"phases of the last run, working seconds: {reports[-1]['phases']}")
        outside = statistics.median(shares)
        print(
            json.dumps(
                {
                    "side_m": side_m,
                    "load": os.getloadavg()[0],
                    "outside_model": outside,
                    "runs": reports,
                    "ratios": {"outside model / all": outside},
                }
            )
        )


def peak_memory_gb() -> float:
    """Peak resident memory of this process since it was started (not of the one that started it)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024 / 1e9


RUNNERS = {
    "bare read": run_read,
    "uvmap": run_ours,
    "omnicloudmask": run_omnicloudmask,
    "terratorch": run_terratorch,
    "geoai": run_geoai,
    "city": run_city,
}


def in_own_process(name: str, path: Path, folder: Path) -> dict[str, Any]:
    """One run in a process of its own; its seconds, phases and peak memory."""
    folder.mkdir()
    env = os.environ | {"OMP_NUM_THREADS": "1" if name == "uvmap" else "2"}
    command = [sys.executable, __file__, "--child", name, "--raster", str(path), "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192, help="side of the raster in px")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="run the installed peers too")
    parser.add_argument("--city", action="store_true", help="the engine's own share with the tiny model")
    parser.add_argument("--side-m", type=int, default=2000, help="side of the demo city")
    parser.add_argument("--child", choices=sorted(RUNNERS), help=argparse.SUPPRESS)
    parser.add_argument("--raster", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        report = RUNNERS[args.child](args.raster, args.folder)
        report["peak_gb"] = peak_memory_gb()
        print(json.dumps(report))
        return
    if args.city:
        city_benchmark(args.side_m, args.runs)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raster = folder / "image.tif"
        make_raster(raster, args.size)
        in_own_process("uvmap", raster, folder / "check")
        with rasterio.open(folder / "check/scores.tif") as dataset:
            scores = dataset.read(1)
        reference = whole_array_reference(raster)
        differing = int((scores != reference).sum())
        print(f"equality with the whole-array reference: {differing} of {reference.size} px differ")
        if differing:
            raise SystemExit("outputs differ: no timing")
        del scores, reference
        peers = (
            [n for n in ("omnicloudmask", "terratorch", "geoai") if importlib.util.find_spec(n)] if args.peers else []
        )
        if args.peers:
            print(f"peers installed: {', '.join(peers) or 'none'}")
        mpx = args.size**2 / 1e6
        rows = {}
        for which in ("bare read", "uvmap", *peers):
            runs = [in_own_process(which, raster, folder / f"{which}{k}") for k in range(args.runs)]
            rates = sorted(mpx / r["seconds"] for r in runs)
            rows[which] = {
                "mpx_per_s": statistics.median(rates),
                "range": [rates[0], rates[-1]],
                "cpu_s": statistics.median(r["cpu_s"] for r in runs),
                "peak_gb": max(r["peak_gb"] for r in runs),
                "phases": runs[-1].get("phases"),
            }
        print(f"{'':14} {'Mpx/s':>7} {'range':>13} {'CPU s':>7} {'peak GB':>8}")
        for which, row in rows.items():
            low, high = row["range"]
            print(
                f"{which:14} {row['mpx_per_s']:7.1f} {low:6.1f}-{high:<6.1f} {row['cpu_s']:7.1f} {row['peak_gb']:8.2f}"
            )
        ratios = {w: rows["uvmap"]["mpx_per_s"] / r["mpx_per_s"] for w, r in rows.items() if w != "uvmap"}
        load = os.getloadavg()[0]
        print(f"phases of uvmap, working seconds: {rows['uvmap']['phases']}")
        print(f"load {load:.1f} on {os.cpu_count()} cores")
        print(
            json.dumps(
                {
                    "size_px": args.size,
                    "runs": args.runs,
                    "differing_px": differing,
                    "load": load,
                    "results": rows,
                    "ratios": ratios,
                }
            )
        )


if __name__ == "__main__":
    main()
