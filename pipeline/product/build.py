"""The last stage of a city: ids, attributes and all files of its product."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from numpy.typing import NDArray

from models.checkpoints import load_checkpoint
from pipeline.attributes import Lineage, add_attributes, read_fabric, write_data_dictionary
from pipeline.attributes.form import measure_form
from pipeline.city.extent import CityExtent
from pipeline.city.job import CityJob
from pipeline.city.opening import ingested_path
from pipeline.city.stage_store import StageResult
from pipeline.city.stage_table import CityRun
from pipeline.dates import SourceDate
from pipeline.files import digest_of, distinct_names, replacing_folder, sha256_of, source_digest, source_record
from pipeline.imagery.acquired import date_of_scenes
from pipeline.imagery.ingest import TAG as INGEST_TAG
from pipeline.product.city_report import ReportFacts, overview, overview_path, remarks_of, write_city_report
from pipeline.product.density_grid import density_cells, write_density_raster
from pipeline.product.files import (
    ProductError,
    check_product,
    mask_path,
    polygon_paths,
    read_manifest,
    scores_path,
    write_manifest,
    write_polygons,
    write_stac_item,
)
from pipeline.product.identity import assign_ids
from pipeline.product.mask import write_polygon_mask

PRODUCT_VERSION = 4
LITTLE_PREDICTED = 0.5
"""Share of the area asked for below which a run says that it predicted little."""


def product_stage(run: CityRun, done: Mapping[str, StageResult]) -> StageResult:
    """Write the product folder of a job in one step, unless it is there already and whole.

    Villages keep the ids of the previous product. An assessment of what stood there is dropped: it no longer fits.

    Raises:
        ProductError: the previous product is the one to be written, or is none.
    """
    job, extent, sources = run.job, run.extent, run.job.ground.sources
    graph, scores, polygons = done["graph"], done["scores"], done["refinement"]
    previous = _previous(job)
    key = {
        "version": PRODUCT_VERSION,
        "scores": scores.key,
        "adaptation": done["adapt"].key,
        "polygons": polygons.key,
        "graph": graph.key,
        "heights": [source_digest(p) for p in sources.heights],
        "notes": sources.notes.model_dump(),
        "release": job.version,
        "campaign": job.campaign,
        "warnings": (*run.warnings, *done["check"].summary["warnings"]),
        "previous": None if job.previous is None else sha256_of(polygon_paths(job.previous, job.adcode)[0]),
    }
    if _is_current(job.out, key):
        return StageResult(job.out, digest_of(key), _summary(job, read_manifest(job.out)), reused=True)
    vectors = gpd.read_parquet(graph.folder / "features.parquet")
    villages = gpd.read_parquet(polygons.folder / "villages.parquet").to_crs(extent.grid.crs)
    named = assign_ids(villages, previous, adcode=job.adcode)
    image_date = sources.notes.image_date or _text(date_of_scenes(sources.imagery)[0])
    checkpoint = load_checkpoint(job.checkpoint)
    lineage = Lineage(
        model_version=checkpoint.digest[:16],
        release=job.version,
        image_date=image_date,
        image_source=sources.notes.image_source,
        osm_date=sources.notes.vectors_date or _latest(vectors["source_date"]),
    )
    table = add_attributes(
        named,
        grid=extent.grid,
        city=job.city,
        lineage=lineage,
        scores=scores.folder / "scores.tif",
        vectors=vectors if len(vectors) else None,  # of ground without a map nothing is known: null, not 0
        height_rasters=sources.heights,
        calibrate=_keep_scores if checkpoint.config.calibration.is_fitted else None,
    )
    with replacing_folder(job.out) as folder:
        shutil.copyfile(scores.folder / "scores.tif", scores_path(folder, job.adcode))
        write_polygons(table, folder, job.adcode)
        write_polygon_mask(scores_path(folder, job.adcode), table, mask_path(folder, job.adcode))
        density = density_cells(table)
        density.to_parquet(
            folder / f"{job.adcode}_density_100m.parquet", compression="zstd", index=False, write_covering_bbox=True
        )
        if len(density):
            write_density_raster(density, folder / f"{job.adcode}_density_100m.tif")
        removed = gpd.read_parquet(polygons.folder / "removed.parquet")
        if len(removed):
            removed.to_parquet(folder / f"{job.adcode}_removed.parquet", compression="zstd", index=False)
        if len(vectors) and len(table):
            _building_form(table, vectors, extent, sources.heights).to_csv(
                folder / "building_form.csv", float_format="%.6g", lineterminator="\n"
            )
        write_data_dictionary(folder / "data_dictionary.csv")
        figures = product_figures(table)
        warnings = (
            *run.warnings,
            *done["check"].summary["warnings"],
            *graph.summary.get("warnings", []),
            *done["adapt"].summary["warnings"],
            *_outcome(scores.summary, figures),
        )
        image, imagery_record = _read_imagery(job)
        facts = ReportFacts(figures, lineage.model_version, remarks_of(polygons.summary, warnings))
        write_city_report(folder, job, extent, table, facts, image=image)
        write_stac_item(
            folder,
            adcode=job.adcode,
            name=job.title,
            grid=extent.grid,
            image_date=image_date,
            properties={"uvmap:adcode": job.adcode, "uvmap:release": job.version, "uvmap:model": lineage.model_version},
        )
        write_manifest(
            folder,
            adcode=job.adcode,
            inputs=_inputs(job, key, lineage) | {"imagery": imagery_record},
            parameters=_parameters(job, extent),
            figures=figures,
            counts={
                "scores": scores.summary,
                "polygons": polygons.summary,
                "graph": graph.summary,
                "adaptation": done["adapt"].summary,
            },
            warnings=warnings,
        )
    return StageResult(job.out, digest_of(key), _summary(job, read_manifest(job.out)), reused=False)


def _building_form(
    table: gpd.GeoDataFrame, vectors: gpd.GeoDataFrame, extent: CityExtent, heights: Sequence[Path]
) -> pd.DataFrame:
    """Low-rise and high-density measures of the villages and of the built-up land outside them."""
    area = extent.aoi if extent.aoi is not None else shapely.box(*extent.grid.bounds_m)
    fabric = read_fabric(vectors, height_rasters=heights)
    return measure_form(table.geometry, fabric, area=area).summary


def product_figures(table: gpd.GeoDataFrame) -> dict[str, Any]:
    """What the product says in sum."""
    area = table["area_m2"].astype("Float64")
    return {
        "villages": len(table),
        "uv_area_m2": float(area.sum()) if len(table) else 0.0,
        "mean_village_m2": float(area.mean()) if len(table) else None,
        "mean_confidence": float(table["confidence"].mean())
        if len(table) and table["confidence"].notna().any()
        else None,
    }


def _outcome(scores: Mapping[str, Any], figures: Mapping[str, Any]) -> Iterator[str]:
    """What to say last of a run that predicted or mapped little."""
    asked = scores["predicted_px"] + scores["not_predicted_px"]
    share = scores["predicted_px"] / asked if asked else 0.0
    if share < LITTLE_PREDICTED:
        yield (
            f"only {share:.1%} of the area asked for was predicted: the scenes do not cover the rest, or their mask or"
            " nodata value takes it out"
        )
    if figures["villages"] == 0:
        yield "no urban village was mapped: if there are some, look at the scores and at `uvmap thresholds`"


def _read_imagery(job: CityJob) -> tuple[NDArray[np.uint8], dict[str, object]]:
    """An overview of the imagery for the report page, and what the manifest says of it."""
    with job.ground.open() as city:
        image, record = overview(city.imagery), city.imagery.record()
        if city.ingested:  # resampled once: what was done stands in the file's tag
            with rasterio.open(ingested_path(job.ground)) as ingested:
                record["ingest"] = json.loads(ingested.tags()[INGEST_TAG])
    np.save(overview_path(job), image)
    return image, record


def _keep_scores(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores of a model with a fitted calibration are probabilities already: the predictor applies it."""
    return scores


def _is_current(folder: Path, key: dict[str, Any]) -> bool:
    if not (folder / "manifest.json").exists():
        return False
    manifest = read_manifest(folder)
    return manifest["inputs"].get("key") == json.loads(json.dumps(key)) and not check_product(folder)


def _previous(job: CityJob) -> gpd.GeoDataFrame | None:
    if job.previous is None:
        return None
    if job.previous.resolve() == job.out.resolve():
        raise ProductError(
            f"{job.out}: is both the previous product and the new one; write the new one to another folder"
        )
    parquet, _ = polygon_paths(job.previous, job.adcode)
    if not parquet.exists():
        raise ProductError(f"{parquet}: no such file, so {job.previous} is no product of {job.adcode}")
    return gpd.read_parquet(parquet)


def _inputs(job: CityJob, key: dict[str, Any], lineage: Lineage) -> dict[str, Any]:
    sources = job.ground.sources
    files = (*sources.imagery, *sources.vectors, *([sources.aoi] if sources.aoi else []), *sources.heights)
    return {
        "key": key,
        "lineage": asdict(lineage),
        "imagery_licence": sources.notes.imagery_licence,
        "files": {name: source_record(path) for name, path in distinct_names(files).items()},
    }


def _parameters(job: CityJob, extent: CityExtent) -> dict[str, Any]:
    return {
        "campaign": job.campaign,
        "version": job.version,
        "crs": extent.grid.crs,
        "grid": asdict(extent.grid),
        "tiling": job.ground.grid.model_dump(mode="json"),
        "polygons": job.polygons.model_dump(mode="json"),
        "refinement": job.refinement.model_dump(mode="json", exclude={"sam_weights"}),
        "batch_size": job.batch_size,
        "adapt": job.adapt,
    }


def _summary(job: CityJob, manifest: dict[str, Any]) -> dict[str, Any]:
    scores = manifest["counts"]["scores"]
    return {
        "adcode": job.adcode,
        "product": str(job.out),
        "report": str(job.out / "report.html"),
        **{k: v for k, v in manifest["figures"].items() if not isinstance(v, dict)},
        "scores": scores,
        "warnings": manifest["warnings"],
    }


def _latest(dates: Sequence[str | None]) -> str | None:
    known = [d for d in dates if isinstance(d, str)]
    return max(known) if known else None


def _text(when: SourceDate | None) -> str | None:
    return None if when is None else str(when)
