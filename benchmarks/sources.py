"""Reading through the contract of imagery beside plain rasterio, and 1,000 tiles from a server that takes 50 ms.

Reading: the same windows of the same file, once by `ImageSource.read` (pixels and valid mask, as the model gets them)
and once by rasterio's `read` and, where the file has a mask, `read_masks`; CPU seconds, median of the ratios. Each turn
opens the files anew, so that every block is decoded, as in a run; who goes first changes from window to window.
Equality comes first. Tiles: `fetch_city` with a campaign, the server in a process of its own, which counts requests in
hand and when they came.

    .venv/bin/python benchmarks/sources.py
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import rasterio
import yaml
from rasterio.windows import Window as RasterioWindow

from pipeline.fetch.run import fetch_city
from pipeline.imagery import open_imagery
from pipeline.imagery.ingest import ingest
from regions.campaign import load_campaign
from regions.raster.grid import Grid, Window
from regions.registry import find_city

SERVER = """
import asyncio, io, sys, time
import numpy as np, uvicorn
from PIL import Image
rng = np.random.default_rng(0)
data = io.BytesIO()
Image.fromarray(rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)).save(data, "JPEG", quality=75)
body = data.getvalue()
now, most, times = 0, 0, []
async def app(scope, receive, send):
    global now, most
    if scope["type"] != "http":
        return
    if scope["path"] == "/log":
        import json
        answer = json.dumps({"most": most, "times": times, "bytes": len(body)}).encode()
    else:
        now += 1
        most = max(most, now)
        times.append(time.time())
        await asyncio.sleep(LATENCY)
        now -= 1
        answer = body
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical", lifespan="off")
"""


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def reading(folder: Path, side_px: int, block_px: int, turns: int) -> dict[str, float]:
    """Throughput of the contract by that of plain windows, for each kind of file."""
    grid = Grid("EPSG:32650", 1.0, 500_000, -4_000_000, side_px, side_px)
    rng = np.random.default_rng(0)
    small = rng.integers(1, 255, (3, side_px // 8, side_px // 8), dtype=np.uint8)
    pixels = np.repeat(np.repeat(small, 8, axis=1), 8, axis=2)
    pixels = pixels // 2 + rng.integers(0, 24, pixels.shape, dtype=np.uint8)  # as noisy as real imagery
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 3, "width": side_px, "height": side_px, "crs": grid.crs,
        "transform": grid.affine, "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "DEFLATE",
        "interleave": "pixel", "photometric": "RGB",
    }  # fmt: skip
    local = folder / "local.tif"
    with rasterio.open(local, "w", **profile) as sink:
        sink.write(pixels)
    fetched = ingest([local], grid, folder / "fetched.tif")
    half = folder / "half.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(half, "w", **profile) as sink:
        valid = np.ones((side_px, side_px), bool)
        valid[:, : side_px // 3] = False
        sink.write(pixels)
        sink.write_mask(valid)
    found = {}
    for name, path in (("local file", local), ("fetched file, mask", fetched), ("fetched file, a third masked", half)):
        ratios = []
        windows = list(grid.blocks(block_px))
        masked = name != "local file"
        for turn in range(turns):
            spent = {"ours": 0.0, "theirs": 0.0}
            with open_imagery([path], grid=grid) as source, rasterio.open(path) as plain:
                for k, w in enumerate(windows):
                    window = RasterioWindow(w.col_px, w.row_px, w.width_px, w.height_px)
                    answer: dict[str, tuple[Any, Any]] = {}
                    for way in ("ours", "theirs") if (k + turn) % 2 else ("theirs", "ours"):
                        begun = cpu_s()
                        if way == "ours":
                            answer[way] = source.read(Window(w.row_px, w.col_px, w.height_px, w.width_px))
                        else:
                            raw = plain.read((1, 2, 3), window=window)
                            answer[way] = raw, plain.read_masks(1, window=window) if masked else None
                        spent[way] += cpu_s() - begun
                    if turn == 0:
                        (got, there), (raw, mask) = answer["ours"], answer["theirs"]
                        assert np.array_equal(got, raw if mask is None else raw * (mask > 0))
                        assert mask is None or np.array_equal(there, mask > 0)
            ratios.append(spent["theirs"] / spent["ours"])
        found[name] = statistics.median(ratios)
    return found


def tiles(folder: Path, count: int, latency_s: float, per_second: float, in_flight: int) -> dict[str, float]:
    """A fetch of ``count`` tiles."""
    port = 20_000 + int(time.time()) % 20_000
    server = subprocess.Popen([sys.executable, "-c", SERVER.replace("LATENCY", str(latency_s)), str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.get(f"{url}/log", timeout=1)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        columns = round(math.sqrt(count * 1.6))
        rows = -(-count // columns)
        zoom, x, y = 18, 213_000, 113_500

        def lonlat(column: float, row: float) -> tuple[float, float]:
            n = 2**zoom
            return column / n * 360 - 180, math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * row / n))))

        west, north = lonlat(x + 0.1, y + 0.1)
        east, south = lonlat(x + columns - 0.1, y + rows - 0.1)
        campaign = {
            "name": "tiles", "version": "1.0.0", "cities": ["990001"], "data_root": str(folder / "data"),
            "out_root": str(folder / "out"), "checkpoint": "none", "grid": {"resolution_m": 1.0},
            "sources": {
                "imagery": [{"kind": "xyz", "url": url + "/{z}/{x}/{y}.jpg", "zoom": zoom, "per_second": per_second,
                             "in_flight": in_flight, "licence": {"name": "made", "derivatives": True}}],
                "bounds_lonlat": [west, south, east, north],
            },
        }  # fmt: skip
        path = folder / "tiles.yaml"
        path.write_text(yaml.safe_dump(campaign))
        settings, city = load_campaign(path), find_city("990001")
        begun, cpu = time.perf_counter(), cpu_s()
        fetch_city(settings, city)
        wall, cpu = time.perf_counter() - begun, cpu_s() - cpu
        log = httpx.get(f"{url}/log").json()
        begun = time.perf_counter()
        again = fetch_city(settings, city)
        assert again.reused
        assert len(httpx.get(f"{url}/log").json()["times"]) == len(log["times"])
        times = sorted(log["times"])
        worst = max(sum(1 for t in times if a <= t < a + 1) for a in times)
        return {
            "tiles": len(times), "seconds": wall, "cpu_s": cpu, "download_s": times[-1] - times[0],
            "tiles_per_s": len(times) / (times[-1] - times[0]), "most_in_flight": log["most"],
            "most_in_a_second": worst, "per_second_allowed": per_second, "again_s": time.perf_counter() - begun,
        }  # fmt: skip
    finally:
        server.kill()
        server.wait()


def main() -> None:
    """Both parts, as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side-px", type=int, default=6144)
    parser.add_argument("--block-px", type=int, default=2048)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tiles", type=int, default=1000)
    parser.add_argument("--latency-s", type=float, default=0.05)
    parser.add_argument("--per-second", type=float, default=200.0)
    parser.add_argument("--in-flight", type=int, default=16)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ratios = reading(Path(folder), given.side_px, given.block_px, given.turns)
        fetched = tiles(Path(folder), given.tiles, given.latency_s, given.per_second, given.in_flight)
    for name, ratio in ratios.items():
        print(f"{name:<32} {ratio:.2f} of plain rasterio's throughput")
    for name, value in fetched.items():
        print(f"{name:<32} {value:.5g}")
    print(json.dumps({"reading": ratios, "tiles": fetched}))


if __name__ == "__main__":
    main()
