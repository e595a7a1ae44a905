"""Words given by a user, checked against the words there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from accuracy.errors import AccuracyError

Word = TypeVar("Word", bound=str)


def choose(value: str, allowed: Sequence[Word], where: str) -> Word:
    """The allowed word that equals ``value``, case and hyphens apart.

    Raises:
        AccuracyError: There is none.
    """
    plain = value.strip().lower().replace("-", "_")
    for word in allowed:
        if plain == word:
            return word
    raise AccuracyError(f"{where} {value!r} is none of {', '.join(allowed)}: choose one of them")
