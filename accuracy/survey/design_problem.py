"""One contradiction between a design and a table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DesignProblem:
    """One contradiction between a design and a table.

    Attributes:
        code: Short name, for tests and machines.
        where: Stratum, city, cell or column.
        message: What conflicts, and what to do.
        fatal: Whether estimation must stop.
    """

    code: str
    where: str
    message: str
    fatal: bool = True
