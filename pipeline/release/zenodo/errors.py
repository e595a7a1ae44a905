"""What can be the matter with publishing."""

from pipeline.release.errors import ReleaseError


class PublishError(ReleaseError):
    """A release cannot be published as asked; nothing is half published."""


class ApiError(PublishError):
    """The repository answered a request with an error.

    Attributes:
        status: HTTP status of its answer.
        pause_s: Seconds that it asks to wait; None where it does not say.
    """

    def __init__(self, message: str, *, status: int, pause_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.pause_s = status, pause_s


class UnreachableError(PublishError):
    """No answer came, however often the request was sent; whether the repository acted on it is not known."""
