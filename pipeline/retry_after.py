"""How long an answer asks to wait: the header ``Retry-After`` (RFC 9110, section 10.2.3), seconds or a date."""

from __future__ import annotations

import math
import time
from datetime import UTC
from email.utils import parsedate_to_datetime


def retry_after_s(text: str | None, *, now_s: float | None = None) -> float | None:
    """Seconds, 0 for what has passed; None without a header or where it says neither.

    Args:
        text: The header's value.
        now_s: Seconds since 1970; the clock's where None.
    """
    text = (text or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - (time.time() if now_s is None else now_s))
