"""Two ends of a bounded pipe between threads, with back-pressure and errors carried across."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")

_END: Any = object()
WAIT_S = 0.1


class Ahead(Generic[T]):
    """Runs an iterator in a thread of its own, at most ``depth`` items ahead of the consumer.

    A context manager: leaving it stops the thread, whatever state it is in.
    """

    def __init__(self, items: Iterator[T], *, depth: int, name: str) -> None:
        self._items, self._queue = items, queue.Queue[Any](depth)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while (item := self._queue.get()) is not _END:
            yield item
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            for item in self._items:
                if not _put(self._queue, item, self._stop):
                    break
        except BaseException as error:  # noqa: BLE001 -- raised again in the consumer's thread
            self._error = error
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
            _put(self._queue, _END, self._stop)


class Sink(Generic[T]):
    """Calls a function in a thread of its own for every item given; ``put`` waits when it is behind.

    A context manager: leaving it without an error waits until all is done, with one it stops at once. An error of
    the function is raised by the next ``put``, or on leaving.
    """

    def __init__(self, work: Callable[[T], None], *, depth: int, name: str) -> None:
        self._work, self._queue = work, queue.Queue[Any](depth)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def put(self, item: T) -> None:
        """Hand over an item."""
        if not _put(self._queue, item, self._stop) and self._error is not None:
            raise self._error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stop.set()
        else:
            _put(self._queue, _END, self._stop)
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=WAIT_S)
            except queue.Empty:
                continue
            if item is _END:
                return
            try:
                self._work(item)
            except BaseException as error:  # noqa: BLE001 -- raised again in the producer's thread
                self._error = error
                self._stop.set()


def _put(into: queue.Queue[Any], item: Any, stop: threading.Event) -> bool:
    """Put, giving up when asked to stop; whether it was put."""
    while not stop.is_set():
        try:
            into.put(item, timeout=WAIT_S)
        except queue.Full:
            continue
        return True
    return False
