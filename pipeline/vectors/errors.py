"""Typed errors of the vector readers."""

from pipeline.errors import PipelineError


class VectorError(PipelineError):
    """A vector source cannot be used as it is; the message names the file and what to do."""
