"""The folder `viewer/` of a release, and the archive that holds it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline.files import replacing_folder, write_json
from pipeline.release import layout
from pipeline.release.archives import write_zip
from pipeline.release.checksums import hash_file
from pipeline.release.licence import licence_of
from pipeline.release.record import FileFact, ReleaseRecord
from pipeline.release.viewer.facts import viewer_facts
from pipeline.release.viewer.library import SCRIPT, STYLE, library_files, notice
from pipeline.release.viewer.pictures import demo_pictures

ASSETS = Path(__file__).parent / "assets"
PAGE_FILES = ("index.html", "viewer.css", "viewer.js", "pmtiles.js", "labels.js")
DATA, NOTICE_FILE = "data.json", "NOTICE.txt"


def add_viewer(work: Path, record: ReleaseRecord, *, data_root: Path) -> ReleaseRecord:
    """The viewer of a release that is being built, in ``work``: its folder, its archive among the data files.

    Args:
        work: Folder of the build, with `data/`.
        record: Facts of all other data files.
        data_root: Where imagery of invented cities lies.

    Returns:
        The record with the archive among its data.
    """
    data = {name: fact for name, fact in record.data.items() if name != layout.VIEWER_ARCHIVE}
    archive = work / "data" / layout.VIEWER_ARCHIVE
    write_viewer(work / "data", work / layout.VIEWER, record.model_copy(update={"data": data}), data_root=data_root)
    write_viewer_archive(work / layout.VIEWER, archive)
    sha256, md5 = hash_file(archive)
    licence = licence_of(layout.VIEWER_ARCHIVE, outlines=record.outlines_licence)
    data[layout.VIEWER_ARCHIVE] = FileFact(bytes=archive.stat().st_size, sha256=sha256, md5=md5, licence=licence)
    return record.model_copy(update={"data": dict(sorted(data.items()))})


def write_viewer(release: Path, folder: Path, record: ReleaseRecord, *, data_root: Path) -> None:
    """Write the folder: page, MapLibre GL, what the release says, and the tiles, as a second name of the same file.

    Args:
        release: Folder with the data files of the release.
        folder: What is written.
        record: Facts of the release.
        data_root: Where imagery of invented cities lies.

    Raises:
        ReleaseError: MapLibre GL is not installed.
    """
    script, style = library_files()
    with replacing_folder(folder) as temporary:
        for name in PAGE_FILES:
            shutil.copyfile(ASSETS / name, temporary / name)
        shutil.copyfile(script, temporary / SCRIPT)
        shutil.copyfile(style, temporary / STYLE)
        (temporary / NOTICE_FILE).write_text(notice(), encoding="utf-8")
        pictures = list(demo_pictures([c.adcode for c in record.cities], data_root, temporary))
        accuracy = release / layout.ACCURACY
        facts = viewer_facts(record, accuracy=accuracy if accuracy.exists() else None, pictures=pictures)
        write_json(temporary / DATA, facts)
        _link(release / layout.TILES, temporary / layout.TILES)


def write_viewer_archive(folder: Path, path: Path) -> None:
    """Everything of the viewer but the tiles, which lie beside the archive in a record already."""
    names = sorted(p.name for p in folder.iterdir() if p.name != layout.TILES)
    write_zip(path, [(f"{layout.VIEWER}/{name}", folder / name) for name in names])


def place_viewer(folder: Path, release: Path) -> None:
    """Put a finished viewer into a release; its tiles become a second name of those of the release."""
    target = release / layout.VIEWER
    target.mkdir()
    for source in sorted(folder.iterdir()):
        _link(release / layout.TILES if source.name == layout.TILES else source, target / source.name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
