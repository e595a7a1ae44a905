"""Whether two releases say the same thing of the same ground: else their difference is no change of villages."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pipeline.release.errors import ReleaseError
from pipeline.release.record import ReleaseRecord

KINDS = ("grid", "definition", "outlines")
"""What may differ and makes a comparison one of methods."""
NAMED = 3
COVERAGE_STEP = 0.01


class NotComparableError(ReleaseError):
    """Two releases have other grids or definitions, and nobody said that this is known."""


@dataclass(frozen=True)
class Difference:
    """One way in which two releases differ.

    Attributes:
        kind: One of `KINDS`, or "model", "coverage", "imagery" (said, never refused).
        text: For people.
        cities: adcodes.
    """

    kind: str
    text: str
    cities: tuple[str, ...]


def differences(old: ReleaseRecord, new: ReleaseRecord) -> tuple[Difference, ...]:
    """How grids, definitions, licences of outlines, models, coverage and imagery of common cities differ."""
    a, b = ({c.adcode: c for c in r.cities} for r in (old, new))
    rules = [{code: digest for digest, codes in r.definition.items() for code in codes} for r in (old, new)]
    both = sorted(set(a) & set(b))
    found = []

    def add(kind: str, text: str, cities: list[str]) -> None:
        if cities:
            found.append(Difference(kind, text, tuple(cities)))

    grids = [c for c in both if (a[c].crs, a[c].pixel_m2) != (b[c].crs, b[c].pixel_m2)]
    if grids:
        x, y = a[grids[0]], b[grids[0]]
        add("grid", f"pixels of {x.pixel_m2:g} m2 in {x.crs} against {y.pixel_m2:g} m2 in {y.crs}", grids)
    rule = [c for c in both if rules[0].get(c) != rules[1].get(c)]
    if rule:
        add(
            "definition",
            f"other settings decide what is a village (digest {rules[0].get(rule[0])} against {rules[1].get(rule[0])})",
            rule,
        )
    add(
        "outlines",
        "outlines follow map features in one release, and not in the other",
        [c for c in both if a[c].outlines_follow_map != b[c].outlines_follow_map],
    )
    add(
        "model",
        "another model: its change and that of the ground cannot be told apart here",
        [c for c in both if a[c].model_version != b[c].model_version],
    )
    add(
        "imagery",
        "the same date of imagery in both: what differs is the method, not the ground",
        [c for c in both if a[c].image_date == b[c].image_date and a[c].polygons_sha256 != b[c].polygons_sha256],
    )
    add(
        "coverage",
        f"the share of ground without a prediction differs by more than {COVERAGE_STEP:.0%}: villages can be new or "
        "gone for that alone",
        [c for c in both if abs(a[c].not_predicted_share - b[c].not_predicted_share) > COVERAGE_STEP],
    )
    return tuple(found)


def refuse_unsaid(found: Collection[Difference], allowed: Collection[str]) -> None:
    """Refuse differences of `KINDS` that were not allowed by name.

    Raises:
        NotComparableError: There are some; all are told.
        ReleaseError: A name that is none of `KINDS`.
    """
    for name in allowed:
        if name not in KINDS:
            raise ReleaseError(f"--across {name}: there is no such difference; give one of {', '.join(KINDS)}")
    refused = [d for d in found if d.kind in KINDS and d.kind not in allowed]
    if refused:
        told = "; ".join(f"{d.kind}: {d.text}, in {_cities(d.cities)}" for d in refused)
        flags = " ".join(f"--across {d.kind}" for d in refused)
        raise NotComparableError(
            f"the two are no measure of the same thing: {told}. To compare them all the same, and have it said in the "
            f"result: {flags}"
        )


def _cities(codes: tuple[str, ...]) -> str:
    more = f" and {len(codes) - NAMED} more" if len(codes) > NAMED else ""
    return f"{', '.join(codes[:NAMED])}{more}"
