"""What an error says to an operator: one line, and whether trying again may help."""

import errno

from accuracy.errors import AccuracyError
from models.errors import ModelsError
from pipeline.errors import PipelineError
from regions.errors import RegionsError

TYPED_ERRORS = (PipelineError, RegionsError, ModelsError, AccuracyError)
_TRANSIENT_ERRNOS = frozenset({
    errno.EAGAIN, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.EINTR,
    errno.EIO, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.ENOBUFS, errno.ENOLCK, errno.EPIPE,
    errno.ESTALE, errno.ETIMEDOUT,
})  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Whether ``error``, or an error that caused it, may go away by itself: network, timeouts, I/O hiccups."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TimeoutError | ConnectionError | InterruptedError):
            return True
        if isinstance(seen, OSError) and seen.errno in _TRANSIENT_ERRNOS:
            return True
        if any(c.__name__ == "TransportError" and c.__module__.startswith("httpx") for c in type(seen).__mro__):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def one_line(error: BaseException) -> str:
    """The error as one line; typed errors carry their whole message, others are named by their class."""
    text = " ".join(str(error).split())
    return text if isinstance(error, TYPED_ERRORS) and text else f"{type(error).__name__}: {text}".rstrip(": ")
