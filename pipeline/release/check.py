"""`uvmap release check`: all gates of a release, and waivers by name that its README prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.release.errors import ReleaseError
from pipeline.release.gates.catalogue import check_citation, check_crate, check_stac
from pipeline.release.gates.claims import check_accuracy, check_coverage, check_leakage, check_licences
from pipeline.release.gates.formats import check_cog, check_counts, check_files, check_geoparquet
from pipeline.release.gates.results import Findings, Subject
from pipeline.release.gates.villages import check_attributes, check_geometry, check_ids, check_overlaps
from pipeline.release.record import Waiver, read_record
from pipeline.release.seal import seal_release

GATES: Mapping[str, Callable[[Subject, Findings], None]] = {
    "files": check_files,
    "geometry": check_geometry,
    "overlaps": check_overlaps,
    "ids": check_ids,
    "attributes": check_attributes,
    "coverage": check_coverage,
    "counts": check_counts,
    "cog": check_cog,
    "geoparquet": check_geoparquet,
    "stac": check_stac,
    "crate": check_crate,
    "citation": check_citation,
    "accuracy": check_accuracy,
    "leakage": check_leakage,
    "licences": check_licences,
}
"""Gates by name, in order; the first line of each function is what it states."""
NEVER_WAIVED = frozenset({"files"})
"""A release whose files are not those that it lists is mended, not waived."""


@dataclass(frozen=True)
class GateResult:
    """What a gate said.

    Attributes:
        gate: Its name.
        states: What must hold.
        passed: Whether it does.
        count: Number of findings.
        findings: The first of them.
        measured: Figures that it looked at.
        waiver: Why it may fail; None where nobody waived it.
    """

    gate: str
    states: str
    passed: bool
    count: int
    findings: tuple[str, ...]
    measured: Mapping[str, Any]
    waiver: str | None = None

    @property
    def blocks(self) -> bool:
        """Whether it keeps the release from being published."""
        return not self.passed and self.waiver is None


@dataclass(frozen=True)
class CheckReport:
    """What all gates said of a release.

    Attributes:
        folder: The release.
        version: Its version.
        results: In the order of `GATES`.
    """

    folder: Path
    version: str
    results: tuple[GateResult, ...]

    @property
    def blocking(self) -> tuple[str, ...]:
        """Gates that keep the release from being published."""
        return tuple(r.gate for r in self.results if r.blocks)

    @property
    def publishable(self) -> bool:
        """Whether nothing keeps it from being published."""
        return not self.blocking

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "release": str(self.folder),
            "version": self.version,
            "publishable": self.publishable,
            "blocking": list(self.blocking),
            "waived": {r.gate: r.waiver for r in self.results if not r.passed and r.waiver is not None},
            "gates": [vars(r) | {"findings": list(r.findings), "blocks": r.blocks} for r in self.results],
        }


def check_release(
    folder: Path,
    *,
    previous: Path | None = None,
    max_not_predicted: float = 0.1,
    tell: Callable[[str], None] = lambda _: None,
) -> CheckReport:
    """Ask every gate; a gate that cannot look because a file is missing or broken fails and says so.

    Args:
        folder: The release.
        previous: The last release, for ids that must not change; not asked where None.
        max_not_predicted: Largest share of a city's ground without a prediction.
        tell: Called with a line per gate.

    Raises:
        ReleaseError: The folder is no release, or a release with a predecessor is checked without it.
    """
    record = read_record(folder)
    if record.previous is not None and previous is None:
        raise ReleaseError(
            f"{folder}: follows version {record.previous}: ids are checked against it; give that release as --previous"
        )
    if previous is not None and read_record(previous).version != record.previous:
        raise ReleaseError(
            f"{folder}: follows version {record.previous}, {previous} is {read_record(previous).version}; give the one"
            " that it was built against"
        )
    subject = Subject(folder, record, previous, max_not_predicted)
    waived = {w.gate: w.reason for w in record.waivers}
    results = []
    for k, name in enumerate(GATES, 1):
        tell(f"gate {k} of {len(GATES)}: {name}")
        results.append(_ask(name, subject, waived.get(name)))
    return CheckReport(folder, record.version, tuple(results))


def waive_gates(folder: Path, report: CheckReport, reasons: Mapping[str, str]) -> None:
    """Waive failed gates by name: their reasons go into the record and the README of the release.

    Waivers of an earlier check stand as long as their gate fails.

    Raises:
        ReleaseError: No such gate, one that passed or may not be waived, or no reason.
    """
    failed = {r.gate for r in report.results if not r.passed}
    for gate, reason in reasons.items():
        if gate not in GATES:
            raise ReleaseError(f"no gate '{gate}' to waive; there are: {', '.join(GATES)}")
        if gate in NEVER_WAIVED:
            raise ReleaseError(f"gate '{gate}' cannot be waived: build the release again")
        if gate not in failed:
            raise ReleaseError(f"gate '{gate}' passes: there is nothing to waive")
        if not reason.strip():
            raise ReleaseError(f"gate '{gate}' is waived without a reason: people are told why")
    record = read_record(folder)
    kept = {w.gate: w.reason for w in record.waivers if w.gate in failed} | dict(reasons)
    waivers = tuple(Waiver(gate=g, reason=kept[g]) for g in GATES if g in kept)
    if waivers != record.waivers:
        seal_release(folder, record.model_copy(update={"waivers": waivers}))


def _ask(name: str, subject: Subject, waiver: str | None) -> GateResult:
    gate, found = GATES[name], Findings()
    try:
        gate(subject, found)
    except Exception as error:  # noqa: BLE001 - whatever a broken file makes a library raise is a finding
        found.add(f"cannot be checked: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    states = (gate.__doc__ or name).splitlines()[0]
    return GateResult(name, states, not found.count, found.count, tuple(found.shown), found.measured, waiver)
