"""Which failed steps are tried again, and when.

The loop over the cities waits, not Prefect: a task that waits for its retry sleeps in its thread, keeps its slot, and
a cancelled run would outlive its cancelling by that long.
"""

import time
from collections import Counter
from typing import Any

from prefect.client.schemas.objects import State

from flows.errors import StageFailedError
from flows.failures import is_transient

RETRY_DELAYS_S = (10.0, 60.0)
"""Between the tries of a step whose failure was transient."""


class Retries:
    """Counts the tries of each city's steps and keeps those that wait."""

    def __init__(self, delays_s: tuple[float, ...] = RETRY_DELAYS_S) -> None:
        self._delays_s = delays_s
        self._tries: Counter[tuple[str, str]] = Counter()
        self._due: dict[str, float] = {}

    def postpone(self, city: str, step: str, state: State[Any]) -> float | None:
        """Seconds after which a step that ended in ``state`` is due again; None where trying again would not help."""
        tries = self._tries[city, step]
        if tries == len(self._delays_s) or not failed_for_now(state):
            return None
        self._tries[city, step] += 1
        self._due[city] = time.monotonic() + self._delays_s[tries]
        return self._delays_s[tries]

    def take_due(self) -> list[str]:
        """The cities whose step is due; each is given once."""
        now = time.monotonic()
        cities = [city for city, when in self._due.items() if when <= now]
        for city in cities:
            del self._due[city]
        return cities


def failed_for_now(state: State[Any]) -> bool:
    """Whether a task failed for a reason that may go away by itself."""
    if not state.is_failed() or state.data is None:
        return False
    error = state.result(raise_on_failure=False)
    if isinstance(error, StageFailedError):
        return error.transient
    return isinstance(error, BaseException) and is_transient(error)
