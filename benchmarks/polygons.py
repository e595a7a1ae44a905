"""Polygons: equality with rasterio first, then speed, a 30 x 30 km city in bounded memory, and refinement.

Run `python benchmarks/polygons.py` (parts: `--parts speed city refinement outlines`). Refinement needs labelled ground:
the demo city (`--demo FOLDER`, made by `uvmap demo`) and folders with image/ and mask/ PNG of one name
(`--tiles FOLDER`). Outlines need products of one city and its reference (`--products FOLDER ... --reference FILE ...`).
Peak memory is that of a process of its own. The last line is one JSON object.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.features
import shapely
from scipy import ndimage

from flows.assessment import find_polygons, find_rasters, read_reference
from pipeline.polygons import PolygonConfig, find_villages, polygonize_mask
from pipeline.polygons.rings import polygons_of_rings, trace_rings
from pipeline.polygons.runs import join_runs, label_runs, runs_of_mask
from pipeline.polygons.scores import grid_of_scores
from pipeline.polygons.simplification import simplify_polygons
from pipeline.polygons.vectorize import to_metres
from pipeline.reference.reader import ReferenceHints
from pipeline.refinement import RefinementConfig, boundary_f1, boundary_iou, choose_refiner, refine_villages
from pipeline.refinement.measures import compare_outlines
from regions.raster.burn import burn, burn_into
from regions.raster.grid import Grid, Window

REPEATS = 5


def median_s(work: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Median wall clock and median processor time (what the clock shows on a quiet machine: one thread works)."""
    walls, works = [], []
    for _ in range(repeats):
        start, busy = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - start)
        works.append(time.process_time() - busy)
    return statistics.median(walls), statistics.median(works)


def masks(side_px: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.random((side_px, side_px), dtype=np.float32), 12)
    blobs = field > np.quantile(field, 0.88)
    return {"blobs": blobs, "noise": blobs ^ (rng.random(blobs.shape) < 0.01)}


def usual(mask: np.ndarray) -> np.ndarray:
    """What is usually written: rasterio's shapes through dictionaries into shapely."""
    found = rasterio.features.shapes(mask.astype(np.uint8), mask=mask, connectivity=4)
    return np.array([shapely.geometry.shape(shape) for shape, _ in found], dtype=object)


def speed(side_px: int = 4096, block_px: int = 1024) -> list[dict[str, object]]:
    rows = []
    for name, mask in masks(side_px).items():
        reference, ours = usual(mask), polygonize_mask(mask)
        blocks = polygonize_mask(mask, block_px=block_px)
        # a vertex-for-vertex comparison: GDAL's rings that touch themselves are made valid first
        expected = shapely.normalize(shapely.make_valid(shapely.simplify(reference, 0)))
        equal = sorted(shapely.to_wkb(shapely.normalize(ours))) == sorted(shapely.to_wkb(expected))
        same = shapely.to_wkb(ours).tolist() == shapely.to_wkb(blocks).tolist()
        if not (equal and same):
            raise SystemExit(f"{name}: polygons differ from rasterio ({equal=}) or between blocks ({same=})")
        grid = Grid("EPSG:3857", 1.0, 0, 0, *mask.shape)
        parts = [
            runs_of_mask(mask[b.slices_in(grid.window)], window=b, height_px=side_px, width_px=side_px)
            for b in grid.blocks(block_px)
        ]
        pieces = sum(label_runs(part, connectivity=4)[0] for part in parts)

        def merge(parts: list = parts) -> object:
            runs = join_runs(parts)
            labels = label_runs(runs, connectivity=4)[1]
            return polygons_of_rings(trace_rings(runs, labels))

        works: dict[str, Callable[[], object]] = {
            "usual": lambda mask=mask: usual(mask),
            "whole": lambda mask=mask: polygonize_mask(mask),
            "blocks": lambda mask=mask: polygonize_mask(mask, block_px=block_px),
            "join and trace": merge,
        }
        times = {name: median_s(work, 1 if name == "usual" else REPEATS) for name, work in works.items()}
        told = ", ".join(f"{key} {wall:.3f} s ({busy:.3f} s of processor)" for key, (wall, busy) in times.items())
        rows.append({"mask": name, "parts": len(ours), "pieces": pieces, "equal": True, "wall_cpu_s": times})
        print(
            f"{name}: {len(ours)} polygons, {pieces} pieces of {len(parts)} blocks, "
            f"equal to rasterio vertex for vertex; {told}"
        )
    return rows


def cpu_ratio(row: dict[str, object], slow: str, fast: str) -> float:
    times = row["wall_cpu_s"]
    assert isinstance(times, dict)
    return float(times[slow][1] / times[fast][1])


def write_city(path: Path, side_px: int) -> None:
    """A score raster of blobs with ragged edges, block by block."""
    rng = np.random.default_rng(1)
    coarse = ndimage.gaussian_filter(rng.random((side_px // 50 + 3, side_px // 50 + 3)), 2)
    coarse = (coarse - coarse.mean()) / coarse.std()
    profile = {"driver": "GTiff", "height": side_px, "width": side_px, "count": 1, "dtype": "uint8", "nodata": 255}
    profile |= {"crs": "EPSG:32650", "transform": rasterio.Affine(1, 0, 500_000, 0, -1, 4_400_000)}
    ragged = ndimage.zoom(rng.normal(0, 0.25, (251, 251)).astype(np.float32), 8, order=1)[:2000, :2000]
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    with rasterio.open(path, "w", **profile) as raster:
        for row in range(0, side_px, 2000):
            for col in range(0, side_px, 2000):
                part = coarse[row // 50 : row // 50 + 42, col // 50 : col // 50 + 42].astype(np.float32)
                field = ndimage.zoom(part, 50, order=1, grid_mode=True, mode="nearest")[:2000, :2000]
                field += np.roll(ragged, rng.integers(0, 2000, 2), axis=(0, 1))
                scores = np.clip(125 + 250 * (field - 1.4), 0, 250).astype(np.uint8)
                scores = scores[: side_px - row, : side_px - col]
                raster.write(scores, 1, window=rasterio.windows.Window(col, row, scores.shape[1], scores.shape[0]))


def peak_memory_mib() -> float:
    """Highest resident memory of this process so far (Linux; getrusage would count the parent's before exec)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _city_run(path: str, side_px: int, block_px: int, answer: object) -> None:
    grid = Grid("EPSG:32650", 1.0, 500_000, -4_400_000, side_px, side_px)
    base_mib = peak_memory_mib()
    start, busy = time.perf_counter(), time.process_time()
    found = find_villages(Path(path), grid=grid, config=PolygonConfig(block_px=block_px), workers=2)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - busy
    peak_mib = peak_memory_mib()
    share = float(found.villages.area.sum() / side_px**2)
    answer.put((seconds, base_mib, peak_mib, len(found.villages), share, cpu_s, found.counts))  # type: ignore[attr-defined]


def city(side_px: int) -> list[dict[str, object]]:
    rows = []
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for side in (side_px // 5, side_px):
            path = Path(folder) / f"scores{side}.tif"
            write_city(path, side)
            answer = context.Queue()
            run = context.Process(target=_city_run, args=(str(path), side, 2048, answer))
            run.start()
            seconds, base, peak, villages, share, cpu_s, counts = answer.get()
            run.join()
            rows.append(
                {
                    "side_px": side,
                    "s": seconds,
                    "cpu_s": cpu_s,
                    "peak_mib": peak,
                    "start_mib": base,
                    "villages": villages,
                }
            )
            print(
                f"city of {side} x {side} px: {seconds:.1f} s, {cpu_s:.1f} s of processor, "
                f"peak {peak:.0f} MiB ({base:.0f} MiB before), {villages} villages on {share:.1%} of the ground, "
                f"{counts}"
            )
    return rows


def blocky_scores(truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Scores as a model of 16 px patches gives them: right in the large, wrong at the edges, smooth in between."""
    rng = np.random.default_rng(seed)
    rows, cols = -(-truth.shape[0] // 16), -(-truth.shape[1] // 16)
    padded = np.pad(truth, ((0, rows * 16 - truth.shape[0]), (0, cols * 16 - truth.shape[1])))
    logits = 6 * (padded.reshape(rows, 16, cols, 16).mean(axis=(1, 3)) - 0.5)
    logits += ndimage.gaussian_filter(rng.normal(0, 5, logits.shape), 1)
    fine = ndimage.zoom(logits, 16, order=1, grid_mode=True, mode="nearest")[: truth.shape[0], : truth.shape[1]]
    return np.round(250 / (1 + np.exp(-fine))).astype(np.uint8)


class Pictures:
    """An image array on a grid as a reader."""

    def __init__(self, image: np.ndarray, grid: Grid) -> None:
        self.image, self.grid = image, grid

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Uint8 (3, h, w) and bool (h, w), invalid outside the grid."""
        inside = window.intersection(self.grid.window)
        out = np.zeros((3, window.height_px, window.width_px), dtype=np.uint8)
        out[(slice(None), *inside.slices_in(window))] = self.image[(slice(None), *inside.slices_in(self.grid.window))]
        valid = np.zeros(out.shape[1:], dtype=bool)
        valid[inside.slices_in(window)] = True
        return out, valid


def labelled(demo: Path | None, tiles: Path | None) -> list[tuple[str, np.ndarray, np.ndarray, float]]:
    """Name, image uint8 (3, H, W), truth bool (H, W) and ground metres per pixel of each labelled place."""
    places = []
    if demo is not None:
        from rasterio.merge import merge  # noqa: PLC0415  only here

        image, transform = merge(sorted((demo / "imagery").glob("*.tif")))
        shapes = gpd.read_file(demo / "labels" / "uv.gpkg").geometry
        truth = burn_into(shapes, transform, image.shape[1:])
        places.append(("demo city", image[:3], truth, float(transform.a)))
    for path in sorted((tiles / "mask").glob("*.png")) if tiles is not None else []:
        with rasterio.open(path) as mask, rasterio.open(path.parent.parent / "image" / path.name) as picture:
            places.append((path.stem, picture.read()[:3], mask.read(1) > 0, 0.914))
    return places


def refinement(
    demo: Path | None, tiles: Path | None, scores_of_demo: Path | None, seeds: int, sam: Path | None = None
) -> list[dict[str, object]]:
    rows = []
    refiners = {"built-in": ("built-in", "one")}
    if sam is not None:  # its one mask against the best of its several
        refiners |= {f"SAM, {masks}": ("sam", masks) for masks in ("one", "several")}
    for name, image, truth, ground_m in labelled(demo, tiles):
        sources = {f"degraded truth {seed}": blocky_scores(truth, seed) for seed in range(seeds)}
        if name == "demo city" and scores_of_demo is not None:
            with rasterio.open(scores_of_demo) as raster:
                sources["model"] = raster.read(1)
        for source, scores in sources.items():
            grid = Grid("EPSG:3857", ground_m, 0, 0, *truth.shape)
            config = PolygonConfig(seed=0.6, grow=0.5, barriers=None)
            villages = find_villages(scores, grid=grid, config=config).villages
            for who, (kind, masks) in refiners.items():
                refiner, _ = choose_refiner(kind, sam_weights=sam, sam_masks=masks, resolution_m=ground_m)
                start = time.process_time()
                table = refine_villages(
                    villages, scores=scores, imagery=Pictures(image, grid), grid=grid, refiner=refiner,
                    config=RefinementConfig(),
                )  # fmt: skip
                seconds = time.process_time() - start
                row: dict[str, object] = {"place": name, "scores": source, "refiner": who, "villages": len(table)}
                row["cpu_s"] = seconds
                row["accepted"] = int((table["boundary"] == kind).sum())
                row["quality"] = float(table["boundary_quality"].mean()) if len(table) else None
                for when, found in (("before", villages), ("after", table)):
                    mask = burn(found.geometry, grid)
                    row[f"iou_{when}"] = float((mask & truth).sum() / (mask | truth).sum())
                    corners = shapely.get_num_coordinates(found.geometry.to_numpy()).sum()
                    row[f"corners_per_km_{when}"] = float(1000 * corners / max(found.geometry.length.sum(), 1e-9))
                    for metres in (3, 10):
                        row[f"f1_{metres}m_{when}"] = boundary_f1(mask, truth, tolerance_px=metres / ground_m)
                        row[f"biou_{metres}m_{when}"] = boundary_iou(mask, truth, distance_px=metres / ground_m)
                rows.append(row)
                pairs = ("iou", "f1_3m", "f1_10m", "biou_3m", "biou_10m")
                told = ", ".join(f"{key} {row[f'{key}_before']:.3f} -> {row[f'{key}_after']:.3f}" for key in pairs)
                told += f", corners/km {row['corners_per_km_before']:.0f} -> {row['corners_per_km_after']:.0f}"
                took = f"{row['accepted']} of {len(table)} accepted, quality {row['quality']:.2f}, {seconds:.1f} CPU-s"
                print(f"{name}, {source}, {who}: {took}; {told}")
    return rows


def outlines(products: Sequence[Path], reference: Sequence[Path], crs: str | None) -> list[dict[str, object]]:
    """Outlines of the same ground drawn in four ways, and those of the product (refined, if it was), against truth."""
    rows = []
    for product in products:
        rasters = find_rasters(product)
        grid = grid_of_scores(rasters.scores)
        truth = read_reference(reference, rasters, hints=ReferenceHints(raster_crs=crs)).polygons.geometry
        traced = find_villages(rasters.scores, grid=grid, config=PolygonConfig(simplify_m=0)).villages.geometry
        edges = to_metres(polygonize_mask(burn(traced, grid)), grid)
        ways = {
            "pixel edges, as traced": edges,
            "pixel edges, simplified": shapely.coverage_simplify(edges, PolygonConfig().simplify_m),
            "level of the scores, as traced": traced.to_numpy(),
            "level of the scores, simplified": simplify_polygons(
                traced.to_numpy(), tolerance_m=PolygonConfig().simplify_m
            ).polygons,
            "the product": gpd.read_parquet(find_polygons(product)).to_crs(grid.crs).geometry.to_numpy(),
        }
        for way, polygons in ways.items():
            series = gpd.GeoSeries(polygons, crs=grid.crs)
            kilometres = float(shapely.length(polygons).sum()) / 1000
            row: dict[str, object] = {"product": product.name, "outlines": way, "km": kilometres}
            row["corners_per_km"] = float(shapely.get_num_coordinates(polygons).sum()) / max(kilometres, 1e-9)
            row["area"] = float(shapely.area(polygons).sum() / shapely.area(edges).sum())
            row |= compare_outlines(series, truth, grid=grid)
            rows.append(row)
            print(
                f"{product}, {way:32} {row['corners_per_km']:7.0f} corners/km, {kilometres:6.2f} km, "
                f"area {row['area']:.4f}, F1 3 m {row['boundary_f1_3m']:.3f}, 10 m {row['boundary_f1_10m']:.3f}, "
                f"IoU {row['iou']:.4f}"
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["speed", "city", "refinement"])
    parser.add_argument("--city-side-px", type=int, default=30_000)
    parser.add_argument("--demo", type=Path, help="folder of the demo city, with imagery/ and labels/uv.gpkg")
    parser.add_argument("--demo-scores", type=Path, help="score raster of a trained model on the demo city's extent")
    parser.add_argument("--tiles", type=Path, help="folder with image/ and mask/ of one name")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sam", type=Path, help="local folder with SAM weights: one mask against several")
    parser.add_argument("--products", type=Path, nargs="+", default=[], help="product folders of one city")
    parser.add_argument("--reference", type=Path, nargs="+", default=[], help="its reference: polygons or masks")
    parser.add_argument("--imagery-crs", help="CRS of masks that carry none, such as EPSG:3857")
    options = parser.parse_args()
    results: dict[str, object] = {}
    if "speed" in options.parts:
        rows = speed()
        results["speed"] = rows
        results["ratios"] = {f"usual_by_whole_{row['mask']}": cpu_ratio(row, "usual", "whole") for row in rows}
    if "city" in options.parts:
        results["city"] = city(options.city_side_px)
    if "refinement" in options.parts:
        results["refinement"] = refinement(options.demo, options.tiles, options.demo_scores, options.seeds, options.sam)
    if "outlines" in options.parts:
        results["outlines"] = outlines(options.products, options.reference, options.imagery_crs)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
