"""What identifies a feature, and which columns only keep the books of a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.vectors.values import text_of

DECLARED_IDS = ("source_id", "osm_id", "@id", "full_id", "osm_way_id", "fid_osm")
"""Columns that by their name identify a feature, also in several rows."""
PLAIN_ID = "id"
"""A column of this name may be an id, a class code, or a constant that a program left at 0."""

_BOOKKEEPING = re.compile(
    r"(fid|objectid|oid|ogc_fid|gid|globalid)(_?\d*|_)"
    r"|shape([._]{0,2}(st)?(area?|are|ar|le|len|leng|length)(\(\))?(_?\d*))?"
    r"|st_(area|length|perimeter)(\(shape\)|_?sh?|_)?"
    r"|(last_)?(created|edited|creator|editor)(_?user|_?date|_?by)?|(creation|edit)_?date?|creationda"
)
_NO_ID = frozenset({"0", "-0"})


def keeps_books(column: str) -> bool:
    """Whether a column is what programs add for themselves (FID, OBJECTID, Shape_Area, Shape_Leng, gid, ogc_fid)."""
    return _BOOKKEEPING.fullmatch(column.strip().lower()) is not None


def id_columns(columns: Iterable[object]) -> tuple[str, ...]:
    """Names of the columns that are read as ids rather than as tags."""
    return tuple(str(c) for c in columns if str(c).lower() in {*DECLARED_IDS, PLAIN_ID})


def ids_of(
    table: pd.DataFrame, counts: Counter[str], *, id_column: str | None = None
) -> tuple[NDArray[np.object_], bool]:
    """Identifier of each row, and whether equal ones mean pieces of one feature.

    Args:
        table: Attribute columns.
        counts: Rows whose plain ``id`` repeats are counted here.
        id_column: The column that the user declares, or None.

    Returns:
        Text (n,), None where a row has none, and True where the ids are declared: by the user, or by a name such as
        ``osm_id``. The values of a column that is only called ``id`` are ids where no two are equal.
    """
    names = {str(c).lower(): c for c in table.columns}
    ids = np.full(len(table), None, object)
    declared = (id_column.lower(),) if id_column is not None else DECLARED_IDS
    found = False
    for wanted in reversed(declared):
        if wanted in names:
            found = True
            text = table[names[wanted]].map(text_of)
            known = (text.notna() & ~text.isin(_NO_ID)).to_numpy()
            ids[known] = text.to_numpy(object)[known]
    if found or PLAIN_ID not in names:
        return ids, found
    text = table[names[PLAIN_ID]].map(text_of)
    known = text.notna().to_numpy()
    if text[known].duplicated().any():
        counts["ids_that_identify_nothing"] += int(known.sum())
        return ids, False
    ids[known] = text.to_numpy(object)[known]
    return ids, False
