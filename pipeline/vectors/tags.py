"""Tags: the canonical text of a tag set, and tags from the attribute columns of a table."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.vectors.identity import id_columns, keeps_books
from pipeline.vectors.values import text_of

MAX_CHARACTERS = 255
"""OpenStreetMap's own limit on the length of a key and of a value."""

SAMPLE = 20_000
"""Tag sets that are looked at to judge the text of a source."""

_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_HSTORE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*=>\s*(?:"((?:[^"\\]|\\.)*)"|NULL)')
_TAG_COLUMNS = ("tags", "other_tags", "all_tags", "label")
_SKIPPED = frozenset(
    {"geometry", "bbox", "source", "source_date", "sources", "version", "update_time", "theme", "theme_type"}
)


DESCRIBING_KEYS = frozenset(
    {
        "aerialway",
        "aeroway",
        "amenity",
        "area:highway",
        "barrier",
        "boundary",
        "building",
        "building:part",
        "craft",
        "emergency",
        "geological",
        "golf",
        "healthcare",
        "highway",
        "historic",
        "indoor",
        "landcover",
        "landuse",
        "leisure",
        "man_made",
        "military",
        "natural",
        "office",
        "place",
        "power",
        "public_transport",
        "railway",
        "route",
        "ruins",
        "shop",
        "telecom",
        "tourism",
        "water",
        "waterway",
    }
)
"""Keys that say what a feature is. Source: the list of primary features of the OSM wiki ("Map features")."""


def says_what(text: str) -> bool:
    """Whether a canonical tag set says what its feature is, rather than only something of it (name, floors, area)."""
    return not DESCRIBING_KEYS.isdisjoint(json.loads(text))


def with_default(text: str, default_tags: Mapping[str, str]) -> str:
    """A canonical tag set with default tags for the keys that it lacks."""
    return canonical({**default_tags, **json.loads(text)})


def canonical(tags: Mapping[str, str]) -> str:
    """The one text of a tag set: a JSON object, keys sorted, no spaces, Unicode as is."""
    return json.dumps(dict(sorted(tags.items())), ensure_ascii=False, separators=(",", ":"))


def clean(tags: Mapping[str, str], counts: Counter[str]) -> dict[str, str]:
    """Tags without control characters, surrounding blanks and empty items, cut to `MAX_CHARACTERS`.

    ``;`` and ``=`` inside a value are content and stay. What was cut is counted in ``counts``.
    """
    out: dict[str, str] = {}
    for raw_key, raw_value in tags.items():
        key, value = _NOT_TEXT.sub("", raw_key).strip(), _NOT_TEXT.sub("", raw_value).strip()
        if not key or not value:
            counts["tags_empty"] += 1
            continue
        if len(key) > MAX_CHARACTERS or len(value) > MAX_CHARACTERS:
            counts["tags_cut_to_255"] += 1
        out[key[:MAX_CHARACTERS]] = value[:MAX_CHARACTERS]
    return out


def from_columns(table: pd.DataFrame, counts: Counter[str]) -> NDArray[np.object_]:
    """Canonical tag sets (n,) of the attribute columns of a table.

    A column of whole tag sets (``tags``, ``other_tags``, ``label``: a mapping, key and value pairs, JSON, hstore
    or ``key:value;key:value``) is taken apart; Overture's ``names``, ``subtype`` and ``class`` become OSM-like
    tags; every other column is one tag. Work is done per distinct value, not per row.
    """
    parts: list[tuple[NDArray[np.int64], list[dict[str, str]]]] = []
    skipped = {*_SKIPPED, *id_columns(table.columns)}
    for name in sorted(str(c) for c in table.columns):
        if name in skipped or keeps_books(name):
            continue
        codes, values = _factorized(table[name])
        if name.lower() in _TAG_COLUMNS:
            dicts = [_tag_set(v, name) for v in values]
        else:
            dicts = [_column_tag(name, v) for v in values]
        parts.append((codes, [clean(d, counts) for d in dicts]))
    if not parts:
        return np.full(len(table), "{}", object)
    # distinct rows of codes: one dictionary is merged per distinct tag set
    matrix = np.stack([codes for codes, _ in parts], axis=1)
    rows, inverse = np.unique(matrix, axis=0, return_inverse=True)
    merged = np.empty(len(rows), object)
    for i, row in enumerate(rows.tolist()):
        tags: dict[str, str] = {}
        for code, (_, dicts) in zip(row, parts, strict=True):
            if code >= 0:
                tags.update(dicts[code])
        merged[i] = canonical(_overture(tags))
    result: NDArray[np.object_] = merged[inverse.reshape(-1)]
    return result


def words_not_ascii(texts: Iterable[str]) -> list[str]:
    """The distinct keys and values that are not ASCII of the first `SAMPLE` such canonical tag sets, sorted."""
    foreign = (json.loads(text) for text in islice((t for t in texts if not t.isascii()), SAMPLE))
    return sorted({word for tags in foreign for pair in tags.items() for word in pair if not word.isascii()})


def merged(texts: Iterable[str]) -> str:
    """One tag set of several: keys of all, values of the first in text order that has the key."""
    tags: dict[str, str] = {}
    for text in sorted(texts, reverse=True):
        tags.update(json.loads(text))
    return canonical(tags)


def _factorized(column: pd.Series) -> tuple[NDArray[np.int64], list[Any]]:
    """Codes (n,), -1 where null, and the distinct values, nested ones included."""
    if column.dtype == object and column.map(lambda v: isinstance(v, list | dict | np.ndarray | tuple)).any():
        keys = column.map(lambda v: None if v is None else json.dumps(_plain(v), sort_keys=True, ensure_ascii=False))
        codes, uniques = pd.factorize(keys, sort=True)
        return codes.astype(np.int64), [json.loads(u) for u in uniques]
    codes, uniques = pd.factorize(column)
    return codes.astype(np.int64), list(uniques)


def _plain(value: Any) -> Any:
    """Nested Arrow or numpy values as plain lists and dictionaries."""
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _column_tag(name: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        if name == "names":  # Overture: the primary name
            return {"name": str(value["primary"])} if value.get("primary") else {}
        if name == "categories":
            return {"class": str(value["primary"])} if value.get("primary") else {}
        return {f"{name}:{k}": t for k, v in value.items() if not isinstance(v, list | dict) and (t := text_of(v))}
    if isinstance(value, list):
        return {}
    text = text_of(value)
    key = name.lower()
    return {} if text is None else {key if key in DESCRIBING_KEYS else name: text}


def _tag_set(value: Any, name: str) -> dict[str, str]:
    """The tag set of one cell of a column that holds whole tag sets."""
    if isinstance(value, dict):
        return {str(k): t for k, v in value.items() if (t := text_of(v)) is not None}
    if isinstance(value, list):
        return {str(pair[0]): t for pair in value if len(pair) == 2 and (t := text_of(pair[1])) is not None}
    text = str(value)
    if text.lstrip().startswith("{"):
        try:
            loaded = json.loads(text)
        except ValueError:
            loaded = None
        if isinstance(loaded, dict):
            return _tag_set(loaded, name)
    if "=>" in text:
        return {_unescaped(k): _unescaped(v) for k, v in _HSTORE.findall(text)}
    if name == "label" and ":" in text:
        return dict(item.rsplit(":", 1) for item in text.split(";") if ":" in item)
    return {name: text} if text_of(value) is not None else {}


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _overture(tags: dict[str, str]) -> dict[str, str]:
    """Overture's ``type``, ``subtype`` and ``class`` in OSM's words where the type says which key is meant."""
    key = {"building": "building", "building_part": "building:part", "segment": "highway", "land_use": "landuse"}
    kind = key.get(tags.get("type", ""))
    if kind is None:
        return tags
    kept = {k: v for k, v in tags.items() if k not in {"type", "subtype", "class", "num_floors"}}
    kept[kind] = tags.get("class") or tags.get("subtype") or "yes"
    if "num_floors" in tags:
        kept["building:levels"] = tags["num_floors"]
    return kept
