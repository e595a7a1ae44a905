"""`uvmap release diff`: city by city, in the memory of one city, with tables, figures and a page."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import shapely

from pipeline.files import replacing_folder, write_json
from pipeline.product.identity import MIN_OVERLAP
from pipeline.release.diff.comparability import Difference, differences, refuse_unsaid
from pipeline.release.diff.events import COLUMNS, EVENTS, city_events, city_figures
from pipeline.release.diff.page import balance_svg, page
from pipeline.release.diff.sources import MARGIN_M, ForeignSide, ReleaseSide
from pipeline.release.errors import ReleaseError
from pipeline.release.geoparquet import geo_metadata, write_groups
from pipeline.release.layout import RECORD
from pipeline.release.tables import BOX, CRS

EVENTS_FILE, CITIES_FILE, PROVINCES_FILE = "events.parquet", "cities.csv", "provinces.csv"
DIFF_FILE, FIGURE_FILE, PAGE_FILE = "diff.json", "balance.svg", "diff.html"
PLACE = ("adcode", "name_zh", "name_en", "province")
_SCHEMA = pa.schema(
    [
        ("adcode", pa.string()),
        ("province", pa.string()),
        ("event", pa.string()),
        ("ids_old", pa.string()),
        ("ids_new", pa.string()),
        ("n_old", pa.int64()),
        ("n_new", pa.int64()),
        ("area_old_m2", pa.float64()),
        ("area_new_m2", pa.float64()),
        ("change_m2", pa.float64()),
        ("iou", pa.float64()),
        ("geometry", pa.binary()),
        ("bbox", pa.struct([(name, pa.float64()) for name in BOX])),
    ]
)


Side = ReleaseSide | ForeignSide


@dataclass(frozen=True, kw_only=True)
class DiffRequest:
    """What is to be compared.

    Attributes:
        old: Folder of a release, or polygons of a map that is not ours.
        new: The same; one of the two is a release.
        out: Folder that receives the result.
        across: Differences that are known and shall be said, not refused.
        layer: Of a foreign file with several.
        margin_m: See `MARGIN_M`.
        min_overlap: See `pipeline.product.identity.match_villages`.
    """

    old: Path
    new: Path
    out: Path
    across: tuple[str, ...] = ()
    layer: str | None = None
    margin_m: float = MARGIN_M
    min_overlap: float = MIN_OVERLAP


@dataclass
class _Compared:
    """How the cities are compared, and what they gave."""

    min_overlap: float
    tell: Callable[[str], None]
    rows: list[dict[str, Any]] = field(default_factory=list)


def diff_releases(request: DiffRequest, *, tell: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Compare, write `EVENTS_FILE`, tables, figure, page and `DIFF_FILE`, and return what is in that.

    Raises:
        NotComparableError: Grids or definitions differ and ``across`` does not say so; nothing is written.
        ReleaseError: Neither of the two is a release, or a file cannot be read.
    """
    if request.out.exists() and not (request.out / DIFF_FILE).exists() and any(request.out.iterdir()):
        raise ReleaseError(f"{request.out}: holds other things than a comparison; give an empty or new folder as --out")
    with tempfile.TemporaryDirectory() as work:
        old, new = _sides(request, Path(work))
        found = _differences(old, new, request.across)
        cities, one_sided = _cities(old, new)
        compared = _Compared(request.min_overlap, tell)
        with replacing_folder(request.out) as folder:
            write_groups(
                folder / EVENTS_FILE,
                _SCHEMA.with_metadata(geo_metadata(CRS, kinds=("Polygon", "MultiPolygon"), bounds=None)),
                _tables(old, new, cities, compared),
            )
            result = _result(old, new, compared.rows, found, one_sided)
            _write_csv(folder / CITIES_FILE, result["cities"])
            _write_csv(folder / PROVINCES_FILE, result["provinces"])
            write_json(folder / DIFF_FILE, result)
            figure = balance_svg(result["provinces"])
            (folder / FIGURE_FILE).write_text(figure, encoding="utf-8")
            (folder / PAGE_FILE).write_text(page(result, figure), encoding="utf-8")
    return result


def _sides(request: DiffRequest, work: Path) -> tuple[Side, Side]:
    ours = [(path / RECORD).exists() for path in (request.old, request.new)]
    if not any(ours):
        raise ReleaseError(
            f"{request.old} and {request.new}: neither is a release (no {RECORD}); of two polygon files give "
            "`uvmap diff`, of a release and a foreign map one release"
        )
    releases = [
        ReleaseSide(p) if is_ours else None for p, is_ours in zip((request.old, request.new), ours, strict=True)
    ]
    anchor = releases[0] or releases[1]
    sides: list[Side] = []
    for path, release in zip((request.old, request.new), releases, strict=True):
        if release is not None:
            sides.append(release)
        elif path.is_dir():
            raise ReleaseError(f"{path}: is a folder without {RECORD}; give a release, or one file of polygons")
        elif anchor is not None:
            sides.append(ForeignSide(path, anchor, layer=request.layer, margin_m=request.margin_m, work=work))
    return sides[0], sides[1]


def _differences(old: Side, new: Side, across: Sequence[str]) -> tuple[Difference, ...]:
    if isinstance(old, ReleaseSide) and isinstance(new, ReleaseSide):
        found = differences(old.record, new.record)
        refuse_unsaid(found, across)
        return found
    refuse_unsaid((), across)
    foreign = old if isinstance(old, ForeignSide) else new
    found = (
        Difference(
            "foreign",
            f"{foreign.name} is a map that is not ours: its grid, date and definition are not known here; `new` and "
            "`gone` mean that one map alone has a village, and no area here is a change of the ground",
            (),
        ),
    )
    if not isinstance(foreign, ForeignSide) or not foreign.without:
        return found
    text = (
        f"{foreign.name} has no polygon in {len(foreign.without)} cities: it may not cover them; their villages "
        "count as those of one map alone all the same, so look at the other cities by themselves (cities.csv)"
    )
    return (*found, Difference("coverage", text, foreign.without))


def _cities(old: Side, new: Side) -> tuple[list[dict[str, str]], dict[str, list[str]]]:
    """Cities that both sides have, in order of adcode, and those that one alone has: those are not compared."""
    releases = [s for s in (old, new) if isinstance(s, ReleaseSide)]
    known = {c.adcode: {k: str(getattr(c, k)) for k in PLACE} for s in releases for c in s.record.cities}
    common = set.intersection(*(set(s.cities) for s in releases))
    alone = {
        side: sorted(set(s.cities) - common) if isinstance(s, ReleaseSide) else []
        for side, s in (("only_old", old), ("only_new", new))
    }
    return [known[c] for c in sorted(common)], alone


def _tables(
    old: Side,
    new: Side,
    cities: Iterable[dict[str, str]],
    compared: _Compared,
) -> Iterator[pa.Table]:
    for k, city in enumerate(cities):
        before, after = old.villages(city["adcode"]), new.villages(city["adcode"])
        events = city_events(before, after, min_overlap=compared.min_overlap)
        compared.rows.append(city | city_figures(before, after, events))
        if (k + 1) % 50 == 0:
            compared.tell(f"{k + 1} cities compared")
        yield _arrow(events, city)


def _arrow(events: gpd.GeoDataFrame, city: dict[str, str]) -> pa.Table:
    shapes = np.asarray(events.geometry.to_crs(CRS).array, dtype=object)
    bounds = shapely.bounds(shapes).reshape(-1, 4)
    columns: dict[str, Any] = {name: pa.array([city[name]] * len(events), pa.string()) for name in PLACE}
    columns |= {n: pa.array(events[n], _SCHEMA.field(n).type, from_pandas=True) for n in COLUMNS}
    columns["geometry"] = pa.array(shapely.to_wkb(shapes, flavor="iso"), pa.binary())
    columns["bbox"] = pa.StructArray.from_arrays([pa.array(bounds[:, k]) for k in range(4)], list(BOX))
    return pa.table([columns[n] for n in _SCHEMA.names], schema=_SCHEMA)


def _result(
    old: Side,
    new: Side,
    rows: list[dict[str, Any]],
    found: Sequence[Difference],
    one_sided: dict[str, list[str]],
) -> dict[str, Any]:
    numbers = [k for k in (rows[0] if rows else {}) if k not in PLACE]
    provinces = []
    for province in sorted({r["province"] for r in rows}):
        members = [r for r in rows if r["province"] == province]
        provinces.append(
            {"province": province, "cities": len(members)} | {k: sum(r[k] for r in members) for k in numbers}
        )
    result: dict[str, Any] = {
        "schema_version": "1.0.0",
        "old": _about(old),
        "new": _about(new),
        "same_thing_measured": not any(d.kind in {"grid", "definition", "outlines", "foreign"} for d in found),
        "differences": [{"kind": d.kind, "text": d.text, "cities": list(d.cities)} for d in found],
        "cities_compared": len(rows),
        "cities_not_compared": one_sided,
        "events": list(EVENTS),
        "total": {k: sum(r[k] for r in rows) for k in numbers},
        "provinces": provinces,
        "cities": rows,
    }
    if rows:
        total = result["total"]
        union = total["area_old_m2"] + total["area_new_m2"] - total["area_both_m2"]
        total["iou"] = total["area_both_m2"] / union if union > 0 else 1.0
    return result


def _about(side: Side) -> dict[str, Any]:
    if isinstance(side, ReleaseSide):
        return {"name": side.name, "kind": "release", "version": side.record.version, "villages": side.record.villages}
    return {
        "name": side.name,
        "kind": "foreign",
        "polygons": side.polygons,
        "outside_all_cities": side.outside,
        "without_area": side.skipped,
        "joined_overlaps": side.dissolved,
    }


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        if rows:
            sink = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            sink.writeheader()
            sink.writerows(rows)
