"""Products of many cities without a model: real columns, real files, made ground.

Scores are drawn, villages stand in clusters around the seat of a real city, what is built in them is drawn within the
ranges of the data dictionary; ids, attributes, mask, density grid, STAC item and manifest come from the functions that
write real products. One city of 12 villages takes about 0.2 CPU seconds.
"""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import rasterio
import rasterio.shutil
import shapely
import yaml

from pipeline.attributes import Lineage, add_attributes, write_data_dictionary
from pipeline.files import replacing_folder, sha256_of
from pipeline.product.build import product_figures
from pipeline.product.density_grid import density_cells, write_density_raster
from pipeline.product.files import (
    mask_path,
    polygon_paths,
    scores_path,
    write_manifest,
    write_polygons,
    write_stac_item,
)
from pipeline.product.identity import assign_ids
from pipeline.product.mask import write_polygon_mask
from regions.raster.grid import Grid
from regions.raster.profiles import cog_options, tiled_profile
from regions.raster.scores import SCORE_ENCODING, SCORE_TAG
from regions.registry import city_of
from regions.settings import GridConfig, PolygonConfig, RefinementConfig

LATTICE_M = 240.0
"""Villages stand on a lattice, one at most on each place, and never overlap."""
RESOLUTION_M = 10.0


def write_products(root: Path, adcodes, **how) -> list[Path]:
    """A product folder for each city; the seed of each comes from its adcode."""
    return [
        write_product(root, adcode, seed=int(adcode) + how.get("seed", 0), **_without(how, "seed"))
        for adcode in adcodes
    ]


def write_product(
    root: Path,
    adcode: str,
    *,
    villages: int = 12,
    seed: int = 0,
    release: str = "1.0.0",
    previous: Path | None = None,
    campaign: str = "made",
    with_map: bool = True,
    barriers: bool = True,
    imagery_licence: str | None = "CC BY 4.0",
    not_predicted: float = 0.02,
    density_raster: bool = True,
) -> Path:
    """The product of one city at ``root / adcode``.

    Args:
        root: Folder of the campaign's products.
        adcode: A city of the registry, or a demo city (99....).
        villages: How many; 0 is a city without.
        seed: Of all that is drawn.
        release: Version of the release.
        previous: Product folder of an earlier release: its villages come back, a tenth of them grown, a tenth gone
            and as many new, with ids matched by the real matching; otherwise all are new.
        campaign: Name in the manifest.
        with_map: Whether there were vector data: without, all columns of buildings and roads are null.
        barriers: Whether the settings cut outlines at roads and water of the map.
        imagery_licence: As in `sources.yaml`.
        not_predicted: Share of the rows of the grid without a prediction.
        density_raster: Write the density GeoTIFF too.
    """
    city = city_of(adcode)
    rng = np.random.default_rng(seed)
    side_m = LATTICE_M * max(10, int(np.ceil(np.sqrt(max(villages, 1)) * 2.5)))
    to_grid = pyproj.Transformer.from_crs("EPSG:4326", city.crs, always_xy=True)
    x, y = (round(v / 100) * 100 for v in to_grid.transform(city.seat_lon, city.seat_lat))
    grid = Grid.covering(
        (x - side_m / 2, y - side_m / 2, x + side_m / 2, y + side_m / 2), crs=city.crs, resolution_m=RESOLUTION_M
    )
    old = None if previous is None else gpd.read_parquet(polygon_paths(previous, adcode)[0])
    missing_m = max(1, round(grid.height_px * not_predicted)) * RESOLUTION_M if not_predicted else 0.0
    shapes = _shapes(grid, villages, rng, missing_m) if old is None else _changed(old, grid, rng, missing_m)
    named = assign_ids(
        gpd.GeoDataFrame(_refinement(len(shapes), rng), geometry=shapes, crs=grid.crs), old, adcode=adcode
    )
    lineage = Lineage(
        model_version="5eed" * 4,
        release=release,
        image_date="2023-06-15",
        image_source="made scenes",
        osm_date="2023-07-01" if with_map else None,
    )
    return _write_folder(
        root / adcode,
        grid,
        named,
        rng,
        city=city,
        lineage=lineage,
        missing_m=missing_m,
        previous=None if previous is None else sha256_of(polygon_paths(previous, adcode)[0]),
        with_map=with_map,
        vectors=None,
        density_raster=density_raster,
        campaign=campaign,
        imagery_licence=imagery_licence,
        barriers=barriers,
    )


def write_map_of(root: Path, adcode: str, shapes, *, bounds_m, crs: str, vectors, seed: int = 0) -> Path:
    """The product of a city whose villages and map features are given: attributes are measured, not drawn.

    Args:
        root: Folder of the campaign's products.
        adcode: A city of the registry.
        shapes: Polygons of its villages.
        bounds_m: Left, bottom, right, top of the mapped ground.
        crs: Of shapes and bounds.
        vectors: Map features as the pipeline reads them.
        seed: Of the scores.
    """
    grid = Grid.covering(bounds_m, crs=crs, resolution_m=RESOLUTION_M)
    rng = np.random.default_rng(seed)
    named = assign_ids(
        gpd.GeoDataFrame(_refinement(len(shapes), rng), geometry=list(shapes), crs=crs), None, adcode=adcode
    )
    lineage = Lineage(
        model_version="5eed" * 4, release="1.0.0", image_date="2023-06-15", image_source="none", osm_date="2023-07-01"
    )
    return _write_folder(
        root / adcode, grid, named, rng, city=city_of(adcode), lineage=lineage, missing_m=0.0, previous=None,
        with_map=True, vectors=vectors, density_raster=False, campaign="made", imagery_licence="CC BY 4.0",
        barriers=True,
    )  # fmt: skip


def _write_folder(
    out: Path, grid: Grid, named, rng, *, city, lineage, missing_m, previous, with_map, vectors, density_raster,
    campaign, imagery_licence, barriers,
) -> Path:  # fmt: skip
    adcode, release = city.adcode, lineage.release
    with replacing_folder(out) as folder:
        px = _write_scores(scores_path(folder, adcode), grid, named, rng, missing_px=round(missing_m / RESOLUTION_M))
        table = add_attributes(
            named,
            grid=grid,
            city=city,
            lineage=lineage,
            scores=scores_path(folder, adcode),
            vectors=vectors,
            calibrate=lambda s: s,
        )
        if with_map and vectors is None:
            table = _built(table, rng)
        write_polygons(table, folder, adcode)
        write_polygon_mask(scores_path(folder, adcode), table, mask_path(folder, adcode))
        cells = density_cells(table)
        cells.to_parquet(
            folder / f"{adcode}_density_100m.parquet", compression="zstd", index=False, write_covering_bbox=True
        )
        if len(cells) and density_raster:
            write_density_raster(cells, folder / f"{adcode}_density_100m.tif")
        if with_map and len(table):
            _form(table, rng).to_csv(folder / "building_form.csv", float_format="%.6g", lineterminator="\n")
        write_data_dictionary(folder / "data_dictionary.csv")
        (folder / "report.html").write_text(f"<!doctype html><title>{city.name_en}</title>\n", encoding="utf-8")
        write_stac_item(
            folder,
            adcode=adcode,
            name=city.name_en,
            grid=grid,
            image_date=lineage.image_date,
            properties={"uvmap:adcode": adcode, "uvmap:release": release, "uvmap:model": lineage.model_version},
        )
        write_manifest(
            folder,
            adcode=adcode,
            inputs={
                "key": {"version": 4, "release": release, "campaign": campaign, "warnings": []}
                | {"previous": previous},
                "lineage": vars(lineage),
                "imagery_licence": imagery_licence,
                "files": {"scene.tif": {"sha256": "0" * 64, "bytes": 1}}
                | ({"map.osm.pbf": {"sha256": "1" * 64, "bytes": 1}} if with_map else {}),
            },
            parameters={
                "campaign": campaign,
                "version": release,
                "crs": grid.crs,
                "grid": vars(grid),
                "tiling": GridConfig().model_dump(mode="json"),
                "polygons": (PolygonConfig() if barriers else PolygonConfig(barriers=None, exclusions=None)).model_dump(
                    mode="json"
                ),
                "refinement": RefinementConfig().model_dump(mode="json", exclude={"sam_weights"}),
                "batch_size": 8,
                "adapt": True,
            },
            figures=product_figures(table),
            counts={
                "scores": {
                    "blocks": 1,
                    "blocks_skipped": 0,
                    **px,
                    "sha256": sha256_of(scores_path(folder, adcode)),
                },
                "polygons": {"villages": len(table)},
                "graph": {"features": 500 if with_map else 0, "warnings": []},
                "adaptation": {"adapted": False, "warnings": []},
            },
        )
    return out


def write_campaign(path: Path, out_root: Path, adcodes, *, name: str = "made", version: str = "1.0.0", **more) -> Path:
    """The campaign file that these products are of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {
        "name": name,
        "version": version,
        "cities": list(adcodes) if not isinstance(adcodes, str) else adcodes,
        "data_root": str(out_root.parent / "data"),
        "out_root": str(out_root),
        "checkpoint": str(out_root.parent / "checkpoint"),
    } | {key: str(value) if isinstance(value, Path) else value for key, value in more.items()}
    path.write_text(yaml.safe_dump(text, allow_unicode=True), encoding="utf-8")
    return path


def _without(how: dict, key: str) -> dict:
    return {k: v for k, v in how.items() if k != key}


def _shapes(grid: Grid, villages: int, rng: np.random.Generator, missing_m: float) -> list[shapely.Polygon]:
    """Polygons on places of a lattice that lie near the centres of a few clusters."""
    places = _places(grid, missing_m)
    middle = np.array([(grid.bounds_m[0] + grid.bounds_m[2]) / 2, (grid.bounds_m[1] + grid.bounds_m[3]) / 2])
    half = (grid.bounds_m[2] - grid.bounds_m[0]) / 2
    centres = middle + rng.uniform(-0.7, 0.7, (max(1, villages // 40) + 1, 2)) * half
    distance = np.linalg.norm(places[:, None] - centres[None], axis=2).min(axis=1)
    near = np.argsort(distance + rng.exponential(LATTICE_M * 2, len(places)), kind="stable")[:villages]
    return [_outline(places[k], rng) for k in np.sort(near)]


def _places(grid: Grid, missing_m: float) -> np.ndarray:
    left, bottom, right, top = grid.bounds_m
    xs = np.arange(left + LATTICE_M, right - LATTICE_M, LATTICE_M)
    ys = np.arange(bottom + LATTICE_M, top - LATTICE_M - missing_m, LATTICE_M)
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def _outline(centre: np.ndarray, rng: np.random.Generator) -> shapely.Polygon:
    corners = int(rng.integers(8, 40))
    angle = 2 * np.pi / corners * (np.arange(corners) + rng.uniform(0, 0.8, corners))
    radius = rng.uniform(40, 110) * rng.uniform(0.75, 1, corners)
    ring = centre + radius[:, None] * np.column_stack((np.cos(angle), np.sin(angle)))
    holes = [centre + 8.0 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])] if rng.random() < 0.1 else []
    return shapely.Polygon(ring, holes)


def _changed(old: gpd.GeoDataFrame, grid: Grid, rng: np.random.Generator, missing_m: float) -> list[shapely.Polygon]:
    """A tenth grown by 5 m, a tenth gone, as many new on free places."""
    shapes = old.to_crs(grid.crs).geometry.to_numpy()
    fate = rng.permutation(len(shapes))
    tenth = max(1, len(shapes) // 10)
    kept = [
        shapely.buffer(s, 5.0) if k in set(fate[:tenth]) else s
        for k, s in enumerate(shapes)
        if k not in set(fate[tenth : 2 * tenth])
    ]
    places = _places(grid, missing_m)
    taken = np.zeros(len(places), bool)
    taken[shapely.STRtree(shapely.points(places)).query(shapely.union_all(shapely.buffer(shapes, LATTICE_M / 2)))] = (
        True
    )
    new = rng.permutation(np.flatnonzero(~taken))[:tenth]
    return [*kept, *(_outline(places[k], rng) for k in np.sort(new))]


def _refinement(count: int, rng: np.random.Generator) -> pd.DataFrame:
    taken = rng.random(count) < 0.7
    return pd.DataFrame(
        {
            "boundary": np.where(taken, "built-in", "model"),
            "boundary_reason": np.where(taken, "accepted", "agreement too low"),
            "boundary_agreement": rng.uniform(0.5, 1, count),
            "boundary_quality": rng.uniform(0.5, 1, count),
        }
    )


def _write_scores(path: Path, grid: Grid, villages, rng: np.random.Generator, *, missing_px: int) -> dict[str, int]:
    from regions.raster.burn import burn

    scores = rng.integers(0, 60, (grid.height_px, grid.width_px)).astype(np.uint8)
    if len(villages):
        inside = burn(villages.geometry.to_numpy(), grid).astype(bool)
        scores[inside] = rng.integers(140, 251, int(inside.sum()))
    scores[:missing_px] = 255
    flat = path.with_name(".flat.tif")
    with rasterio.open(flat, "w", **tiled_profile(grid, dtype="uint8", nodata=255)) as sink:
        sink.write(scores, 1)
        sink.update_tags(**{SCORE_TAG: SCORE_ENCODING})
    rasterio.shutil.copy(flat, path, **cog_options())
    flat.unlink()
    return {"predicted_px": int((scores != 255).sum()), "not_predicted_px": int((scores == 255).sum())}


def _built(table: gpd.GeoDataFrame, rng: np.random.Generator) -> gpd.GeoDataFrame:
    """Buildings and roads, drawn; heights are unknown for one village in five."""
    n = len(table)
    known = rng.random(n) < 0.8
    coverage = rng.uniform(0.35, 0.75, n)
    height = np.round(rng.gamma(12, 0.9, n) + 3, 2)
    table = table.copy()
    table["building_count"] = pd.array(
        np.maximum(1, (table["area_m2"].to_numpy(float) * coverage / 150).astype(int)), "Int64"
    )
    table["building_coverage"] = pd.array(coverage, "Float64")
    table["building_height_mean"] = pd.array(np.where(known, height, np.nan), "Float64").copy()
    table["floor_area_ratio"] = pd.array(np.where(known, coverage * np.maximum(1, height / 3), np.nan), "Float64")
    for name in ("building_height_mean", "floor_area_ratio"):
        table.loc[~known, name] = pd.NA
    table["height_source"] = pd.array([f"tag {100}%" if k else None for k in known], "string")
    table["road_density"] = pd.array(rng.uniform(5, 40, n), "Float64")
    return table


def _form(table: gpd.GeoDataFrame, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for area, coverage, low in ((float(table["area_m2"].sum()), 0.55, 0.7), (4e6, 0.22, 0.3)):
        rows.append(
            {
                "units": len(table),
                "area_m2": area,
                "coverage": coverage + rng.uniform(-0.05, 0.05),
                "height_mean_m": 9 + 12 * (low < 0.5) + rng.uniform(-1, 1),
                "low_rise_share": low,
                "high_density_share": coverage,
                "low_rise_high_density_share": low * coverage,
            }
        )
    return pd.DataFrame(rows, index=["villages", "outside"])
