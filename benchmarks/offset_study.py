"""How well `estimate_offset` finds a shift between imagery and map, and how often it cries wolf.

Demo cities of several seeds: shifted on purpose at random (0 to 700 m), unshifted, and with the map of another city
(nothing fits: a sure answer would be false). Optionally a folder with a real image and GeoJSON of buildings.

    .venv/bin/python benchmarks/offset_study.py /tmp/offsets --cities 4
"""

from __future__ import annotations

import argparse
import json
import resource
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from pipeline.city.offset import Offset, estimate_offset
from pipeline.imagery import ImageSource, open_imagery
from pipeline.imagery.grids import grid_of_imagery
from pipeline.vectors import read_features
from regions.demo.city import generate_demo_city
from regions.raster.grid import Grid

CODE = "990001"


@dataclass
class City:
    """Imagery and map of one demo city."""

    imagery: ImageSource
    grid: Grid
    table: gpd.GeoDataFrame


def city_of(root: Path, seed: int, side_m: int) -> City:
    """Make a demo city, or take the one that is there."""
    folder = root / f"{side_m}-{seed}" / CODE
    if not (folder / "demo.json").exists():
        generate_demo_city(folder, seed=seed, side_m=side_m, adcode=CODE)
    scenes = sorted((folder / "imagery").glob("*.tif"))
    grid = grid_of_imagery(scenes)
    table = read_features(sorted((folder / "vectors").iterdir()), crs=grid.crs, bounds_m=None).table
    return City(open_imagery(scenes, grid=grid), grid, table)


def moved(table: gpd.GeoDataFrame, by: tuple[float, float]) -> gpd.GeoDataFrame:
    """The table with all features moved."""
    result = table.copy()
    result["geometry"] = shapely.transform(table.geometry.to_numpy(), lambda xy: xy + by)
    return result


def main() -> None:
    """Run all cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cities", type=int, default=4)
    parser.add_argument("--side-m", type=int, default=2400)
    parser.add_argument("--shifts", type=int, default=6)
    given = parser.parse_args()
    random = np.random.default_rng(8)
    cities = [city_of(given.folder, seed, given.side_m) for seed in range(1, given.cities + 1)]
    cases: dict[str, list[tuple[tuple[float, float], Offset | None]]] = {
        "unshifted": [],
        "shifted": [],
        "another city's map": [],
    }
    for k, city in enumerate(cities):
        still = estimate_offset(city.imagery.read, city.grid, city.table)
        cases["unshifted"].append(((0.0, 0.0), still))
        for _ in range(given.shifts):
            angle, length = random.uniform(0, 2 * np.pi), random.uniform(30, 700)
            by = (float(length * np.cos(angle)), float(length * np.sin(angle)))
            cases["shifted"].append((by, estimate_offset(city.imagery.read, city.grid, moved(city.table, by))))
        for other in range(1, len(cities)):
            table = moved(cities[(k + other) % len(cities)].table, (0.0, 0.0))
            place, own = shapely.total_bounds(table.geometry.to_numpy()), city.grid.bounds_m
            table = moved(table, (own[0] - place[0] + 100, own[1] - place[1] + 100))
            # turned by a quarter: the demo's cities share a plan
            centre = ((own[0] + own[2]) / 2, (own[1] + own[3]) / 2)
            table["geometry"] = table.geometry.rotate(90 * other, origin=centre)
            cases["another city's map"].append(((0.0, 0.0), estimate_offset(city.imagery.read, city.grid, table)))
    result = {}
    heads = ("n", "sure", "warned", "median_error_m", "worst_error_m", "peak_least", "peak_most")
    print(f"{'case':22s}" + "".join(f"{head:>16s}" for head in heads))
    for name, found in cases.items():
        known = [(by, o) for by, o in found if o is not None]
        sure = [(by, o) for by, o in known if o.is_sure]
        errors = [float(np.hypot(o.east_m - by[0], o.north_m - by[1])) for by, o in sure]
        row = {
            "n": len(found),
            "sure": len(sure),
            "warned": sum(o.warning is not None for _, o in known),
            "median_error_m": round(float(np.median(errors)), 2) if errors else None,
            "worst_error_m": round(max(errors), 2) if errors else None,
            "peak_least": round(min(o.peak for _, o in known), 1) if known else None,
            "peak_most": round(max(o.peak for _, o in known), 1) if known else None,
        }
        result[name] = row
        print(f"{name:22s}" + "".join(f"{row[head]!s:>16s}" for head in heads))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cases": result, "cpu_s": round(used.ru_utime + used.ru_stime, 1)}))


if __name__ == "__main__":
    main()
