"""The stage `check`: a city's data looked at before any model time is spent; numbers, a picture and a page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.city.offset import estimate_offset
from pipeline.city.readiness import completeness, look_at, warnings_of
from pipeline.city.stage_store import StageResult, stage_result
from pipeline.city.stage_table import CityRun
from pipeline.fetch.declared import fetched_record
from pipeline.files import digest_of, write_json
from pipeline.imagery.acquired import date_of_scenes
from pipeline.imagery.scene import inspect

CHECK_VERSION = 1
JSON_NAME, PICTURE_NAME, PAGE_NAME = "check.json", "check.png", "check.html"


def check_stage(run: CityRun, done: Mapping[str, StageResult]) -> StageResult:
    """``check.json``, ``check.png`` and ``check.html`` of a city."""
    ground, sources = run.job.ground, run.job.ground.sources
    record = fetched_record(sources.imagery[0].parent.parent)
    inputs = {
        "version": CHECK_VERSION,
        "graph": done["graph"].key,
        "fetched": None if record is None else digest_of(record),
        "grid": [run.extent.grid.crs, run.extent.grid.bounds_m, run.extent.grid.resolution_m],
        "aoi": None if run.extent.aoi is None else run.extent.aoi.wkb_hex,
        "imagery": [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in sources.imagery],
        "notes": sources.notes.model_dump(),
    }

    def build(folder: Path) -> dict[str, Any]:
        features = gpd.read_parquet(done["graph"].folder / "features.parquet")
        with ground.open() as city:
            seen = look_at(city.imagery, run.extent)
            offset = estimate_offset(city.imagery.read, run.extent.grid, features) if len(features) else None
        facts = {
            "adcode": ground.adcode,
            "area_km2": round(run.extent.area_m2 / 1e6, 3),
            "crs": run.extent.grid.crs,
            "resolution_m": run.extent.grid.resolution_m,
            "imagery": {
                "covered": round(seen.covered, 5), "cloud": round(seen.cloud, 4), "haze": round(seen.haze, 4),
                "blocks_read": seen.blocks, "blocks": seen.all_blocks,
                "date": sources.notes.image_date or _text(date_of_scenes(sources.imagery)[0]),
                "licence": sources.notes.imagery_licence,
            },
            "scenes": _scenes(run, record),
            "map": completeness(features, run.extent, None if record is None else record.get("built_share")),
            "offset": None if offset is None else offset.record(),
        }  # fmt: skip
        facts["warnings"] = warnings_of(facts)
        picture = _png(seen.picture)
        (folder / PICTURE_NAME).write_bytes(picture)
        write_json(folder / JSON_NAME, facts)
        (folder / PAGE_NAME).write_text(_page(facts, picture), encoding="utf-8")
        return facts

    return stage_result(ground.work, "check", inputs, build)


def _scenes(run: CityRun, record: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Each scene with its date, CRS and what masks it; fetched ones with the ids that their provider gave."""
    sources = run.job.ground.sources
    known = {Path(f["file"]).name: f for f in (record or {}).get("files", []) if "scenes" in f}
    rows = []
    for path in sources.imagery:
        scene = inspect(path, crs=sources.notes.imagery_crs)
        layer = known.get(path.name)
        mask = "mask" if scene.has_mask else "alpha" if scene.alpha_band else "none"
        rows.append({
            "file": path.name,
            "date": ", ".join(layer["dates"]) or None if layer else _text(date_of_scenes([path])[0]),
            "crs": scene.crs if len(scene.crs) < 40 else "WKT",
            "nodata": mask if scene.nodata is None else scene.nodata,
            "dtype": scene.dtype,
            "size_px": [scene.height_px, scene.width_px],
            "fetched": layer["scenes"] if layer else None,
        })  # fmt: skip
    return rows


def rows_of(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The table of a check: what and value."""
    imagery, vectors, offset = facts["imagery"], facts["map"], facts["offset"]
    read = "" if imagery["blocks_read"] == imagery["blocks"] else f" (of {imagery['blocks_read']} blocks)"
    built = vectors["built_share"]
    rows = [
        ("area of interest", f"{facts['area_km2']:.2f} km2"),
        ("grid", f"{facts['crs']}, {facts['resolution_m']:g} m"),
        ("covered by imagery", f"{imagery['covered']:.2%}{read}"),
        ("date of imagery", imagery["date"] or "unknown"),
        ("looks like cloud", f"{imagery['cloud']:.2%}"),
        ("looks hazy", f"{imagery['haze']:.2%}"),
        ("licence", imagery["licence"] or "not stated"),
        ("map features", f"{vectors['features']}"),
        ("buildings per km2", f"{vectors['buildings_per_km2']:g}"),
        ("roads, km per km2", f"{vectors['roads_km_per_km2']:g}"),
        ("built-up share", "unknown" if built is None else f"{built:.1%}"),
    ]
    if offset is None:
        rows.append(("map against imagery", "too few edges to say"))
    else:
        far = f"{offset['distance_m']:.0f} m off ({offset['windows']} windows)"
        rows.append(("map against imagery", far if offset["is_sure"] else "no sure answer: too little ground or edges"))
    rows += [
        (f"scene {s['file']}", f"{s['date'] or 'no date'}, {s['crs']}, {s['dtype']}, nodata {s['nodata']}")
        for s in facts["scenes"]
    ]
    return rows


def _png(picture: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    return data.getvalue()


def _page(facts: Mapping[str, Any], picture: bytes) -> str:
    image = base64.b64encode(picture).decode()
    rows = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows_of(facts))
    warned = "".join(f"<li>{html.escape(w)}</li>" for w in facts["warnings"])
    warned = f"<h2>Warnings</h2><ul>{warned}</ul>" if warned else "<p>Nothing to warn of.</p>"
    return (
        f"<!doctype html><meta charset=utf-8><title>Check of {facts['adcode']}</title>"
        "<style>body{font:15px sans-serif;"
        "margin:2em;max-width:1100px}th{text-align:left;padding:2px 1em 2px 0;font-weight:normal;color:#555}"
        "img{max-width:100%;border:1px solid #ccc}li{color:#a00}</style>"
        f"<h1>Check of {facts['adcode']}</h1>{warned}<table>{rows}</table>"
        f"<p>Imagery; ground without it in red, ground outside the area of interest dark.</p>"
        f'<img src="data:image/png;base64,{image}" alt="imagery">'
    )


def _text(when: object) -> str | None:
    return None if when is None else str(when)
