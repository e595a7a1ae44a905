"""The extracts of all cities, written in one more reading of the national file."""

from __future__ import annotations

import json
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import osmium
from osmium.osm import osm_entity_bits as kinds

from pipeline.extracts.groups import Box, Groups
from pipeline.extracts.membership import Membership, Numbers, Progress, membership
from pipeline.files import digest_of, replacing_folder, sha256_of, write_json
from pipeline.vectors.errors import VectorError

CUT_VERSION = 1
RECORD_NAME = "extracts.json"
_ALL_BUFFERS = 192 << 20
_BUFFER_AT_LEAST, _BUFFER_AT_MOST = 64 << 10, 4 << 20
_STEP = 1 << 16
_SPARE_FILES = 64


@dataclass(frozen=True)
class Extract:
    """One extract.

    Attributes:
        name: Of the city, its adcode.
        file: Its name in the folder of extracts.
        box: West, south, east, north in degrees.
        nodes: How many nodes are in it.
        ways: How many ways.
        relations: How many relations.
        size_bytes: Of the file.
        sha256: Of the file.
    """

    name: str
    file: str
    box: Box
    nodes: int
    ways: int
    relations: int
    size_bytes: int
    sha256: str

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the national file lies in its box."""
        return not (self.nodes or self.ways or self.relations)


def cut_extracts(
    source: Path,
    boxes: Mapping[str, Box],
    out: Path,
    *,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Extract, ...]:
    """Cut a national PBF into the extracts of many boxes at once: `name.osm.pbf` each, and a record of them.

    Ways and multipolygons are complete at the cut (`membership`). Memory is needed for the ways, the relations and
    buffers of the writers, not for the nodes. The same file and boxes give the same bytes; where they are there
    already, nothing is done. The folder is replaced in one step when all are written.

    Args:
        source: A PBF with nodes, ways and relations in this order and in the order of their ids.
        boxes: West, south, east, north in degrees by name.
        out: Folder of the extracts; nothing else may be in it.
        scratch: Folder for temporary files, about 28 bytes for each node; beside ``out`` where None.
        progress: Called with what was read or written and how many objects of it.

    Returns:
        The extracts, in the order of ``boxes``.

    Raises:
        VectorError: no boxes, a box that is none, a file that cannot be read or is not in the usual order, a folder
            that holds other things.
    """
    _check(source, boxes)
    tell = progress or (lambda _what, _done: None)
    key = digest_of({"version": CUT_VERSION, "source": sha256_of(source), "boxes": dict(boxes)})
    done = _recorded(out, key)
    if done is not None:
        return done
    if out.exists() and any(out.iterdir()) and not (out / RECORD_NAME).exists():
        raise VectorError(
            f"{out}: holds other things than extracts; give a folder of its own, it is replaced as a whole"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".uvmap-cut-", dir=scratch or out.parent) as temporary,
        replacing_folder(out) as folder,
    ):
        try:
            members = membership(source, list(boxes.values()), Path(temporary), tell)
            _write(source, members, boxes, folder, tell)
        except RuntimeError as error:
            raise VectorError(f"{source}: cannot be read as OpenStreetMap PBF ({error}); fetch it again") from error
        counts = [
            _counts(numbers, members.groups, len(boxes)) for numbers in (members.nodes, members.ways, members.relations)
        ]
        result = []
        for k, (name, box) in enumerate(boxes.items()):
            file = folder / _file_name(name)
            nodes, ways, relations = (int(c[k]) for c in counts)
            result.append(Extract(name, file.name, box, nodes, ways, relations, file.stat().st_size, sha256_of(file)))
        record = {"key": key, "source": source.name, "extracts": [asdict(e) for e in result]}
        write_json(folder / RECORD_NAME, record)
    return tuple(result)


def _file_name(name: str) -> str:
    return f"{name}.osm.pbf"


def _check(source: Path, boxes: Mapping[str, Box]) -> None:
    if not source.is_file():
        raise VectorError(f"{source}: no such file; give a national extract such as china-latest.osm.pbf")
    if not source.name.lower().endswith(".pbf") or ".osh." in source.name.lower():
        raise VectorError(f"{source}: is no PBF of the present map; convert it with `osmium cat -o nation.osm.pbf`")
    if not boxes:
        raise VectorError("no boxes to cut out: give at least one city")
    for name, (west, south, east, north) in boxes.items():
        if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
            raise VectorError(
                f"box of {name}: west {west}, south {south}, east {east}, north {north} is no box in degrees"
            )
    _allow_files(len(boxes) + _SPARE_FILES)


def _allow_files(needed: int) -> None:
    """Let the process have as many files open at once as there are extracts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise VectorError(
                f"{needed} files have to be open at once and the system allows {hard}: cut fewer at a time"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _recorded(out: Path, key: str) -> tuple[Extract, ...] | None:
    """The extracts that are there already, whole."""
    record = out / RECORD_NAME
    if not record.exists():
        return None
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        extracts = tuple(Extract(**e | {"box": tuple(e["box"])}) for e in known["extracts"])
    except (ValueError, TypeError, KeyError):
        return None
    if known.get("key") != key:
        return None
    there = all((out / e.file).is_file() and sha256_of(out / e.file) == e.sha256 for e in extracts)
    return extracts if there else None


def _write(source: Path, members: Membership, boxes: Mapping[str, Box], folder: Path, progress: Progress) -> None:
    size = min(max(_ALL_BUFFERS // len(boxes), _BUFFER_AT_LEAST), _BUFFER_AT_MOST)
    date = _replication_date(source)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                osmium.SimpleWriter(str(folder / _file_name(name)), bufsz=size, header=_header(box, date))
            )
            for name, box in boxes.items()
        ]
        for what, kind, method, numbers in (
            ("nodes written", kinds.NODE, "add_node", members.nodes),
            ("ways written", kinds.WAY, "add_way", members.ways),
            ("relations written", kinds.RELATION, "add_relation", members.relations),
        ):
            adds = [getattr(writer, method) for writer in writers]
            objects = osmium.FileProcessor(str(source), kind)
            if _write_kind(objects, numbers, members.groups, adds) != len(numbers):
                raise VectorError(
                    f"{source}: has ids below zero or twice, or changed while it was read; `osmium sort` and"
                    " `osmium renumber` mend the ids"
                )
            progress(what, len(numbers))


def _write_kind(
    objects: osmium.FileProcessor, numbers: Numbers, groups: Groups, adds: Sequence[Callable[[Any], None]]
) -> int:
    """Write the objects of a kind; how many of them there are."""
    targets = [tuple(adds[extract] for extract in extracts) for extracts in groups.sets]
    count = 0
    for count, (obj, number) in enumerate(zip(objects, chain(_one_by_one(numbers), repeat(0)), strict=False), 1):  # noqa: B007
        if number:
            for add in targets[number]:
                add(obj)
    return count


def _one_by_one(numbers: Numbers) -> Iterator[int]:
    for start in range(0, len(numbers), _STEP):
        yield from numbers[start : start + _STEP].tolist()


def _counts(numbers: Numbers, groups: Groups, extracts: int) -> Any:
    """How many objects each extract has."""
    result = np.zeros(extracts, np.int64)
    of_sets = np.zeros(len(groups.sets), np.int64)
    for start in range(0, len(numbers), 1 << 20):
        of_sets += np.bincount(numbers[start : start + (1 << 20)], minlength=len(groups.sets))
    for members, count in zip(groups.sets, of_sets.tolist(), strict=True):
        result[list(members)] += count
    return result


def _replication_date(source: Path) -> str:
    with osmium.io.Reader(str(source)) as reader:
        return str(reader.header().get("osmosis_replication_timestamp") or "")


def _header(box: Box, date: str) -> osmium.io.Header:
    header = osmium.io.Header()
    header.set("generator", "uvmap")
    header.set("sorting", "Type_then_ID")
    if date:
        header.set("osmosis_replication_timestamp", date)
    west, south, east, north = box
    header.add_box(osmium.osm.Box(west, south, east, north))
    return header
