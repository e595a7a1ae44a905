"""All sources of one city, brought into its data folder: afterwards it is a city as if laid out by hand.

Each file is a piece of work of a ledger in the city's work folder: keyed by the source, the area, the grid and what the
source says of itself, with its checksum. A killed run goes on where it stopped: tiles, items and downloads that came
stay in the cache, files that are done are found again. What lies in the folder and was not fetched is never touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import yaml

from pipeline.city.sources import NOTES_NAME
from pipeline.dates import parse_date
from pipeline.fetch.area import FetchArea, fetch_area
from pipeline.fetch.confidential import public_url
from pipeline.fetch.declared import FETCH_VERSION, RECORD_NAME, declared_digest, declared_sources
from pipeline.fetch.errors import FetchError
from pipeline.fetch.imagery import (
    BLOCK_PX,
    Scenes,
    Wanted,
    block_lineage,
    bring_imagery,
    city_grid,
    lay_onto,
    settled,
    survey_imagery,
)
from pipeline.fetch.stac_assets import estimated_bytes
from pipeline.fetch.vectors import bring_vectors, identity_of
from pipeline.files import digest_of, replacing, sha256_of, write_json
from pipeline.ledger import Ledger
from regions.campaign import Campaign
from regions.raster.grid import Grid
from regions.registry import City
from regions.sources import FileVectors, Sources, StacImagery

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class FetchPlan:
    """What a city's sources will give.

    Attributes:
        adcode: The city.
        area_km2: Of its area of interest.
        rows: One per source: ``source``, ``what``, ``bytes`` (estimate, None where unknown), ``licence``.
    """

    adcode: str
    area_km2: float
    rows: tuple[dict[str, Any], ...]

    @property
    def bytes_to_come(self) -> int:
        """Sum of the estimates."""
        return sum(r["bytes"] or 0 for r in self.rows)


@dataclass(frozen=True)
class FetchResult:
    """What was brought.

    Attributes:
        adcode: The city.
        folder: Its data folder.
        files: Record of every file, as in `fetch.json`.
        reused: Names of files that were there and fit.
    """

    adcode: str
    folder: Path
    files: tuple[dict[str, Any], ...]
    reused: tuple[str, ...]


def plan_fetch(campaign: Campaign, city: City) -> FetchPlan:
    """Ask every source what it has, bring nothing.

    Raises:
        PipelineError: a source does not answer or has nothing.
    """
    sources = declared_sources(campaign, city)
    area = fetch_area(sources, city)
    rows = []
    for k, named in enumerate(sources.imagery):
        source = settled(named, area, campaign.grid.resolution_m)
        wanted = survey_imagery(source, city.adcode, area, cache_folder(campaign))
        size = wanted.bytes_to_come
        if isinstance(source, StacImagery):
            size = len(wanted.stac) * estimated_bytes(wanted.stac[0], source, area.bounds_lonlat)
        rows.append(_row(f"imagery {k} ({source.kind})", wanted.what, size, source))
    for k, vectors in enumerate(sources.vectors):
        known = identity_of(vectors, city.adcode)
        rows.append(_row(f"vectors {k} ({vectors.kind})", public_url(vectors.path), known.get("bytes"), vectors))
    return FetchPlan(city.adcode, area.km2, tuple(rows))


def fetch_city(
    campaign: Campaign, city: City, *, refresh: bool = False, progress: Progress | None = None
) -> FetchResult:
    """Bring all sources of a city into its data folder.

    Args:
        campaign: Names the sources.
        city: The city.
        refresh: Ask servers again whether tiles changed, by their ETags.
        progress: Called with what is brought and the number of bytes that came.

    Raises:
        FetchError: a source cannot be brought, or a file that was not fetched stands in the way.
        LedgerBusyError: another process fetches this city.
    """
    sources = declared_sources(campaign, city)
    folder, work = campaign.data_folder(city.adcode), campaign.out_root / ".work" / city.adcode / "fetch"
    area, cache = fetch_area(sources, city), cache_folder(campaign)
    with Ledger(work) as ledger:
        run = _Run(campaign, city, sources, area, folder, cache, ledger, refresh, progress)
        imagery = list(run.imagery())
        vectors = list(run.vectors())
        run.area_file()
        notes = run.notes(imagery, vectors)
        files = (*imagery, *vectors)
        record = {
            "schema_version": "1.0.0",
            "adcode": city.adcode,
            "campaign": campaign.name,
            "version": campaign.version,
            "declared": declared_digest(campaign, city),
            "area_km2": round(area.km2, 3),
            "built_share": area.built_share,
            "bounds_lonlat": [round(v, 7) for v in area.bounds_lonlat],
            "notes": notes,
            "files": list(files),
        }
        write_json(folder / RECORD_NAME, record)
        run.sweep({f["file"] for f in files})
    return FetchResult(city.adcode, folder, files, tuple(run.reused))


def cache_folder(campaign: Campaign) -> Path:
    """Where tiles, items and national files are kept, for all cities of a campaign."""
    return campaign.data_root / ".cache"


class _Run:
    """One city being brought."""

    def __init__(  # noqa: PLR0913, PLR0917 - what `fetch_city` has worked out, in one place
        self, campaign: Campaign, city: City, sources: Sources, area: FetchArea, folder: Path, cache: Path,
        ledger: Ledger, refresh: bool, progress: Progress | None,
    ) -> None:  # fmt: skip
        self.campaign, self.city, self.sources, self.area = campaign, city, sources, area
        self.folder, self.cache, self.ledger = folder, cache, ledger
        self.refresh, self.progress = refresh, progress
        self.reused: list[str] = []
        self._mine = _fetched_before(folder)

    def imagery(self) -> Iterator[dict[str, Any]]:
        """Bring every source of imagery; records of the files."""
        grid = None
        for k, named in enumerate(self.sources.imagery):
            source = settled(named, self.area, self.campaign.grid.resolution_m)
            name = f"imagery-{k:02d}"
            target = self.folder / "imagery" / f"{k:02d}_{source.kind}.tif"
            wanted = survey_imagery(source, self.city.adcode, self.area, self.cache)
            key = self._key(name, source, wanted.identity, extra=None if grid is None else asdict(grid))
            kept = None if self.refresh and source.kind == "xyz" else self._found(name, key, target)
            if kept is not None:
                grid = grid or _grid_of(target, self.area)
                yield kept
                continue
            self._may_write(target)
            scenes = bring_imagery(
                source, self.city.adcode, self.area, self.cache, wanted, refresh=self.refresh, progress=self._tell(name)
            )
            grid = grid or city_grid(self.area, scenes, source, self.campaign.grid.resolution_m)
            target.parent.mkdir(parents=True, exist_ok=True)
            lay_onto(scenes, grid, target)
            yield self._done(name, key, target, _imagery_record(source, scenes, wanted, grid))

    def vectors(self) -> Iterator[dict[str, Any]]:
        """Bring every source of map features; records of the files."""
        for k, source in enumerate(self.sources.vectors):
            name = f"vectors-{k:02d}"
            stem = self.folder / "vectors" / f"{k:02d}_{source.kind}"
            key = self._key(name, source, identity_of(source, self.city.adcode))
            before = next((f for f in self._mine.values() if f.get("name") == name), None)
            target = None if before is None else self.folder / before["file"]
            kept = None if target is None else self._found(name, key, target)
            if kept is not None:
                yield kept
                continue
            stem.parent.mkdir(parents=True, exist_ok=True)
            for there in stem.parent.glob(f"{stem.name}.*"):
                self._may_write(there)
            brought = bring_vectors(source, self.city.adcode, self.area, stem, self.cache, progress=self._tell(name))
            yield self._done(
                name, key, brought.path, brought.record | {"date": source.date, "licence": str(source.licence)}
            )

    def area_file(self) -> None:
        """Write the area of interest."""
        target = self.folder / "aoi.gpkg"
        key = digest_of({"version": FETCH_VERSION, "area": self.area.lonlat.wkt, "crs": self.area.crs})
        entry = self.ledger.find("aoi", key=key)
        if entry is not None and Path(entry.path) == target.resolve():
            return
        if target.exists() and self.ledger.latest("aoi") is None:
            raise _in_the_way(target)
        from regions.raster.gdal_clock import fixed_gdal_clock  # noqa: PLC0415 - one small file

        self.folder.mkdir(parents=True, exist_ok=True)
        shape = gpd.GeoDataFrame({"adcode": [self.city.adcode]}, geometry=[self.area.lonlat], crs="EPSG:4326")
        with fixed_gdal_clock(), replacing(target) as part:
            shape.to_file(part, layer="aoi", driver="GPKG", engine="pyogrio")
        self.ledger.register("aoi", target, key=key)

    def notes(self, imagery: list[dict[str, Any]], vectors: list[dict[str, Any]]) -> dict[str, Any]:
        """Write `sources.yaml`: dates, names and terms that the files do not carry."""
        days = [parse_date(d, f["file"]) for f in imagery for d in f["dates"] if d]
        period = None
        if days and all(f["dates"] for f in imagery):
            first, last = min(d.first for d in days), max(d.last for d in days)
            period = first.isoformat() if first == last else f"{first.isoformat()}/{last.isoformat()}"
        notes: dict[str, Any] = {
            "image_date": period,
            "image_source": "; ".join(dict.fromkeys(str(f["from"]) for f in imagery)),
            "imagery_licence": "; ".join(dict.fromkeys(str(f["licence"]) for f in imagery)),
        }
        stated = [str(f["date"]) for f in vectors if f["date"]]
        if stated and len(stated) == len(vectors):
            notes["vectors_date"] = min(stated)
        files = [s for s in self.sources.vectors if isinstance(s, FileVectors)]
        for name in ("crs", "datum"):
            values = {getattr(s, name) for s in files} - {None, "wgs84"}
            if len(values) > 1 or (values and len(files) < len(self.sources.vectors)):
                raise FetchError(
                    f"{self.city.adcode}: vector sources of different {name}: {values}; name one such file alone"
                )
            if values:
                notes[f"vectors_{name}"] = values.pop()
        notes = {k: v for k, v in notes.items() if v}
        target = self.folder / NOTES_NAME
        text = "# written by `uvmap fetch`; it is written anew by the next one\n" + yaml.safe_dump(
            notes, allow_unicode=True, sort_keys=True
        )
        if target.exists() and not target.read_text(encoding="utf-8").startswith("# written by `uvmap fetch`"):
            raise _in_the_way(target)
        with replacing(target) as part:
            part.write_text(text, encoding="utf-8")
        return notes

    def sweep(self, files: set[str]) -> None:
        """Remove what an earlier fetch brought and this one did not."""
        for name in set(self._mine) - files:
            (self.folder / name).unlink(missing_ok=True)

    def _key(self, name: str, source: Any, identity: Any, extra: Any = None) -> str:
        return digest_of(
            {
                "version": FETCH_VERSION,
                "name": name,
                "source": source.model_dump(mode="json"),
                "area": self.area.lonlat.wkt,
                "crs": self.area.crs,
                "resolution_m": self.campaign.grid.resolution_m,
                "identity": identity,
                "grid": extra,
            }
        )

    def _found(self, name: str, key: str, target: Path) -> dict[str, Any] | None:
        entry = self.ledger.find(name, key=key)
        if entry is None or Path(entry.path) != target.resolve():
            return None
        self.reused.append(name)
        return dict(entry.note)

    def _done(self, name: str, key: str, path: Path, record: dict[str, Any]) -> dict[str, Any]:
        note = {
            "name": name,
            "file": path.relative_to(self.folder).as_posix(),
            "sha256": sha256_of(path),
            "bytes": path.stat().st_size,
            **record,
        }
        self.ledger.register(name, path, key=key, note=note)
        self._mine[note["file"]] = note
        write_json(self.folder / RECORD_NAME, {"adcode": self.city.adcode, "files": list(self._mine.values())})
        return note

    def _may_write(self, target: Path) -> None:
        if target.exists() and target.relative_to(self.folder).as_posix() not in self._mine:
            raise _in_the_way(target)

    def _tell(self, name: str) -> Callable[[int], None] | None:
        if self.progress is None:
            return None
        told = self.progress
        return lambda size: told(f"{self.city.adcode} {name}", size)


def _imagery_record(source: Any, scenes: Scenes, wanted: Wanted, grid: Grid) -> dict[str, Any]:
    return {
        "kind": source.kind,
        "from": scenes.records[0].get("from", "local scenes"),
        "what": wanted.what,
        "dates": sorted(set(scenes.dates)),
        "licence": str(source.licence),
        "datum": scenes.datum,
        "scenes": list(scenes.records),
        "composite": scenes.rule,
        "block_px": BLOCK_PX,
        "blocks": block_lineage(scenes, grid),
    }


def _fetched_before(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / RECORD_NAME
    if not path.exists():
        return {}
    try:
        return {f["file"]: f for f in json.loads(path.read_text(encoding="utf-8"))["files"]}
    except (ValueError, KeyError, TypeError) as error:
        raise FetchError(f"{path}: is no record of a fetch ({error}); move the folder away and fetch again") from error


def _grid_of(path: Path, area: FetchArea) -> Any:
    from pipeline.imagery.grids import grid_of_scenes  # noqa: PLC0415 - as `city_grid`
    from pipeline.imagery.scene import inspect  # noqa: PLC0415

    return grid_of_scenes([inspect(path)], resolution_m=None, crs=area.crs)


def _in_the_way(path: Path) -> FetchError:
    return FetchError(f"{path}: was not fetched and stands in the way: move it elsewhere, or name it as a local source")


def _row(name: str, what: str, size: int | None, source: Any) -> dict[str, Any]:
    return {"source": name, "what": what, "bytes": size, "licence": source.licence.name}
