"""What can be the matter with a release."""

from pipeline.errors import PipelineError


class ReleaseError(PipelineError):
    """A release cannot be built, read or published from what is there."""


class ReleaseTooLargeError(ReleaseError):
    """A release would have more files or bytes than a record of a repository takes."""
