"""Requests that are tried again: network faults, 429 and 5xx, with back-off and what `Retry-After` asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

import httpx
import tenacity

from pipeline.disk import writing_to
from pipeline.fetch.confidential import public, public_url
from pipeline.fetch.errors import FetchError
from pipeline.retry_after import retry_after_s

ATTEMPTS = 6
LONGEST_WAIT_S = 60.0
FIRST_WAIT_S = 0.5
TIMEOUT = httpx.Timeout(60.0, connect=20.0)
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
CHUNK = 1 << 16

T = TypeVar("T")
Progress = Callable[[int], None]


class BusyError(Exception):
    """The server asks to come again."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"status {response.status_code}")
        self.wait_s = retry_after_s(response.headers.get("retry-after"))


class RateLimit:
    """At most so many requests a second, over all threads."""

    def __init__(self, per_second: float) -> None:
        self._gap_s, self._next, self._lock = 1.0 / per_second, 0.0, threading.Lock()

    def wait(self) -> None:
        """Wait for this request's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap_s
        if turn > now:
            time.sleep(turn - now)


class Session:
    """A client of one source: its headers, its rate, its patience.

    Thread-safe. Headers may hold secrets; errors name addresses by `public_url` alone.
    """

    def __init__(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        per_second: float = 1000.0,
        first_wait_s: float | None = None,
    ) -> None:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        self._client = httpx.Client(headers=dict(headers or {}), timeout=TIMEOUT, follow_redirects=True, limits=limits)
        self._rate = RateLimit(per_second)
        self._first_wait_s = FIRST_WAIT_S if first_wait_s is None else first_wait_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """The answer with its body: 200, 304 or 404; all else is an error after several attempts.

        Raises:
            FetchError: no useful answer.
        """

        def once() -> httpx.Response:
            self._rate.wait()
            response = self._client.get(url, headers=dict(headers or {}))
            if response.status_code in BUSY:
                raise BusyError(response)
            length = response.headers.get("content-length")
            if length and not response.headers.get("content-encoding") and int(length) != len(response.content):
                raise httpx.ReadError(f"{len(response.content)} bytes of {length}")
            return response

        response = self._patiently(url, once)
        if response.status_code not in {200, 304, 404}:
            raise FetchError(f"{public_url(url)}: status {response.status_code}{_why(response)}")
        return response

    def download(self, url: str, target: Path, *, progress: Progress | None = None) -> Path:
        """Bring a file here, going on where an earlier try stopped (HTTP ranges, guarded by its ETag).

        Args:
            url: Address.
            target: Where it goes, in one step when it is whole; ``target.part`` holds what came so far.
            progress: Called with the number of bytes of each piece.

        Raises:
            FetchError: no such file, or it never came whole.
        """
        part, note = target.with_name(target.name + ".part"), target.with_name(target.name + ".etag")
        target.parent.mkdir(parents=True, exist_ok=True)

        def once() -> None:
            have = part.stat().st_size if part.exists() and note.exists() else 0
            ask = {"range": f"bytes={have}-", "if-range": note.read_text(encoding="utf-8")} if have else {}
            self._rate.wait()
            with self._client.stream("GET", url, headers=ask) as response:
                if response.status_code in BUSY:
                    raise BusyError(response)
                if response.status_code == 416:  # it is whole already, or another file: begin again
                    part.unlink(missing_ok=True)
                    raise httpx.ReadError("the range is not there")
                if response.status_code not in {200, 206}:
                    raise FetchError(f"{public_url(url)}: status {response.status_code}")
                append = response.status_code == 206
                etag = response.headers.get("etag") or response.headers.get("last-modified") or ""
                note.unlink(missing_ok=True)
                wanted = _whole_size(response)
                with writing_to(part), part.open("ab" if append else "wb") as file:
                    if etag and not etag.startswith("W/"):
                        note.write_text(etag, encoding="utf-8")
                    for piece in response.iter_bytes(CHUNK):
                        file.write(piece)
                        if progress is not None:
                            progress(len(piece))
                if wanted is not None and part.stat().st_size != wanted:
                    raise httpx.ReadError(f"{part.stat().st_size} bytes of {wanted}")

        self._patiently(url, once)
        part.replace(target)
        note.unlink(missing_ok=True)
        return target

    def size(self, url: str) -> int | None:
        """Bytes of a file by its header, None where the server does not tell."""
        try:
            response = self._client.head(url)
        except httpx.HTTPError:
            return None
        length = response.headers.get("content-length")
        return int(length) if response.status_code == 200 and length else None

    def _patiently(self, url: str, once: Callable[[], T]) -> T:
        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.wait_s if isinstance(error, BusyError) else None
            backed_off = self._first_wait_s * 2 ** (state.attempt_number - 1)
            return min(asked if asked is not None else backed_off, LONGEST_WAIT_S)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((httpx.TransportError, BusyError)),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=wait,
            reraise=True,
        )
        try:
            return retrying(once)
        except (httpx.TransportError, BusyError) as error:
            raise FetchError(
                f"{public_url(url)}: {type(error).__name__} after {ATTEMPTS} attempts: {public(str(error))}; run the"
                " same command again later: what has come is kept"
            ) from (error if isinstance(error, httpx.TransportError) else TimeoutError(str(error)))


@contextmanager
def session_for(token: str | None, **how: float) -> Iterator[Session]:
    """A session with a bearer token, or without."""
    with Session(headers={"authorization": f"Bearer {token}"} if token else None, **how) as session:
        yield session


def _whole_size(response: httpx.Response) -> int | None:
    content_range = response.headers.get("content-range", "")
    if response.status_code == 206 and "/" in content_range:
        size = content_range.rsplit("/", 1)[-1]
        return int(size) if size.isdigit() else None
    length = response.headers.get("content-length")
    return int(length) if length and not response.headers.get("content-encoding") else None


def _why(response: httpx.Response) -> str:
    if response.status_code in {401, 403}:
        return ": the key or token is missing or refused"
    return ""
