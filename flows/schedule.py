"""What starts next: cities in order, a bounded number in hand, each kind of slot used by as many as it has."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One step of a city: its name, and the kind of slot it holds while it runs."""

    name: str
    slot: str


class Schedule:
    """Decides which steps start; knows nothing of what they are.

    A city's steps run one after the other. Steps of the cities that come first go first, so that few cities are
    half done at any moment, and a step that waits for one kind of slot never keeps another kind idle.
    """

    def __init__(self, steps: Mapping[str, Sequence[Step]], *, width: int, slots: Mapping[str, int]) -> None:
        """Start with nothing in hand.

        Args:
            steps: The steps of each city; the cities in the order in which they shall be taken up.
            width: Cities in hand at once.
            slots: How many steps of each kind may run at once.
        """
        self._left = {city: deque(own) for city, own in steps.items()}
        self._waiting = deque(self._left)
        self._ready: dict[str, None] = {}
        self._busy: Counter[str] = Counter()
        self._running: dict[str, Step] = {}
        self._postponed: set[str] = set()
        self._width, self._slots = width, slots

    @property
    def running(self) -> int:
        """Steps that were taken and have not ended."""
        return len(self._running)

    @property
    def postponed(self) -> int:
        """Cities whose step waits for `resume`."""
        return len(self._postponed)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to take, now or later."""
        begun = self._running or self._ready or self._postponed
        return not begun and not any(self._left[c] for c in self._waiting)

    def take(self) -> list[tuple[str, Step]]:
        """The steps to start now; cities without any step are passed over."""
        while self._waiting and len(self._ready) + len(self._running) + len(self._postponed) < self._width:
            city = self._waiting.popleft()
            if self._left[city]:
                self._ready[city] = None
        taken: list[tuple[str, Step]] = []
        for city in list(self._ready):
            step = self._left[city][0]
            if self._busy[step.slot] < self._slots[step.slot]:
                del self._ready[city]
                self._busy[step.slot] += 1
                self._running[city] = self._left[city].popleft()
                taken.append((city, step))
        return taken

    def ended(self, city: str, *, well: bool) -> bool:
        """A step of a city has ended; whether the city is at its end, which it is at once where it did not end well."""
        self._busy[self._running.pop(city).slot] -= 1
        if not well:
            self._left[city].clear()
        if not self._left[city]:
            return True
        self._ready = {city: None, **self._ready}  # what is begun goes before what is not
        return False

    def postpone(self, city: str) -> None:
        """A step of a city has ended and is to be taken once more, after `resume`: until then it holds no slot."""
        step = self._running.pop(city)
        self._busy[step.slot] -= 1
        self._left[city].appendleft(step)
        self._postponed.add(city)

    def resume(self, city: str) -> None:
        """The postponed step of a city may be taken again."""
        self._postponed.remove(city)
        self._ready = {city: None, **self._ready}
