"""The RO-Crate of a release: every file with its size, checksum and licence, and who made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.person import Person
from rocrate.rocrate import ROCrate

from pipeline.files import write_json
from pipeline.release import layout
from pipeline.release.licence import ADDRESS, licence_of
from pipeline.release.record import ReleaseRecord
from pipeline.release.stac import MEDIA, time_span
from pipeline.release.texts import WHAT

VERSION = "1.1"
"""Of the RO-Crate specification: the one that all readers know."""
LATER = (layout.CRATE, layout.SHA256, layout.MD5)
"""Files that are written after the crate and do not stand in it."""
NAMES = {"CC-BY-4.0": "Creative Commons Attribution 4.0 International", "ODbL-1.0": "Open Database License 1.0"}


def write_crate(folder: Path, record: ReleaseRecord) -> None:
    """Write `ro-crate-metadata.json`; the same record and files give the same bytes."""
    crate = ROCrate(version=VERSION)
    crate.name = f"{record.metadata.title}, version {record.version}"
    crate.description = record.metadata.description
    # a day is asked for: before publishing it is the last day of the imagery, and the status says so
    crate.datePublished = record.date or time_span(record.cities)[1][:10]
    root = crate.root_dataset
    root["version"] = record.version
    root["keywords"] = ", ".join(record.metadata.keywords)
    root["creativeWorkStatus"] = "Published" if record.date else "Draft"
    if record.doi:
        root["identifier"] = f"https://doi.org/{record.doi}"
        root["cite-as"] = f"https://doi.org/{record.doi}"
    people: list[Any] = []
    for creator in record.metadata.creators:
        key = f"https://orcid.org/{creator.orcid}" if creator.orcid else f"#{creator.name.replace(' ', '_')}"
        about: dict[str, Any] = {"name": creator.name}
        if creator.affiliation:
            place = f"#{creator.affiliation.replace(' ', '_')}"
            organisation = {"@type": "Organization", "name": creator.affiliation}
            if creator.affiliation == record.metadata.publisher and record.metadata.publisher_url:
                organisation["url"] = record.metadata.publisher_url
            about["affiliation"] = crate.add(ContextEntity(crate, place, properties=organisation))
        if creator.given_names:
            about |= {"givenName": creator.given_names, "familyName": creator.family_names}
            person = crate.add(Person(crate, key, properties={k: v for k, v in about.items() if k != "affiliation"}))
            if "affiliation" in about:
                person["affiliation"] = about["affiliation"]
            people.append(person)
        else:
            people.append(
                crate.add(ContextEntity(crate, key, properties={"@type": "Organization", "name": creator.name}))
            )
    root["author"] = people[0] if len(people) == 1 else people
    publisher = {"@type": "Organization", "name": record.metadata.publisher or people[0]["name"]}
    publisher |= {"url": record.metadata.publisher_url} if record.metadata.publisher_url else {}
    root["publisher"] = crate.add(ContextEntity(crate, "#publisher", properties=publisher))
    licences = {
        name: crate.add(
            ContextEntity(
                crate, address, properties={"@type": "CreativeWork", "name": NAMES[name], "identifier": address}
            )
        )
        for name, address in ADDRESS.items()
    }
    for path in layout.record_files(folder):
        if path.name in LATER:
            continue
        _add_file(crate, path, record, licences)
    root["license"] = crate.dereference(layout.LICENSE)
    write_json(folder / layout.CRATE, _ordered(crate.metadata.generate()))


def _add_file(crate: ROCrate, path: Path, record: ReleaseRecord, licences: dict[str, Any]) -> None:
    fact = record.data.get(path.name)
    licence = licence_of(path.name, outlines=record.outlines_licence, mapped=record.map_licence)
    about: dict[str, Any] = {
        "name": WHAT.get(path.name, path.name),
        "encodingFormat": MEDIA.get(path.suffix, "text/plain").partition(";")[0],
        "contentSize": str(path.stat().st_size if fact is None else fact.bytes),
    }
    if fact is not None:
        about["sha256"] = fact.sha256
    file = crate.add_file(path, path.name, properties=about)
    if fact is not None:
        named = [licences[part] for part in licence.split(" AND ")]
        file["license"] = named[0] if len(named) == 1 else named


def _ordered(graph: dict[str, Any]) -> dict[str, Any]:
    """Parts of the root and entities in order of their ids; the metadata file and the root first."""
    entities = graph["@graph"]
    first = [layout.CRATE, "./"]
    entities.sort(key=lambda e: (first.index(e["@id"]) if e["@id"] in first else len(first), e["@id"]))
    for entity in entities:
        if entity["@id"] == "./":
            entity["hasPart"] = sorted(entity.get("hasPart", []), key=lambda p: str(p["@id"]))
    return graph
