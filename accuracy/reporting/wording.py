"""How an estimate is written for people: never a figure without its interval, never "1.000 ± 0"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def write_estimate(cell: Mapping[str, Any], digits: int = 3) -> str:
    """``0.686 [0.562, 0.789]``, ``>= 0.871`` for a one-sided bound, or ``not estimable``.

    Args:
        cell: ``estimate``, ``se``, ``ci_low``, ``ci_high`` (None where there is none) and ``flags``.
        digits: Decimals.
    """
    value = cell["estimate"]
    if value is None:
        return "not estimable"
    low, high = cell.get("ci_low"), cell.get("ci_high")
    if low is None or high is None:
        return f"{value:.{digits}f} (no interval)"
    if 0 < value < 0.1 or value < 0:
        digits += 1
    if _same(low, high):
        return f"{value:.{digits}f} (known)"
    if "zero_count" in cell.get("flags", ()):
        if _same(high, value):
            return f">= {low:.{digits}f}"
        if _same(low, value):
            return f"<= {high:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _same(a: float, b: float) -> bool:
    """Whether two figures differ by rounding alone: what is known exactly still comes out of sums of floats."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
