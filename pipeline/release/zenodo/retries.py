"""Which requests are sent again, and after how long."""

from __future__ import annotations

import time

import httpx
from tenacity import RetryCallState

from pipeline.retry_after import retry_after_s

TRANSIENT = frozenset({429, 500, 502, 503, 504})
FIRST_PAUSE_S = 0.5
MAX_WAIT_S = 120.0
"""The longest pause that a repository can ask for; longer ones are cut, and the request is sent more often."""


class TransientAnswerError(Exception):
    """The repository answered that it cannot now.

    Attributes:
        response: Its answer.
    """

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.response = response


def pause_s(state: RetryCallState) -> float:
    """Seconds until the next attempt: what the answer asks for, else 0.5, 1, 2, 4 and so on, 30 at most."""
    error = None if state.outcome is None else state.outcome.exception()
    asked = asked_pause_s(error.response) if isinstance(error, TransientAnswerError) else None
    return pause_after(state.attempt_number - 1, asked)


def pause_after(attempt: int, asked_s: float | None) -> float:
    """Seconds to wait after attempt number ``attempt`` (from 0) that failed, of which an answer asked ``asked_s``."""
    return min(MAX_WAIT_S, asked_s) if asked_s is not None else min(30.0, FIRST_PAUSE_S * 2.0**attempt)


def asked_pause_s(response: httpx.Response, *, now_s: float | None = None) -> float | None:
    """Seconds that an answer asks to wait: ``Retry-After`` (seconds or a date), else ``X-RateLimit-Reset`` of a 429.

    Args:
        response: The answer.
        now_s: Seconds since 1970; the clock's where None.
    """
    now_s = time.time() if now_s is None else now_s
    if "Retry-After" in response.headers:
        return retry_after_s(response.headers["Retry-After"], now_s=now_s)
    reset = response.headers.get("X-RateLimit-Reset", "").strip()
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS and reset.isdigit():
        return max(0.0, int(reset) - now_s)
    return None
