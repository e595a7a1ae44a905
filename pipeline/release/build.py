"""A release from the products of a campaign: every file, in bounded memory, the same bytes for the same inputs.

Finished parts lie in a hidden folder beside the release until it is whole; a build that was killed goes on there. The
release itself is put in place in one step.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.files import digest_of, replacing_folder, sha256_of
from pipeline.release import layout
from pipeline.release.accuracy import add_accuracy, has_accuracy, read_assessment
from pipeline.release.archives import ArchiveTask
from pipeline.release.changes import count_changes
from pipeline.release.checksums import hash_file
from pipeline.release.dictionary import dictionary_csv
from pipeline.release.errors import ReleaseError
from pipeline.release.facts import city_fact, definition_settings, definitions, made_with, model_facts, raster_place
from pipeline.release.grid import GridPart, write_grid_raster, write_grid_table
from pipeline.release.licence import MAP, OWN, licence_of, outlines_follow_map
from pipeline.release.merging import (
    Spread,
    bounds_of,
    read_own,
    write_map_attributes,
    write_national,
    write_villages,
)
from pipeline.release.metadata import ReleaseMetadata
from pipeline.release.parts import make_part
from pipeline.release.plan import ReleasePlan, plan_release, work_folder
from pipeline.release.record import AccuracyFact, FileFact, ReleaseRecord, read_record
from pipeline.release.seal import seal_release
from pipeline.release.steps import city_part, made_by, place_file, province_part
from pipeline.release.tables import OWN_COLUMNS, SCHEMA, CityPart
from pipeline.release.texts import cities_csv, provinces_csv
from pipeline.release.vector_files import find_tippecanoe, write_package, write_tiles
from pipeline.release.viewer.build import add_viewer, place_viewer
from pipeline.release.viewer.library import library_files
from regions.campaign import Campaign
from regions.raster.equal_area import CHINA_ALBERS

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ReleaseRequest:
    """What is to be built.

    Attributes:
        campaign: Whose products.
        version: X.Y.Z.
        out: Folder that receives the release.
        previous: Folder of the last release; None for the first.
        metadata: What people say of it.
        with_scores: Put the score rasters into the archives.
        accuracy: Folder of `uvmap assess sample`; None takes the censuses that products carry.
        sample: Folder of the reference set that it published.
        date: Day of the release, ISO; None until it is published.
    """

    campaign: Campaign
    version: str
    out: Path
    previous: Path | None = None
    metadata: ReleaseMetadata = field(default_factory=ReleaseMetadata)
    with_scores: bool = False
    accuracy: Path | None = None
    sample: Path | None = None
    date: str | None = None


def build_release(request: ReleaseRequest, *, spread: Spread = map, tell: Tell = lambda _: None) -> ReleaseRecord:
    """Build a release; what an earlier, killed build of the same inputs had finished is kept.

    Args:
        request: What is to be built.
        spread: How work over cities, stretches and provinces is spread; does not change a byte.
        tell: Called with a line per step.

    Raises:
        NationalProductsError, ReleaseError, ReleaseTooLargeError: See `plan_release`; checked before anything is
            written.
    """
    before = None if request.previous is None else read_record(request.previous)
    if before is not None and _numbers(before.version) >= _numbers(request.version):
        raise ReleaseError(
            f"{request.previous}: is version {before.version}, and this shall be {request.version}; give a higher one"
        )
    _check_target(request.out, request.version)
    products = plan_release(request.campaign, with_scores=request.with_scores, with_accuracy=False).products
    known = has_accuracy(request.accuracy, products)
    if request.accuracy is not None:
        read_assessment(request.accuracy, request.sample)
    find_tippecanoe()
    library_files()
    judged = [folder for folder in (request.accuracy, request.sample) if folder is not None]
    plan = plan_release(request.campaign, with_scores=request.with_scores, with_accuracy=known, assessment=judged)
    work = work_folder(request.out)
    (work / "data").mkdir(parents=True, exist_ok=True)
    builder = _Builder(request, plan, work, spread, tell)
    builder.write_cities()
    builder.write_nation()
    builder.write_grid()
    builder.write_archives()
    accuracy = add_accuracy(work / "data", request.accuracy, request.sample, products)
    record = add_viewer(work, builder.record(accuracy, before), data_root=request.campaign.data_root)
    tell("texts, STAC, RO-Crate, checksums")
    with replacing_folder(request.out) as folder:
        for name in record.data:
            place_file(work / "data" / name, folder / name)
        place_viewer(work / layout.VIEWER, folder)
        seal_release(folder, record)
    shutil.rmtree(work)
    return record


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _check_target(out: Path, version: str) -> None:
    """Refuse to replace anything but a release of the same version."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / layout.RECORD).is_file():
        raise ReleaseError(f"{out}: exists and is no release: it is not replaced; give another folder as --out")
    there = read_record(out)
    if there.version != version or there.doi is not None:
        what = there.version + (f" with DOI {there.doi}" if there.doi else "")
        raise ReleaseError(f"{out}: holds release {what}: it is not replaced; give another folder as --out")


def describe_release(folder: Path, record: ReleaseRecord) -> dict[str, Any]:
    """What a release is, in a few figures."""
    files = layout.record_files(folder)
    return {
        "release": str(folder),
        "version": record.version,
        "cities": len(record.cities),
        "missing": len(record.missing),
        "villages": record.villages,
        "uv_area_m2": record.uv_area_m2,
        "files": len(files),
        "bytes": sum(p.stat().st_size for p in files),
        "licence": record.outlines_licence,
        "accuracy": None if record.accuracy is None else record.accuracy.kind,
        "checksums_sha256": sha256_of(folder / layout.SHA256),
    }


class _Builder:
    """The steps of a build; each finds again what is finished."""

    def __init__(self, request: ReleaseRequest, plan: ReleasePlan, work: Path, spread: Spread, tell: Tell) -> None:
        self._request, self._plan, self._work, self._spread, self._tell = request, plan, work, spread, tell
        self._data = work / "data"
        self._model = model_facts(request.campaign.checkpoint)
        self._follow = {
            p.adcode: outlines_follow_map(p, model_reads_map=bool(self._model["reads_map"])) for p in plan.products
        }
        self._outlines = MAP if any(self._follow.values()) else OWN
        self._keys = {p.adcode: sha256_of(p.folder / "manifest.json") for p in plan.products}
        self._key = digest_of([made_by(), self._keys, self._outlines, request.with_scores, request.version])
        self._parts: dict[str, tuple[CityPart, GridPart]] = {}
        self._grid: dict[str, list[float]] = {}

    def write_cities(self) -> None:
        """Rows and cells of every city, several cities at a time."""
        folder = self._work / "cities"
        folder.mkdir(exist_ok=True)
        tasks = [(p, folder, self._keys[p.adcode]) for p in self._plan.products]
        for k, part in enumerate(self._spread(city_part, tasks)):
            self._parts[part[0].adcode] = part
            if (k + 1) % 10 == 0 or k + 1 == len(tasks):
                self._tell(f"cities {k + 1} of {len(tasks)}")

    def write_nation(self) -> None:
        """GeoParquet, map attributes, GeoPackage and tiles."""
        parts = [p for p, _ in self._in_order()]
        stretches = self._work / "stretches"
        tables: list[Path] = []

        def files() -> list[Path]:
            if not tables:
                self._tell("villages in order")
                tables.extend(write_national(parts, stretches, spread=self._spread))
            return tables

        plain = pa.schema([SCHEMA.field(n) for n in (*OWN_COLUMNS, "geometry")])
        steps: list[tuple[str, Callable[[Path], object]]] = [
            (layout.VILLAGES, lambda path: write_villages(files(), path, bounds_of(parts))),
            (layout.MAP_ATTRIBUTES, lambda path: write_map_attributes(files(), path)),
            (layout.PACKAGE, lambda path: write_package(read_own(files()), plain, path)),
            (layout.TILES, lambda path: write_tiles(read_own(files()), plain, path, work=self._work)),
        ]
        for name, write in steps:
            self._make(name, partial(write, self._data / name))
        shutil.rmtree(stretches, ignore_errors=True)

    def write_grid(self) -> None:
        """The 100 m grid as table and raster."""
        parts = [g for _, g in self._in_order()]
        self._make(layout.GRID, lambda: write_grid_table(parts, self._data / layout.GRID))
        self._make(
            layout.GRID_RASTER, lambda: write_grid_raster(parts, self._data / layout.GRID_RASTER, work=self._work)
        )

    def write_archives(self) -> None:
        """An archive per province, several at a time."""
        tasks = [
            (
                ArchiveTask(
                    path=self._data / province.archive,
                    folder=province.archive.removesuffix(".zip"),
                    products=province.products,
                    parts=tuple(self._parts[p.adcode][0] for p in province.products),
                    with_scores=self._request.with_scores,
                    notice=self._notice(province.name),
                ),
                self._work,
                self._key,
            )
            for province in self._plan.provinces
        ]
        for k, _ in enumerate(self._spread(province_part, tasks)):
            if (k + 1) % 5 == 0 or k + 1 == len(tasks):
                self._tell(f"archives: {k + 1} of {len(tasks)} provinces")

    def record(self, accuracy: AccuracyFact | None, before: ReleaseRecord | None) -> ReleaseRecord:
        """All facts; writes the tables that are made of them."""
        request, plan = self._request, self._plan
        archives = {p.adcode: v.archive for v in plan.provinces for p in v.products}
        cities = {c.adcode: c for c in request.campaign.selected()}
        facts = tuple(
            city_fact(p, cities[p.adcode], self._parts[p.adcode][0], archives[p.adcode], follows=self._follow[p.adcode])
            for p in plan.products
        )
        record = ReleaseRecord(
            version=request.version,
            campaign={"name": request.campaign.name, "version": request.campaign.version},
            grid_crs=CHINA_ALBERS.to_wkt(),
            grid_raster=raster_place(self._data / layout.GRID_RASTER),
            date=request.date,
            concept_doi=None if before is None else before.concept_doi,
            metadata=request.metadata,
            previous=None if before is None else before.version,
            previous_doi=None if before is None else before.doi,
            changes=() if request.previous is None else count_changes(request.previous, self._data),
            history="" if request.previous is None else _text_of(request.previous / layout.CHANGELOG),
            outlines_licence=self._outlines,
            map_licence=MAP,
            cities=facts,
            missing=dict(plan.missing),
            definition=definitions(plan.products),
            settings=definition_settings(plan.products),
            before={} if before is None else made_with(before),
            model=self._model,
            accuracy=accuracy,
            repaired=sum(p.repaired for p, _ in self._in_order()),
            software=made_by(),
        )
        for name, text in (
            (layout.CITIES, cities_csv(record)),
            (layout.PROVINCES, provinces_csv(record)),
            (layout.DICTIONARY, dictionary_csv(self._outlines, MAP)),
        ):
            (self._data / name).write_text(text, encoding="utf-8")
        wanted = [n for n in plan.files if (self._data / n).exists()]
        self._tell(f"checksums of {len(wanted)} files")
        return record.model_copy(update={"data": {n: self._file_fact(n) for n in wanted}})

    def _in_order(self) -> Iterator[tuple[CityPart, GridPart]]:
        return (self._parts[a] for a in sorted(self._parts))

    def _make(self, name: str, write: Callable[[], object]) -> None:
        def told() -> None:
            self._tell(f"write {name}")
            write()

        if make_part(self._work, name, self._key, [self._data / name], told):
            self._tell(f"{name}: {layout.size_text((self._data / name).stat().st_size)}")

    def _file_fact(self, name: str) -> FileFact:
        sha256, md5 = hash_file(self._data / name)
        licence = licence_of(name, outlines=self._outlines)
        return FileFact(bytes=(self._data / name).stat().st_size, sha256=sha256, md5=md5, licence=licence)

    def _notice(self, province: str) -> str:
        return (
            f"Urban villages of {province}, version {self._request.version}\n\n"
            f"{layout.VILLAGES}, {layout.PACKAGE}: outlines and attributes, EPSG:4326. Licence: {self._outlines}\n"
            f"{layout.MAP_ATTRIBUTES}: columns from map features, by uv_id. Licence: {MAP}\n"
            "  Contains information from OpenStreetMap, (c) OpenStreetMap contributors, ODbL 1.0.\n"
            f"*_uv_mask.tif: 1 village, 0 not, 255 not predicted: the map that is assessed. {self._outlines}\n"
            f"*_scores.tif, where there are any: score, 0 to 250 for 0 to 1. {self._outlines}\n\n"
            "README, LICENSE and data dictionary of the release say the rest.\n"
        )


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
