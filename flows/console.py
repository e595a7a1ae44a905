"""What the commands print: text for people, one JSON object for machines, progress on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

import typer
from tqdm import tqdm

T = TypeVar("T")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def show(data: dict[str, Any], *, text: str, as_json: bool) -> None:
    """Print a command's result: ``text`` for people, or ``data`` as one line of JSON for machines."""
    sys.stdout.write((json.dumps(data, ensure_ascii=False, default=str) if as_json else text) + "\n")


def say(message: str) -> None:
    """One line to standard error: what is happening, or what to do next."""
    tqdm.write(message, file=sys.stderr)


def say_when_slow(after_s: float = 2.0) -> Callable[[str], None]:
    """`say` for steps that are mostly quick: silent for the first ``after_s`` seconds, then each is said."""
    begun, slow = time.monotonic(), False

    def tell(message: str) -> None:
        nonlocal slow
        slow = slow or time.monotonic() - begun >= after_s
        if slow:
            say(message)

    return tell


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """A plain text table; ``columns`` maps keys of the rows to headings."""
    cells = [list(columns.values())] + [[_cell(row.get(key)) for key in columns] for row in rows]
    widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def progress(items: Iterable[T], *, total: int | None = None, unit: str = "it", label: str = "") -> Iterable[T]:
    """A progress bar over ``items`` on standard error, silent where that is no terminal and no log wants it."""
    return tqdm(items, total=total, unit=unit, desc=label, file=sys.stderr, dynamic_ncols=True)
