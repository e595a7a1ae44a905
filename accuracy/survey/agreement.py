"""How far interpreters agree: overall, on villages and on the rest, with intervals and a chance-corrected figure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from accuracy.intervals import wilson
from accuracy.survey.labels import LabelTable


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of two interpreters on the points both saw.

    Attributes:
        first: Name of one.
        second: Name of the other.
        both_uv: Points both call urban village.
        only_first: Points only the first does.
        only_second: Points only the second does.
        neither: Points neither does.
        unanswered: Points of both without an answer of at least one.
        overall: Share of equal answers, None without common answers.
        overall_low: Wilson's lower bound (95 %).
        overall_high: Its upper bound.
        on_uv: 2 a / (2 a + b + c), the figure that matters for a rare class.
        on_rest: 2 d / (2 d + b + c).
        ac1: Gwet's AC1, agreement beyond chance that stays meaningful for rare classes (kappa does not).
    """

    first: str
    second: str
    both_uv: int
    only_first: int
    only_second: int
    neither: int
    unanswered: int
    overall: float | None
    overall_low: float | None
    overall_high: float | None
    on_uv: float | None
    on_rest: float | None
    ac1: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure_agreements(tables: list[LabelTable]) -> list[Agreement]:
    """Agreement of every pair of interpreters that share points, in alphabetical order."""
    frame = pd.concat([t.frame for t in tables], ignore_index=True)
    wide = frame.assign(label=frame["label"].fillna(-1)).pivot_table(
        index="point_id", columns="interpreter", values="label", aggfunc="first"
    )
    return [_pair(a, b, wide[[a, b]].dropna()) for a, b in combinations(sorted(wide.columns), 2) if _share(wide, a, b)]


def _share(wide: pd.DataFrame, a: str, b: str) -> bool:
    return bool((wide[a].notna() & wide[b].notna()).any())


def _pair(a: str, b: str, common: pd.DataFrame) -> Agreement:
    answered = common[(common >= 0).all(axis=1)]
    first, second = answered[a] == 1, answered[b] == 1
    n11, n10 = int((first & second).sum()), int((first & ~second).sum())
    n01, n00 = int((~first & second).sum()), int((~first & ~second).sum())
    n = n11 + n10 + n01 + n00
    overall = low = high = ac1 = None
    if n:
        overall = (n11 + n00) / n
        low, high = (float(v) for v in wilson(n11 + n00, n))
        share = (2 * n11 + n10 + n01) / (2 * n)
        chance = 2 * share * (1 - share)
        ac1 = (overall - chance) / (1 - chance)
    off = n10 + n01
    return Agreement(
        first=a,
        second=b,
        both_uv=n11,
        only_first=n10,
        only_second=n01,
        neither=n00,
        unanswered=len(common) - n,
        overall=overall,
        overall_low=low,
        overall_high=high,
        on_uv=2 * n11 / (2 * n11 + off) if n11 + off else None,
        on_rest=2 * n00 / (2 * n00 + off) if n00 + off else None,
        ac1=ac1,
    )
