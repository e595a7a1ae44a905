"""Gates on what describes the release: STAC, RO-Crate, citation. Schemas come with packages; no network is used."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pystac
import yaml
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from pystac.validation import validate_dict
from rocrate.rocrate import ROCrate

from pipeline.release import layout
from pipeline.release.gates.results import Findings, Subject
from pipeline.release.stac import EXTENSIONS

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DOI = re.compile(r"10\.\d{4,9}(\.\d+)?/\S+")


def check_stac(subject: Subject, found: Findings) -> None:
    """Catalog, collection and items fit STAC's schemas, their links and checksums hold, extensions are readable."""
    folder, record = subject.folder, subject.record
    names = [layout.CATALOG, layout.COLLECTION, *(p.name for p in layout.record_files(folder) if _is_item(p.name))]
    found.measured["documents"] = len(names)
    linked: set[str] = set()
    for name in names:
        try:
            data = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            found.add(f"{name}: cannot be read ({error})")
            continue
        for fault in _schema_faults(data):
            found.add(f"{name}: {fault}")
        linked |= _check_links(subject, name, data, found)
        if data.get("version", data.get("properties", {}).get("version", record.version)) != record.version:
            found.add(f"{name}: is not of version {record.version}")
    for name in sorted(set(names) - {layout.CATALOG} - linked):
        found.add(f"{name}: nothing links to it")


def _check_links(subject: Subject, name: str, data: dict[str, Any], found: Findings) -> set[str]:
    """Check links, assets and extensions of a document; the names of the files that it links to."""
    linked = set()
    for link in data.get("links", []):
        if str(link.get("href", "")).startswith("./"):
            linked.add(Path(link["href"]).name)
            if not (subject.folder / link["href"]).is_file():
                found.add(f"{name}: link {link['rel']} leads to {link['href']}, which is not there")
    for key, asset in (data.get("assets") or {}).items():
        for fault in _asset_faults(subject, asset):
            found.add(f"{name}: asset {key}: {fault}")
    for uri in data.get("stac_extensions", []):
        if uri not in EXTENSIONS.values():
            found.add(f"{name}: extension {uri} is none that a release uses")
    return linked


def check_crate(subject: Subject, found: Findings) -> None:
    """The RO-Crate opens, names every file with its size, and says who, when and under which licence."""
    folder = subject.folder
    try:
        crate = ROCrate(folder)
    except Exception as error:  # noqa: BLE001 - the package raises many kinds
        found.add(f"{layout.CRATE}: cannot be read ({type(error).__name__}: {error})")
        return
    root = crate.root_dataset
    for key in ("name", "description", "datePublished", "license", "author"):
        if not root.get(key):
            found.add(f"the crate says no {key}")
    parts = {e.id: e for e in crate.data_entities}
    later = {layout.CRATE, layout.SHA256, layout.MD5}
    files = {p.name: p for p in layout.record_files(folder) if p.name not in later}
    found.measured["parts"] = len(parts)
    for name in sorted(set(parts) - set(files)):
        found.add(f"the crate names {name}, which is not there")
    for name in sorted(set(files) - set(parts)):
        found.add(f"the crate does not name {name}")
    for name in sorted(set(files) & set(parts)):
        said = str(parts[name].get("contentSize"))
        if said != str(files[name].stat().st_size):
            found.add(f"the crate says that {name} has {said} bytes, it has {files[name].stat().st_size}")
        fact = subject.record.data.get(name)
        if fact is not None and parts[name].get("sha256") != fact.sha256:
            found.add(f"the crate has another SHA-256 of {name} than {layout.RECORD}")
    if root.get("version") != subject.record.version:
        found.add(f"the crate is of version {root.get('version')}, not {subject.record.version}")


def check_citation(subject: Subject, found: Findings) -> None:
    """CITATION.cff has what format 1.2.0 asks for, and names this version."""
    path = subject.folder / layout.CITATION
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        found.add(f"{layout.CITATION}: cannot be read ({str(error).splitlines()[0]})")
        return
    if not isinstance(data, dict):
        found.add(f"{layout.CITATION}: is no table of keys")
        return
    for fault in _citation_faults(data):
        found.add(f"{layout.CITATION}: {fault}")
    for key, want in (("version", subject.record.version), ("doi", subject.record.doi)):
        if data.get(key) != want:
            found.add(f"{layout.CITATION}: {key} is {data.get(key)}, {layout.RECORD} says {want}")


def _citation_faults(data: dict[str, Any]) -> list[str]:
    """What a CITATION.cff lacks or has wrongly, after format 1.2.0."""
    wanted = ("cff-version", "message", "title", "authors", "version", "type", "license")
    faults = [f"says no {key}" for key in wanted if not data.get(key)]
    if data.get("cff-version") not in {None, "1.2.0"}:
        faults.append(f"format {data['cff-version']}, not 1.2.0")
    nameless = (a for a in data.get("authors") or [] if not (isinstance(a, dict) and {"name", "family-names"} & set(a)))
    faults += [f"an author has no name: {author}" for author in nameless]
    for key, pattern in (("date-released", _DATE), ("doi", _DOI)):
        if data.get(key) is not None and not pattern.fullmatch(str(data[key])):
            faults.append(f"{key} {data[key]} is none")
    return faults


def _asset_faults(subject: Subject, asset: dict[str, Any]) -> list[str]:
    path = subject.folder / str(asset.get("href", ""))
    if not path.is_file():
        return [f"is {asset.get('href')}, which is not there"]
    faults = []
    if "file:size" in asset and asset["file:size"] != path.stat().st_size:
        faults.append(f"has {path.stat().st_size} bytes, file:size says {asset['file:size']}")
    fact = subject.record.data.get(path.name)
    if fact is not None and asset.get("file:checksum") != f"1220{fact.sha256}":
        faults.append(f"file:checksum is not that of {path.name}")
    return faults


def _schema_faults(data: dict[str, Any]) -> list[str]:
    """Faults after the schemas that pystac brings, and what its extensions cannot read."""
    if data.get("type") not in {"Feature", "Collection", "Catalog"}:
        return [f"type {data.get('type')!r} is none of STAC's"]
    try:  # without extensions, whose schemas no package brings: what they add is read by pystac's own classes
        validate_dict(data | {"stac_extensions": []})
    except pystac.STACValidationError as error:
        cause = error.source[0] if isinstance(error.source, list) and error.source else error
        where = "/".join(map(str, getattr(cause, "absolute_path", []))) or "document"
        return [f"{where}: {getattr(cause, 'message', cause)}"[:300]]
    faults: list[str] = []
    if data.get("type") != "Feature":
        return faults
    try:
        item = pystac.Item.from_dict(data)
        for asset in item.assets.values():
            if item.ext.has("file") and "file:checksum" in asset.extra_fields:
                _ = FileExtension.ext(asset).checksum
            if item.ext.has("proj"):
                _ = ProjectionExtension.ext(asset).code
            if item.ext.has("raster"):
                _ = RasterExtension.ext(asset).bands
        if item.ext.has("mlm"):
            described = (b for a in item.assets.values() for b in a.extra_fields.get("raster:bands") or [])
            known = {b.get("name") for b in described}
            used = [b for m in item.ext.mlm.input for b in m.to_dict().get("bands") or []]
            faults += [f"mlm:input reads band {b}, which no asset describes" for b in used if b not in known]
    except Exception as error:  # noqa: BLE001 - any failure to read is a finding
        faults.append(f"an extension cannot be read ({type(error).__name__}: {error})")
    return faults


def _is_item(name: str) -> bool:
    return name.startswith("item_") and name.endswith(".json")
