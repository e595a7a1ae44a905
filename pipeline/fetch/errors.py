"""What can go wrong with sources from elsewhere."""

from pipeline.errors import PipelineError


class FetchError(PipelineError):
    """A source cannot be brought here; the message names it without any secret."""


class SecretMissingError(FetchError):
    """An environment variable that should hold a secret is not set."""
