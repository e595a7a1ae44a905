"""Single values of a table as the text of a tag."""

from __future__ import annotations

from typing import Any

import numpy as np

_EMPTY = frozenset({"", "nan", "none", "null", "<na>", "nat"})


def text_of(value: Any) -> str | None:
    """A scalar as tag text: yes/no for booleans, no needless ``.0``; None where it says nothing."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return None
        return str(int(value)) if value == int(value) else repr(round(float(value), 6))
    text = str(value).strip()
    return None if text.lower() in _EMPTY else text
