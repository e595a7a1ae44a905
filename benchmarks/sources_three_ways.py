"""One demo city mapped three ways with one model: STAC and PBF, XYZ and GeoParquet, local files; polygons compared.

The city's scenes are put together once and served from another process over loopback: as an asset of a STAC API read by
ranges, as tiles in web mercator, and taken as a file. Each campaign is fetched and mapped by the same code;
the intersection over union of the polygons is taken pair by pair. A model that knows demo cities is needed:

    .venv/bin/uvmap demo --out /tmp/demo --side-m 2000 --train-seconds 90
    cd /tmp/demo && .../python .../benchmarks/sources_three_ways.py --city data/990001 --checkpoint model/checkpoint
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
import yaml
from rasterio.warp import transform_bounds

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.city.job import job_of  # noqa: E402
from pipeline.city.stages import map_city  # noqa: E402
from pipeline.fetch.run import fetch_city  # noqa: E402
from pipeline.imagery import grid_of_imagery  # noqa: E402
from pipeline.imagery.ingest import ingest  # noqa: E402
from pipeline.vectors import read_features  # noqa: E402
from regions.campaign import load_campaign  # noqa: E402
from regions.registry import find_city  # noqa: E402
from tests.support.source_server import serve, write_stac  # noqa: E402

ADCODE, DATE = "990001", "2023-05-14"
INSET_M = 60.0


def campaigns(
    city: Path, served: Path, address: str, checkpoint: Path, out: Path, *, zoom: int | None, drawn: str
) -> dict[str, Path]:  # fmt: skip
    """A campaign file for each way."""
    pbf = next(city.glob("vectors/*.osm.pbf"))
    mosaic = served / "tiles.tif"
    with rasterio.open(mosaic) as scene:
        left, bottom, right, top = scene.bounds
        inner = (left + INSET_M, bottom + INSET_M, right - INSET_M, top - INSET_M)
        bounds = [float(v) for v in transform_bounds(scene.crs, "EPSG:4326", *inner)]
        whole = tuple(float(v) for v in transform_bounds(scene.crs, "EPSG:4326", *scene.bounds, densify_pts=21))
    table = read_features([pbf], crs="EPSG:4326", bounds_m=whole).table
    table.to_parquet(served / "features.parquet", write_covering_bbox=True, row_group_size=500)
    item = {"id": "demo", "date": DATE, "cloud": 1.0, "bbox": list(whole), "collection": "scenes"}
    write_stac(served, [item | {"assets": {"visual": f"{address}/files/tiles.tif"}}], f"{address}/files")
    licence = {"name": "CC0-1.0", "derivatives": True}
    ways = {
        "stac+pbf": (
            {"kind": "stac", "url": f"{address}/stac", "collections": ["scenes"], "assets": ["visual"]},
            {"kind": "pbf", "path": str(pbf), "date": DATE},
        ),
        "xyz+geoparquet": (
            {"kind": "xyz", "url": f"{address}/xyz/{{z}}/{{x}}/{{y}}.png?{drawn}", "zoom": zoom, "date": DATE},
            {"kind": "parquet", "path": f"{address}/files/features.parquet", "date": DATE},
        ),
        "local": (
            {"kind": "local", "path": str(mosaic), "date": DATE},
            {"kind": "file", "path": str(pbf), "date": DATE, "licence": licence},
        ),
    }
    made = {}
    for name, (imagery, vectors) in ways.items():
        folder = out / name
        folder.mkdir(parents=True)
        campaign = {
            "name": "ways", "version": "1.0.0", "cities": [ADCODE], "data_root": str(folder / "data"),
            "out_root": str(folder / "out"), "checkpoint": str(checkpoint), "grid": {"resolution_m": 1.0},
            "sources": {
                "imagery": [imagery | {"licence": licence}], "vectors": [vectors], "bounds_lonlat": bounds,
            },
        }  # fmt: skip
        made[name] = folder / "campaign.yaml"
        made[name].write_text(yaml.safe_dump(campaign))
    return made


def main() -> None:
    """Fetch, map and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--city", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--zoom", type=int, help="level of the tiles; as `uvmap fetch` chooses where not given")
    parser.add_argument("--kernel", default="cubic", help="by which the server draws its tiles, a name of GDAL's")
    parser.add_argument("--jpeg", type=int, help="quality of its tiles as JPEG; PNG where not given")
    given = parser.parse_args()
    drawn = f"kernel={given.kernel}" + (f"&jpeg={given.jpeg}" if given.jpeg else "")
    areas: dict[str, shapely.Geometry] = {}
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        served = folder / "served"
        served.mkdir()
        scenes = sorted(given.city.glob("imagery/*.tif"))
        ingest(scenes, grid_of_imagery(scenes), served / "tiles.tif")
        with serve(served) as address:
            ways = campaigns(given.city, served, address, given.checkpoint, folder, zoom=given.zoom, drawn=drawn)
            for way, path in ways.items():
                campaign, city = load_campaign(path), find_city(ADCODE)
                begun = time.perf_counter()
                fetched = fetch_city(campaign, city)
                took = time.perf_counter() - begun
                job = job_of(campaign, city)
                summary = map_city(job)
                table = gpd.read_parquet(next(job.out.glob("*_uv.parquet"), None) or next(job.out.glob("*uv*.parquet")))
                table = table.to_crs(city.crs)
                areas[way] = shapely.union_all(table.geometry.to_numpy())
                rows[way] = {
                    "fetch_s": round(took, 1), "fetched_mb": sum(f["bytes"] for f in fetched.files) / 1e6,
                    "villages": summary["villages"], "area_m2": float(areas[way].area),
                }  # fmt: skip
                print(way, rows[way], flush=True)
    pairs = {}
    for one, other in itertools.combinations(areas, 2):
        both = shapely.intersection(areas[one], areas[other]).area
        pairs[f"{one} / {other}"] = float(both / np.maximum(shapely.union(areas[one], areas[other]).area, 1e-9))
        print(f"{one + ' / ' + other:<34} IoU {pairs[f'{one} / {other}']:.4f}")
    print(json.dumps({"ways": rows, "iou": pairs, "least_iou": min(pairs.values())}))


if __name__ == "__main__":
    main()
